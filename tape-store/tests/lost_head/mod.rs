//! A stream with a destroyed head: the feed reports it, and continues for all others.

use super::pen::Pen;
use tape_core::id::StreamId;
use tape_store::contract::{Cursor, DamagedEntry, FeedEntry, JournalStore, Shard};

/// Checks this, with a function that destroys the head.
pub(crate) async fn is_told_and_holds_up_nothing(store: &dyn JournalStore, destroy: impl AsyncFn(&StreamId)) {
    let (mut before, mut lost, mut after) = (Pen::new("before"), Pen::new("lost"), Pen::new("after"));
    before.put(store, "one", 2).await;
    lost.put(store, "two", 5).await;
    after.put(store, "three", 2).await;
    let (whole, damaged) = fed(store, 100).await;
    assert_eq!((whole.len(), damaged.len()), (9, 0));
    destroy(&lost.stream).await;
    for limit in [100, 3, 1] {
        let (entries, damaged) = fed(store, limit).await;
        let of = |stream: &StreamId| entries.iter().filter(|fed| fed.stream == *stream).count();
        let read = (of(&before.stream), of(&lost.stream), of(&after.stream));
        assert_eq!(read, (2, 0, 2), "pages of {limit}");
        assert!(!damaged.is_empty(), "pages of {limit} tell what is lost");
    }
}

/// The whole feed, in pages.
async fn fed(store: &dyn JournalStore, limit: u32) -> (Vec<FeedEntry>, Vec<DamagedEntry>) {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for shard in (0..store.capabilities().shards).map(Shard) {
        let mut cursor = Cursor::default();
        loop {
            let page = store.tail(shard, &cursor, limit).await.unwrap();
            if page.is_end() {
                break;
            }
            assert_ne!(page.cursor, cursor, "the feed goes on");
            cursor = page.cursor;
            entries.extend(page.entries);
            damaged.extend(page.damaged);
        }
    }
    (entries, damaged)
}
