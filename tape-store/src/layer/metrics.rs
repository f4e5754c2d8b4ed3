//! Counts the calls of a store.

use super::Layer;
use crate::contract::{
    Batch, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken, RunFilter,
    RunPage, Shard, TailPage,
};
use crate::cursors::{CursorStore, Record, Swap};
use crate::error::{CommitError, StoreError};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The calls of a store so far, and their results.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        struct Counters {
            $($name: AtomicU64,)+
        }

        impl Counters {
            fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)+ }
            }
        }

        impl Counts {
            /// All counts by name, for an exporter.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

counts! {
    /// Calls of `head`.
    heads,
    /// Calls of `read`.
    reads,
    /// Entries that `read` returned.
    entries_read,
    /// Bytes of these entries.
    bytes_read,
    /// Calls of `commit`: physical commits, where the store makes one of each.
    commits,
    /// Batches that were committed.
    batches_committed,
    /// Entries of these batches.
    entries_committed,
    /// Bytes of these entries and their snapshots.
    bytes_committed,
    /// Changes of the agenda in these batches.
    agenda_changes,
    /// Batches refused because their stream ended elsewhere.
    conflicts,
    /// Batches refused because of their epoch.
    fenced,
    /// Batches whose answer was lost.
    unknown,
    /// Batches refused for another reason.
    failed,
    /// Calls of `resolve`.
    lookups,
    /// Calls of `due`.
    dues,
    /// Hints that these calls returned.
    hints,
    /// Calls of `tail`.
    tails,
    /// Entries that these calls returned.
    entries_tailed,
    /// Calls of `runs` and `named`.
    lists,
    /// Entries that `erase` was called for.
    erased,
    /// Streams that `drop_before` dropped entries of.
    dropped,
    /// Calls of [`Upkeep`].
    upkeeps,
    /// Corrections of indexes that were made.
    reindexed,
    /// Calls of `record` and `records`.
    records,
    /// Calls of `swap_record`.
    swaps,
    /// Calls other than commits that ended in an error.
    errors,
}

/// A store that counts its calls.
pub struct MeteredStore {
    inner: Arc<dyn JournalStore>,
    counters: Counters,
}

impl std::fmt::Debug for MeteredStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeteredStore")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl MeteredStore {
    /// Counts the calls of `inner` from now on.
    #[must_use]
    pub fn new(inner: Arc<dyn JournalStore>) -> Self {
        Self {
            inner,
            counters: Counters::default(),
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    fn note<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if outcome.is_err() {
            add(&self.counters.errors, 1);
        }
        outcome
    }

    fn note_batch(&self, size: &Size, answer: &Result<Committed, CommitError>) {
        let counters = &self.counters;
        match answer {
            Ok(_) => {
                add(&counters.batches_committed, 1);
                add(&counters.entries_committed, size.entries);
                add(&counters.bytes_committed, size.bytes);
                add(&counters.agenda_changes, size.agenda);
            }
            Err(CommitError::Conflict { .. }) => add(&counters.conflicts, 1),
            Err(CommitError::Fenced { .. }) => add(&counters.fenced, 1),
            Err(CommitError::OutcomeUnknown { .. }) => add(&counters.unknown, 1),
            Err(CommitError::Store(_)) => add(&counters.failed, 1),
        }
    }
}

struct Size {
    entries: u64,
    bytes: u64,
    agenda: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

#[async_trait]
impl Layer for MeteredStore {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        add(&self.counters.heads, 1);
        self.note(self.inner.head(stream).await)
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        add(&self.counters.reads, 1);
        let page = self.note(self.inner.read(stream, after, limit).await)?;
        add(&self.counters.entries_read, page.len() as u64);
        add(
            &self.counters.bytes_read,
            page.iter().map(StoredEntry::size).sum::<usize>() as u64,
        );
        Ok(page)
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        add(&self.counters.commits, 1);
        let size = |batch: &Batch| Size {
            entries: batch.entries.len() as u64,
            bytes: batch.size() as u64,
            agenda: batch.agenda.len() as u64,
        };
        let sizes: Vec<Size> = batches.iter().map(size).collect();
        let answers = self.inner.commit(batches).await;
        sizes
            .iter()
            .zip(&answers)
            .for_each(|(size, answer)| self.note_batch(size, answer));
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        add(&self.counters.lookups, 1);
        self.note(self.inner.resolve(batch).await)
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        add(&self.counters.dues, 1);
        let hints = self.note(self.inner.due(queue, shard, until, after, limit).await)?;
        add(&self.counters.hints, hints.len() as u64);
        Ok(hints)
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        add(&self.counters.tails, 1);
        let page = self.note(self.inner.tail(shard, cursor, limit).await)?;
        add(&self.counters.entries_tailed, page.entries.len() as u64);
        Ok(page)
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.note(self.inner.tail_end(shard).await)
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        add(&self.counters.lists, 1);
        self.note(self.inner.runs(filter, from, limit).await)
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        add(&self.counters.lists, 1);
        self.note(self.inner.named(prefix, from, limit).await)
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        add(&self.counters.erased, entries.len() as u64);
        self.note(self.inner.erase(stream, entries).await)
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        add(&self.counters.dropped, drops.len() as u64);
        self.note(self.inner.drop_before(drops).await)
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        self.note(self.inner.reclaim().await)
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }
}

#[async_trait]
impl Upkeep for MeteredStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        add(&self.counters.upkeeps, 1);
        self.note(self.inner.upkeep().streams(from, limit).await)
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        add(&self.counters.upkeeps, 1);
        self.note(self.inner.upkeep().indexed(stream, hints).await)
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        add(&self.counters.upkeeps, 1);
        let made = self.note(self.inner.upkeep().reindex(stream, end, correction).await)?;
        add(&self.counters.reindexed, u64::from(made));
        Ok(made)
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        add(&self.counters.upkeeps, 1);
        self.note(self.inner.upkeep().index_version().await)
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        add(&self.counters.upkeeps, 1);
        self.note(self.inner.upkeep().set_index_version(version).await)
    }
}

#[async_trait]
impl CursorStore for MeteredStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        add(&self.counters.records, 1);
        self.note(self.inner.cursors().record(name).await)
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        add(&self.counters.swaps, 1);
        self.note(self.inner.cursors().swap_record(name, swap).await)
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        add(&self.counters.records, 1);
        self.note(self.inner.cursors().records(prefix, after, limit).await)
    }
}
