//! The store in a SQLite file: nothing to install, durable, for one machine.
//!
//! WAL mode with `synchronous=FULL`: an acknowledged commit survives the loss of power as far as the disk keeps its promises. One
//! connection writes, a few read beside it. Several processes may use one file: they write one after the other, and
//! the conditions within the statements decide, never what a process remembers.
//!
//! After a disk failure during a write, the content of the disk is unknown: from then on every call is refused as [`StoreError::Poisoned`],
//! until the file is opened anew. The same holds where the file, or the log beside it, was removed or replaced: writes to it are then lost.
//! The store checks for both before it acknowledges anything.
//!
//! The bytes of an erased payload are overwritten in the file, and the write-ahead log that had them is emptied. Where a reader keeps the
//! log in use for longer than [`Settings::busy_timeout`], the payload can no longer be read, but the erasure is not complete and returns an
//! error: erasing the entry again completes it. No other call waits meanwhile. Copies of the file keep what they have. The state of a
//! session or a value is also in later entries and snapshots, and is erased with those.

mod append;
mod clock;
mod connect;
mod cursors;
mod due;
mod erasure;
mod error;
mod index;
mod log;
mod named;
mod names;
mod place;
#[cfg(test)]
mod plans;
mod read;
mod retention;
mod runs;
mod settings;
mod transaction;
mod upkeep;
mod watch;
mod writer;

pub use settings::Settings;

use crate::anchor::Anchors;
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, NamePage, PageToken,
    RunFilter, RunPage, Shard, StoreTime, TailPage,
};
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::group::{check_shard, page};
use crate::upkeep::Upkeep;
use crate::wake::Wake;
use async_trait::async_trait;
use connect::Access;
use error::{Poison, in_file, store_error};
use futures::future::BoxFuture;
use log::LogKeeper;
use names::Names;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, StreamPrefix};
use tape_core::time::Timestamp;
use tape_environment::{Environment, machine};
use tokio::sync::Mutex;
use watch::Watch;
use writer::Writer;

/// A journal store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    environment: Arc<dyn Environment>,
    access: Access,
    writer: Arc<Mutex<Writer>>,
    poison: Arc<Poison>,
    readers: SqlitePool,
    names: Names,
    wake: Arc<Wake>,
    anchors: Anchors,
    _watch: Watch,
    _log: Option<LogKeeper>,
}

impl SqliteStore {
    /// Opens the file, and makes it where there is none. On a disk that takes no writes, such as that of a backup, the journal is only
    /// read: a write is then [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where the file is not a Tape journal, [`StoreError::NewerSchema`] where a newer build made it; in both
    /// cases it stays as it is. [`StoreError::Corrupt`] where it is damaged, [`StoreError::Unavailable`] otherwise.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &Settings::default()).await
    }

    /// The same with settings.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub async fn open_with(path: &Path, settings: &Settings) -> Result<Self, StoreError> {
        Self::open_in(path, settings, machine()).await
    }

    /// The same in another environment than the machine's. All processes that use a file have to have the same clocks.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub async fn open_in(
        path: &Path,
        settings: &Settings,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, StoreError> {
        let opened = Self::open_file(path, settings, environment).await;
        opened.map_err(|error| in_file(path, error))
    }

    async fn open_file(
        path: &Path,
        settings: &Settings,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, StoreError> {
        let access = connect::prepare(path, settings, environment.as_ref()).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.readers.max(1))
            // Waiting for a reader is no fault: the pool would log each wait under load, and one that is too long fails.
            .acquire_slow_threshold(Duration::MAX)
            .test_before_acquire(false);
        let reader = connect::reader(path, settings, access);
        let readers = pool.connect_with(reader.clone()).await;
        let readers = readers.map_err(|error| store_error("opens the database", error))?;
        let is_written = access == Access::Write;
        if !is_written {
            tracing::warn!(path = %path.display(), "the disk takes no writes: the journal is only read");
        }
        let options = if is_written {
            connect::writer(path, settings)
        } else {
            reader
        };
        let (wake, poison) = (Arc::new(Wake::new()), Arc::new(Poison::of(path)));
        let writer = Writer::new(path, options, settings.busy_timeout, Arc::clone(&poison));
        let writer = Arc::new(Mutex::new(writer));
        let log = || LogKeeper::start(connect::beside(path, "-wal"), Arc::clone(&writer));
        Ok(Self {
            path: path.to_owned(),
            environment,
            access,
            readers,
            poison,
            names: Names::new(),
            _watch: Watch::start(Arc::clone(&writer), Arc::clone(&wake)),
            _log: is_written.then(log),
            writer,
            wake,
            anchors: Anchors::new(),
        })
    }

    /// The result of a call, unless the store's disk failed before.
    async fn reading<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let called = async {
            self.poison.check()?;
            call.await
        };
        called.await.map_err(|error| in_file(&self.path, error))
    }

    /// The same for a call that writes.
    async fn writing<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let called = async {
            self.may_write()?;
            let done = call.await?;
            // What was done to a file that is gone meanwhile is lost.
            self.poison.check_file()?;
            Ok(done)
        };
        called.await.map_err(|error| in_file(&self.path, error))
    }

    fn may_write(&self) -> Result<(), StoreError> {
        self.poison.check()?;
        if self.access == Access::Write {
            return Ok(());
        }
        Err(StoreError::unavailable(
            "writes",
            "the disk takes no writes, so the journal is only read",
        ))
    }
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.reading(read::head(&self.readers, stream)).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.reading(read::entries(&self.readers, stream, after, page(limit)))
            .await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        if let Err(error) = self.may_write() {
            let error = in_file(&self.path, error);
            let refuse = |_| Err(CommitError::Store(error.clone()));
            return batches.iter().map(refuse).collect();
        }
        let answers = self.writer.lock().await.commit(batches, &self.names).await;
        if answers
            .iter()
            .any(|answer| matches!(answer, Ok(_) | Err(CommitError::OutcomeUnknown { .. })))
        {
            self.wake.notify();
        }
        let located = |error| match error {
            CommitError::Store(error) => CommitError::Store(in_file(&self.path, error)),
            other => other,
        };
        answers
            .into_iter()
            .map(|answer| answer.map_err(located))
            .collect()
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        self.writing(async { self.writer.lock().await.resolve(batch).await })
            .await
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
        self.reading(due::due(&self.readers, queue, until, after, page(limit)))
            .await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        check_shard(shard)?;
        let anchored = self.anchors.open(cursor)?;
        let place = crate::listing::read_cursor(&anchored.place)?;
        if anchored.is_unknown() {
            anchored.check(self.reading(read::found(&self.readers, place)).await?)?;
        }
        let page = self
            .reading(read::tail(&self.readers, place, page(limit)))
            .await?;
        Ok(self.anchors.page(anchored, page))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        check_shard(shard)?;
        let end = self.reading(read::tail_end(&self.readers)).await?;
        Ok(self.anchors.note(&end))
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
        self.reading(runs::runs(&self.readers, filter, from, page(limit)))
            .await
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        self.reading(named::named(&self.readers, prefix, from, page(limit)))
            .await
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        self.writing(erasure::erase(&self.writer, &self.readers, stream, entries))
            .await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        self.writing(retention::drop_before(&self.writer, drops)).await
    }

    /// Pages that became free are used again by what is written next.
    async fn reclaim(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        // Where nothing can be written, no time can be agreed on, and none decides about anything.
        let Some(now) =
            clock::Clocks::look(self.environment.as_ref()).filter(|_| self.access == Access::Write)
        else {
            return Ok(self.environment.wall().into());
        };
        let time = async {
            let anchor = clock::read(&self.readers).await;
            let anchor = anchor.map_err(|error| store_error(clock::DOING, error))?;
            match clock::told(anchor.as_ref(), &now) {
                Some(time) => Ok(time),
                None => self.writer.lock().await.set_time(self.environment.as_ref()).await,
            }
        };
        self.writing(time).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.writing(async { self.writer.lock().await.probe().await })
            .await
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "sqlite",
            shards: 1,
            durable: true,
            shared: true,
            commits_at_once: 1,
            pushed: false,
        }
    }
}
