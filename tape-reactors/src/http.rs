//! HTTP clients, with TLS by rustls.

/// An HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client")]
pub struct HttpError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl HttpError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// A client to be set up further.
pub(crate) fn client() -> reqwest::ClientBuilder {
    // Where another part of the program has set it already, that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
