//! Verifies and corrects what a store keeps beside entries: the index of due work and the lists of runs. Lists the streams.

use crate::contract::{Hint, PageToken};
use crate::error::StoreError;
use async_trait::async_trait;
use tape_core::agenda::AgendaChange;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::status::Summary;

/// The part of a store that compares its indexes with its streams.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Streams that have entries, of all tenants, at most `limit` of them.
    ///
    /// # Behavior
    /// In an order of the store's own, which is stable. A reader that pages from each page's token sees every stream present throughout
    /// exactly once. The cost of a page is that of its streams. A page may be short, or empty, and not be the last.
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError>;

    /// What the indexes hold for a stream: which of the given hints, and what lists show.
    ///
    /// # Behavior
    /// The cost is that of the hints, whatever else the index has.
    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError>;

    /// Corrects the indexes of a stream, if the stream still ends at `end`. Returns whether it did.
    ///
    /// # Behavior
    /// Atomic with commits to the stream: a commit and a correction at the same end are serialized. Making the same correction again
    /// changes nothing more.
    async fn reindex(&self, stream: &StreamId, end: End, correction: &Correction)
    -> Result<bool, StoreError>;

    /// The version of the computation of due work and lists with which the indexes were last made to agree; zero where none was recorded.
    /// It is kept in the index of due work, so a lost index has no version.
    async fn index_version(&self) -> Result<u32, StoreError>;

    /// Records that the indexes agree with a version of the computation. The version never goes back.
    async fn set_index_version(&self, version: u32) -> Result<(), StoreError>;
}

/// Where a stream ends; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its last entry.
    pub seq: Seq,
    /// The fencing token in force.
    pub epoch: Epoch,
    /// The chain digest of the last entry.
    pub digest: Digest,
}

/// A page of the streams there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPage {
    /// The streams.
    pub streams: Vec<StreamId>,
    /// Names in the store that are not valid stream names.
    pub unreadable: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// What the indexes hold for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// For each given hint, whether the index has it.
    pub due: Vec<bool>,
    /// What lists show of a run; none where it is not listed, or the row cannot be read.
    pub summary: Option<Summary>,
    /// Whether the stream is listed by its name, where it should be.
    pub named: bool,
}

/// Changes to the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// In the index of due work.
    pub agenda: Vec<AgendaChange>,
    /// In the lists of runs.
    pub summary: Option<Summary>,
    /// Whether the stream is to be listed by its name.
    pub named: bool,
}

impl Correction {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agenda.is_empty() && self.summary.is_none() && !self.named
    }
}
