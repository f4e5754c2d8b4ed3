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
use tape_core::status::{RunStatus, Summary};
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
    let lists = lists(filter);
    let parts = shards.flat_map(|shard| lists.iter().map(move |list| (shard, list)));
    let parts =
        parts.map(|(shard, list)| of_shard(context, filter, (shard, list), after.as_ref(), limit + 1));
    let mut found: Vec<Found> = try_join_all(parts).await?.concat();
    found.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
    // A run that changes its status may be found in two lists.
    found.dedup_by(|(a, _), (b, _)| a == b);
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
    let place = read().filter(|place| self::token(place) == *token);
    place.ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made by this store".to_owned(),
    })
}

/// The shortest lists that together have all matching runs.
fn lists(filter: &RunFilter) -> Vec<List<'_>> {
    let app = filter.app.as_ref().map(tape_core::id::App::as_str);
    if let Some((key, value)) = &filter.label {
        return vec![List::Label(key.as_str(), value)];
    }
    if filter.statuses.is_empty() {
        return vec![app.map_or(List::Tenant, List::App)];
    }
    let of = |status: &RunStatus| match app {
        Some(app) => List::AppStatus(app, *status),
        None => List::Status(*status),
    };
    filter.statuses.iter().map(of).collect()
}

/// The first runs of a shard's list that fit, at most `limit`.
async fn of_shard(
    context: &TableContext,
    filter: &RunFilter,
    (shard, list): (Shard, &List<'_>),
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
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
        let prefix = keys::before_place(list, shard, &filter.tenant);
        found.extend(verify(context, filter, shard, prefix, &rows).await?);
        let Some(last) = rows.last().filter(|_| rows.len() == page) else {
            break;
        };
        begin = keys::right_after(&last.key);
    }
    found.truncate(limit);
    Ok(found)
}

/// The runs whose own rows have them at the places of these hints, and that fit.
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
        // A run that has just left this list for another of those that are read may not be there yet.
        let fits = |(run, listed): &(&RunId, &end::Listed)| {
            Place::of(run, listed) == place && filter.fits(run, &listed.summary)
        };
        if let Some((run, listed)) = listed.filter(fits) {
            found.push((place, (run.clone(), listed.summary.clone())));
        }
        let is_there = |(run, listed)| keys::listings(shard, run, listed).contains(&key);
        if !listed.is_some_and(is_there) {
            stale.push((seen, stream, end));
        }
    }
    hint::clean(context, stale).await;
    Ok(found)
}
