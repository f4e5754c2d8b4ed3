//! Records of readers of the feed, in a table of their own.

use super::SqliteStore;
use super::append::signed;
use super::error::store_error;
use super::read::get;
use super::writer::{Writer, in_turn};
use crate::cursors::{CursorStore, Record, Swap, list_range};
use crate::error::StoreError;
use crate::group::page;
use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};

const DOING: &str = "keeps the places of readers";

pub(super) const READ: &str = "SELECT name, version, bytes FROM record WHERE name = ?";
/// At most ?3 records from one name on and before another, in the order of the bytes of their names.
pub(super) const LIST: &str =
    "SELECT name, version, bytes FROM record WHERE name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3";
const MAKE: &str = "INSERT INTO record(name, version, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
pub(super) const REPLACE: &str =
    "UPDATE record SET version = ?2, bytes = ?3 WHERE name = ?1 AND version = ?4";
pub(super) const REMOVE: &str = "DELETE FROM record WHERE name = ?1 AND version = ?2";

#[async_trait]
impl CursorStore for SqliteStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let read = async {
            let row = sqlx::query(READ).bind(name).fetch_optional(&self.readers).await;
            let row = row.map_err(failed)?;
            row.as_ref().map(named).transpose()
        };
        Ok(self.reading(read).await?.map(|(_, record)| record))
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        self.writing(async { self.writer.lock().await.swap_record(name, swap).await })
            .await
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let (from, before) = list_range(prefix, after);
        let list = async {
            let query = sqlx::query(LIST).bind(from).bind(before);
            let query = query.bind(i64::from(page(limit)));
            let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
            rows.iter().map(named).collect::<Result<Vec<_>, _>>()
        };
        self.reading(list).await
    }
}

impl Writer {
    async fn swap_record(&mut self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        self.check()?;
        let busy_timeout = self.busy_timeout();
        let done = async {
            let connection = self.connection().await?;
            in_turn!(busy_timeout, statement(name, swap).execute(&mut *connection))
        }
        .await;
        self.settled(done.is_ok()).await;
        let done = done.map_err(|error| self.failed(DOING, error))?;
        self.check_written()?;
        Ok(done.rows_affected() == 1)
    }
}

fn statement<'q>(name: &'q str, swap: &'q Swap) -> Query<'q, Sqlite, SqliteArguments> {
    let write = |sql, next: &'q Record| {
        let query = sqlx::query(sql).bind(name);
        query.bind(signed(next.version)).bind(next.bytes.as_ref())
    };
    match swap {
        Swap::Make(next) => write(MAKE, next),
        Swap::Replace { expected, next } => write(REPLACE, next).bind(signed(*expected)),
        Swap::Remove { expected } => sqlx::query(REMOVE).bind(name).bind(signed(*expected)),
    }
}

fn named(row: &SqliteRow) -> Result<(String, Record), StoreError> {
    let (version, bytes): (i64, Vec<u8>) = (get(row, 1)?, get(row, 2)?);
    let record = Record {
        version: version.unsigned_abs(),
        bytes: bytes.into(),
    };
    Ok((get(row, 0)?, record))
}

fn failed(error: sqlx::Error) -> StoreError {
    store_error(DOING, error)
}
