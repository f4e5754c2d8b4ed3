//! Erasing payloads.
//!
//! The payloads go in one transaction. The log still has their bytes: they are gone only once the log is empty. A reader of an old snapshot
//! keeps the log in use. Meanwhile others write, and the erasure retries.

use super::read;
use super::writer::{Writer, in_turn};
use crate::error::StoreError;
use sqlx::Executor as _;
use sqlx::sqlite::SqlitePool;
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tokio::sync::Mutex;
use tokio::time::Instant;

const DOING: &str = "erases payloads";
const MARK: &str = "INSERT OR IGNORE INTO erased VALUES (?)";
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Erases the payloads of entries. Returns an error where a reader keeps the log in use: the payloads can no longer be read, but the log
/// has their bytes.
pub(super) async fn erase(
    writer: &Mutex<Writer>,
    readers: &SqlitePool,
    stream: &StreamId,
    entries: &[Seq],
) -> Result<(), StoreError> {
    let mut positions = Vec::with_capacity(entries.len());
    for seq in entries {
        positions.extend(read::position(readers, stream, *seq).await?);
    }
    let busy_timeout = {
        let mut writer = writer.lock().await;
        writer.mark_erased(&positions).await?;
        writer.busy_timeout()
    };
    // The entries may have been erased before, and the log may still have their bytes.
    empty_log(writer, busy_timeout).await
}

/// Empties the log once no reader uses it. Between the tries, commits have the writer.
async fn empty_log(writer: &Mutex<Writer>, busy_timeout: Duration) -> Result<(), StoreError> {
    let (give_up, mut pause) = (Instant::now() + busy_timeout, PAUSE_MIN);
    while !writer.lock().await.empty_log().await? {
        if Instant::now() >= give_up {
            let problem = "a reader, such as a backup, keeps the write-ahead log in use, which still has the bytes: erase \
                           them again once it has ended";
            return Err(StoreError::unavailable(DOING, problem));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(())
}

impl Writer {
    /// Erases the payloads of entries at places in the file, and marks them as erased.
    async fn mark_erased(&mut self, positions: &[i64]) -> Result<(), StoreError> {
        self.check()?;
        if positions.is_empty() {
            return Ok(());
        }
        let busy_timeout = self.busy_timeout();
        let marked = async {
            let connection = self.connection().await?;
            in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
            for position in positions {
                sqlx::query(MARK).bind(position).execute(&mut *connection).await?;
            }
            connection.execute("COMMIT").await.map(drop)
        }
        .await;
        self.settled(marked.is_ok()).await;
        marked.map_err(|error| self.failed(DOING, error))
    }
}
