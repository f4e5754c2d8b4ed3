//! A stream's entries from a place to its end, for callers that show or check them.

use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_store::contract::JournalStore;
use tape_store::error::StoreError;

/// At most `limit` entries after `after`; none at the end.
///
/// # Errors
/// [`StoreError::Corrupt`] where the head of the stream says that there are more entries, or a stream with entries has no head.
pub async fn page_to_end(
    store: &dyn JournalStore,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let page = store.read(stream, after, limit).await?;
    if page.is_empty() {
        return end(store, stream, after, limit).await;
    }
    if after == Seq::ZERO && store.head(stream).await?.is_none() {
        return Err(StoreError::without_head(stream));
    }
    Ok(page)
}

async fn end(
    store: &dyn JournalStore,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let Some(head) = store.head(stream).await?.filter(|head| head.seq > after) else {
        return Ok(Vec::new());
    };
    // It may have grown in between.
    let page = store.read(stream, after, limit).await?;
    if page.is_empty() {
        let problem = format!(
            "its head is at entry {}, but there are none after {after}",
            head.seq
        );
        return Err(StoreError::corrupt(stream.to_string(), problem));
    }
    Ok(page)
}
