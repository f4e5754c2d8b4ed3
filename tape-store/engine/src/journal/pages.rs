//! Entries in pages.

use super::failure::of_store;
use crate::page_to_end;
use futures::stream::{self, StreamExt as _};
use std::sync::Arc;
use tape_api::{JournalError, Pages};
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_store::contract::JournalStore;

/// How entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To the end that the head names.
    ToEnd,
    /// All stored entries, for a caller that compares them with the head.
    AsStored,
    /// Without end: later entries follow.
    Following,
}

pub(super) fn pages(store: Arc<dyn JournalStore>, stream: StreamId, after: Seq, reading: Reading) -> Pages {
    let next = move |at: Option<Seq>| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            let at = at?;
            match page(store.as_ref(), &stream, at, reading).await {
                // An error ends the pages: the reader continues from its last entry.
                Err(failure) => Some((Err(failure), None)),
                Ok(page) => page
                    .last()
                    .map(|entry| entry.seq)
                    .map(|last| (Ok(page), Some(last))),
            }
        }
    };
    stream::unfold(Some(after), next).boxed()
}

async fn page(
    store: &dyn JournalStore,
    stream: &StreamId,
    after: Seq,
    reading: Reading,
) -> Result<Vec<StoredEntry>, JournalError> {
    if reading == Reading::ToEnd {
        return page_to_end(store, stream, after, PAGE_ENTRIES_MAX)
            .await
            .map_err(of_store);
    }
    loop {
        // This is requested before the read, so that an entry committed in between is not missed.
        let changed = store.changed();
        let page = store
            .read(stream, after, PAGE_ENTRIES_MAX)
            .await
            .map_err(of_store)?;
        if !page.is_empty() || reading == Reading::AsStored {
            return Ok(page);
        }
        changed.await;
    }
}
