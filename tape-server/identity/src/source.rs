//! Where the keys of an issuer come from.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::Url;
use std::fmt::Debug;
use std::time::Duration;
use url::Host;

/// The longest document of keys.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// The longest time that fetching keys may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the keys of an issuer come from.
#[async_trait]
pub trait KeySource: Debug + Send + Sync + 'static {
    /// The current keys: a JWK set (RFC 7517) as JSON. A caller may give up a call at any time.
    ///
    /// # Errors
    /// Why there are none.
    async fn fetch(&self) -> Result<Bytes, SourceError>;
}

/// Why the keys of an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The address is not one that keys can be fetched from safely.
    #[error("the address of the keys {problem}")]
    Address {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The server cannot be reached, or its answer broke off.
    #[error("the server of the keys does not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server answered something else.
    #[error("the server of the keys answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The document is longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the document of the keys has more than {max} bytes")]
    TooLong {
        /// The most bytes that it may have.
        max: usize,
    },
    /// The document has more keys than [`KEYS_MAX`](crate::KEYS_MAX).
    #[error("the document of the keys has more than {max} keys")]
    TooManyKeys {
        /// The most keys that it may have.
        max: usize,
    },
    /// The document is no JWK set.
    #[error("the document of the keys is no JWK set")]
    NotKeys,
    /// The document has no key that can be used.
    #[error("the document of the keys has none with a key id for RS256 or ES256")]
    NoKeys,
}

/// A URL with the keys of an issuer, which it calls `jwks_uri`.
#[derive(Clone, Debug)]
pub struct JwksUrl {
    url: Url,
    client: reqwest::Client,
}

impl JwksUrl {
    /// The keys by which Google signs identity tokens.
    pub const GOOGLE: &'static str = "https://www.googleapis.com/oauth2/v3/certs";

    /// A URL of keys. An attacker who can change an answer can sign tokens, so the URL must begin with `https://`, or with `http://` and a
    /// loopback address.
    ///
    /// # Errors
    /// [`SourceError::Address`] for another URL, [`SourceError::Unreachable`] where TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self, SourceError> {
        let url = Url::parse(url).map_err(|_| SourceError::Address { problem: "is no URL" })?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(SourceError::Address {
                problem: "neither begins with `https://`, nor with `http://` and a loopback address",
            });
        }
        // Where another part of the program has set it already, that one works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build();
        let client = client.map_err(unreachable)?;
        Ok(Self { url, client })
    }
}

#[async_trait]
impl KeySource for JwksUrl {
    async fn fetch(&self) -> Result<Bytes, SourceError> {
        let answer = self.client.get(self.url.clone()).send();
        let mut answer = answer.await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            let status = answer.status().as_u16();
            return Err(SourceError::Status { status });
        }
        let mut document = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if document.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                let max = DOCUMENT_BYTES_MAX;
                return Err(SourceError::TooLong { max });
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document.freeze())
    }
}

fn unreachable(error: reqwest::Error) -> SourceError {
    SourceError::Unreachable(error.without_url().into())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
