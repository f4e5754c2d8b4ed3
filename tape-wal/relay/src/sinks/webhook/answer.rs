//! What the answer of an endpoint means.

use crate::sink::SinkError;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use std::collections::BTreeSet;
use std::time::Duration;
use tape_environment::Environment;

/// Most bytes of an answer that are read, so that a connection can be used again and an endpoint can say why.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest part of an answer that a reason has, in characters.
const SAID_CHARS_MAX: usize = 256;
/// The longest wait that an endpoint can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// An answer, as far as it is read.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    said: String,
}

impl Answer {
    /// Reads the beginning of a response. One that breaks off counts for its status alone.
    pub(super) async fn read(mut response: Response) -> Self {
        let mut body = Vec::new();
        while body.len() < BODY_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(BODY_BYTES_MAX - body.len())]);
        }
        let text = String::from_utf8_lossy(&body);
        let said = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            said: said.take(SAID_CHARS_MAX).collect(),
        }
    }

    /// What the answer means for the event.
    pub(super) fn meaning(
        self,
        refused: &BTreeSet<u16>,
        environment: &dyn Environment,
    ) -> Result<(), SinkError> {
        match self.status.as_u16() {
            200..300 => Ok(()),
            410 => Err(SinkError::disabled(self.reason("the endpoint is gone"))),
            status if refused.contains(&status) => {
                Err(SinkError::refused(self.reason("the endpoint refuses the event")))
            }
            300..400 => Err(self.unavailable("the endpoint redirects, which is not followed", environment)),
            _ => Err(self.unavailable("the endpoint failed", environment)),
        }
    }

    fn unavailable(&self, what: &str, environment: &dyn Environment) -> SinkError {
        let mut error = SinkError::unavailable(self.reason(what));
        if let SinkError::Unavailable { retry_after, .. } = &mut error {
            *retry_after = self.retry_after(environment);
        }
        error
    }

    fn reason(&self, what: &str) -> String {
        let status = self.status.as_u16();
        match self.said.trim() {
            "" => format!("{what} (status {status})"),
            said => format!("{what} (status {status}): {said}"),
        }
    }

    /// The wait that the endpoint asks for: a number of seconds, or a date.
    fn retry_after(&self, environment: &dyn Environment) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let seconds = text.parse().ok().map(Duration::from_secs);
        let wait = seconds.or_else(|| {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
            let micros = date.saturating_sub(environment.wall().as_micros());
            Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
        })?;
        Some(wait.min(RETRY_AFTER_MAX))
    }
}
