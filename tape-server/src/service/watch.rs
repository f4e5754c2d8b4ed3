//! Streams the transitions of a value.

use super::{Context, Sink, Stop};
use crate::failure::damaged;
use std::sync::Arc;
use tape_core::codec::{StoredEntry, decode};
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, StreamId, Tenant, ValueName};
use tape_proto::v1;

/// Transitions that are read at once.
const PAGE_ENTRIES: u32 = 256;

/// Sends each transition after a version, once and in order, without end.
pub(super) async fn serve(
    context: Context,
    tenant: Tenant,
    name: ValueName,
    after_version: u64,
    sink: Arc<Sink<v1::WatchValueResponse>>,
) -> Result<(), Stop> {
    let stream = StreamId::Value { tenant, name };
    let mut subscription = context.0.feed.watch(&stream).await;
    // Each version has an entry of its own, so its sequence number is at least its version.
    let mut after = Seq(after_version.saturating_sub(1));
    let mut previous = None;
    loop {
        let mut held = sink.page().await;
        let page = context.store().read(&stream, after, PAGE_ENTRIES).await?;
        held.shrink_to(page.iter().map(StoredEntry::size).sum());
        if page.is_empty() {
            drop(held);
            subscription.changed().await;
            continue;
        }
        for stored in page {
            after = stored.seq;
            let Some(mut transition) = transition(&stored)? else {
                continue;
            };
            let before = std::mem::replace(&mut previous, transition.value.clone());
            if transition.version > after_version {
                transition.previous = before;
                let place = format!("version {}", transition.version);
                sink.send_of(&mut held, transition, place).await?;
            }
        }
    }
}

/// The transition of an entry, without the previous value: only the previous entry has that.
fn transition(stored: &StoredEntry) -> Result<Option<v1::WatchValueResponse>, Stop> {
    let entry = decode(stored).map_err(|error| damaged(&error))?;
    let (version, value) = match entry.body {
        EntryBody::ValuePut(put) => (put.version, Some(put.value)),
        EntryBody::ValueDeleted(deleted) => (deleted.version, None),
        _ => return Ok(None),
    };
    let erased = value.as_ref().is_some_and(|value| value.bytes().is_none());
    Ok(Some(v1::WatchValueResponse {
        version,
        value: value.filter(|_| !erased).map(Into::into),
        erased,
        previous: None,
        at_us: entry.at.as_micros(),
    }))
}
