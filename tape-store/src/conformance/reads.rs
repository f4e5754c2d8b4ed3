//! Reading streams: pages, snapshots, erased payloads.

use super::Fixture;
use super::pen::{Pen, all, commit};
use crate::contract::{Batch, Shard, Snapshot, SnapshotChange};
use bytes::Bytes;
use tape_core::chain::Verifier;
use tape_core::id::Seq;

pub(super) async fn pages_follow_each_other(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    let mut written = Vec::new();
    while written.len() < 1_000 {
        let texts: Vec<String> = (0..1 + written.len() % 7)
            .map(|n| format!("{}-{n}", written.len()))
            .collect();
        let batch = pen.batch(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        written.extend(batch.entries.clone());
        pen.put(store, batch).await;
        other.write(store, &["between"]).await;
    }
    for after in [
        0, 1, 2, 63, 64, 254, 255, 256, 257, 511, 512, 513, 700, 767, 768, 998, 999,
    ] {
        for limit in [1, 2, 10, 255, 256, 257, 1_000, 4_096] {
            let page = store.read(&pen.stream, Seq(after), limit).await.unwrap();
            let rest = &written[usize::try_from(after).unwrap()..];
            let least = rest.len().min(limit as usize).min(2);
            assert!(page.len() >= least, "there are entries after {after}");
            assert!(
                page.len() <= limit as usize,
                "a page of {limit} has {}",
                page.len()
            );
            assert_eq!(page, rest[..page.len()], "after {after}, at most {limit}");
        }
    }
    assert_eq!(all(store, &pen.stream).await, written);
    let end = pen.seq.0;
    for beyond in [end, end + 1, end + 300, u64::MAX] {
        assert_eq!(
            store.read(&pen.stream, Seq(beyond), 10).await.unwrap(),
            [],
            "nothing is after {beyond}"
        );
    }
}

/// Forty entries of half a megabyte: no page needs to have all of them, and none is left out.
pub(super) async fn pages_of_large_entries_follow_each_other(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    for n in 0..10_u8 {
        let payloads = (0..4).map(|m| Bytes::from(vec![b'a' + n * 2 + m % 2; 500_000]));
        pen.put(store, pen.batch_of(pen.entries_of(payloads))).await;
    }
    let entries = all(store, &pen.stream).await;
    assert_eq!(entries.len(), 40);
    let mut verifier = Verifier::new(&pen.stream, None);
    entries.iter().for_each(|entry| verifier.check(entry).unwrap());
    for after in [0, 18, 38] {
        let page = store.read(&pen.stream, Seq(after), 4_096).await.unwrap();
        assert!(page.len() > 1, "one entry alone is the end");
    }
    let shard = Shard::of(&pen.stream, store.capabilities().shards);
    let fed = super::feed::read_to_end(store, shard, 4_096).await;
    assert_eq!(fed.into_iter().map(|fed| fed.entry).collect::<Vec<_>>(), entries);
}

pub(super) async fn a_snapshot_is_the_one_that_was_put(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    let snapshot = async |pen: &Pen| store.head(&pen.stream).await.unwrap().unwrap().snapshot;
    pen.write(store, &["one"]).await;
    assert_eq!(snapshot(&pen).await, None);
    pen.put(
        store,
        Batch {
            snapshot: SnapshotChange::Replace(Bytes::from("first")),
            ..pen.batch(&["two", "three"])
        },
    )
    .await;
    other
        .put(
            store,
            Batch {
                snapshot: SnapshotChange::Replace(Bytes::from("other")),
                ..other.batch(&["one"])
            },
        )
        .await;
    pen.write(store, &["four"]).await;
    assert_eq!(
        snapshot(&pen).await,
        Some(Snapshot {
            seq: Seq(3),
            bytes: Bytes::from("first")
        })
    );
    assert_eq!(
        snapshot(&other).await,
        Some(Snapshot {
            seq: Seq(1),
            bytes: Bytes::from("other")
        })
    );
    let behind = Pen {
        seq: Seq(1),
        ..pen.clone()
    }
    .batch(&["behind"]);
    commit(
        store,
        Batch {
            snapshot: SnapshotChange::Replace(Bytes::from("never")),
            ..behind
        },
    )
    .await
    .expect_err("it is behind");
    assert_eq!(
        snapshot(&pen).await,
        Some(Snapshot {
            seq: Seq(3),
            bytes: Bytes::from("first")
        })
    );
    let large = Bytes::from(vec![7; 2_000_000]);
    pen.put(
        store,
        Batch {
            snapshot: SnapshotChange::Replace(large.clone()),
            ..pen.batch(&["five"])
        },
    )
    .await;
    assert_eq!(
        snapshot(&pen).await,
        Some(Snapshot {
            seq: Seq(5),
            bytes: large
        })
    );
}

/// A snapshot changes as the batch says. One that is too large for the store never leaves the previous one in place.
pub(super) async fn a_snapshot_stays_or_is_replaced_or_goes(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let snapshot = async |pen: &Pen| store.head(&pen.stream).await.unwrap().unwrap().snapshot;
    let with = |snapshot: &SnapshotChange, pen: &Pen| Batch {
        snapshot: snapshot.clone(),
        ..pen.batch(&["x"])
    };
    let replace = |text: &str| SnapshotChange::Replace(Bytes::from(text.to_owned()));
    pen.put(store, with(&SnapshotChange::Delete, &pen)).await;
    assert_eq!(snapshot(&pen).await, None);
    pen.put(store, with(&replace("first"), &pen)).await;
    pen.put(store, with(&SnapshotChange::Keep, &pen)).await;
    let first = Snapshot {
        seq: Seq(2),
        bytes: Bytes::from("first"),
    };
    assert_eq!(snapshot(&pen).await.as_ref(), Some(&first));
    let behind = Pen {
        seq: Seq(1),
        ..pen.clone()
    };
    let refused = commit(store, with(&SnapshotChange::Delete, &behind)).await;
    refused.expect_err("it is behind");
    assert_eq!(snapshot(&pen).await, Some(first));
    pen.put(store, with(&SnapshotChange::Delete, &pen)).await;
    assert_eq!(snapshot(&pen).await, None);
    pen.put(store, with(&replace("second"), &pen)).await;
    assert_eq!(snapshot(&pen).await.unwrap().seq, pen.seq);
    let large = Bytes::from(vec![b'x'; 9 * 1024 * 1024]);
    pen.put(store, with(&SnapshotChange::Replace(large.clone()), &pen))
        .await;
    if let Some(kept) = snapshot(&pen).await {
        assert_eq!(kept.seq, pen.seq);
        assert!(kept.bytes == large, "it is the large one");
    }
}

pub(super) async fn an_erased_payload_leaves_the_chain_whole(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    for n in 0..300 {
        pen.write(store, &[format!("secret-{n}").as_str()]).await;
    }
    other.write(store, &["kept"]).await;
    let before = all(store, &pen.stream).await;
    for seq in [2, 299, 2] {
        store.erase(&pen.stream, &[Seq(seq)]).await.unwrap();
    }
    store.erase(&pen.stream, &[Seq(9_999)]).await.unwrap();
    store.erase(&pen.stream, &[Seq::ZERO]).await.unwrap();
    store.erase(&Pen::new("nobody").stream, &[Seq(1)]).await.unwrap();
    let mut expected = before.clone();
    expected[1].payload = None;
    expected[298].payload = None;
    assert_eq!(
        all(store, &pen.stream).await,
        expected,
        "only the payloads are gone"
    );
    let mut verifier = Verifier::new(&pen.stream, Some((pen.seq, pen.digest)));
    expected.iter().for_each(|entry| verifier.check(entry).unwrap());
    assert_eq!((verifier.seq(), verifier.digest()), (pen.seq, pen.digest));
    let fed = super::feed::read_everything(store).await;
    let of_pen = fed
        .iter()
        .filter(|fed| fed.stream == pen.stream)
        .map(|fed| fed.entry.clone());
    assert_eq!(of_pen.collect::<Vec<_>>(), expected, "the feed forgets too");
    assert_eq!(
        all(store, &other.stream).await[0].payload.as_deref(),
        Some(&b"kept"[..])
    );
}
