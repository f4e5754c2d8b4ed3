//! Entries as they are stored: what the chain covers travels byte for byte.

use super::field::InvalidField;
use super::part::{digest, digest_bytes};
use crate::v1;
use tape_core::codec::StoredEntry;
use tape_core::id::Seq;

impl From<StoredEntry> for v1::Entry {
    fn from(entry: StoredEntry) -> Self {
        Self {
            seq: entry.seq.0,
            envelope: entry.envelope,
            payload_erased: entry.payload.is_none(),
            payload: entry.payload.unwrap_or_default(),
            digest: digest_bytes(entry.digest),
        }
    }
}

impl TryFrom<v1::Entry> for StoredEntry {
    type Error = InvalidField;
    fn try_from(wire: v1::Entry) -> Result<Self, InvalidField> {
        Ok(Self {
            seq: Seq(wire.seq),
            envelope: wire.envelope,
            payload: (!wire.payload_erased).then_some(wire.payload),
            digest: digest("digest", &wire.digest)?,
        })
    }
}
