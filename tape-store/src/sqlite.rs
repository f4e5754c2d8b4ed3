//! The store in a SQLite file: nothing to install, durable, for one machine.
//!
//! WAL mode with `synchronous=FULL`: an acknowledged commit survives the loss of power as far as the disk keeps its promises. One
//! connection writes, a few read beside it. Several processes may use one file: they write one after the other, and
//! the conditions within the statements decide, never what a process remembers.
//!
//! The bytes of an erased payload are overwritten in the file, and the write-ahead log that had them is emptied. A reader that
//! keeps the log in use for longer than [`Settings::busy_timeout`] does not stop the erasure, but the log then has the bytes until
//! the next checkpoint writes over them or the last process closes the file; erasing the entry again empties it at once. Copies
//! of the file keep what they have. The state of a session or a value, which later entries and snapshots have too, goes with those.

mod append;
mod clock;
mod connect;
mod due;
mod error;
mod index;
mod names;
#[cfg(test)]
mod plans;
mod read;
mod retention;
mod runs;
mod settings;
mod upkeep;
mod watch;
mod writer;

pub use settings::Settings;

use crate::clock::{Clock as _, SystemClock};
use crate::contract::{
    Batch, BatchId, Capabilities, Committed, Cursor, Head, Hint, JournalStore, PageToken, RunFilter, RunPage,
    Shard, StoreTime, TailPage,
};
use crate::error::{CommitError, StoreError};
use crate::group::{check_shard, page};
use crate::upkeep::Upkeep;
use crate::wake::Wake;
use async_trait::async_trait;
use error::store_error;
use futures::future::BoxFuture;
use names::Names;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use std::path::Path;
use std::sync::Arc;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_core::time::Timestamp;
use tokio::sync::Mutex;
use watch::Watch;
use writer::Writer;

/// A journal store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
    names: Names,
    wake: Arc<Wake>,
    _watch: Watch,
}

impl SqliteStore {
    /// Opens the file, and makes it where there is none.
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
        let failed = |error| store_error("opens the database", error);
        connect::prepare(path, settings).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.readers.max(1))
            .test_before_acquire(false);
        let readers = pool
            .connect_with(connect::reader(path, settings))
            .await
            .map_err(failed)?;
        let wake = Arc::new(Wake::new());
        let writer = Writer::new(connect::writer(path, settings), settings.busy_timeout);
        let writer = Arc::new(Mutex::new(writer));
        Ok(Self {
            readers,
            names: Names::new(),
            _watch: Watch::start(Arc::clone(&writer), Arc::clone(&wake)),
            writer,
            wake,
        })
    }
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        read::head(&self.readers, stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        read::entries(&self.readers, stream, after, page(limit)).await
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let answers = self.writer.lock().await.commit(batches, &self.names).await;
        if answers
            .iter()
            .any(|answer| matches!(answer, Ok(_) | Err(CommitError::OutcomeUnknown { .. })))
        {
            self.wake.notify();
        }
        answers
    }

    async fn find_batch(&self, stream: &StreamId, batch: BatchId) -> Result<Option<Committed>, StoreError> {
        self.writer.lock().await.find_batch(stream, batch).await
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
        due::due(&self.readers, queue, until, after, page(limit)).await
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        check_shard(shard)?;
        read::tail(&self.readers, crate::listing::read_cursor(cursor)?, page(limit)).await
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        check_shard(shard)?;
        read::tail_end(&self.readers).await.map(crate::listing::cursor)
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
        runs::runs(&self.readers, filter, from, page(limit)).await
    }

    async fn erase(&self, stream: &StreamId, seq: Seq) -> Result<(), StoreError> {
        let Some(position) = read::position(&self.readers, stream, seq).await? else {
            return Ok(());
        };
        self.writer.lock().await.erase(position).await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        retention::drop_before(&self.writer, drops).await
    }

    /// Pages that became free are used again by what is written next.
    async fn reclaim(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        let Some(now) = clock::Machine::look() else {
            return Ok(SystemClock.now().into());
        };
        let anchor = clock::read(&self.readers).await;
        let anchor = anchor.map_err(|error| store_error(clock::DOING, error))?;
        match clock::told(anchor.as_ref(), &now) {
            Some(time) => Ok(time),
            None => self.writer.lock().await.set_time().await,
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.writer.lock().await.probe().await
    }

    fn upkeep(&self) -> &dyn Upkeep {
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
