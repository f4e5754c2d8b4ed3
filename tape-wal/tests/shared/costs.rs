//! What followers cost that wait for something else than what is written.

use crate::number;
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::limits::BATCH_ENTRIES_MAX;
use tape_core::payload::Digest;
use tape_store::contract::{Batch, BatchId, Cursor, JournalStore, Shard, SnapshotChange};
use tape_store::layer::MeteredStore;
use tape_store::memory::MemoryStore;
use tape_wal::{Filter, LiveFeed, SharedFeed, Start};

/// Entries of others, unless `TAPE_FEED_ENTRIES` says it.
const ENTRIES: u64 = 50_000;
/// Entries in one read of a shard.
const READ: u64 = 1_024;
/// Reads after which a follower that is behind tells where it is.
const QUIET_READS: u64 = 16;

/// A store that counts its calls, and the feed of it.
struct World {
    store: Arc<MeteredStore>,
    feed: SharedFeed,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MeteredStore::new(Arc::new(MemoryStore::new())));
        let feed = SharedFeed::new(Arc::<MeteredStore>::clone(&store));
        Self { store, feed }
    }

    /// Appends entries to a stream; they are as long as they need to be.
    async fn append(&self, stream: &str, mut entries: u64) {
        let stream: StreamId = stream.parse().unwrap();
        while entries > 0 {
            let expected = self
                .store
                .head(&stream)
                .await
                .unwrap()
                .map_or(Seq::ZERO, |head| head.seq);
            let now = entries.min(BATCH_ENTRIES_MAX as u64);
            let entry = |n| StoredEntry {
                seq: Seq(expected.0 + n),
                envelope: Bytes::from_static(br#"{"entry":{"kind":"value.put"}}"#),
                payload: Some(Bytes::from_static(b"bytes")),
                digest: Digest::default(),
            };
            let batch = Batch {
                id: BatchId::random(u128::from(expected.0)),
                stream: stream.clone(),
                expected,
                before: Digest::default(),
                epoch: Epoch::default(),
                next_epoch: Epoch::default(),
                entries: (1..=now).map(entry).collect(),
                agenda: Vec::new(),
                snapshot: SnapshotChange::Keep,
                summary: None,
            };
            for answer in self.store.commit(vec![batch]).await {
                answer.unwrap();
            }
            entries -= now;
        }
    }

    async fn follow(&self, pattern: &str, start: Start, after: Vec<(Shard, Cursor)>) -> LiveFeed {
        let filter = Filter {
            tenant: None,
            pattern: pattern.parse().unwrap(),
        };
        self.feed.follow(filter, start, after).await.unwrap()
    }

    fn tails(&self) -> u64 {
        self.store.counts().tails
    }
}

/// Waits as a follower does, and counts how often it is polled.
async fn woken(live: &LiveFeed, polls: &AtomicU64) {
    let mut woken = pin!(live.woken());
    std::future::poll_fn(|cx| {
        polls.fetch_add(1, Relaxed);
        woken.as_mut().poll(cx)
    })
    .await;
}

/// How often the store is read for `others` entries, each in a commit of its own, while so many followers wait for something else.
async fn reads_beside(followers: usize, others: u64) -> u64 {
    let (world, polls) = (World::new(), Arc::new(AtomicU64::new(0)));
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..followers {
        let mut live = world
            .follow(&format!("acme.value.n{n}.>"), Start::Now, Vec::new())
            .await;
        assert!(live.ready().await.unwrap().is_none());
        let polls = Arc::clone(&polls);
        waiting.spawn(async move {
            woken(&live, &polls).await;
            live.ready().await.unwrap().unwrap().entries.len()
        });
    }
    let mut all = world.follow("acme.value.busy.>", Start::Now, Vec::new()).await;
    assert!(all.ready().await.unwrap().is_none());
    let before = world.tails();
    for _ in 0..others {
        world.append("acme/value/busy", 1).await;
        assert_eq!(all.next().await.unwrap().entries.len(), 1);
    }
    let reads = world.tails() - before;
    assert_eq!(
        polls.load(Relaxed),
        followers as u64,
        "none is woken for what others write"
    );
    world.append("acme/value/n0", 1).await;
    assert_eq!(waiting.join_next().await.unwrap().unwrap(), 1);
    assert_eq!(polls.load(Relaxed), followers as u64 + 1, "one is woken, once");
    reads
}

#[tokio::test(start_paused = true)]
async fn a_thousand_idle_followers_read_nothing_and_are_not_woken() {
    assert_eq!(reads_beside(1_000, 100).await, reads_beside(1, 100).await);
}

#[tokio::test(start_paused = true)]
async fn a_filter_of_one_entry_among_many_moves_on_while_it_is_behind() {
    let entries = number("TAPE_FEED_ENTRIES", ENTRIES);
    let world = World::new();
    world.append("acme/value/busy", entries).await;
    world.append("acme/value/rare", 1).await;
    let mut live = world
        .follow("acme.value.rare.>", Start::Beginning, Vec::new())
        .await;
    let (mut places, before) = (Vec::new(), world.tails());
    let found = loop {
        let page = live.next().await.unwrap();
        if !page.entries.is_empty() {
            break page;
        }
        assert_ne!(page.before, page.after, "a page without entries moves the cursor");
        places.push((page.shard, page.after));
    };
    assert_eq!(found.entries.len(), 1);
    let reads = world.tails() - before;
    assert!(reads <= entries / READ + 4, "{reads} reads of {entries} entries");
    assert_eq!(places.len() as u64, entries / READ / QUIET_READS);
    drop(live);
    // A consumer that resumes repeats little.
    let (last, before) = (places.pop().unwrap(), world.tails());
    let mut live = world
        .follow("acme.value.rare.>", Start::Beginning, vec![last])
        .await;
    while live.next().await.unwrap().entries.is_empty() {}
    let reads = world.tails() - before;
    assert!(reads <= QUIET_READS + 4, "{reads} reads after a break");
}

#[tokio::test(start_paused = true)]
async fn a_filter_of_one_entry_among_many_moves_on_while_it_waits() {
    let entries = number("TAPE_FEED_ENTRIES", ENTRIES);
    let (world, polls) = (World::new(), AtomicU64::new(0));
    let mut live = world.follow("acme.value.rare.>", Start::Now, Vec::new()).await;
    assert!(live.ready().await.unwrap().is_none());
    let begin = live.places().next().unwrap().1.clone();
    let before = world.tails();
    let mut waiting = Box::pin(woken(&live, &polls));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    for _ in 0..entries / READ {
        world.append("acme/value/busy", READ).await;
        tokio::task::yield_now().await;
    }
    let reads = world.tails() - before;
    assert!(
        reads <= 2 * (entries / READ) + 4,
        "{reads} reads of {entries} entries"
    );
    assert_eq!(polls.load(Relaxed), 1, "it is not woken for what others write");
    // Nothing comes for it, so it is told once in a while where the feed is.
    let told = tokio::time::timeout(Duration::from_secs(60), waiting.as_mut()).await;
    told.expect("it is told");
    drop(waiting);
    assert_eq!(polls.load(Relaxed), 3, "once at the wait, and once for that");
    let page = live.ready().await.unwrap().unwrap();
    assert_eq!((page.entries.len(), page.before == begin), (0, true));
    let place = (page.shard, page.after);
    assert!(live.ready().await.unwrap().is_none(), "once");
    // After that it waits in silence while nothing is written, and is woken at once by what is for it.
    let silence = tokio::time::timeout(Duration::from_secs(3_600), woken(&live, &polls)).await;
    assert!(silence.is_err());
    let mut waiting = Box::pin(woken(&live, &polls));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let now = tokio::time::Instant::now();
    world.append("acme/value/rare", 1).await;
    waiting.as_mut().await;
    drop(waiting);
    assert_eq!(now.elapsed(), Duration::ZERO);
    assert_eq!(live.next().await.unwrap().entries.len(), 1);
    drop(live);
    let before = world.tails();
    let mut live = world
        .follow("acme.value.rare.>", Start::Beginning, vec![place])
        .await;
    assert_eq!(live.next().await.unwrap().entries.len(), 1);
    assert!(world.tails() - before <= 4);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_erased_do_not_stay_in_the_ring() {
    let world = World::new();
    let mut live = world.follow(">", Start::Now, Vec::new()).await;
    assert!(live.ready().await.unwrap().is_none());
    world.append("acme/value/rate", 1).await;
    live.woken().await;
    let stream = "acme/value/rate".parse().unwrap();
    world.store.erase(&stream, &[Seq(1)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    let page = live.ready().await.unwrap().unwrap();
    assert_eq!(
        page.entries[0].entry.payload, None,
        "a slow follower gets what the store has now"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_stream_is_woken_by_its_commits_alone() {
    let world = World::new();
    let mut watch = world.feed.watch(&"acme/value/rate".parse().unwrap()).await;
    watch.changed().await;
    let reads = world.tails();
    world.append("acme/value/rate", 1).await;
    watch.changed().await;
    for _ in 0..50 {
        world.append("acme/value/busy", 1).await;
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(pin!(watch.changed())).is_pending());
    assert!(world.tails() - reads <= 2 * 51 + 4);
    drop(watch);
    // The reader stops without followers: an hour later nothing was read.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let reads = world.tails();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.tails(), reads);
}
