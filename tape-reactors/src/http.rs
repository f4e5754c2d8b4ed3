//! Re-drives through an agent's own HTTP endpoint.

use crate::redrive::{Redrive, RedriveError, Redriver};
use async_trait::async_trait;
use std::time::Duration;

/// Posts `{"run": {"tenant": ..., "app": ..., "user": ..., "session": ..., "invocation": ...}, "epoch": N}` to an agent. The agent
/// adopts the run with that epoch, drives it, and answers with a 2xx status when it is done or has made sure that it
/// goes on without the request; any other status, or no answer in time, counts as a failed re-drive.
#[derive(Clone, Debug)]
pub struct HttpRedriver {
    client: reqwest::Client,
    url: String,
}

impl HttpRedriver {
    /// Posts to `url`; an answer may take as long as `timeout`, which is the longest that an agent works on a run in one go.
    ///
    /// # Errors
    /// [`RedriveError::Agent`] where no HTTP client can be set up.
    pub fn new(url: impl Into<String>, timeout: Duration) -> Result<Self, RedriveError> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .build()
            .map_err(failed)?;
        Ok(Self {
            client,
            url: url.into(),
        })
    }
}

#[async_trait]
impl Redriver for HttpRedriver {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let answer = self
            .client
            .post(&self.url)
            .json(redrive)
            .send()
            .await
            .map_err(failed)?;
        answer.error_for_status().map_err(failed)?;
        Ok(())
    }
}

fn failed(error: reqwest::Error) -> RedriveError {
    RedriveError::Agent(Box::new(error))
}
