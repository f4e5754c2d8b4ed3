//! Errors of stores, by what the caller can do about them.

use crate::contract::BatchId;
use tape_core::id::{Epoch, Seq, StreamId};

/// The cause beneath a store's error. Shared, because one failed commit is the answer for every batch in it.
pub type Source = std::sync::Arc<dyn std::error::Error + Send + Sync>;

/// The `what` of [`StoreError::Invalid`] for a URL that cannot be parsed: the one case that says nothing about a journal.
pub const STORE_URL: &str = "store URL";

/// A store could not carry out a call; nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Try again later: the store is busy, full, read-only or out of reach.
    #[error("the store is unavailable while it {doing}")]
    Unavailable {
        /// What it was doing.
        doing: &'static str,
        /// What stood in the way.
        #[source]
        source: Source,
    },
    /// A write to the store's disk failed, or its file is gone, so it is not certain what was kept. Every call is refused until the store
    /// is opened anew.
    #[error(
        "the store has to be opened anew: its disk failed, or its file is gone, which showed while it {doing}"
    )]
    Poisoned {
        /// What it was doing.
        doing: &'static str,
        /// What the disk said, or what became of the file.
        #[source]
        source: Source,
    },
    /// Stored bytes are not what was written; a person must look.
    #[error("the store is damaged at {what}")]
    Corrupt {
        /// Where.
        what: String,
        /// What does not fit.
        #[source]
        source: Source,
    },
    /// A newer build made or migrated the store: use a build that knows this version.
    #[error("the store has schema version {found}, this build knows {known}: use a newer build")]
    NewerSchema {
        /// The store's version.
        found: u32,
        /// The newest this build knows.
        known: u32,
    },
    /// An argument is not valid for this store.
    #[error("{what} is not valid here: {problem}")]
    Invalid {
        /// Which argument: a URL, a cursor, a page token.
        what: &'static str,
        /// Why.
        problem: String,
    },
}

/// A batch was not committed, or its outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The stream has moved on, or has another history than the one that the batch was made on. Load the stream and decide again.
    #[error("{stream} does not end with entry {expected} as the batch knows it; its last entry is {current}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// Where the batch said it ends.
        expected: Seq,
        /// Where it ends.
        current: Seq,
    },
    /// Another driver owns the stream: stop.
    #[error("{stream} is at epoch {current}, not {given}")]
    Fenced {
        /// The stream.
        stream: StreamId,
        /// The epoch of the batch.
        given: Epoch,
        /// The epoch of the stream.
        current: Epoch,
    },
    /// The answer was lost: ask what became of the batch with [`resolve`](crate::contract::JournalStore::resolve).
    #[error("the outcome of batch {} is unknown", .batch.0)]
    OutcomeUnknown {
        /// The batch.
        batch: BatchId,
        /// What happened to the answer.
        #[source]
        source: Source,
    },
    /// Nothing was written.
    #[error("nothing was committed")]
    Store(#[source] StoreError),
}

impl StoreError {
    /// Try again later.
    pub fn unavailable(
        doing: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            doing,
            source: source.into().into(),
        }
    }

    /// The error for a stream that has entries but no head.
    pub fn without_head(stream: &StreamId) -> Self {
        Self::corrupt(stream.to_string(), "it has entries, but no head")
    }

    /// Stored bytes are damaged.
    pub fn corrupt(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt {
            what: what.into(),
            source: source.into().into(),
        }
    }
}

impl CommitError {
    /// The answer was lost.
    pub fn outcome_unknown(
        batch: BatchId,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::OutcomeUnknown {
            batch,
            source: source.into().into(),
        }
    }
}
