//! Retries calls that a store could not carry out for the moment.

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
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;

/// A store that retries calls that were [`Unavailable`](StoreError::Unavailable), with a pause that doubles each time. It does not resolve
/// lost answers of commits: the caller that has the batch does.
pub struct RetryingStore {
    inner: Arc<dyn JournalStore>,
    attempts: u32,
    pause: Duration,
}

impl std::fmt::Debug for RetryingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { attempts, pause, .. } = self;
        f.debug_struct("RetryingStore")
            .field("attempts", attempts)
            .field("pause", pause)
            .finish_non_exhaustive()
    }
}

impl RetryingStore {
    /// Calls `inner` up to `attempts` times, at least once. The first pause between two attempts is `pause`.
    #[must_use]
    pub fn new(inner: Arc<dyn JournalStore>, attempts: u32, pause: Duration) -> Self {
        Self {
            inner,
            attempts: attempts.max(1),
            pause,
        }
    }

    async fn wait(&self, attempt: u32) {
        tokio::time::sleep(self.pause.saturating_mul(1 << attempt.min(16))).await;
    }
}

macro_rules! again {
    ($self:ident, $call:expr) => {{
        let mut attempt = 0;
        loop {
            let outcome = $call.await;
            let last = attempt + 1 == $self.attempts;
            if last || !matches!(outcome, Err(StoreError::Unavailable { .. })) {
                break outcome;
            }
            $self.wait(attempt).await;
            attempt += 1;
        }
    }};
}

#[async_trait]
impl Layer for RetryingStore {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        again!(self, self.inner.head(stream))
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        again!(self, self.inner.read(stream, after, limit))
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let mut answers = self.inner.commit(batches.clone()).await;
        for attempt in 0..self.attempts - 1 {
            let unavailable = |n: &usize| {
                matches!(
                    answers.get(*n),
                    Some(Err(CommitError::Store(StoreError::Unavailable { .. })))
                )
            };
            let again: Vec<usize> = (0..batches.len()).filter(unavailable).collect();
            if again.is_empty() {
                break;
            }
            self.wait(attempt).await;
            let asked = again.iter().map(|n| batches[*n].clone()).collect();
            for (n, answer) in again.into_iter().zip(self.inner.commit(asked).await) {
                answers[n] = answer;
            }
        }
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        again!(self, self.inner.resolve(batch))
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        again!(self, self.inner.barrier())
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        again!(self, self.inner.due(queue, shard, until, after, limit))
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        again!(self, self.inner.tail(shard, cursor, limit))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        again!(self, self.inner.tail_end(shard))
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        again!(self, self.inner.runs(filter, from, limit))
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        again!(self, self.inner.named(prefix, from, limit))
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        again!(self, self.inner.erase(stream, entries))
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        again!(self, self.inner.drop_before(drops))
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        again!(self, self.inner.reclaim())
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }
}

/// All of these calls may be repeated: a correction that is made twice changes nothing more, and a version never goes back.
#[async_trait]
impl Upkeep for RetryingStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        again!(self, self.inner.upkeep().streams(from, limit))
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        again!(self, self.inner.upkeep().indexed(stream, hints))
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        again!(self, self.inner.upkeep().reindex(stream, end, correction))
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        again!(self, self.inner.upkeep().index_version())
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        again!(self, self.inner.upkeep().set_index_version(version))
    }
}

/// A swap is not repeated: one whose answer was lost may have been made, and the caller that reads the record can tell.
#[async_trait]
impl CursorStore for RetryingStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        again!(self, self.inner.cursors().record(name))
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        self.inner.cursors().swap_record(name, swap).await
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        again!(self, self.inner.cursors().records(prefix, after, limit))
    }
}
