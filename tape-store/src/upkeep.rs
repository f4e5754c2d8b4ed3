//! What a store keeps beside entries, looked over and put right: the index of due work, the lists of runs, and which streams there are.

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
    /// In an order of the store's own, which stays: a reader that goes on from each page's token is given every stream that is there
    /// all the while, once. The cost of a page is that of its streams. A page may be short, or empty, and not be the last.
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError>;

    /// What the indexes have of a stream: which of some hints, and what lists show.
    ///
    /// # Behavior
    /// The cost is that of the hints, whatever the index has besides.
    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError>;

    /// Changes what the indexes have of a stream, if the stream still ends at an entry. Whether it did.
    ///
    /// # Behavior
    /// Atomic with commits to the stream: of a commit and a correction at the same end, one comes first, and the other finds that.
    /// Making the same correction again changes nothing more.
    async fn reindex(&self, stream: &StreamId, end: End, correction: &Correction)
    -> Result<bool, StoreError>;

    /// The version of the computation of due work and lists with which the indexes were last made to agree; zero where that was never
    /// said. It is kept with the index of due work, so that an index that is lost has none.
    async fn index_version(&self) -> Result<u32, StoreError>;

    /// Says that the indexes agree with a version of the computation. It never goes back.
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
    /// Names in the store that are those of no stream.
    pub unreadable: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// What the indexes have of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Of each hint that was asked for, whether it is there.
    pub due: Vec<bool>,
    /// What lists show of a run; none where it is not listed, or the row cannot be read.
    pub summary: Option<Summary>,
}

/// What is to be changed in the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// In the index of due work.
    pub agenda: Vec<AgendaChange>,
    /// In the lists of runs.
    pub summary: Option<Summary>,
}

impl Correction {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agenda.is_empty() && self.summary.is_none()
    }
}
