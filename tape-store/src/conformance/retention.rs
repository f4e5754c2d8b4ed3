//! Dropping entries that are no longer needed.

use super::Fixture;
use super::pen::{Pen, all};
use crate::contract::{
    Batch, CommitOutcome, Committed, Cursor, JournalStore, RunFilter, Shard, SnapshotChange,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tape_core::codec::StoredEntry;
use tape_core::id::{Key, RunId, Seq, StreamId, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

fn summary() -> Summary {
    let label = (Key::new("topic").expect("it is a name"), "sweep".to_owned());
    Summary {
        status: RunStatus::Completed,
        labels: BTreeMap::from([label]),
        begun_at: Timestamp::from_micros(1),
        changed_at: Timestamp::from_micros(2),
    }
}

/// A stream of `entries` entries, in batches of different lengths, that is listed and has a snapshot.
async fn written(store: &dyn JournalStore, name: &str, entries: usize) -> Pen {
    let mut pen = Pen::new(name);
    while pen.seq.0 < entries as u64 {
        let left = entries - usize::try_from(pen.seq.0).expect("there are few");
        let texts: Vec<String> = (0..(1 + left % 7).min(left))
            .map(|n| format!("{name} {} {n}", pen.seq))
            .collect();
        let batch = pen.batch(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let listed = Batch {
            summary: Some(summary()),
            snapshot: SnapshotChange::Replace(Bytes::from_static(b"state")),
            ..batch
        };
        pen.put(store, listed).await;
    }
    pen
}

async fn listed(store: &dyn JournalStore) -> Vec<RunId> {
    let label = (Key::new("topic").expect("it is a name"), "sweep".to_owned());
    let all = RunFilter::all(Tenant::new("t").expect("it is a name"));
    let found = async |filter: &RunFilter| {
        let page = store.runs(filter, None, 1_000).await.unwrap();
        let mut runs: Vec<RunId> = page.runs.into_iter().map(|(run, _)| run).collect();
        runs.sort();
        runs
    };
    let runs = found(&all).await;
    let by_label = RunFilter {
        label: Some(label),
        ..all
    };
    assert_eq!(runs, found(&by_label).await, "the lists agree");
    runs
}

/// Checks what a reader finds, wherever it begins and however large its pages are.
async fn check_kept(store: &dyn JournalStore, stream: &StreamId, kept: &[StoredEntry]) {
    let first = kept[0].seq.0;
    let end = first + kept.len() as u64 - 1;
    for after in [
        0,
        1,
        first.saturating_sub(2),
        first - 1,
        first,
        first + 1,
        end - 1,
        end,
        end + 1,
    ] {
        for limit in [1, 2, 300, 4_096] {
            let page = store.read(stream, Seq(after), limit).await.unwrap();
            let begins = usize::try_from((after + 1).saturating_sub(first)).unwrap();
            let rest = kept.get(begins..).unwrap_or_default();
            assert!(page.len() <= limit as usize);
            assert_eq!(
                page.is_empty(),
                rest.is_empty(),
                "after {after} of {first} to {end}"
            );
            assert_eq!(page, rest[..page.len()], "after {after} of {first} to {end}");
        }
    }
    assert_eq!(all(store, stream).await, kept);
}

pub(super) async fn what_is_dropped_is_gone_and_the_rest_is_there(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let other = written(store, "other", 10).await;
    let untouched = all(store, &other.stream).await;
    // Keeps from the first entry, from entries within a stretch, on and around places that stores may index, and from the last one.
    for (n, (entries, first)) in [
        (3, 3),
        (1, 1),
        (9, 1),
        (9, 2),
        (300, 255),
        (300, 256),
        (300, 257),
        (700, 512),
        (700, 699),
        (700, 700),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pen = written(store, &format!("run-{n}"), entries).await;
        let before = store.head(&pen.stream).await.unwrap().unwrap();
        let kept = all(store, &pen.stream).await[first - 1..].to_vec();
        for _ in 0..2 {
            let drops = [(pen.stream.clone(), Seq(first as u64))];
            store.drop_before(&drops).await.unwrap();
            check_kept(store, &pen.stream, &kept).await;
            let head = store.head(&pen.stream).await.unwrap().expect("the end stays");
            assert_eq!(
                (head.seq, head.epoch, head.digest),
                (before.seq, before.epoch, before.digest)
            );
            assert_eq!(head.snapshot, None, "the snapshot has what was dropped");
            assert_eq!(listed(store).await, [other.stream.as_run().unwrap().clone()]);
        }
        let drops = [(pen.stream.clone(), Seq(1))];
        store.drop_before(&drops).await.unwrap();
        check_kept(store, &pen.stream, &kept).await;
        // The stream continues where it ended.
        let batch = pen.batch(&["later", "and later"]);
        pen.put(store, batch.clone()).await;
        let end = [kept, all(store, &pen.stream).await.split_off(entries + 1 - first)].concat();
        check_kept(store, &pen.stream, &end).await;
        let there = CommitOutcome::Committed(Committed { seq: pen.seq });
        assert_eq!(store.resolve(&batch).await.unwrap(), there);
        // A number beyond the end counts as the end's.
        let drops = [(pen.stream.clone(), Seq(u64::MAX))];
        store.drop_before(&drops).await.unwrap();
        check_kept(store, &pen.stream, &end[end.len() - 1..]).await;
        let fate = store.resolve(&batch).await.unwrap();
        assert_eq!(fate, there, "its last entry is there");
    }
    store
        .drop_before(&[(Pen::new("nobody").stream, Seq(7))])
        .await
        .unwrap();
    assert_eq!(store.head(&Pen::new("nobody").stream).await.unwrap(), None);
    store.drop_before(&[]).await.unwrap();
    assert_eq!(all(store, &other.stream).await, untouched);
    while store.reclaim().await.unwrap() {}
    assert_eq!(all(store, &other.stream).await, untouched);
}

pub(super) async fn what_became_of_dropped_batches_is_unknown(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let refused = Pen::new("a").batch(&["refused"]);
    let mut batches = Vec::new();
    for n in 0..6 {
        let batch = pen.batch(&[format!("one {n}").as_str(), "two"]);
        batches.push(batch.clone());
        pen.put(store, batch).await;
    }
    assert_eq!(
        store.resolve(&refused).await.unwrap(),
        CommitOutcome::NotCommitted
    );
    // The third batch keeps its last entry, which stands for it.
    store.drop_before(&[(pen.stream.clone(), Seq(6))]).await.unwrap();
    for (n, batch) in batches.iter().enumerate() {
        let seq = batch.last();
        let expected = if n < 2 {
            CommitOutcome::Unknown
        } else {
            CommitOutcome::Committed(Committed { seq })
        };
        assert_eq!(store.resolve(batch).await.unwrap(), expected, "batch {n}");
    }
    assert_eq!(
        store.resolve(&refused).await.unwrap(),
        CommitOutcome::Unknown,
        "nothing is left to compare it with"
    );
    let mut kept = all(store, &pen.stream).await;
    for seq in [2, 5, 8] {
        store.erase(&pen.stream, &[Seq(seq)]).await.unwrap();
    }
    kept[2].payload = None;
    check_kept(store, &pen.stream, &kept).await;
    store.drop_before(&[(pen.stream.clone(), Seq(9))]).await.unwrap();
    check_kept(store, &pen.stream, &kept[3..]).await;
}

/// Streams are dropped one after the other while others are written and readers follow: no kept entry is skipped.
pub(super) async fn the_feed_has_what_is_kept_while_entries_are_dropped(fixture: Fixture) {
    const STREAMS: usize = 12;
    let store = Arc::clone(&fixture.store);
    let writing = Arc::new(AtomicBool::new(true));
    let reader = |limit: u32| {
        let (store, writing) = (Arc::clone(&store), Arc::clone(&writing));
        tokio::spawn(async move { follow(store.as_ref(), limit, &writing).await })
    };
    let readers: Vec<_> = [1, 7, 1_000].into_iter().map(reader).collect();
    let write = |n: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut pen = written(store.as_ref(), &format!("run-{n}"), 20 + n).await;
            let first = pen.seq;
            if !n.is_multiple_of(3) {
                pen.write(store.as_ref(), &["last"]).await;
                store.drop_before(&[(pen.stream.clone(), first)]).await.unwrap();
                store.reclaim().await.unwrap();
            }
            pen.write(store.as_ref(), &["after"]).await;
            pen
        })
    };
    let pens = futures::future::join_all((0..STREAMS).map(write)).await;
    let pens: Vec<Pen> = pens.into_iter().map(Result::unwrap).collect();
    while store.reclaim().await.unwrap() {}
    writing.store(false, Ordering::SeqCst);
    let late = follow(store.as_ref(), 5, &AtomicBool::new(false)).await;
    let mut seen = vec![late];
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    for pen in &pens {
        let kept = all(store.as_ref(), &pen.stream).await;
        for seen in &seen {
            let fed = &seen[&pen.stream];
            let from = fed
                .iter()
                .position(|entry| entry.seq == kept[0].seq)
                .expect("the feed has what is kept");
            assert_eq!(fed[from..], kept, "{}", pen.stream);
            assert!(
                fed.windows(2).all(|two| two[0].seq < two[1].seq),
                "in order and, here, once"
            );
        }
    }
}

/// Follows the feed until no task writes and nothing more comes.
async fn follow(
    store: &dyn JournalStore,
    limit: u32,
    writing: &AtomicBool,
) -> HashMap<StreamId, Vec<StoredEntry>> {
    let mut fed: HashMap<StreamId, Vec<StoredEntry>> = HashMap::new();
    let shards = (0..store.capabilities().shards).map(Shard);
    let mut cursors: Vec<(Shard, Cursor)> = shards.map(|shard| (shard, Cursor::default())).collect();
    loop {
        let over = !writing.load(Ordering::SeqCst);
        let mut news = false;
        for (shard, cursor) in &mut cursors {
            let page = store.tail(*shard, cursor, limit).await.unwrap();
            for entry in page.entries {
                news = true;
                let of_stream = fed.entry(entry.stream).or_default();
                // Delivery is at least once: a repeated entry counts once.
                if of_stream.last().is_none_or(|last| last.seq < entry.entry.seq) {
                    of_stream.push(entry.entry);
                }
            }
            *cursor = page.cursor;
        }
        if over && !news {
            return fed;
        }
        tokio::task::yield_now().await;
    }
}
