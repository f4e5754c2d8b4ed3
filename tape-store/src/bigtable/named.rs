//! Lists of sessions and values: a hint for each, by shard and name. A hint is written before the commit that makes its stream.

use super::TableContext;
use super::end::{self, End};
use super::hint::{self, Seen};
use super::keys;
use super::table::{self, Row, Rows};
use crate::contract::{NamePage, PageToken, Shard};
use crate::error::StoreError;
use crate::named::{Bounds, page};
use bytes::Bytes;
use futures::future::try_join_all;
use tape_core::id::{StreamId, StreamPrefix};

const DOING: &str = "lists names";
/// Hints that are read at once.
const PAGE_MAX: usize = 512;

/// A page of the streams with a prefix.
pub(super) async fn named(
    context: &TableContext,
    prefix: &StreamPrefix,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<NamePage, StoreError> {
    let bounds = Bounds::of(prefix, from)?;
    let shards = (0..context.shards).map(Shard);
    let parts = shards.map(|shard| of_shard(context, &bounds, shard, limit as usize));
    let mut names = try_join_all(parts).await?.concat();
    names.sort_unstable();
    names.truncate(limit as usize);
    Ok(page(names, limit))
}

/// The first names of a shard, at most `limit`.
async fn of_shard(
    context: &TableContext,
    bounds: &Bounds,
    shard: Shard,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let (mut begin, end) = keys::all_named(shard, &bounds.from, &bounds.before);
    let mut names = Vec::new();
    while begin < end && names.len() < limit {
        let page = (limit - names.len()).min(PAGE_MAX);
        let range = Rows::Range(begin, end.clone());
        let rows = context
            .table
            .read(range, table::any_of([hint::cells()]), page)
            .await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        names.extend(verify(context, &rows).await?);
        let Some(last) = rows.last().filter(|_| rows.len() == page) else {
            break;
        };
        begin = keys::right_after(&last.key);
    }
    Ok(names)
}

/// The names whose streams are there by their own rows.
async fn verify(context: &TableContext, rows: &[Row]) -> Result<Vec<String>, StoreError> {
    let hints = rows
        .iter()
        .filter_map(|row| Some((Seen::read(row)?, keys::read_named(&row.key)?)));
    let hints: Vec<(Seen, StreamId)> = hints.collect();
    let streams = hints.iter().map(|(_, stream)| stream);
    let read = context
        .read_streams(DOING, streams, table::any_of([end::cells()]))
        .await?;
    let (mut names, mut stale) = (Vec::new(), Vec::new());
    for (seen, stream) in hints {
        let end = End::read(&stream, &read[&stream])?;
        if end.is_begun() {
            names.push(stream.to_string());
        } else {
            stale.push((seen, stream, end));
        }
    }
    hint::clean(context, stale).await;
    Ok(names)
}

/// The hints that list a stream by its name: one for a session or a value.
pub(super) fn hint_of(shard: Shard, stream: &StreamId) -> Option<Bytes> {
    stream.is_listed_by_name().then(|| keys::named(shard, stream))
}
