//! Layers over any store, each written once: metrics, injected faults, retries.

#[cfg(feature = "testing")]
mod faults;
mod metrics;
mod retry;
#[cfg(test)]
mod tests;

#[cfg(feature = "testing")]
pub use faults::{Fault, FaultyStore, Paused, Point};
pub use metrics::{Counts, MeteredStore};
pub use retry::RetryingStore;

use crate::announce::Announcements;
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, StoreTime, TailPage,
};
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::upkeep::Upkeep;
use async_trait::async_trait;
use futures::future::BoxFuture;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;

/// A store around another one. A layer implements only the methods that it changes; the inner store does the rest. A layer is a
/// [`JournalStore`].
///
/// ```
/// use std::sync::Arc;
/// use tape_store::contract::{Capabilities, JournalStore};
/// use tape_store::layer::Layer;
/// use tape_store::memory::MemoryStore;
///
/// struct Renamed(MemoryStore);
///
/// impl Layer for Renamed {
///     fn inner(&self) -> &dyn JournalStore {
///         &self.0
///     }
///     fn capabilities(&self) -> Capabilities {
///         Capabilities { name: "renamed", ..self.inner().capabilities() }
///     }
/// }
///
/// let store: Arc<dyn JournalStore> = Arc::new(Renamed(MemoryStore::new()));
/// assert_eq!(store.capabilities().name, "renamed");
/// ```
#[async_trait]
pub trait Layer: Send + Sync + 'static {
    /// The inner store.
    fn inner(&self) -> &dyn JournalStore;

    /// As [`JournalStore::head`].
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.inner().head(stream).await
    }

    /// As [`JournalStore::read`].
    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner().read(stream, after, limit).await
    }

    /// As [`JournalStore::commit`].
    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        self.inner().commit(batches).await
    }

    /// As [`JournalStore::resolve`].
    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        self.inner().resolve(batch).await
    }

    /// As [`JournalStore::barrier`].
    async fn barrier(&self) -> Result<(), StoreError> {
        self.inner().barrier().await
    }

    /// As [`JournalStore::due`].
    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        self.inner().due(queue, shard, until, after, limit).await
    }

    /// As [`JournalStore::tail`].
    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.inner().tail(shard, cursor, limit).await
    }

    /// As [`JournalStore::tail_end`].
    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.inner().tail_end(shard).await
    }

    /// As [`JournalStore::runs`].
    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        self.inner().runs(filter, from, limit).await
    }

    /// As [`JournalStore::named`].
    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        self.inner().named(prefix, from, limit).await
    }

    /// As [`JournalStore::erase`].
    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        self.inner().erase(stream, entries).await
    }

    /// As [`JournalStore::drop_before`].
    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        self.inner().drop_before(drops).await
    }

    /// As [`JournalStore::reclaim`].
    async fn reclaim(&self) -> Result<bool, StoreError> {
        self.inner().reclaim().await
    }

    /// As [`JournalStore::time`].
    async fn time(&self) -> Result<StoreTime, StoreError> {
        self.inner().time().await
    }

    /// As [`JournalStore::probe`].
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner().probe().await
    }

    /// As [`JournalStore::changed`].
    fn changed(&self) -> BoxFuture<'static, ()> {
        self.inner().changed()
    }

    /// As [`JournalStore::upkeep`].
    fn upkeep(&self) -> &dyn Upkeep {
        self.inner().upkeep()
    }

    /// As [`JournalStore::cursors`].
    fn cursors(&self) -> &dyn CursorStore {
        self.inner().cursors()
    }

    /// As [`JournalStore::announcements`]. Announcements wake readers in this process, no call waits for them, and they cannot fail. So the
    /// layers here pass them on unchanged.
    fn announcements(&self) -> Option<Announcements> {
        self.inner().announcements()
    }

    /// As [`JournalStore::capabilities`].
    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }
}

#[async_trait]
impl<L: Layer> JournalStore for L {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        Layer::head(self, stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        Layer::read(self, stream, after, limit).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        Layer::commit(self, batches).await
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        Layer::resolve(self, batch).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        Layer::barrier(self).await
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        Layer::due(self, queue, shard, until, after, limit).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        Layer::tail(self, shard, cursor, limit).await
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        Layer::tail_end(self, shard).await
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        Layer::runs(self, filter, from, limit).await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        Layer::named(self, prefix, from, limit).await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        Layer::erase(self, stream, entries).await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        Layer::drop_before(self, drops).await
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        Layer::reclaim(self).await
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        Layer::time(self).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Layer::probe(self).await
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        Layer::changed(self)
    }

    fn upkeep(&self) -> &dyn Upkeep {
        Layer::upkeep(self)
    }

    fn cursors(&self) -> &dyn CursorStore {
        Layer::cursors(self)
    }

    fn announcements(&self) -> Option<Announcements> {
        Layer::announcements(self)
    }

    fn capabilities(&self) -> Capabilities {
        Layer::capabilities(self)
    }
}
