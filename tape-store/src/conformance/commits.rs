//! Commits: what is appended, and what is refused.

use super::Fixture;
use super::pen::{Pen, all, commit, text};
use crate::contract::{Batch, CommitOutcome, Committed, Head, JournalStore};
use crate::error::{CommitError, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::task::Poll;
use tape_core::chain::Verifier;
use tape_core::id::{Epoch, Seq};
use tape_core::limits::{BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX};

pub(super) async fn a_batch_is_appended_as_it_is(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    assert_eq!(store.head(&pen.stream).await.unwrap(), None);
    assert_eq!(store.read(&pen.stream, Seq::ZERO, 10).await.unwrap(), []);
    let first = pen.batch(&["one", "", "three"]);
    let mut written = first.entries.clone();
    pen.put(store, first).await;
    let second = pen.batch(&["four"]);
    written.extend(second.entries.clone());
    pen.put(store, second).await;
    assert_eq!(all(store, &pen.stream).await, written);
    let head = Head {
        seq: Seq(4),
        epoch: Epoch(0),
        digest: pen.digest,
        snapshot: None,
    };
    assert_eq!(store.head(&pen.stream).await.unwrap(), Some(head));
}

pub(super) async fn a_wrong_end_conflicts(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let early = Pen {
        seq: Seq(1),
        ..pen.clone()
    }
    .batch(&["no stream yet"]);
    assert_conflict(commit(store, early).await, Seq(1), Seq(0));
    let old = pen.clone();
    pen.write(store, &["one", "two"]).await;
    assert_conflict(commit(store, old.batch(&["again"])).await, Seq(0), Seq(2));
    let middle = Pen {
        seq: Seq(1),
        ..pen.clone()
    }
    .batch(&["again"]);
    assert_conflict(commit(store, middle).await, Seq(1), Seq(2));
    let late = Pen {
        seq: Seq(3),
        ..pen.clone()
    }
    .batch(&["gap"]);
    assert_conflict(commit(store, late).await, Seq(3), Seq(2));
    assert_eq!(all(store, &pen.stream).await.len(), 2);
    pen.write(store, &["three"]).await;
}

fn assert_conflict(answer: Result<Committed, CommitError>, given: Seq, is: Seq) {
    let fits = matches!(&answer, Err(CommitError::Conflict { expected, current, .. }) if (*expected, *current) == (given, is));
    assert!(fits, "expected {given}, the end is {is}: {answer:?}");
}

pub(super) async fn a_wrong_epoch_is_fenced(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let future = Pen {
        epoch: Epoch(1),
        ..pen.clone()
    }
    .batch(&["no stream yet"]);
    assert_fenced(commit(store, future).await, Epoch(1), Epoch(0));
    let takeover = Batch {
        next_epoch: Epoch(3),
        ..pen.batch(&["taken"])
    };
    pen.put(store, takeover).await;
    for wrong in [0, 2, 4] {
        let stale = Batch {
            next_epoch: Epoch(9),
            ..Pen {
                epoch: Epoch(wrong),
                ..pen.clone()
            }
            .batch(&["stale"])
        };
        assert_fenced(commit(store, stale).await, Epoch(wrong), Epoch(3));
    }
    assert_eq!(store.head(&pen.stream).await.unwrap().unwrap().epoch, Epoch(3));
    assert_eq!(all(store, &pen.stream).await.len(), 1);
    pen.write(store, &["two", "three"]).await;
    assert_eq!(store.head(&pen.stream).await.unwrap().unwrap().epoch, Epoch(3));
}

fn assert_fenced(answer: Result<Committed, CommitError>, by: Epoch, at: Epoch) {
    let fits =
        matches!(&answer, Err(CommitError::Fenced { given, current, .. }) if (*given, *current) == (by, at));
    assert!(fits, "epoch {by}, the stream is at {at}: {answer:?}");
}

pub(super) async fn the_epoch_is_checked_before_the_end(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    let old = pen.clone();
    let takeover = Batch {
        next_epoch: Epoch(1),
        ..pen.batch(&["taken"])
    };
    pen.put(store, takeover).await;
    assert_fenced(commit(store, old.batch(&["stale"])).await, Epoch(0), Epoch(1));
}

pub(super) async fn batches_of_a_commit_are_independent(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pens: Vec<Pen> = (0..8).map(|n| Pen::new(&format!("run-{n}"))).collect();
    for pen in &mut pens[..6] {
        pen.write(store, &["first"]).await;
    }
    // Of the eight, the second is behind, the fourth has a wrong epoch, and the sixth and eighth come too early.
    let batch = |(n, pen): (usize, &Pen)| match n {
        1 => Pen {
            seq: Seq(0),
            ..pen.clone()
        }
        .batch(&["conflicts"]),
        3 => Pen {
            epoch: Epoch(7),
            ..pen.clone()
        }
        .batch(&["fenced"]),
        5 | 7 => Pen {
            seq: Seq(5),
            ..pen.clone()
        }
        .batch(&["conflicts"]),
        _ => pen.batch(&["second", "third"]),
    };
    let answers = store.commit(pens.iter().enumerate().map(batch).collect()).await;
    assert_eq!(answers.len(), 8);
    for (n, (pen, answer)) in pens.iter().zip(answers).enumerate() {
        let length = all(store, &pen.stream).await.len() as u64;
        let before = u64::from(n < 6);
        match n {
            1 => assert_conflict(answer, Seq(0), Seq(1)),
            3 => assert_fenced(answer, Epoch(7), Epoch(0)),
            5 => assert_conflict(answer, Seq(5), Seq(1)),
            7 => assert_conflict(answer, Seq(5), Seq(0)),
            _ => assert_eq!(
                answer.expect("its neighbours do not matter"),
                Committed { seq: Seq(before + 2) }
            ),
        }
        assert_eq!(
            length,
            if matches!(n, 1 | 3 | 5 | 7) {
                before
            } else {
                before + 2
            },
            "run-{n}"
        );
    }
}

/// Batches of five entries: every reader, at any time, sees whole batches.
/// More entries than a database takes in one statement, of streams that begin and that go on, with some that do not fit.
pub(super) async fn a_large_group_commits_what_fits(fixture: Fixture) {
    const TEXTS: [&str; 12] = ["x"; 12];
    let store = fixture.store.as_ref();
    let mut pens: Vec<Pen> = (0..200).map(|n| Pen::new(&format!("run-{n}"))).collect();
    for pen in pens.iter_mut().step_by(2) {
        pen.write(store, &["one"]).await;
    }
    let fits = |n: usize| !n.is_multiple_of(7);
    let batch = |(n, pen): (usize, &Pen)| {
        let seq = if fits(n) { pen.seq } else { pen.seq.next() };
        Pen { seq, ..pen.clone() }.batch(&TEXTS)
    };
    let batches: Vec<Batch> = pens.iter().enumerate().map(batch).collect();
    let answers = store.commit(batches.clone()).await;
    for (n, (answer, batch)) in answers.iter().zip(&batches).enumerate() {
        let (before, written) = (pens[n].seq.0, if fits(n) { TEXTS.len() } else { 0 });
        match answer {
            Ok(committed) if fits(n) => assert_eq!(committed.seq, batch.last()),
            Err(CommitError::Conflict { .. }) if !fits(n) => {}
            answer => panic!("batch {n}: {answer:?}"),
        }
        let entries = all(store, &batch.stream).await;
        assert_eq!(entries.len() as u64, before + written as u64, "batch {n}");
    }
}

pub(super) async fn a_batch_is_never_half_there(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let stream = Pen::new("a").stream;
    let writer = tokio::spawn({
        let (store, mut pen) = (Arc::clone(&store), Pen::new("a"));
        async move {
            for _ in 0..100 {
                pen.write(store.as_ref(), &["1", "2", "3", "4", "5"]).await;
            }
        }
    });
    while !writer.is_finished() {
        let head = store.head(&stream).await.unwrap();
        let seq = head.map_or(0, |head| head.seq.0);
        assert_eq!(seq % 5, 0, "the head is amid a batch");
        let after = Seq(seq.saturating_sub(10));
        let read = store.read(&stream, after, 500).await.unwrap();
        assert_eq!(read.len() % 5, 0, "half a batch is read");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    let entries = all(store.as_ref(), &stream).await;
    assert_eq!(entries.len(), 500);
    let mut verifier = Verifier::new(&stream, None);
    entries.iter().for_each(|entry| verifier.check(entry).unwrap());
}

pub(super) async fn batches_that_no_store_takes_are_refused(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    pen.put(
        store,
        Batch {
            next_epoch: Epoch(2),
            ..pen.batch(&["first"])
        },
    )
    .await;
    let gap = Pen {
        seq: Seq(2),
        ..pen.clone()
    }
    .entries(&["gap"]);
    let many = pen.entries_of((0..=BATCH_ENTRIES_MAX).map(|_| Bytes::new()));
    let large = pen.entries_of((0..4).map(|_| Bytes::from(vec![b'x'; PAYLOAD_BYTES_MAX])));
    let bad = [
        pen.batch_of(Vec::new()),
        pen.batch_of(gap),
        pen.batch_of(many),
        pen.batch_of(large),
        Batch {
            next_epoch: Epoch(1),
            ..pen.batch(&["epoch back"])
        },
    ];
    for batch in bad {
        let mut other = Pen::new(&format!("other-{}", batch.id.0));
        let good = other.batch(&["good"]);
        let answers = store.commit(vec![batch, good.clone()]).await;
        let refused = matches!(&answers[0], Err(CommitError::Store(StoreError::Invalid { .. })));
        assert!(refused, "{:?}", answers[0]);
        assert!(
            answers[1].is_ok(),
            "bad input costs its neighbours nothing: {:?}",
            answers[1]
        );
        other.advance(&good);
        assert_eq!(all(store, &other.stream).await.len(), 1);
    }
    assert_eq!(all(store, &pen.stream).await.len(), 1);
}

/// The answer is right however many entries came after the batch: for a refused batch, one that never arrived, and one whose place others
/// have.
pub(super) async fn what_became_of_a_batch_is_told_by_its_place(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    let never = other.batch(&["it never came"]);
    assert_eq!(store.resolve(&never).await.unwrap(), CommitOutcome::NotCommitted);
    let mut committed = Vec::new();
    for n in 0..12 {
        let batch = pen.batch(if n % 3 == 0 { &["x", "y", "z"] } else { &["x"] });
        committed.push(batch.clone());
        pen.put(store, batch).await;
        other.write(store, &["of another stream"]).await;
    }
    let mut lost = vec![never];
    // Batches beyond the end, and batches whose place contains the stream's end.
    for (expected, texts) in [(1, &["refused"][..]), (pen.seq.0 - 1, &["x", "refused"])] {
        let behind = Pen {
            seq: Seq(expected),
            ..pen.clone()
        };
        let refused = behind.batch(texts);
        commit(store, refused.clone()).await.expect_err("it is behind");
        lost.push(refused);
    }
    let overtaken = pen.batch(&["overtaken"]);
    assert_eq!(
        store.resolve(&overtaken).await.unwrap(),
        CommitOutcome::NotCommitted
    );
    lost.push(overtaken);
    for round in 0..2 {
        for batch in &committed {
            let seq = batch.last();
            let there = CommitOutcome::Committed(Committed { seq });
            assert_eq!(store.resolve(batch).await.unwrap(), there, "round {round}");
        }
        for batch in &lost {
            let fate = store.resolve(batch).await.unwrap();
            assert_eq!(fate, CommitOutcome::NotCommitted, "round {round}: {batch:?}");
        }
        // Far more than a store would like to remember.
        for _ in 0..3 {
            let long = pen.entries_of((0..500).map(|_| Bytes::new()));
            pen.put(store, pen.batch_of(long)).await;
        }
    }
}

/// The caller abandons a commit: the later answer about its outcome stays true, and a commit reported as not made never arrives.
pub(super) async fn a_commit_that_was_abandoned_is_there_or_never_comes(fixture: Fixture) {
    const WAITS: usize = 50;
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    for round in 0..16 {
        let name = format!("abandoned {round}");
        let batch = pen.batch(&[&name, "end"]);
        let answer = abandoned(store.commit(vec![batch.clone()]), 1 + round % 8).await;
        let fate = store.resolve(&batch).await.unwrap();
        for _ in 0..WAITS {
            tokio::task::yield_now().await;
        }
        match fate {
            CommitOutcome::Committed(Committed { seq }) => {
                assert_eq!(seq, batch.last());
                pen.advance(&batch);
            }
            CommitOutcome::NotCommitted => {
                let acknowledged = answer.is_some_and(|answers| answers[0].is_ok());
                assert!(!acknowledged, "round {round}: it was acknowledged");
                pen.write(store, &["instead"]).await;
            }
            CommitOutcome::Unknown => panic!("round {round}: nothing was dropped"),
        }
        assert_eq!(store.resolve(&batch).await.unwrap(), fate, "round {round}");
    }
    assert_eq!(all(store, &pen.stream).await.len() as u64, pen.seq.0);
}

/// Polls a future at most `polls` times, and then drops it. Returns its output, if it completed.
async fn abandoned<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    let polled = std::future::poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    polled.await
}

/// Thirty-two writers commit on the same end, repeatedly: one of them wins each time, and the entry is the winner's.
pub(super) async fn racing_commits_have_one_winner(fixture: Fixture) {
    let store = &fixture.store;
    let mut pen = Pen::new("a");
    for round in 0..20 {
        let racer = |n: usize| {
            let (store, batch) = (
                Arc::clone(store),
                pen.batch(&[format!("{round}-{n}").as_str(), "end"]),
            );
            tokio::spawn(async move { (batch.clone(), commit(store.as_ref(), batch).await) })
        };
        let raced = futures::future::join_all((0..32).map(racer).collect::<Vec<_>>()).await;
        let raced: Vec<_> = raced
            .into_iter()
            .map(|answer| answer.expect("no task panics"))
            .collect();
        let winners: Vec<_> = raced.iter().filter(|(_, answer)| answer.is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        for (_, answer) in raced.iter().filter(|(_, answer)| answer.is_err()) {
            assert!(matches!(answer, Err(CommitError::Conflict { .. })), "{answer:?}");
        }
        let before = pen.seq;
        pen.advance(&winners[0].0);
        assert_eq!(
            store.read(&pen.stream, before, 10).await.unwrap(),
            winners[0].0.entries
        );
    }
}

/// Two drivers: the old one continues to write as fast as it can, the new one takes the stream over in between.
pub(super) async fn after_a_takeover_nothing_of_the_old_driver_is_written(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    for round in 0..10 {
        let name = format!("run-{round}");
        let old = tokio::spawn(write_until_fenced(Arc::clone(&store), Pen::new(&name)));
        let taken = take_over(&store, &name).await;
        let acknowledged = old.await.unwrap();
        let entries = all(store.as_ref(), &Pen::new(&name).stream).await;
        let of = |word: &str| {
            entries
                .iter()
                .filter(|entry| text(entry).starts_with(word))
                .count()
        };
        assert_eq!(
            of("old"),
            acknowledged,
            "each write that was acknowledged is there, and no other"
        );
        let after = entries.iter().skip_while(|entry| !text(entry).starts_with("new"));
        assert!(
            after.clone().all(|entry| text(entry).starts_with("new")),
            "the old driver wrote after {taken}"
        );
        assert_eq!(after.count(), 2);
    }
}

async fn write_until_fenced(store: Arc<dyn JournalStore>, mut pen: Pen) -> usize {
    let mut acknowledged = 0;
    loop {
        // Each of its writes costs a read, as it costs the driver that takes over: else, where commits queue, it would win for ever.
        drop(store.head(&pen.stream).await);
        let batch = pen.batch(&["old"]);
        match commit(store.as_ref(), batch.clone()).await {
            Ok(_) => {
                pen.advance(&batch);
                acknowledged += 1;
            }
            Err(CommitError::Fenced { .. }) => break,
            Err(other) => panic!("the old driver was not fenced: {other}"),
        }
        tokio::task::yield_now().await;
    }
    // It reads where the stream ends now, and retries with its own epoch.
    for _ in 0..3 {
        let head = store
            .head(&pen.stream)
            .await
            .unwrap()
            .expect("the stream is there");
        (pen.seq, pen.digest) = (head.seq, head.digest);
        let late = commit(store.as_ref(), pen.batch(&["old"])).await;
        assert!(
            matches!(late, Err(CommitError::Fenced { .. })),
            "the old driver wrote: {late:?}"
        );
    }
    acknowledged
}

async fn take_over(store: &Arc<dyn JournalStore>, name: &str) -> Seq {
    let mut pen = Pen::new(name);
    loop {
        if let Some(head) = store.head(&pen.stream).await.unwrap() {
            (pen.seq, pen.epoch, pen.digest) = (head.seq, head.epoch, head.digest);
        }
        let batch = Batch {
            next_epoch: Epoch(1),
            ..pen.batch(&["new"])
        };
        match commit(store.as_ref(), batch.clone()).await {
            Ok(_) => {
                pen.advance(&batch);
                pen.write(store.as_ref(), &["new"]).await;
                return batch.last();
            }
            Err(CommitError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("the takeover failed: {other}"),
        }
    }
}

pub(super) async fn a_probe_leaves_nothing_behind(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("a");
    pen.write(store, &["one"]).await;
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    pen.write(store, &["two"]).await;
    store.probe().await.unwrap();
    assert_eq!(all(store, &pen.stream).await.len(), 2);
    assert_eq!(super::feed::read_everything(store).await.len(), 2);
}
