//! The store in a Cloud Spanner database: for any number of servers.
//!
//! A commit is one request for each batch, which reads nothing before (`append.rs`); the conditions in it decide, never what a server
//! remembers, so any server serves any stream. The feed is in the order of the times of commits (`tail.rs`).

mod append;
mod cursors;
mod due;
mod error;
mod link;
mod migrate;
mod named;
mod probe;
mod read;
mod retention;
mod runs;
mod settings;
mod tail;
mod upkeep;
mod watch;
mod writer;

pub use migrate::migrate;
pub use settings::{Settings, Target};

use crate::anchor::{Anchored, Anchors};
use crate::contract::BatchId;
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, StoreTime, TailPage,
};
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::group::{check_shard_of, page};
use crate::upkeep::Upkeep;
use crate::wake::Wake;
use append::StreamKey;
use async_trait::async_trait;
use futures::future::BoxFuture;
use link::Link;
use std::sync::Arc;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;
use tape_environment::{Environment, machine};
use watch::Watch;

/// A journal store in a Spanner database.
#[derive(Debug)]
pub struct SpannerStore {
    link: Link,
    shards: u16,
    wake: Arc<Wake>,
    anchors: Anchors,
    environment: Arc<dyn Environment>,
    _watch: Watch,
}

impl SpannerStore {
    /// Opens the database, which has to be there. Makes its tables, or upgrades them, unless the settings say not to.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] where a newer build made the tables for newer builds only, [`StoreError::Invalid`] where they are too
    /// old and are not to be upgraded, [`StoreError::Unavailable`] where the database cannot be reached.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        Self::open_in(target, machine()).await
    }

    /// The same in another environment than the machine's.
    ///
    /// # Errors
    /// Those of [`SpannerStore::open`].
    pub async fn open_in(target: &Target, environment: Arc<dyn Environment>) -> Result<Self, StoreError> {
        let link = Link::open(target).await?;
        if target.settings.migrate {
            migrate::migrate_through(&link, target, false).await?;
        } else {
            migrate::check(&link).await?;
        }
        let (shards, wake) = (migrate::shards(&link).await?, Arc::new(Wake::new()));
        Ok(Self {
            _watch: Watch::start(link.clone(), shards, target.settings.poll, Arc::clone(&wake)),
            environment,
            link,
            shards,
            wake,
            anchors: Anchors::new(),
        })
    }

    fn stream(&self, stream: &StreamId) -> StreamKey {
        StreamKey::new(stream, self.shards)
    }
}

#[async_trait]
impl JournalStore for SpannerStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        read::head(&self.link, &self.stream(stream)).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        read::entries(&self.link, &self.stream(stream), after, page(limit)).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let answers = writer::commit(&self.link, self.shards, batches).await;
        if answers
            .iter()
            .any(|answer| matches!(answer, Ok(_) | Err(CommitError::OutcomeUnknown { .. })))
        {
            self.wake.notify();
        }
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        writer::resolve(&self.link, &self.stream(&batch.stream), batch).await
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        check_shard_of(shard, self.shards)?;
        let after = after.map(|after| (after, self.stream(&after.stream)));
        due::due(&self.link, queue, shard, until, after, page(limit)).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        check_shard_of(shard, self.shards)?;
        let anchored = self.anchors.open(cursor)?;
        if anchored.is_unknown() {
            anchored.check(tail::found(&self.link, &anchored.place).await?)?;
        }
        let page = tail::page(&self.link, shard, &anchored.place, page(limit)).await?;
        Ok(self.anchors.page(anchored, page))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        check_shard_of(shard, self.shards)?;
        let place = tail::end(&self.link).await?;
        Ok(self.anchors.note(&Anchored::new(place, None)))
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.wake.changed()
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        runs::runs(&self.link, filter, from, page(limit)).await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        named::named(&self.link, prefix, from, page(limit)).await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        let stream = self.stream(stream);
        for seq in entries {
            read::erase(&self.link, &stream, *seq).await?;
        }
        Ok(())
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        retention::drop_before(&self.link, self.shards, drops).await
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        probe::time(&self.link).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        probe::probe(&self.link, BatchId::random(self.environment.random())).await
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "spanner",
            shards: self.shards,
            durable: true,
            shared: true,
            commits_at_once: self.link.commits_at_once(),
            pushed: false,
        }
    }
}
