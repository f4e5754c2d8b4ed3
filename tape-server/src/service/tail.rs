//! The feed of all streams, shard by shard, as entries become durable.

use super::read::chunks;
use super::{Context, Held, Sink, Stop};
use crate::failure::{damaged, of_store};
use std::sync::Arc;
use tape_core::id::Tenant;
use tape_proto::convert::InvalidField;
use tape_proto::v1;
use tape_proto::v1::tail_request::From;
use tape_store::contract::{Cursor, Shard};
use tape_wal::{Feed, FeedError, Filter, Page, Start};

/// What is to be sent.
pub(super) struct Request {
    filter: Filter,
    start: Start,
    cursors: Vec<(Shard, Cursor)>,
    once: bool,
}

impl TryFrom<v1::TailRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::TailRequest) -> Result<Self, InvalidField> {
        let tenant: Option<Tenant> = wire
            .tenant
            .map(|tenant| invalid("tenant", tenant.parse()))
            .transpose()?;
        let start = match From::try_from(wire.from) {
            Ok(From::Beginning) => Start::Beginning,
            Ok(From::Now) => Start::Now,
            Ok(From::Unspecified) => return Err(InvalidField::new("from", "is not specified")),
            Err(_) => {
                let problem = format!("has the value {}, which this build does not know", wire.from);
                return Err(InvalidField::new("from", problem));
            }
        };
        let cursors = wire.cursors.into_iter().map(cursor).collect::<Result<_, _>>()?;
        let pattern = invalid("pattern", wire.pattern.parse())?;
        Ok(Self {
            filter: Filter { tenant, pattern },
            start,
            cursors,
            once: wire.once,
        })
    }
}

fn invalid<T>(field: &str, read: Result<T, tape_core::id::InvalidName>) -> Result<T, InvalidField> {
    read.map_err(|error| InvalidField::new(field, error.problem.to_string()))
}

fn cursor(wire: v1::ShardCursor) -> Result<(Shard, Cursor), InvalidField> {
    let shard = u16::try_from(wire.shard).map_err(|_| InvalidField::new("cursors.shard", "is over 65535"))?;
    Ok((Shard(shard), Cursor(wire.cursor)))
}

/// Sends entries for ever, or until all that is durable was sent.
pub(super) async fn serve(
    context: Context,
    request: Request,
    sink: Arc<Sink<v1::TailResponse>>,
) -> Result<(), Stop> {
    let store = Arc::clone(context.store());
    let mut feed = Feed::open(store, request.filter, request.start, request.cursors).await?;
    let shards = u32::try_from(feed.shards()).unwrap_or(u32::MAX);
    if request.once {
        loop {
            let mut held = sink.page().await;
            let Some(page) = feed.ready().await? else {
                return Ok(());
            };
            send(&sink, &mut held, page, shards).await?;
        }
    }
    // Said at once, so that who loses the connection before the first entry comes misses nothing of what comes then.
    for place in places(&feed, shards) {
        sink.send(place).await?;
    }
    loop {
        // Asked for before looking, so that what is written in between is not missed.
        let changed = context.store().changed();
        let mut held = sink.page().await;
        if let Some(page) = feed.ready().await? {
            send(&sink, &mut held, page, shards).await?;
        } else {
            drop(held);
            changed.await;
        }
    }
}

fn places(feed: &Feed, shards: u32) -> Vec<v1::TailResponse> {
    let message = |(shard, cursor): (Shard, &Cursor)| v1::TailResponse {
        position: Some(v1::ShardCursor {
            shard: shard.0.into(),
            cursor: cursor.0.clone(),
        }),
        entries: Vec::new(),
        shards,
    };
    feed.places().map(message).collect()
}

/// A page may take several messages; only with the last one has the reader all before the new cursor.
async fn send(sink: &Sink<v1::TailResponse>, held: &mut Held, page: Page, shards: u32) -> Result<(), Stop> {
    held.shrink_to(page.entries.iter().map(size).sum());
    let shard = page.shard.0;
    let place = |cursor: &Cursor| format!("shard {shard} cursor {:?}", cursor.0);
    let mut chunks = chunks(page.entries, size);
    let last = chunks.pop().unwrap_or_default();
    let message = |cursor: &Cursor, entries: Vec<tape_store::contract::FeedEntry>| v1::TailResponse {
        position: Some(v1::ShardCursor {
            shard: shard.into(),
            cursor: cursor.0.clone(),
        }),
        entries: entries
            .into_iter()
            .map(|entry| v1::FeedEntry {
                stream: entry.stream.to_string(),
                entry: Some(entry.entry.into()),
            })
            .collect(),
        shards,
    };
    for chunk in chunks {
        let message = message(&page.before, chunk);
        sink.send_of(held, message, place(&page.before)).await?;
    }
    sink.send_of(held, message(&page.after, last), place(&page.after))
        .await
}

fn size(entry: &tape_store::contract::FeedEntry) -> usize {
    entry.entry.size() + 64
}

impl std::convert::From<FeedError> for Stop {
    fn from(error: FeedError) -> Self {
        Self::Failed(match error {
            FeedError::Store(error) => of_store(&error),
            FeedError::ForeignCursor { .. } => InvalidField::new("cursors", error.to_string()).into(),
            other => damaged(&other),
        })
    }
}
