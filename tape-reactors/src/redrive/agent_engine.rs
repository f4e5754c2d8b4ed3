//! Re-drives of agents that Google's Agent Engine runs.

use super::{Redrive, RedriveError, Redriver, failed};
use crate::http::{CONNECT, HttpError, check_url, client};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where a machine of Google's cloud gets the access tokens of its service account.
const METADATA: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// A token is not used in the last minute of its life.
const MARGIN: Duration = Duration::from_secs(60);

/// Calls `streamQuery` of a reasoning engine with the class method `stream_query`, unless told otherwise, and the input
/// `{"run": {...}, "epoch": N}`. The agent adopts the run with that epoch and drives it; the call is over when its stream ends. Requests
/// carry an access token of the service account that this process runs as.
pub struct AgentEngineRedriver {
    client: reqwest::Client,
    url: String,
    method: String,
    tokens: String,
    token: Mutex<Option<(String, Instant)>>,
}

/// Its URL may have a secret, and it holds a token.
impl std::fmt::Debug for AgentEngineRedriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentEngineRedriver").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

impl AgentEngineRedriver {
    /// Calls the engine at `url`, such as
    /// `https://europe-west1-aiplatform.googleapis.com/v1/projects/P/locations/europe-west1/reasoningEngines/ID`; its stream may last as
    /// long as `timeout`.
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
            method: "stream_query".to_owned(),
            tokens: METADATA.to_owned(),
            token: Mutex::default(),
        })
    }

    /// Calls another method of the agent's class.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Gets its access tokens from `url` instead of the metadata server.
    #[must_use]
    pub fn tokens(mut self, url: impl Into<String>) -> Self {
        self.tokens = url.into();
        self
    }

    async fn token(&self) -> Result<String, reqwest::Error> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = kept.as_ref()
            && *until > Instant::now()
        {
            return Ok(token.clone());
        }
        let request = self.client.get(&self.tokens).header("metadata-flavor", "Google");
        let answer = request.send().await?.error_for_status()?;
        let token: Token = answer.json().await?;
        let lasts = Duration::from_secs(token.expires_in).saturating_sub(MARGIN);
        *kept = Some((token.access_token.clone(), Instant::now() + lasts));
        Ok(token.access_token)
    }
}

impl AgentEngineRedriver {
    /// A token that is refused may have been revoked before its time: the next re-drive requests another.
    async fn forget(&self, refused: &str) {
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_some_and(|(token, _)| token == refused) {
            *kept = None;
        }
    }
}

#[async_trait]
impl Redriver for AgentEngineRedriver {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let token = self.token().await;
        let token = token.map_err(|error| RedriveError::Unreached(Box::new(error.without_url())))?;
        let mut answer = self
            .client
            .post(format!("{}:streamQuery", self.url))
            .bearer_auth(&token)
            .json(&json!({"classMethod": self.method, "input": redrive}))
            .send()
            .await
            .map_err(failed)?;
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
            self.forget(&token).await;
        }
        if !answer.status().is_success() {
            return Err(RedriveError::Refused {
                status: answer.status().as_u16(),
            });
        }
        // The agent's progress is in the journal; here only the end of the stream matters.
        while answer.chunk().await.map_err(failed)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tape_core::id::{Epoch, RunId};

    #[tokio::test]
    async fn a_token_that_is_refused_is_not_used_again() {
        use axum::http::HeaderMap;
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        let token = async move || {
            let n = count.fetch_add(1, Ordering::Relaxed);
            format!(r#"{{"access_token": "T{n}", "expires_in": 3600}}"#)
        };
        let revoked = async |headers: HeaderMap| {
            if headers["authorization"] == "Bearer T0" {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::OK
            }
        };
        let router = Router::new().route("/token", any(token)).fallback(any(revoked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let engine =
            AgentEngineRedriver::new(format!("http://{at}/engine"), Duration::from_secs(30)).unwrap();
        let engine = engine.tokens(format!("http://{at}/token"));
        let run = RunId::new("acme", "a", "u", "s", "i").unwrap();
        let redrive = Redrive::new(run, Epoch(2));
        let refused = engine.redrive(&redrive).await.unwrap_err();
        assert!(
            matches!(refused, RedriveError::Refused { status: 401 }),
            "{refused:?}"
        );
        engine.redrive(&redrive).await.unwrap();
        engine.redrive(&redrive).await.unwrap();
        assert_eq!(given.load(Ordering::Relaxed), 2, "the other is kept");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let led = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&led);
        let elsewhere = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            "done"
        };
        let redirect = async || (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]);
        let router = Router::new()
            .route(
                "/token",
                any(async || r#"{"access_token": "T", "expires_in": 3600}"#),
            )
            .route("/elsewhere", any(elsewhere))
            .fallback(any(redirect));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let engine =
            AgentEngineRedriver::new(format!("http://{at}/engine"), Duration::from_secs(30)).unwrap();
        let engine = engine.tokens(format!("http://{at}/token"));
        let run = RunId::new("acme", "a", "u", "s", "i").unwrap();
        let redriven = engine.redrive(&Redrive::new(run, Epoch(2))).await;
        let error = redriven.unwrap_err();
        assert!(
            matches!(error, RedriveError::Refused { status: 307 }),
            "{error:?}"
        );
        assert_eq!(led.load(Ordering::Relaxed), 0);
    }
}
