//! Payloads: bytes with a content type that only the agent interprets. They can be erased; their digest stays.

use crate::limits::{CONTENT_TYPE_BYTES_MAX, PAYLOAD_BYTES_MAX, UNKEPT_HEAD_BYTES_MAX};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// The text shown in place of one whose bytes were erased.
pub const ERASED: &str = "(erased)";

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
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// The first 16 bytes of the SHA-256 digest of something's JSON form, by which contents are compared. The form contains digests of
/// payloads, not their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(#[serde(with = "hex::serde")] pub [u8; 16]);

impl ContentDigest {
    /// The digest of `content`.
    ///
    /// # Panics
    /// Where `content` has no JSON form.
    #[must_use]
    pub fn of(content: &impl Serialize) -> Self {
        let form = serde_json::to_vec(content).expect("it has a JSON form");
        let digest: [u8; 32] = Sha256::digest(form).into();
        Self(*digest.first_chunk().expect("a digest has 32 bytes"))
    }
}

impl fmt::Debug for ContentDigest {
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

/// Opaque bytes of an agent. An entry has the content type, length and digest. The bytes are stored beside the entry and can be erased
/// without breaking the chain.
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
    /// The content type of bytes of an unknown type.
    pub const BYTES: &'static str = "application/octet-stream";
    /// The content type of an [`Unkept`], as JSON.
    pub const UNKEPT: &'static str = "application/vnd.tape.unkept+json";

    /// Takes `bytes` as they are.
    ///
    /// # Errors
    /// [`InvalidPayload`] where the bytes or their content type are over a limit.
    pub fn new(content_type: &str, bytes: impl Into<Bytes>) -> Result<Self, InvalidPayload> {
        let bytes = bytes.into();
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidPayload::TooLarge { bytes: bytes.len() });
        }
        if !is_content_type(content_type) {
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
        let text = crate::json::text(value).expect("a value has a JSON form");
        Self::new(Self::JSON, text).expect("the caller knows that the value is small")
    }

    /// What can be kept of `bytes`: all of them if they fit into a payload, otherwise an [`Unkept`] in their place. So an act that happened
    /// is never recorded as one that did not. An invalid content type becomes [`Payload::BYTES`].
    #[must_use]
    pub fn kept(content_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let content_type = kept_type(content_type);
        Self::new(content_type, bytes.clone()).unwrap_or_else(|_| {
            Self::unkept(&Unkept {
                content_type: content_type.to_owned(),
                len: bytes.len() as u64,
                more: false,
                sha256: Some(Digest::of(&bytes)),
                head: Head::of(&bytes),
            })
        })
    }

    /// The payload that replaces bytes that could not be kept.
    ///
    /// # Panics
    /// Never: it holds only a small part of the bytes.
    #[must_use]
    pub fn unkept(unkept: &Unkept) -> Self {
        let unkept = Unkept {
            content_type: kept_type(&unkept.content_type).to_owned(),
            head: Head::of(&unkept.head.0),
            ..unkept.clone()
        };
        let text = serde_json::to_vec(&unkept).expect("what was not kept has a JSON form");
        Self::new(Self::UNKEPT, text).expect("the begin of the bytes is small")
    }

    /// What is known of the bytes that this payload replaces; none for an ordinary payload.
    #[must_use]
    pub fn as_unkept(&self) -> Option<Unkept> {
        let bytes = self.bytes().filter(|_| self.content_type == Self::UNKEPT)?;
        serde_json::from_slice(bytes).ok()
    }

    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        let content_type = Self::BYTES.into();
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

    /// Puts stored bytes back into their reference and checks them against it.
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

fn is_content_type(text: &str) -> bool {
    let printable = text.bytes().all(|b| (0x20..0x7f).contains(&b));
    !text.is_empty() && text.len() <= CONTENT_TYPE_BYTES_MAX && printable
}

/// The content type under which bytes are kept. Only Tape itself may use [`Payload::UNKEPT`].
fn kept_type(content_type: &str) -> &str {
    if is_content_type(content_type) && content_type != Payload::UNKEPT {
        content_type
    } else {
        Payload::BYTES
    }
}

/// What is known of bytes that could not be kept, such as a result over [`PAYLOAD_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// Their content type.
    pub content_type: String,
    /// Their number.
    pub len: u64,
    /// Whether there were more than `len`, which were not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Their SHA-256, where all of them were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The first of them, at most [`UNKEPT_HEAD_BYTES_MAX`].
    pub head: Head,
}

/// The first bytes of those that could not be kept; in JSON, hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Head(pub Vec<u8>);

impl Head {
    /// The first of `bytes`, at most [`UNKEPT_HEAD_BYTES_MAX`].
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(UNKEPT_HEAD_BYTES_MAX)].to_vec())
    }
}

impl TryFrom<String> for Head {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        hex::decode(text).map(Self)
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        hex::encode(head.0)
    }
}

/// Stored bytes are not the ones whose digest was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored payload has digest {found}, the entry recorded {recorded}")]
pub struct PayloadMismatch {
    /// The digest that the entry recorded.
    pub recorded: Digest,
    /// The digest of the stored bytes.
    pub found: Digest,
}
