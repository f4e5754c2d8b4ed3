//! A client of HTTP services.

/// A client with the usual settings.
#[must_use]
pub fn client() -> reqwest::Client {
    // Where another part of the program has set it already, that one works as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
