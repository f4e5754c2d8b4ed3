//! Lists of sessions and values, by the index of the names of all streams.

use super::error::store_error;
use super::read::get;
use crate::contract::{NamePage, PageToken};
use crate::error::StoreError;
use crate::named::{Bounds, page};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use tape_core::id::StreamPrefix;

/// At most ?3 names from ?1 on and before ?2, in the order of their bytes.
pub(super) const NAMED: &str = "SELECT s.name FROM stream s JOIN head h ON h.stream = s.id \
         WHERE s.name >= ?1 AND s.name < ?2 AND h.seq > 0 ORDER BY s.name LIMIT ?3";

pub(super) async fn named(
    readers: &SqlitePool,
    prefix: &StreamPrefix,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<NamePage, StoreError> {
    let Bounds { from, before } = Bounds::of(prefix, from)?;
    let query = sqlx::query(NAMED).bind(from).bind(before).bind(i64::from(limit));
    let rows = query.fetch_all(readers).await;
    let rows = rows.map_err(|error| store_error("lists names", error))?;
    let name = |row: &SqliteRow| get(row, 0);
    let names = rows.iter().map(name).collect::<Result<_, _>>()?;
    Ok(page(names, limit))
}
