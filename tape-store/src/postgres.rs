//! The store in a PostgreSQL or AlloyDB database: for any number of servers.
//!
//! A commit is one statement and one round trip for any number of batches (`append.rs`); the conditions in it decide, never what
//! a server remembers, so any server serves any stream. The feed is read up to the oldest transaction under way (`tail.rs`).

mod append;
mod cursors;
mod due;
mod error;
mod links;
mod migrate;
mod named;
mod notices;
#[cfg(test)]
mod plans;
mod primary;
mod probe;
mod read;
mod reclaim;
mod retention;
mod runs;
mod session;
mod settings;
mod tail;
mod upkeep;
mod watch;
mod writer;

pub use migrate::migrate;
pub use settings::{Settings, Target};

use crate::anchor::Anchors;
use crate::announce::Announcements;
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, StoreTime, StreamKey, TailPage,
};
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::group::{check_shard, page};
use crate::upkeep::Upkeep;
use crate::wake::Wake;
use async_trait::async_trait;
use futures::future::BoxFuture;
use links::Links;
use std::sync::Arc;
use std::time::Duration;
use tail::Tail;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;
use tape_environment::{Environment, Machine};
use watch::Watch;

/// How soon to look again for entries that another transaction held up: the database does not announce its end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A journal store in a PostgreSQL or AlloyDB database.
#[derive(Debug)]
pub struct PostgresStore {
    commits: Links,
    reads: Links,
    tail: Tail,
    wake: Arc<Wake>,
    watch: Watch,
    target: Target,
    anchors: Anchors,
}

impl PostgresStore {
    /// Opens the database. Makes its tables, or upgrades them, unless the settings say not to.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] where a newer build made the tables for newer builds only, [`StoreError::Invalid`] where they are too
    /// old and are not to be upgraded, [`StoreError::Unavailable`] where the database cannot be reached.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        Self::open_in(target, &Machine).await
    }

    /// The same in another environment than the machine's.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`].
    pub async fn open_in(target: &Target, environment: &dyn Environment) -> Result<Self, StoreError> {
        if target.settings.migrate {
            migrate(target, false).await?;
        } else {
            migrate::check(target).await?;
        }
        let wake = Arc::new(Wake::new());
        Ok(Self {
            commits: Links::new(target, target.settings.commit_connections),
            reads: Links::that_only_read(target, target.settings.read_connections),
            tail: Tail::default(),
            watch: Watch::start(target, Arc::clone(&wake), environment.uuid()),
            wake,
            target: target.clone(),
            anchors: Anchors::new(),
        })
    }
}

#[async_trait]
impl JournalStore for PostgresStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        read::head(&self.reads, stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        read::entries(&self.reads, stream, after, page(limit)).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let streams: Vec<StreamKey> = batches.iter().map(|batch| StreamKey::of(&batch.stream)).collect();
        let answers = writer::commit(&self.commits, batches).await;
        let may_be_there =
            |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(CommitError::OutcomeUnknown { .. }));
        let changed = streams.into_iter().zip(&answers);
        let changed: Vec<StreamKey> = changed
            .filter_map(|(stream, answer)| may_be_there(answer).then_some(stream))
            .collect();
        if !changed.is_empty() {
            self.wake.notify();
            self.watch.committed(&changed);
        }
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        writer::resolve(&self.commits, batch).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        writer::barrier(&self.commits).await
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        check_shard(shard)?;
        due::due(&self.reads, queue, until, after, page(limit)).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        check_shard(shard)?;
        let anchored = self.anchors.open(cursor)?;
        if anchored.is_unknown() {
            anchored.check(tail::found(&self.reads, &anchored.place).await?)?;
        }
        let page = self.tail.page(&self.reads, &anchored.place, page(limit)).await;
        if page.is_err() {
            // The next connection may be to a server that took over and does not have all that was read here.
            self.anchors.forget();
        }
        Ok(self.anchors.page(anchored, page?))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        check_shard(shard)?;
        let end = self.tail.end(&self.reads).await?;
        Ok(self.anchors.note(&end))
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.watch.announcements())
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let changed = self.wake.changed();
        if !self.tail.is_held_up() {
            return changed;
        }
        Box::pin(async {
            // Both are reasons to look again.
            let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
        })
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        runs::runs(&self.reads, filter, from, page(limit)).await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        named::named(&self.reads, prefix, from, page(limit)).await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        retention::erase(&self.target, stream, entries).await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        retention::drop_before(&self.target, drops).await
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        reclaim::reclaim(&self.target).await
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        probe::time(&self.reads).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        probe::probe(&self.reads).await
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "postgres",
            shards: 1,
            durable: true,
            shared: true,
            commits_at_once: self.commits.at_once(),
            pushed: true,
        }
    }
}
