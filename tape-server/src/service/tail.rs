//! The feed of all streams, shard by shard, as entries become durable.

use super::read::chunks;
use super::{Context, Sink, Stop, from_now};
use crate::failure::damaged;
use std::collections::HashMap;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::id::Tenant;
use tape_core::subject::{Pattern, Subject};
use tape_proto::convert::InvalidField;
use tape_proto::v1;
use tape_proto::v1::tail_request::From;
use tape_store::contract::{Cursor, FeedEntry, Shard};

/// Entries in one look at a shard.
const PAGE_ENTRIES: u32 = 1_024;

/// What is to be sent.
pub(super) struct Request {
    pattern: Pattern,
    tenant: Option<Tenant>,
    from_beginning: bool,
    cursors: HashMap<Shard, Cursor>,
    once: bool,
}

impl TryFrom<v1::TailRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::TailRequest) -> Result<Self, InvalidField> {
        let tenant = wire
            .tenant
            .map(|tenant| invalid("tenant", tenant.parse()))
            .transpose()?;
        let from_beginning = match From::try_from(wire.from) {
            Ok(From::Beginning) => true,
            Ok(From::Now) => false,
            Ok(From::Unspecified) => return Err(InvalidField::new("from", "is not specified")),
            Err(_) => {
                let problem = format!("has the value {}, which this build does not know", wire.from);
                return Err(InvalidField::new("from", problem));
            }
        };
        let cursors = wire.cursors.into_iter().map(cursor).collect::<Result<_, _>>()?;
        let pattern = invalid("pattern", wire.pattern.parse())?;
        Ok(Self {
            pattern,
            tenant,
            from_beginning,
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
    mut request: Request,
    sink: Arc<Sink<v1::TailResponse>>,
) -> Result<(), Stop> {
    let mut tail = Tail {
        shards: context.store().capabilities().shards,
        context,
        sink,
        places: Vec::new(),
    };
    tail.places = tail.starts(&mut request).await?;
    loop {
        let changed = from_now(tail.context.store().changed()).await;
        for place in 0..tail.places.len() {
            tail.catch_up(place, &request).await?;
        }
        if request.once {
            return Ok(());
        }
        changed.await;
    }
}

struct Tail {
    context: Context,
    sink: Arc<Sink<v1::TailResponse>>,
    shards: u16,
    places: Vec<(Shard, Cursor)>,
}

impl Tail {
    async fn starts(&self, request: &mut Request) -> Result<Vec<(Shard, Cursor)>, Stop> {
        let mut places = Vec::new();
        for shard in (0..self.shards).map(Shard) {
            let cursor = match request.cursors.remove(&shard) {
                Some(cursor) => cursor,
                None if request.from_beginning => Cursor::default(),
                None => self.context.store().tail_end(shard).await?,
            };
            places.push((shard, cursor));
        }
        if !request.cursors.is_empty() {
            let problem = format!(
                "has a cursor for a shard that this store of {} does not have",
                self.shards
            );
            return Err(Stop::Failed(InvalidField::new("cursors", problem).into()));
        }
        Ok(places)
    }

    /// Sends what a shard has after its cursor.
    async fn catch_up(&mut self, place: usize, request: &Request) -> Result<(), Stop> {
        loop {
            let (shard, before) = self.places[place].clone();
            let page = self.context.store().tail(shard, &before, PAGE_ENTRIES).await?;
            if page.entries.is_empty() {
                self.places[place].1 = page.cursor;
                return Ok(());
            }
            let entries = page
                .entries
                .into_iter()
                .filter_map(|entry| request.chooses(entry).transpose());
            self.send(shard, before, &page.cursor, entries.collect::<Result<_, _>>()?)
                .await?;
            self.places[place].1 = page.cursor;
        }
    }

    /// A page may take several messages; only with the last one has the reader all before the new cursor.
    async fn send(
        &self,
        shard: Shard,
        before: Cursor,
        after: &Cursor,
        entries: Vec<FeedEntry>,
    ) -> Result<(), Stop> {
        let mut chunks = chunks(entries, |entry| entry.entry.size() + 64);
        let last = chunks.pop().unwrap_or_default();
        for chunk in chunks {
            self.sink.send(self.message(shard, &before, chunk)).await?;
        }
        Ok(self.sink.send(self.message(shard, after, last)).await?)
    }

    fn message(&self, shard: Shard, cursor: &Cursor, entries: Vec<FeedEntry>) -> v1::TailResponse {
        let position = v1::ShardCursor {
            shard: shard.0.into(),
            cursor: cursor.0.clone(),
        };
        let entries = entries.into_iter().map(|entry| v1::FeedEntry {
            stream: entry.stream.to_string(),
            entry: Some(entry.entry.into()),
        });
        v1::TailResponse {
            position: Some(position),
            entries: entries.collect(),
            shards: self.shards.into(),
        }
    }
}

impl Request {
    fn chooses(&self, entry: FeedEntry) -> Result<Option<FeedEntry>, Stop> {
        if self
            .tenant
            .as_ref()
            .is_some_and(|tenant| tenant != entry.stream.tenant())
        {
            return Ok(None);
        }
        if self.pattern == Pattern::all() {
            return Ok(Some(entry));
        }
        let kind = decode(&entry.entry).map_err(|error| damaged(&error))?.body.kind();
        Ok(self
            .pattern
            .matches(&Subject::new(&entry.stream, kind))
            .then_some(entry))
    }
}
