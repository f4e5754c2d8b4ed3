//! Snapshots of streams, and what commits do to them.

use bytes::Bytes;
use tape_core::id::Seq;

/// The folded state of a stream after an entry. Opaque to stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry folded.
    pub seq: Seq,
    /// The state.
    pub bytes: Bytes,
}

/// What a batch does to the snapshot of its stream, in the one commit with its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SnapshotChange {
    /// The snapshot stays, where there is one.
    #[default]
    Keep,
    /// This one, of the state after the last entry of the batch, replaces it. A store that has no room for one so large deletes the one
    /// before, since that one may hold what the batch erases.
    Replace(Bytes),
    /// The snapshot is deleted, where there is one.
    Delete,
}

impl SnapshotChange {
    /// The new snapshot.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Replace(bytes) => Some(bytes),
            Self::Keep | Self::Delete => None,
        }
    }

    /// The same change in a store with room for `bytes_max` bytes: a larger snapshot becomes a deletion.
    #[must_use]
    pub fn within(&self, bytes_max: usize) -> &Self {
        match self {
            Self::Replace(bytes) if bytes.len() > bytes_max => &Self::Delete,
            change => change,
        }
    }
}
