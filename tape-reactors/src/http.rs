//! HTTP clients, with TLS by rustls.

use reqwest::Url;
use std::time::Duration;

/// An HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A part of its configuration makes no sense.
    #[error("`{key}` {problem}")]
    Invalid {
        /// Which part.
        key: &'static str,
        /// What is wrong with it, and what is wanted.
        problem: String,
    },
    /// A header makes no sense, or TLS cannot be set up.
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

/// Refuses what no request can be sent to, without repeating it: a URL may have a secret.
pub(crate) fn check_url(key: &'static str, url: &str) -> Result<(), HttpError> {
    let fits = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if Url::parse(url).is_ok_and(fits) {
        return Ok(());
    }
    let problem = "is no URL that begins with `http://` or `https://` and a host";
    Err(HttpError::invalid(key, problem))
}

/// A connection that is not there after so long is given up, so that it is known that nothing was sent.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// A client to be set up further. It sends a request once: it follows no redirect, repeats nothing by itself, and keeps no connection
/// on which a request could meet its end. A connection that is not there in time is given up.
pub(crate) fn client(connect_within: Duration) -> reqwest::ClientBuilder {
    // Where another part of the program has set it already, that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_within)
}
