//! Lists of sessions and values, by an index of their names alone: names of runs are longer than an index takes.

use super::links::Links;
use super::read::get;
use crate::contract::{NamePage, PageToken};
use crate::error::StoreError;
use crate::named::{Bounds, page};
use sqlx::postgres::PgRow;
use tape_core::id::StreamPrefix;

/// At most $3 names from $1 on and before $2, in the order of their bytes. The last condition is that of the index.
pub(super) const NAMED: &str = "SELECT name FROM tape_head WHERE name >= $1 AND name < $2 \
         AND split_part(name, '/', 2) IN ('session', 'value') ORDER BY name LIMIT $3";

pub(super) async fn named(
    links: &Links,
    prefix: &StreamPrefix,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<NamePage, StoreError> {
    let Bounds { from, before } = Bounds::of(prefix, from)?;
    let query = || {
        sqlx::query(NAMED)
            .bind(from.clone())
            .bind(before.clone())
            .bind(i64::from(limit))
    };
    let rows = links.query("lists names", query).await?;
    let name = |row: &PgRow| get(row, 0);
    let names = rows.iter().map(name).collect::<Result<_, _>>()?;
    Ok(page(names, limit))
}
