//! The feed: every durable entry, in order within its stream.

use super::Fixture;
use super::pen::{Dice, Pen, text};
use crate::contract::{Cursor, FeedEntry, JournalStore, Shard};
use crate::error::StoreError;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tape_core::id::{Seq, StreamId};

fn shards(store: &dyn JournalStore) -> impl Iterator<Item = Shard> + use<> {
    (0..store.capabilities().shards).map(Shard)
}

/// The feed of a shard from the beginning, by pages of at most `limit`.
pub(super) async fn read_to_end(store: &dyn JournalStore, shard: Shard, limit: u32) -> Vec<FeedEntry> {
    let (mut cursor, mut entries) = (Cursor::default(), Vec::new());
    loop {
        let page = store.tail(shard, &cursor, limit).await.expect("the feed reads");
        if page.entries.is_empty() {
            return entries;
        }
        assert!(
            page.entries.len() <= limit as usize,
            "a page of {limit} has {}",
            page.entries.len()
        );
        entries.extend(page.entries);
        cursor = page.cursor;
    }
}

pub(super) async fn read_everything(store: &dyn JournalStore) -> Vec<FeedEntry> {
    let mut entries = Vec::new();
    for shard in shards(store) {
        entries.extend(read_to_end(store, shard, 100).await);
    }
    entries
}

pub(super) async fn the_feed_has_every_entry_in_order(fixture: Fixture) {
    let store = fixture.store.as_ref();
    assert_eq!(read_everything(store).await, []);
    let mut pens: Vec<Pen> = (0..10).map(|n| Pen::new(&format!("run-{n}"))).collect();
    let mut written: BTreeMap<StreamId, Vec<_>> = BTreeMap::new();
    let mut dice = Dice(1);
    for _ in 0..100 {
        let first = usize::try_from(dice.roll(10)).unwrap();
        let group: Vec<usize> = (0..1 + dice.roll(5))
            .map(|n| (first + usize::try_from(n).unwrap()) % 10)
            .collect();
        let batches: Vec<_> = group
            .iter()
            .map(|n| pens[*n].batch(&["x", "y"][..1 + first % 2]))
            .collect();
        let answers = store.commit(batches.clone()).await;
        assert!(answers.iter().all(Result::is_ok));
        for (n, batch) in group.into_iter().zip(batches) {
            pens[n].advance(&batch);
            written.entry(batch.stream).or_default().extend(batch.entries);
        }
    }
    for shard in shards(store) {
        for limit in [1, 7, 1_000] {
            let mut fed: HashMap<StreamId, Vec<_>> = HashMap::new();
            for entry in read_to_end(store, shard, limit).await {
                assert_eq!(Shard::of(&entry.stream, store.capabilities().shards), shard);
                fed.entry(entry.stream).or_default().push(entry.entry);
            }
            for (stream, entries) in &written {
                let own = Shard::of(stream, store.capabilities().shards) == shard;
                assert_eq!(
                    fed.get(stream),
                    own.then_some(entries),
                    "{stream} by pages of {limit}"
                );
            }
        }
    }
}

pub(super) async fn the_feed_goes_on_from_every_cursor(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pens: Vec<Pen> = (0..3).map(|n| Pen::new(&format!("run-{n}"))).collect();
    for n in 0..60 {
        pens[n % 3].write(store, &["x", "y"][..1 + n % 2]).await;
    }
    for shard in shards(store) {
        let every = read_to_end(store, shard, 1).await;
        let mut cursor = Cursor::default();
        for n in 0..=every.len() {
            let rest = store.tail(shard, &cursor, 1_000).await.unwrap().entries;
            assert_eq!(rest, every[n..n + rest.len()], "after {n} entries");
            assert!(!rest.is_empty() || n == every.len());
            let page = store.tail(shard, &cursor, 1).await.unwrap();
            assert!(page.entries.len() <= 1);
            // A cursor outlives the process as bytes.
            cursor = Cursor(page.cursor.0.to_vec().into());
        }
    }
}

/// Eight writers, some of which pause, and readers that follow meanwhile: nothing is skipped, and nothing is out of order.
pub(super) async fn the_feed_skips_nothing_under_writers(fixture: Fixture) {
    const WRITERS: usize = 8;
    const BATCHES: u64 = 60;
    let store = Arc::clone(&fixture.store);
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let writer = |n: usize| {
        let (store, writing) = (Arc::clone(&store), Arc::clone(&writing));
        tokio::spawn(async move {
            let (mut pen, mut dice) = (Pen::new(&format!("run-{n}")), Dice(n as u64));
            for _ in 0..BATCHES {
                pen.write(
                    store.as_ref(),
                    &["1", "2", "3"][..1 + usize::try_from(dice.roll(3)).unwrap()],
                )
                .await;
                for _ in 0..dice.roll(if n < 2 { 200 } else { 3 }) {
                    tokio::task::yield_now().await;
                }
            }
            writing.fetch_sub(1, Ordering::SeqCst);
            pen
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let reader = |limit: u32| {
        let (store, writing) = (Arc::clone(&store), Arc::clone(&writing));
        tokio::spawn(async move { follow(store.as_ref(), limit, &writing).await })
    };
    let readers: Vec<_> = [1, 5, 1_000].into_iter().map(reader).collect();
    let pens: Vec<Pen> = futures::future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for reader in readers {
        let seen = reader.await.unwrap();
        for pen in &pens {
            assert_eq!(
                seen.get(&pen.stream),
                Some(&pen.seq),
                "the reader has all of {}",
                pen.stream
            );
        }
    }
}

/// Follows the feed until no task writes and nothing more comes. Returns how far it has seen each stream.
async fn follow(store: &dyn JournalStore, limit: u32, writing: &AtomicUsize) -> HashMap<StreamId, Seq> {
    let mut seen: HashMap<StreamId, Seq> = HashMap::new();
    let mut cursors: Vec<(Shard, Cursor)> = shards(store).map(|shard| (shard, Cursor::default())).collect();
    loop {
        let over = writing.load(Ordering::SeqCst) == 0;
        let mut news = false;
        for (shard, cursor) in &mut cursors {
            let page = store.tail(*shard, cursor, limit).await.unwrap();
            for fed in page.entries {
                news = true;
                let last = seen.entry(fed.stream.clone()).or_default();
                // At least once: an entry may come again, but none may be missing before it.
                assert!(
                    fed.entry.seq <= last.next(),
                    "{} comes after {last} of {}",
                    fed.entry.seq,
                    fed.stream
                );
                *last = fed.entry.seq.max(*last);
            }
            *cursor = page.cursor;
        }
        if over && !news {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn the_end_of_the_feed_is_where_new_entries_come(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let shard = Shard::of(&pen.stream, store.capabilities().shards);
    let empty = store.tail_end(shard).await.unwrap();
    pen.write(store, &["one", "two"]).await;
    assert_eq!(store.tail(shard, &empty, 10).await.unwrap().entries.len(), 2);
    let end = store.tail_end(shard).await.unwrap();
    let nothing = store.tail(shard, &end, 10).await.unwrap();
    assert_eq!(nothing.entries, []);
    pen.write(store, &["three"]).await;
    for cursor in [end, nothing.cursor] {
        let page = store.tail(shard, &cursor, 10).await.unwrap();
        assert_eq!(
            page.entries
                .iter()
                .map(|fed| text(&fed.entry))
                .collect::<Vec<_>>(),
            ["three"]
        );
    }
}

/// A cursor is valid only in its own history: another process refuses a cursor whose last entry its store does not have.
pub(super) async fn a_cursor_of_another_history_is_refused(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let shard = Shard::of(&pen.stream, store.capabilities().shards);
    pen.write(store, &["one", "two"]).await;
    let cursor = store.tail(shard, &Cursor::default(), 10).await.unwrap().cursor;
    let mut of_another = cursor.0.to_vec();
    *of_another.last_mut().expect("it is not the beginning") ^= 1;
    let refused = store.tail(shard, &Cursor(of_another.into()), 10).await;
    let is_refused = matches!(refused, Err(StoreError::Invalid { what: "cursor", .. }));
    assert!(is_refused, "{refused:?}");
    pen.write(store, &["three"]).await;
    let again = match &fixture.reopen {
        Some(reopen) => reopen().await,
        None => Arc::clone(&fixture.store),
    };
    let page = again.tail(shard, &cursor, 10).await.unwrap();
    assert_eq!(
        page.entries
            .iter()
            .map(|fed| text(&fed.entry))
            .collect::<Vec<_>>(),
        ["three"]
    );
}

pub(super) async fn a_commit_wakes_who_waits(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    for _ in 0..20 {
        let before = pen.seq;
        // This is requested before the commit, and awaited after it.
        let changed = store.changed();
        pen.write(store, &["x"]).await;
        changed.await;
        assert_eq!(store.read(&pen.stream, before, 1).await.unwrap().len(), 1);
    }
}
