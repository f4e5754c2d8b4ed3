//! Verifies and corrects what the file has beside entries.

use super::SqliteStore;
use super::append::signed;
use super::error::store_error;
use super::index;
use super::read::get;
use super::writer::{Writer, in_turn};
use crate::contract::{Hint, PageToken};
use crate::error::StoreError;
use crate::group::page;
use crate::listing::{Row, number, stream_page};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use sqlx::Executor as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use tape_core::id::{RunId, StreamId};
use tape_core::status::Summary;

const DOING: &str = "looks over its indexes";

const STREAMS: &str = "SELECT s.id, s.name FROM stream s JOIN head h ON h.stream = s.id WHERE s.id > ? AND h.seq > 0 \
         ORDER BY s.id LIMIT ?";
const IS_DUE: &str = "SELECT 1 FROM agenda a JOIN stream s ON s.id = a.stream WHERE a.queue = ? AND a.due = ? AND s.name = ? AND a.item = ?";
/// The row of a run, and how many rows there are by which its labels find it.
pub(super) const LISTED: &str = "SELECT r.begun_at, r.stream, s.name, r.status, r.changed_at, r.labels, r.tenant, r.app, \
           (SELECT count(*) FROM json_each(iif(json_valid(r.labels), r.labels, '{}')) j CROSS JOIN label k \
              ON k.tenant = r.tenant AND k.key = j.key AND k.value = j.value AND k.begun_at = r.begun_at AND k.stream = r.stream) \
         FROM stream s JOIN run r ON r.stream = s.id WHERE s.name = ?";
const AT_END: &str = "SELECT s.id FROM stream s JOIN head h ON h.stream = s.id JOIN entry e ON e.pos = h.pos \
         WHERE s.name = ? AND h.seq = ? AND h.epoch = ? AND e.digest = ?";
// The version stands in the index that it is about, as an item of a queue that does not exist.
const VERSION: &str = "SELECT coalesce(max(due), 0) FROM agenda WHERE queue = 0";
const SET_VERSION: &str = "INSERT OR IGNORE INTO agenda VALUES (0, ?, 0, 'version')";

#[async_trait]
impl Upkeep for SqliteStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        self.reading(streams(&self.readers, from, page(limit))).await
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        self.reading(indexed(&self.readers, stream, hints)).await
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        self.writing(async { self.writer.lock().await.reindex(stream, end, correction).await })
            .await
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        let version = async {
            let version = sqlx::query_scalar::<_, i64>(VERSION);
            version.fetch_one(&self.readers).await.map_err(failed)
        };
        Ok(u32::try_from(self.reading(version).await?).unwrap_or(u32::MAX))
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        self.writing(async { self.writer.lock().await.set_index_version(version).await })
            .await
    }
}

async fn streams(
    readers: &SqlitePool,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<StreamPage, StoreError> {
    let query = sqlx::query(STREAMS).bind(number(from)?).bind(i64::from(limit));
    let rows = query.fetch_all(readers).await.map_err(failed)?;
    let named = |row: &SqliteRow| Ok((get(row, 0)?, get(row, 1)?));
    let rows = rows.iter().map(named).collect::<Result<_, StoreError>>()?;
    Ok(stream_page(rows, limit))
}

async fn indexed(readers: &SqlitePool, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
    let name = stream.to_string();
    let mut due = Vec::with_capacity(hints.len());
    for hint in hints {
        let query = sqlx::query(IS_DUE)
            .bind(i64::from(hint.queue.number()))
            .bind(hint.due.as_micros())
            .bind(name.clone())
            .bind(hint.item.to_string());
        let rows = query.fetch_all(readers).await.map_err(failed)?;
        due.push(!rows.is_empty());
    }
    let rows = sqlx::query(LISTED).bind(name).fetch_all(readers).await;
    let rows = rows.map_err(failed)?;
    let summary = rows.first().map(|row| listed(stream, row)).transpose()?;
    Ok(Indexed {
        due,
        summary: summary.flatten(),
        // The list of names is the index of the streams themselves.
        named: true,
    })
}

/// What a run's row shows, if each list has it that should.
fn listed(stream: &StreamId, row: &SqliteRow) -> Result<Option<Summary>, StoreError> {
    let (tenant, app): (String, String) = (get(row, 6)?, get(row, 7)?);
    let found_by: i64 = get(row, 8)?;
    let row = Row {
        begun_at: get(row, 0)?,
        stream: get(row, 1)?,
        name: get(row, 2)?,
        status: get(row, 3)?,
        changed_at: get(row, 4)?,
        labels: get(row, 5)?,
    };
    let is_of = |run: &RunId| (run.tenant.as_str(), run.app.as_str()) == (tenant.as_str(), app.as_str());
    let is_found = |summary: &Summary| usize::try_from(found_by) == Ok(summary.labels.len());
    let is_its_own = stream.as_run().is_some_and(is_of);
    Ok(row
        .summary()
        .ok()
        .filter(|summary| is_its_own && is_found(summary)))
}

impl Writer {
    async fn reindex(
        &mut self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        self.check()?;
        let busy_timeout = self.busy_timeout();
        let done = async {
            let connection = self.connection().await?;
            in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
            let held = correct(connection, stream, end, correction).await?;
            let over = if held { "COMMIT" } else { "ROLLBACK" };
            connection.execute(over).await?;
            Ok(held)
        }
        .await;
        self.settled(done.is_ok()).await;
        done.map_err(|error| self.failed(DOING, error))
    }

    async fn set_index_version(&mut self, version: u32) -> Result<(), StoreError> {
        self.check()?;
        let busy_timeout = self.busy_timeout();
        let done = async {
            let connection = self.connection().await?;
            let set = || sqlx::query(SET_VERSION).bind(i64::from(version));
            in_turn!(busy_timeout, set().execute(&mut *connection))
        }
        .await;
        self.settled(done.is_ok()).await;
        done.map(drop).map_err(|error| self.failed(DOING, error))
    }
}

/// Corrects what the indexes have of a stream within a transaction, if the stream ends there. Returns whether it does.
async fn correct(
    connection: &mut SqliteConnection,
    stream: &StreamId,
    end: End,
    correction: &Correction,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar::<_, i64>(AT_END)
        .bind(stream.to_string())
        .bind(signed(end.seq.0))
        .bind(signed(end.epoch.0))
        .bind(end.digest.0.to_vec());
    let Some(number) = query.fetch_all(&mut *connection).await?.first().copied() else {
        return Ok(false);
    };
    index::correct(connection, number, stream, correction).await?;
    Ok(true)
}

fn failed(error: sqlx::Error) -> StoreError {
    store_error(DOING, error)
}
