//! Follows the changes of a value.

use super::pages::{Reading, pages};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use tape_api::JournalError;
use tape_api::query::Transition;
use tape_core::codec::decode;
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Seq, StreamId};
use tape_store::contract::JournalStore;

pub(super) fn watch(
    store: Arc<dyn JournalStore>,
    stream: StreamId,
    after: u64,
) -> BoxStream<'static, Result<Transition, JournalError>> {
    let pages = pages(store, stream, Seq::ZERO, Reading::Following);
    let mut previous = None;
    let entries = pages.flat_map(move |page| {
        let entries = page.and_then(|page| {
            page.iter()
                .map(|stored| decode(stored).map_err(JournalError::damaged))
                .collect::<Result<Vec<_>, _>>()
        });
        stream::iter(match entries {
            Ok(entries) => {
                let changes = entries.into_iter().filter_map(transition);
                let after = |change: Transition| {
                    let before = std::mem::replace(&mut previous, change.value.clone());
                    Ok(Transition {
                        previous: before,
                        ..change
                    })
                };
                changes.map(after).collect()
            }
            Err(failure) => vec![Err(failure)],
        })
    });
    let newer = move |change: &Result<Transition, JournalError>| {
        std::future::ready(change.as_ref().is_ok_and(|change| change.version > after) || change.is_err())
    };
    entries.filter(newer).boxed()
}

/// The transition of an entry, without the previous value: only the previous entry has that.
fn transition(entry: Entry) -> Option<Transition> {
    let (version, value) = match entry.body {
        EntryBody::ValuePut(put) => (put.version, Some(put.value)),
        EntryBody::ValueDeleted(deleted) => (deleted.version, None),
        _ => return None,
    };
    let erased = value.as_ref().is_some_and(|value| value.bytes().is_none());
    Some(Transition {
        version,
        value: value.filter(|_| !erased),
        erased,
        previous: None,
        at: entry.at,
    })
}
