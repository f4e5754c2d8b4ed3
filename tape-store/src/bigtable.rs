//! The store in a Bigtable table: for any number of servers, and more work than one database takes.
//!
//! A stream is a row: a batch is committed by one conditional change of it (`writer.rs`), after hints were written that say where
//! to look (`hint.rs`). Rows that get large move their entries to segments (`segment.rs`). The feed is put in order by its readers
//! (`tail.rs`). The conditions in the table decide, never what a server remembers, so any server serves any stream.

mod append;
mod changes;
mod cursors;
mod due;
mod end;
mod error;
mod hint;
mod keys;
mod links;
mod migrate;
mod named;
mod partition;
mod probe;
mod read;
mod reclaim;
mod retention;
mod row_reservation;
mod runs;
mod segment;
mod settings;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;
mod watch;
mod writer;

pub use migrate::migrate;
pub use settings::{Push, Settings, Target};

use crate::anchor::{Anchored, Anchors};
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, StoreTime, TailPage,
};
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::group::page;
use crate::upkeep::Upkeep;
use crate::wake::Wake;
use async_trait::async_trait;
use end::{End, Ends};
use futures::future::BoxFuture;
use hint::DeferredDeletes;
use links::{Access, Links};
use reclaim::Swept;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use table::{Change, Row, RowFilter, Rows, Table};
use tail::LoggedUpTo;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;
use tape_environment::{Environment, machine};
use watch::Watch;

/// How soon to look again where commits of other servers are not pushed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Batches share the call for their hints, and nothing else.
const COMMITS_AT_ONCE: u16 = 32;
/// Most rows of streams that are read in one call.
const ROWS_MAX: usize = 512;

/// A journal store in a Bigtable table.
pub struct BigtableStore {
    context: TableContext,
    wake: Arc<Wake>,
    watch: Option<Watch>,
    anchors: Anchors,
}

/// What every part of the store works on.
struct TableContext {
    table: Arc<dyn Table>,
    environment: Arc<dyn Environment>,
    ends: Ends,
    deferred_deletes: DeferredDeletes,
    logged_up_to: LoggedUpTo,
    swept: Swept,
    shards: u16,
    given_up_after_micros: i64,
    last_moment: AtomicI64,
}

impl std::fmt::Debug for BigtableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BigtableStore")
            .field("shards", &self.context.shards)
            .finish_non_exhaustive()
    }
}

impl BigtableStore {
    /// Opens the table. Makes it where it is not there, unless the settings say not to.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] where a newer build made the table for newer builds only, [`StoreError::Invalid`] where it is not
    /// there and is not to be made, [`StoreError::Unavailable`] where the service cannot be reached or the caller is not known to it.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        Self::open_in(target, machine()).await
    }

    /// The same in another environment than the machine's.
    ///
    /// # Errors
    /// Those of [`BigtableStore::open`].
    pub async fn open_in(target: &Target, environment: Arc<dyn Environment>) -> Result<Self, StoreError> {
        let access = Access::new(target)?;
        let links = Links::new(target, &access)?;
        let version = migrate::prepare(target, &access, &links).await?;
        let watched = Arc::clone(&environment);
        let given_up_after = target.settings.given_up_after;
        let mut store = Self::over(Arc::new(links), version.shards, given_up_after, environment);
        store.watch = Watch::of(target, &access, &store.wake, watched);
        Ok(store)
    }

    fn over(
        table: Arc<dyn Table>,
        shards: u16,
        given_up_after: Duration,
        environment: Arc<dyn Environment>,
    ) -> Self {
        let context = TableContext {
            table,
            environment,
            ends: Ends::default(),
            deferred_deletes: DeferredDeletes::default(),
            logged_up_to: LoggedUpTo::new(shards),
            swept: Swept::default(),
            shards,
            given_up_after_micros: i64::try_from(given_up_after.as_micros()).unwrap_or(i64::MAX),
            last_moment: AtomicI64::new(i64::MIN),
        };
        Self {
            context,
            wake: Arc::new(Wake::new()),
            watch: None,
            anchors: Anchors::new(),
        }
    }

    fn is_pushed(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_pushed)
    }

    fn check_shard(&self, shard: Shard) -> Result<(), StoreError> {
        let shards = self.context.shards;
        if shard.0 < shards {
            return Ok(());
        }
        Err(StoreError::Invalid {
            what: "shard",
            problem: format!("{} of {shards}", shard.0),
        })
    }
}

impl TableContext {
    fn shard_of(&self, stream: &StreamId) -> Shard {
        Shard::of(stream, self.shards)
    }

    /// A time by this server's clock, later than any that it was given before.
    fn next_moment(&self) -> Timestamp {
        let now = self.environment.wall().as_micros();
        let later = |last: i64| now.max(last.saturating_add(1));
        let last = self
            .last_moment
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
        Timestamp::from_micros(later(last.unwrap_or_else(|last| last)))
    }

    /// Cells of a stream's row; none of them where there is no row.
    async fn read_stream(
        &self,
        doing: &'static str,
        stream: &StreamId,
        cells: RowFilter,
    ) -> Result<Row, StoreError> {
        let key = Rows::Keys(vec![keys::stream(stream)]);
        let read = self.table.read(key, cells, 1).await;
        let mut rows = read.map_err(|failure| failure.store_error(doing))?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Cells of the rows of streams, each once.
    async fn read_streams(
        &self,
        doing: &'static str,
        streams: impl Iterator<Item = &StreamId>,
        cells: RowFilter,
    ) -> Result<BTreeMap<StreamId, Row>, StoreError> {
        let mut rows: BTreeMap<StreamId, Row> =
            streams.map(|stream| (stream.clone(), Row::default())).collect();
        let wanted: Vec<StreamId> = rows.keys().cloned().collect();
        for streams in wanted.chunks(ROWS_MAX) {
            let by_key: BTreeMap<_, _> = streams
                .iter()
                .map(|stream| (keys::stream(stream), stream))
                .collect();
            let asked = Rows::Keys(by_key.keys().cloned().collect());
            let read = self.table.read(asked, cells.clone(), streams.len()).await;
            for row in read.map_err(|failure| failure.store_error(doing))? {
                if let Some(stream) = by_key.get(&row.key) {
                    rows.insert((*stream).clone(), row);
                }
            }
        }
        Ok(rows)
    }

    /// Where streams end, in their order.
    async fn read_ends(&self, doing: &'static str, streams: &[StreamId]) -> Result<Vec<End>, StoreError> {
        let cells = table::any_of([end::cells()]);
        let rows = self.read_streams(doing, streams.iter(), cells).await?;
        streams
            .iter()
            .map(|stream| End::read(stream, &rows[stream]))
            .collect()
    }

    /// Makes all changes, or says that some were not made.
    async fn change_all(&self, doing: &'static str, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let outcomes = self.table.mutate(changes).await;
        let changed: Result<Vec<()>, error::Failure> = outcomes.into_iter().collect();
        changed.map(drop).map_err(|failure| failure.store_error(doing))
    }
}

#[async_trait]
impl JournalStore for BigtableStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        read::head(&self.context, stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        read::entries(&self.context, stream, after, page(limit)).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let answers = writer::commit(&self.context, batches).await;
        if answers
            .iter()
            .any(|answer| matches!(answer, Ok(_) | Err(CommitError::OutcomeUnknown { .. })))
        {
            self.wake.notify();
        }
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        writer::resolve(&self.context, batch).await
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        self.check_shard(shard)?;
        due::due(&self.context, queue, shard, until, after, page(limit)).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.check_shard(shard)?;
        let anchored = self.anchors.open(cursor)?;
        if anchored.is_unknown() {
            anchored.check(tail::found(&self.context, shard, &anchored.place).await?)?;
        }
        let page = tail::page(&self.context, shard, &anchored.place, page(limit)).await?;
        Ok(self.anchors.page(anchored, page))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.check_shard(shard)?;
        let place = tail::end(&self.context, shard).await?;
        Ok(self.anchors.note(&Anchored::new(place, None)))
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        // This is requested first, so that a waiting reader is woken when commits are no longer pushed.
        let changed = self.wake.changed();
        if self.is_pushed() {
            return changed;
        }
        Box::pin(async {
            // Either is reason to look.
            let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
        })
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        runs::runs(&self.context, filter, from, page(limit)).await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        named::named(&self.context, prefix, from, page(limit)).await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        for seq in entries {
            read::erase(&self.context, stream, *seq).await?;
        }
        Ok(())
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        retention::drop_before(&self.context, drops).await
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        // Dropping deletes cells and rows, whose space the service gives back by itself. What remains is the log of the feed, which this
        // shortens.
        reclaim::reclaim(&self.context).await
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        probe::time(&self.context).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        probe::probe(&self.context).await
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "bigtable",
            shards: self.context.shards,
            durable: true,
            shared: true,
            commits_at_once: COMMITS_AT_ONCE,
            pushed: self.is_pushed(),
        }
    }
}
