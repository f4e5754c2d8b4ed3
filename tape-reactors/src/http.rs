//! HTTP clients, with TLS by rustls.

use reqwest::Url;
use std::time::Duration;

/// An HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A part of its configuration is not valid.
    #[error("`{key}` {problem}")]
    Invalid {
        /// Which part.
        key: &'static str,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// A header is not valid, or TLS cannot be set up.
    #[error("no HTTP client")]
    NoClient(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HttpError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::NoClient(Box::new(error))
    }

    pub(crate) fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            key,
            problem: problem.into(),
        }
    }
}

/// Refuses a URL that no request can be sent to, without repeating it: a URL may have a secret.
pub(crate) fn check_url(key: &'static str, url: &str) -> Result<(), HttpError> {
    let fits = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if Url::parse(url).is_ok_and(fits) {
        return Ok(());
    }
    let problem = "is no URL that begins with `http://` or `https://` and a host";
    Err(HttpError::invalid(key, problem))
}

/// The longest wait for a connection. After it, the attempt ends, and it is known that nothing was sent.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// A builder of a client that sends a request once. It follows no redirect, retries nothing by itself, and reuses no connection, which
/// could be closed during a request. It gives up a connection that is not established in time.
pub(crate) fn client(connect_within: Duration) -> reqwest::ClientBuilder {
    // Where another part of the program has set it already, that one works as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_within)
}
