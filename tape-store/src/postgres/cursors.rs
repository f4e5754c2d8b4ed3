//! Records of readers of the feed, in a table of their own.
//!
//! A swap is one statement, which is a transaction by itself, and one round trip. It goes over the connections of commits: the session waits
//! for the disk, and for standbys where there are synchronous ones, and an answer that came with a warning does not count.
//!
//! A second swap of the same version waits for the first, and then compares again: transactions here are `read committed`.

use super::PostgresStore;
use super::append::signed;
use super::links::Statement;
use super::read::get;
use crate::cursors::{CursorStore, Record, Swap, list_range};
use crate::error::StoreError;
use crate::group::page;
use async_trait::async_trait;
use sqlx::postgres::PgRow;

pub(super) const READ: &str = "SELECT name, version, bytes FROM tape_record WHERE name = $1";
/// At most $3 records from $1 on and before $2, in the order of the bytes of their names.
pub(super) const LIST: &str =
    "SELECT name, version, bytes FROM tape_record WHERE name >= $1 AND name < $2 ORDER BY name LIMIT $3";
/// Each of these returns a row where it changed the record.
pub(super) const MAKE: &str =
    "INSERT INTO tape_record(name, version, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1";
pub(super) const REPLACE: &str =
    "UPDATE tape_record SET version = $2, bytes = $3 WHERE name = $1 AND version = $4 RETURNING 1";
pub(super) const REMOVE: &str = "DELETE FROM tape_record WHERE name = $1 AND version = $2 RETURNING 1";

#[async_trait]
impl CursorStore for PostgresStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let query = || sqlx::query(READ).bind(name);
        let rows = self.reads.query("reads a record", query).await?;
        let record = rows.first().map(named).transpose()?;
        Ok(record.map(|(_, record)| record))
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        // Sent once: what an answer that was lost said is not known, and the second answer would say that the version is another.
        let changed = self.commits.run(statement(name, swap)).await;
        let changed = changed.map_err(|failure| failure.store_error("changes a record"))?;
        Ok(!changed.is_empty())
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let (from, before) = list_range(prefix, after);
        let query = || {
            let query = sqlx::query(LIST).bind(from.as_str()).bind(before.as_str());
            query.bind(i64::from(page(limit)))
        };
        let rows = self.reads.query("lists records", query).await?;
        rows.iter().map(named).collect()
    }
}

fn statement<'q>(name: &'q str, swap: &'q Swap) -> Statement<'q> {
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

fn named(row: &PgRow) -> Result<(String, Record), StoreError> {
    let (version, bytes): (i64, Vec<u8>) = (get(row, 1)?, get(row, 2)?);
    let record = Record {
        version: version.unsigned_abs(),
        bytes: bytes.into(),
    };
    Ok((get(row, 0)?, record))
}
