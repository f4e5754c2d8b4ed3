//! Re-drives through an agent's own HTTP endpoint.

use super::{Redrive, RedriveError, Redriver, failed};
use crate::http::{CONNECT, HttpError, check_url, client};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tape_api::signature::{SIGNATURE_HEADER, sign};
use tape_environment::{Environment, machine};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Posts `{"run": {"tenant": ..., "app": ..., "user": ..., "session": ..., "invocation": ...}, "epoch": N}` to an agent. The agent adopts
/// the run with that epoch, drives it, and answers with a 2xx status when it is done, or once it has adopted the run and continues without
/// the request. The journal decides whether the re-drive counts, not the answer: without an adoption no agent was reached.
#[derive(Clone)]
pub struct HttpRedriver {
    client: reqwest::Client,
    url: String,
    secret: Option<Arc<[u8]>>,
    environment: Arc<dyn Environment>,
}

impl HttpRedriver {
    /// Posts to `url`; an answer may take as long as `timeout`, which bounds the time that an agent works on a run in one re-drive.
    ///
    /// # Errors
    /// [`HttpError`] where that is no URL or no HTTP client can be set up.
    pub fn new(url: impl Into<String>, timeout: Duration) -> Result<Self, HttpError> {
        let url = url.into();
        check_url("url", &url)?;
        let client = client(CONNECT).timeout(timeout).build().map_err(HttpError::new)?;
        Ok(Self {
            client,
            url,
            secret: None,
            environment: machine(),
        })
    }

    /// Dates signatures by another clock than the machine's.
    #[must_use]
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.environment = environment;
        self
    }

    /// Signs each request under a secret that the agent has too, in the header [`SIGNATURE_HEADER`]; the agent checks it with
    /// [`verify`](crate::verify).
    ///
    /// # Errors
    /// [`HttpError`] where the secret is empty: such signatures verify nowhere.
    pub fn signed(mut self, secret: impl Into<Vec<u8>>) -> Result<Self, HttpError> {
        let secret = secret.into();
        if secret.is_empty() {
            return Err(HttpError::invalid(
                "secret",
                "is empty: anyone could sign with it",
            ));
        }
        self.secret = Some(secret.into());
        Ok(self)
    }
}

impl std::fmt::Debug for HttpRedriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its URL may have a secret.
        f.debug_struct("HttpRedriver").finish_non_exhaustive()
    }
}

#[async_trait]
impl Redriver for HttpRedriver {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let body = serde_json::to_vec(redrive).map_err(|error| RedriveError::Agent(Box::new(error)))?;
        let mut request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json");
        if let Some(secret) = &self.secret {
            let now = self.environment.wall().as_micros() / MICROS_PER_SECOND;
            let now = u64::try_from(now).unwrap_or(0);
            request = request.header(SIGNATURE_HEADER, sign(secret, now, &body));
        }
        let answer = request.body(body).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(RedriveError::Refused {
                status: answer.status().as_u16(),
            });
        }
        Ok(())
    }
}
