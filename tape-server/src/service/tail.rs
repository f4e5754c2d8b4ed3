//! The feed of all streams, shard by shard, as entries become durable.

use super::read::{chunks, named};
use super::{Context, Held, Sink, Stop};
use crate::failure::{damaged, of_store};
use std::sync::Arc;
use tape_proto::convert::{InvalidField, Tenants};
use tape_proto::v1;
use tape_proto::v1::tail_request::Start as Wire;
use tape_store::contract::{Cursor, DamagedEntry, FeedEntry, Shard};
use tape_wal::{Feed, FeedError, Filter, LiveFeed, Page, Start};

/// Where a reader that was dropped goes on: it has a cursor of each shard that it had messages of, and the others stay where it asked for.
const PLACE: &str = "the last cursor of each shard";

/// The request of a reader.
pub(super) struct Request {
    filter: Filter,
    start: Start,
    cursors: Vec<(Shard, Cursor)>,
    shards: Vec<Shard>,
    once: bool,
}

impl TryFrom<v1::TailRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::TailRequest) -> Result<Self, InvalidField> {
        let Tenants(tenant) = named("tenants", wire.tenants)?;
        let start = match Wire::try_from(wire.start) {
            Ok(Wire::Beginning) => Start::Beginning,
            Ok(Wire::Now) => Start::Now,
            Ok(Wire::Unspecified) => return Err(InvalidField::new("start", "is not specified")),
            Err(_) => {
                let problem = format!("has the value {}, which this build does not know", wire.start);
                return Err(InvalidField::new("start", problem));
            }
        };
        let cursors = wire.cursors.into_iter().map(cursor).collect::<Result<_, _>>()?;
        let shards = wire.shards.into_iter().map(|number| shard("shards", number));
        let pattern = invalid("pattern", wire.pattern.parse())?;
        Ok(Self {
            filter: Filter { tenant, pattern },
            start,
            cursors,
            shards: shards.collect::<Result<_, _>>()?,
            once: wire.once,
        })
    }
}

fn invalid<T>(field: &str, read: Result<T, tape_core::id::InvalidName>) -> Result<T, InvalidField> {
    read.map_err(|error| InvalidField::new(field, error.problem.to_string()))
}

fn cursor(wire: v1::ShardCursor) -> Result<(Shard, Cursor), InvalidField> {
    Ok((shard("cursors.shard", wire.shard)?, Cursor(wire.cursor)))
}

fn shard(field: &str, number: u32) -> Result<Shard, InvalidField> {
    let number = u16::try_from(number).map_err(|_| InvalidField::new(field, "is over 65535"))?;
    Ok(Shard(number))
}

/// Sends entries without end, or until all durable ones were sent.
pub(super) async fn serve(
    context: Context,
    request: Request,
    sink: Arc<Sink<v1::TailResponse>>,
) -> Result<(), Stop> {
    let Request {
        filter,
        start,
        cursors,
        shards,
        once,
    } = request;
    if once {
        let feed = Feed::open(Arc::clone(context.store()), filter, start, cursors).await?;
        return send_all(feed.only(shards)?, &sink).await;
    }
    let feed = context.0.feed.follow_only(filter, start, cursors, shards).await?;
    follow(feed, &sink).await
}

async fn send_all(mut feed: Feed, sink: &Sink<v1::TailResponse>) -> Result<(), Stop> {
    let shards = shards(feed.shards());
    loop {
        let mut held = sink.page().await;
        let Some(page) = feed.ready().await? else {
            return Ok(());
        };
        send(sink, &mut held, page, shards).await?;
    }
}

async fn follow(mut feed: LiveFeed, sink: &Sink<v1::TailResponse>) -> Result<(), Stop> {
    let shards = shards(feed.shards());
    // The places are sent before the first entry, so that a reader that loses the connection then misses nothing. They are sent only once
    // the store was read, so that a reader does not take a server that cannot read for healthy.
    let places = places(&feed, shards);
    let first = ready(&mut feed, sink).await?;
    for place in places {
        sink.send(place).await?;
    }
    if let Some((page, mut held)) = first {
        send(sink, &mut held, page, shards).await?;
    }
    loop {
        feed.woken().await;
        if let Some((page, mut held)) = ready(&mut feed, sink).await? {
            send(sink, &mut held, page, shards).await?;
        }
    }
}

/// The next page, with memory for it.
async fn ready(feed: &mut LiveFeed, sink: &Sink<v1::TailResponse>) -> Result<Option<(Page, Held)>, Stop> {
    let held = sink.page().await;
    Ok(feed.ready().await?.map(|page| (page, held)))
}

fn shards(shards: usize) -> u32 {
    u32::try_from(shards).unwrap_or(u32::MAX)
}

fn places(feed: &LiveFeed, shards: u32) -> Vec<v1::TailResponse> {
    let message = |(shard, cursor): (Shard, &Cursor)| v1::TailResponse {
        position: Some(v1::ShardCursor {
            shard: shard.0.into(),
            cursor: cursor.0.clone(),
        }),
        shards,
        ..v1::TailResponse::default()
    };
    feed.places().map(message).collect()
}

/// A page may take several messages; only after the last one has the reader everything before the new cursor.
async fn send(sink: &Sink<v1::TailResponse>, held: &mut Held, page: Page, shards: u32) -> Result<(), Stop> {
    let damage: usize = page.damaged.iter().map(damage_size).sum();
    held.shrink_to(page.entries.iter().map(size).sum::<usize>() + damage);
    let shard = page.shard.0;
    let mut parts = chunks(page.entries, size);
    let last = parts.pop().unwrap_or_default();
    let message = |cursor: &Cursor, entries: Vec<FeedEntry>, damaged: Vec<DamagedEntry>| v1::TailResponse {
        position: Some(v1::ShardCursor {
            shard: shard.into(),
            cursor: cursor.0.clone(),
        }),
        entries: entries
            .into_iter()
            .map(|entry| v1::FeedEntry {
                stream: Some(entry.stream.into()),
                entry: Some(entry.entry.into()),
            })
            .collect(),
        shards,
        damaged: damaged.into_iter().map(wire).collect(),
    };
    for part in parts {
        let message = message(&page.before, part, Vec::new());
        sink.send_of(held, message, PLACE.to_owned()).await?;
    }
    for damaged in chunks(page.damaged, damage_size) {
        let message = message(&page.before, Vec::new(), damaged);
        sink.send_of(held, message, PLACE.to_owned()).await?;
    }
    let message = message(&page.after, last, Vec::new());
    sink.send_of(held, message, PLACE.to_owned()).await
}

fn size(entry: &FeedEntry) -> usize {
    entry.entry.size() + 64
}

fn damage_size(damaged: &DamagedEntry) -> usize {
    damaged.problem.len() + 512
}

fn wire(damaged: DamagedEntry) -> v1::DamagedEntry {
    v1::DamagedEntry {
        stream: damaged.stream.map(Into::into),
        problem: damaged.problem,
    }
}

impl From<FeedError> for Stop {
    fn from(error: FeedError) -> Self {
        Self::Failed(match error {
            FeedError::Store(error) => of_store(&error),
            FeedError::ForeignCursor { .. } => InvalidField::new("cursors", error.to_string()).into(),
            FeedError::NoShard { .. } => InvalidField::new("shards", error.to_string()).into(),
            other => damaged(&other),
        })
    }
}
