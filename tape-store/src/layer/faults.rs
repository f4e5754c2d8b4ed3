//! Injected faults: lost answers, unreachable stores, pauses at named points.

use super::Layer;
use crate::contract::{
    Batch, BatchId, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, TailPage,
};
use crate::cursors::{CursorStore, Record, Swap};
use crate::error::{CommitError, StoreError};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;
use tokio::sync::Semaphore;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// A commit was called and has not reached the store.
    BeforeCommit,
    /// A commit is done and its answers have not reached the caller.
    AfterCommit,
    /// `head` is called.
    Head,
    /// `read` is called.
    Read,
    /// `resolve` is called.
    Resolve,
    /// `barrier` is called.
    Barrier,
    /// `due` is called.
    Due,
    /// `tail` or `tail_end` is called.
    Tail,
    /// `runs` or `named` is called.
    Runs,
    /// `erase` is called.
    BeforeErase,
    /// The bytes are erased, and the answer has not reached the caller.
    AfterErase,
    /// `drop_before` is called.
    Drop,
    /// `reclaim` is called.
    Reclaim,
    /// A method of [`Upkeep`] is called.
    Upkeep,
    /// `record` or `records` is called.
    Record,
    /// `swap_record` is called.
    BeforeSwap,
    /// The record is swapped, and the answer has not reached the caller.
    AfterSwap,
}

/// What goes wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The answers of a commit are lost; at [`Point::BeforeCommit`] the commit itself is lost too. Other calls fail as unavailable.
    Lost,
    /// The call fails as unavailable. After a commit, its answers are lost.
    Unavailable,
    /// The call waits until it is resumed.
    Pause(Paused),
    /// Nothing: lets one call pass.
    None,
}

/// A call that waits at a point. It is made before the call, and resumed after it.
#[derive(Clone, Debug)]
pub struct Paused(Arc<(Semaphore, Semaphore)>);

impl Default for Paused {
    fn default() -> Self {
        Self::new()
    }
}

impl Paused {
    /// A pause that no call has reached yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// Waits until a call has reached the point.
    pub async fn reached(&self) {
        pass(&self.0.0).await;
    }

    /// Lets the call continue; also a call that has not reached the point yet.
    pub fn resume(&self) {
        self.0.1.add_permits(1);
    }

    async fn hold(&self) {
        self.0.0.add_permits(1);
        pass(&self.0.1).await;
    }
}

async fn pass(semaphore: &Semaphore) {
    semaphore
        .acquire()
        .await
        .expect("a pause is never closed")
        .forget();
}

/// A store that fails as planned.
pub struct FaultyStore {
    inner: Arc<dyn JournalStore>,
    plan: Mutex<HashMap<Point, VecDeque<Fault>>>,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// Passes everything on to `inner` until a fault is planned.
    #[must_use]
    pub fn new(inner: Arc<dyn JournalStore>) -> Self {
        Self {
            inner,
            plan: Mutex::default(),
        }
    }

    /// Plans `fault` for the next call at `point` that has no planned fault yet.
    pub fn plan(&self, point: Point, fault: Fault) {
        self.planned().entry(point).or_default().push_back(fault);
    }

    /// The number of planned faults that have not struck yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.planned().values().map(VecDeque::len).sum()
    }

    fn planned(&self) -> std::sync::MutexGuard<'_, HashMap<Point, VecDeque<Fault>>> {
        self.plan.lock().expect("no code panics while it holds the plan")
    }

    async fn meet(&self, point: Point) -> Fault {
        let fault = self
            .planned()
            .get_mut(&point)
            .and_then(VecDeque::pop_front)
            .unwrap_or(Fault::None);
        if let Fault::Pause(pause) = &fault {
            pause.hold().await;
        }
        fault
    }

    async fn reach(&self, point: Point) -> Result<(), StoreError> {
        match self.meet(point).await {
            Fault::Lost | Fault::Unavailable => {
                Err(StoreError::unavailable("is tested", "a fault on purpose"))
            }
            Fault::Pause(_) | Fault::None => Ok(()),
        }
    }
}

fn lost(ids: &[BatchId]) -> Vec<Result<Committed, CommitError>> {
    ids.iter()
        .map(|id| Err(CommitError::outcome_unknown(*id, "a fault on purpose")))
        .collect()
}

#[async_trait]
impl Layer for FaultyStore {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.reach(Point::Head).await?;
        self.inner.head(stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.reach(Point::Read).await?;
        self.inner.read(stream, after, limit).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        match self.meet(Point::BeforeCommit).await {
            Fault::Lost => return lost(&ids),
            Fault::Unavailable => {
                let error = StoreError::unavailable("is tested", "a fault on purpose");
                return ids
                    .iter()
                    .map(|_| Err(CommitError::Store(error.clone())))
                    .collect();
            }
            Fault::Pause(_) | Fault::None => {}
        }
        let answers = self.inner.commit(batches).await;
        match self.meet(Point::AfterCommit).await {
            Fault::Lost | Fault::Unavailable => lost(&ids),
            Fault::Pause(_) | Fault::None => answers,
        }
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        self.reach(Point::Resolve).await?;
        self.inner.resolve(batch).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.reach(Point::Barrier).await?;
        self.inner.barrier().await
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        self.reach(Point::Due).await?;
        self.inner.due(queue, shard, until, after, limit).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.reach(Point::Tail).await?;
        self.inner.tail(shard, cursor, limit).await
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.reach(Point::Tail).await?;
        self.inner.tail_end(shard).await
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        self.reach(Point::Runs).await?;
        self.inner.runs(filter, from, limit).await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        self.reach(Point::Runs).await?;
        self.inner.named(prefix, from, limit).await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        self.reach(Point::BeforeErase).await?;
        self.inner.erase(stream, entries).await?;
        self.reach(Point::AfterErase).await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        self.reach(Point::Drop).await?;
        self.inner.drop_before(drops).await
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        self.reach(Point::Reclaim).await?;
        self.inner.reclaim().await
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }
}

#[async_trait]
impl Upkeep for FaultyStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        self.reach(Point::Upkeep).await?;
        self.inner.upkeep().streams(from, limit).await
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        self.reach(Point::Upkeep).await?;
        self.inner.upkeep().indexed(stream, hints).await
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        self.reach(Point::Upkeep).await?;
        self.inner.upkeep().reindex(stream, end, correction).await
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        self.reach(Point::Upkeep).await?;
        self.inner.upkeep().index_version().await
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        self.reach(Point::Upkeep).await?;
        self.inner.upkeep().set_index_version(version).await
    }
}

#[async_trait]
impl CursorStore for FaultyStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        self.reach(Point::Record).await?;
        self.inner.cursors().record(name).await
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        self.reach(Point::BeforeSwap).await?;
        let swapped = self.inner.cursors().swap_record(name, swap).await?;
        self.reach(Point::AfterSwap).await?;
        Ok(swapped)
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        self.reach(Point::Record).await?;
        self.inner.cursors().records(prefix, after, limit).await
    }
}
