//! Lists of runs: a hint in each list of a run, by shard.

use super::TableContext;
use super::end::{self, End};
use super::hint::{self, Seen};
use super::keys::{self, List, Place};
use super::table::{self, Row, Rows};
use crate::contract::{PageToken, RunFilter, RunPage, Shard};
use crate::error::StoreError;
use bytes::Bytes;
use futures::future::try_join_all;
use tape_core::id::{RunId, StreamId};
use tape_core::status::Summary;
use tape_core::time::Timestamp;

const DOING: &str = "lists runs";
/// Hints that are read at once.
const PAGE_MIN: usize = 16;
const PAGE_MAX: usize = 512;

type Found = (Place, (RunId, Summary));

/// A page of the runs that fit a filter.
pub(super) async fn runs(
    context: &TableContext,
    filter: &RunFilter,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<RunPage, StoreError> {
    let after = from.map(read_token).transpose()?;
    let limit = limit as usize;
    // One more than the page has room for says whether there is another page.
    let shards = (0..context.shards).map(Shard);
    let parts = shards.map(|shard| of_shard(context, filter, shard, after.as_ref(), limit + 1));
    let mut found: Vec<Found> = try_join_all(parts).await?.concat();
    found.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(place, _)| token(place));
    Ok(RunPage {
        runs: found.into_iter().map(|(_, run)| run).collect(),
        next,
    })
}

fn token(place: &Place) -> PageToken {
    let (begun_at, stored_at) = (place.begun_at.as_micros(), place.stored_at.as_micros());
    PageToken(format!("{begun_at}.{stored_at}.{}", place.name))
}

fn read_token(token: &PageToken) -> Result<Place, StoreError> {
    let read = || {
        let mut parts = token.0.splitn(3, '.');
        let mut time = || Some(Timestamp::from_micros(parts.next()?.parse().ok()?));
        let (begun_at, stored_at) = (time()?, time()?);
        let name = parts.next()?.to_owned();
        name.parse::<StreamId>().ok()?;
        Some(Place {
            begun_at,
            stored_at,
            name,
        })
    };
    read().ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made by this store".to_owned(),
    })
}

/// The shortest list that has all matching runs.
fn list(filter: &RunFilter) -> List<'_> {
    let app = filter.app.as_ref().map(tape_core::id::App::as_str);
    match (&filter.label, app, filter.status) {
        (Some((key, value)), ..) => List::Label(key.as_str(), value),
        (None, Some(app), Some(status)) => List::AppStatus(app, status),
        (None, Some(app), None) => List::App(app),
        (None, None, Some(status)) => List::Status(status),
        (None, None, None) => List::Tenant,
    }
}

/// The first runs of a shard that fit, at most `limit`.
async fn of_shard(
    context: &TableContext,
    filter: &RunFilter,
    shard: Shard,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
    let list = list(filter);
    let (mut begin, end) = list.part(
        shard,
        &filter.tenant,
        (filter.begun_from, filter.begun_before),
        after,
    );
    let mut found = Vec::new();
    while begin < end && found.len() < limit {
        let page = (limit - found.len()).clamp(PAGE_MIN, PAGE_MAX);
        let range = Rows::Range(begin, end.clone());
        let rows = context
            .table
            .read(range, table::any_of([hint::cells()]), page)
            .await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        let prefix = keys::before_place(&list, shard, &filter.tenant);
        found.extend(verify(context, filter, shard, prefix, &rows).await?);
        let Some(last) = rows.last().filter(|_| rows.len() == page) else {
            break;
        };
        begin = keys::right_after(&last.key);
    }
    found.truncate(limit);
    Ok(found)
}

/// The runs that are in the list by their own rows, and that fit.
async fn verify(
    context: &TableContext,
    filter: &RunFilter,
    shard: Shard,
    prefix: usize,
    rows: &[Row],
) -> Result<Vec<Found>, StoreError> {
    let hints = rows.iter().filter_map(|row| {
        let place = Place::read(row.key.get(prefix..)?)?;
        let stream: StreamId = place.name.parse().ok()?;
        Some((Seen::read(row)?, row.key.clone(), place, stream))
    });
    let hints: Vec<(Seen, Bytes, Place, StreamId)> = hints.collect();
    let streams = hints.iter().map(|(.., stream)| stream);
    let read = context
        .read_streams(DOING, streams, table::any_of([end::cells()]))
        .await?;
    let (mut found, mut stale) = (Vec::new(), Vec::new());
    for (seen, key, place, stream) in hints {
        let end = End::read(&stream, &read[&stream])?;
        let listed = stream.as_run().zip(end.listed.as_deref());
        match listed {
            Some((run, listed)) if keys::listings(shard, run, listed).contains(&key) => {
                if filter.fits(run, &listed.summary) {
                    found.push((place, (run.clone(), listed.summary.clone())));
                }
            }
            _ => stale.push((seen, stream, end)),
        }
    }
    hint::clean(context, stale).await;
    Ok(found)
}
