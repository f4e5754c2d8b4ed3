//! One request and its answer, or what is known without one.

use super::super::answer::CONTENT_TYPE;
use super::super::bounded::Bounded;
use super::template::encoded;
use crate::connector::Call;
use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use tape_core::id::{BusinessKey, StreamId};
use tape_core::payload::Payload;

/// Longest part of an answer that goes into an error, in bytes.
const QUOTE_BYTES_MAX: usize = 300;

/// An answer, complete or with only its first bytes kept.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bounded,
}

/// No answer.
pub(super) enum Lost {
    /// Nothing was sent, and no other attempt would send anything.
    Refused(String),
    /// Nothing was sent: the upstream was not reached.
    Unreached(String),
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
    read(response).await
}

/// Reads an answer. A broken answer counts as lost; an endless one is cut.
async fn read(mut response: Response) -> Result<Answer, Lost> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Bounded::default();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if !body.push(&chunk) {
            break;
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn lost(error: reqwest::Error) -> Lost {
    let at = error.url().map(|url| {
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", url.host_str().unwrap_or_default())
    });
    let (builder, connect) = (error.is_builder(), error.is_connect());
    // The rest of the URL may have a secret.
    let cause = causes(&error.without_url());
    if builder {
        Lost::Refused(cause)
    } else if connect {
        Lost::Unreached(format!("{} was not reached: {cause}", at.unwrap_or_default()))
    } else {
        Lost::Sent(cause)
    }
}

impl Answer {
    /// The answer in Tape's own format, where it has that format.
    pub(super) fn typed<A>(
        &self,
        read: impl FnOnce(&[u8]) -> Result<A, String>,
    ) -> Option<Result<A, String>> {
        let own = essence(self.content_type()?).eq_ignore_ascii_case(CONTENT_TYPE);
        own.then(|| match self.body.whole() {
            Some(whole) => read(whole),
            None => Err("the answer is too long to make sense of".to_owned()),
        })
    }

    /// The body, where it is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body.whole()?).ok()
    }

    pub(super) fn payload(&self) -> Payload {
        let kind = self.content_type().unwrap_or(Payload::BYTES);
        // JSON is always in UTF-8; of other kinds the parameters say how to read them.
        let is_json = essence(kind).eq_ignore_ascii_case(Payload::JSON);
        self.body.payload(if is_json { Payload::JSON } else { kind })
    }

    fn content_type(&self) -> Option<&str> {
        self.headers
            .get(CONTENT_TYPE_HEADER)?
            .to_str()
            .ok()
            .map(str::trim)
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        // A date would need the upstream's clock; the policy's own backoff works as well.
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

    /// The status and the beginning of the body.
    pub(super) fn said(&self) -> String {
        let head = self.body.head();
        let text = String::from_utf8_lossy(&head[..head.len().min(2 * QUOTE_BYTES_MAX)]);
        let quote = &text[..text.floor_char_boundary(QUOTE_BYTES_MAX)];
        format!("{} {quote}", self.status).trim_end().to_owned()
    }
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
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
