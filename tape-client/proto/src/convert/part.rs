//! Parts that messages of several families share.

use super::field::{InvalidField, name, repeated};
use crate::v1;
use bytes::Bytes;
use tape_core::budget::{Currency, Spend};
use tape_core::fingerprint::{Fingerprint, Part};
use tape_core::payload::{Digest, InvalidPayload, Payload};
use tape_core::time::Deadline;
use tape_core::time::Timestamp;

/// Payloads up to this many bytes are copied out of the buffer they were received in, so that a small payload which a run
/// keeps does not keep the buffer of its neighbours alive.
const COPIED_BYTES_MAX: usize = 4 * 1024;

impl TryFrom<v1::Payload> for Payload {
    type Error = InvalidField;
    fn try_from(wire: v1::Payload) -> Result<Self, InvalidField> {
        let data = if wire.data.len() <= COPIED_BYTES_MAX {
            Bytes::copy_from_slice(&wire.data)
        } else {
            wire.data
        };
        Self::new(&wire.content_type, data).map_err(|error| {
            let field = if error == InvalidPayload::ContentType {
                "content_type"
            } else {
                "data"
            };
            InvalidField::new(field, error.to_string())
        })
    }
}

impl From<Payload> for v1::Payload {
    /// An erased payload has no bytes.
    fn from(payload: Payload) -> Self {
        Self {
            content_type: payload.content_type().to_owned(),
            data: payload.bytes().cloned().unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Deadline> for Deadline {
    type Error = InvalidField;
    fn try_from(wire: v1::Deadline) -> Result<Self, InvalidField> {
        match wire.time {
            Some(v1::deadline::Time::AtUs(micros)) => Ok(Self::At(Timestamp::from_micros(micros))),
            Some(v1::deadline::Time::InMs(millis)) => Ok(Self::InMs(millis)),
            None => Err(InvalidField::missing("time")),
        }
    }
}

impl From<Deadline> for v1::Deadline {
    fn from(deadline: Deadline) -> Self {
        let time = match deadline {
            Deadline::At(at) => v1::deadline::Time::AtUs(at.as_micros()),
            Deadline::InMs(millis) => v1::deadline::Time::InMs(millis),
        };
        Self { time: Some(time) }
    }
}

impl TryFrom<v1::Spend> for Spend {
    type Error = InvalidField;
    fn try_from(wire: v1::Spend) -> Result<Self, InvalidField> {
        Ok(Self {
            budget: name("budget", &wire.budget)?,
            amount: wire.amount,
        })
    }
}

impl From<Spend> for v1::Spend {
    fn from(spend: Spend) -> Self {
        Self {
            budget: spend.budget.into(),
            amount: spend.amount,
        }
    }
}

impl TryFrom<v1::Currency> for Currency {
    type Error = InvalidField;
    fn try_from(wire: v1::Currency) -> Result<Self, InvalidField> {
        use v1::currency::Unit;
        match wire.unit {
            Some(Unit::MicroUsd(_)) => Ok(Self::MicroUsd),
            Some(Unit::Tokens(_)) => Ok(Self::Tokens),
            Some(Unit::Own(own)) => Ok(Self::Unit(name("own", &own)?)),
            None => Err(InvalidField::missing("unit")),
        }
    }
}

impl From<Currency> for v1::Currency {
    fn from(currency: Currency) -> Self {
        use v1::currency::Unit;
        let unit = match currency {
            Currency::MicroUsd => Unit::MicroUsd(v1::currency::MicroUsd {}),
            Currency::Tokens => Unit::Tokens(v1::currency::Tokens {}),
            Currency::Unit(own) => Unit::Own(own.into()),
        };
        Self { unit: Some(unit) }
    }
}

impl TryFrom<v1::Fingerprint> for Fingerprint {
    type Error = InvalidField;
    fn try_from(wire: v1::Fingerprint) -> Result<Self, InvalidField> {
        Ok(Self {
            digest: digest("digest", &wire.digest)?,
            parts: repeated("parts", wire.parts)?,
        })
    }
}

impl From<Fingerprint> for v1::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        Self {
            digest: digest_bytes(fingerprint.digest),
            parts: fingerprint.parts.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::FingerprintPart> for Part {
    type Error = InvalidField;
    fn try_from(wire: v1::FingerprintPart) -> Result<Self, InvalidField> {
        Ok(Self {
            name: wire.name,
            digest: wire.digest,
            preview: wire.preview,
        })
    }
}

impl From<Part> for v1::FingerprintPart {
    fn from(part: Part) -> Self {
        Self {
            name: part.name,
            digest: part.digest,
            preview: part.preview,
        }
    }
}

/// A SHA-256 digest.
pub(super) fn digest(field: &str, bytes: &Bytes) -> Result<Digest, InvalidField> {
    let digest = <[u8; 32]>::try_from(bytes.as_ref());
    digest
        .map(Digest)
        .map_err(|_| InvalidField::new(field, format!("has {} bytes, a digest has 32", bytes.len())))
}

/// The bytes of a digest.
pub(super) fn digest_bytes(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(&digest.0)
}
