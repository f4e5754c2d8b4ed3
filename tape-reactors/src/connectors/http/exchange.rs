//! One request and its answer, or what is known where none came.

use super::super::answer::CONTENT_TYPE;
use super::template::encoded;
use crate::connector::Call;
use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::time::Duration;
use tape_core::id::{BusinessKey, StreamId};
use tape_core::limits::PAYLOAD_BYTES_MAX;
use tape_core::payload::Payload;

/// Longest part of an answer that goes into an error, in bytes.
const QUOTE_BYTES_MAX: usize = 300;

/// An answer that came whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// No answer.
pub(super) enum Lost {
    /// Nothing was sent.
    NotSent(String),
    /// It may have arrived.
    Sent(String),
}

pub(super) async fn send(
    request: RequestBuilder,
    call: &Call,
    name: Option<&BusinessKey>,
) -> Result<Answer, Lost> {
    let mut request = request
        .header("idempotency-key", &call.key)
        .header("tape-operation", encoded(call.operation.as_str()))
        .header("tape-attempt", call.attempt)
        .header("tape-effect", encoded(&call.effect.to_string()))
        .header("tape-run", StreamId::Run(call.run.clone()).to_string());
    if let Some(key) = name {
        request = request.header("tape-business-key", encoded(key.as_str()));
    }
    let response = request.send().await.map_err(lost)?;
    whole(response).await
}

/// Reads an answer, up to what a payload may have.
async fn whole(mut response: Response) -> Result<Answer, Lost> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Lost::Sent(causes(&error)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > PAYLOAD_BYTES_MAX {
            return Err(Lost::Sent(format!(
                "the answer ({status}) has more than {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn lost(error: reqwest::Error) -> Lost {
    if error.is_builder() || error.is_connect() {
        Lost::NotSent(causes(&error))
    } else {
        Lost::Sent(causes(&error))
    }
}

impl Answer {
    /// The answer in Tape's own words, where it is in those.
    pub(super) fn typed<A: DeserializeOwned>(&self) -> Option<Result<A, String>> {
        let kind = self.headers.get(CONTENT_TYPE_HEADER)?.to_str().ok()?;
        let own = kind.split(';').next()?.trim().eq_ignore_ascii_case(CONTENT_TYPE);
        own.then(|| {
            serde_json::from_slice(&self.body).map_err(|error| format!("the answer makes no sense: {error}"))
        })
    }

    pub(super) fn payload(&self) -> Option<Payload> {
        let kind = self
            .headers
            .get(CONTENT_TYPE_HEADER)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .and_then(|kind| kind.split(';').next())
            .map_or("application/octet-stream", str::trim);
        Payload::new(kind, self.body.clone()).ok()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        // A date would need the upstream's clock; the policy's own backoff serves as well.
        let seconds = self
            .headers
            .get(RETRY_AFTER)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The status and the begin of the body.
    pub(super) fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let quote = &text[..text.floor_char_boundary(QUOTE_BYTES_MAX)];
        format!("{} {quote}", self.status).trim_end().to_owned()
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
