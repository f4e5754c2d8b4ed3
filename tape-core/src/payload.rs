//! What only the agent interprets: bytes with a content type, erasable behind their digest.

use crate::limits::{CONTENT_TYPE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut digest = Self::default();
        hex::decode_to_slice(text, &mut digest.0).map_err(|_| InvalidDigest)?;
        Ok(digest)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Why bytes are not a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPayload {
    /// More bytes than [`PAYLOAD_BYTES_MAX`].
    #[error("payload has {bytes} bytes, the limit is {max}", max = PAYLOAD_BYTES_MAX)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The content type is empty, over [`CONTENT_TYPE_BYTES_MAX`] bytes, or not printable ASCII.
    #[error("content type must be 1 to {max} bytes of printable ASCII", max = CONTENT_TYPE_BYTES_MAX)]
    ContentType,
}

/// Opaque bytes of an agent. In an entry stand the content type, length and digest; the bytes are kept beside it and can be
/// erased without breaking the chain.
///
/// ```
/// use tape_core::payload::Payload;
/// let answer = Payload::json(&serde_json::json!({"ok": true}));
/// assert_eq!(answer.bytes().unwrap().as_ref(), br#"{"ok":true}"#);
/// let erased = answer.erased();
/// assert_eq!(erased.digest(), answer.digest());
/// assert!(erased.bytes().is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    #[serde(rename = "type")]
    content_type: std::borrow::Cow<'static, str>,
    len: u64,
    sha256: Digest,
    #[serde(skip)]
    bytes: Option<Bytes>,
}

impl Payload {
    /// The content type of JSON.
    pub const JSON: &'static str = "application/json";

    /// Takes `bytes` as they are.
    ///
    /// # Errors
    /// [`InvalidPayload`] where the bytes or their content type are over a limit.
    pub fn new(content_type: &str, bytes: impl Into<Bytes>) -> Result<Self, InvalidPayload> {
        let bytes = bytes.into();
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidPayload::TooLarge { bytes: bytes.len() });
        }
        let printable = content_type.bytes().all(|b| (0x20..0x7f).contains(&b));
        if content_type.is_empty() || content_type.len() > CONTENT_TYPE_BYTES_MAX || !printable {
            return Err(InvalidPayload::ContentType);
        }
        let content_type = match content_type {
            Self::JSON => Self::JSON.into(),
            other => other.to_owned().into(),
        };
        Ok(Self {
            content_type,
            len: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            bytes: Some(bytes),
        })
    }

    /// The JSON text of `value`.
    ///
    /// # Panics
    /// Where the text is over [`PAYLOAD_BYTES_MAX`]; use [`Payload::new`] for values of unknown size.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(Self::JSON, value.to_string()).expect("the caller knows that the value is small")
    }

    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        let content_type = "application/octet-stream".into();
        Self {
            content_type,
            len: 0,
            sha256: Digest::of(b""),
            bytes: Some(Bytes::new()),
        }
    }

    /// The content type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Length in bytes, also where the bytes are erased.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SHA-256 of the bytes, also where they are erased.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.sha256
    }

    /// The bytes, or none where they were erased or not loaded.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }

    /// The same payload without its bytes.
    #[must_use]
    pub fn erased(&self) -> Self {
        Self {
            bytes: None,
            ..self.clone()
        }
    }

    /// Puts stored bytes back behind their reference; the caller has checked nothing yet.
    ///
    /// # Errors
    /// What is wrong, where length or digest do not agree.
    pub(crate) fn restore(&mut self, bytes: Bytes) -> Result<(), PayloadMismatch> {
        let found = Digest::of(&bytes);
        if bytes.len() as u64 != self.len || found != self.sha256 {
            return Err(PayloadMismatch {
                recorded: self.sha256,
                found,
            });
        }
        self.bytes = Some(bytes);
        Ok(())
    }
}

/// Stored bytes are not the ones whose digest was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored payload has digest {found}, the entry recorded {recorded}")]
pub struct PayloadMismatch {
    /// What the entry recorded.
    pub recorded: Digest,
    /// What the stored bytes have.
    pub found: Digest,
}
