//! Conditional changes that arrive long after they were sent: they fail.

use super::pen::{Pen, all};
use super::wire::{Order, Wire};
use super::{AT_ONCE, NEVER, SHARDS, rows_of, shared, store, table};
use crate::bigtable::table::{self, Table};
use crate::bigtable::{BigtableStore, hint};
use crate::contract::{Batch, CommitOutcome, Committed, Cursor, JournalStore, RunFilter, Shard};
use crate::error::CommitError;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{Seq, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// Sends a batch over a wire that delays it: its outcome is unknown.
async fn send(wire: &Arc<Wire>, batch: Batch) {
    let held: Arc<dyn Table> = Arc::clone(wire) as _;
    let answer = store(&held, NEVER).commit(vec![batch]).await.remove(0);
    assert!(
        matches!(answer, Err(CommitError::OutcomeUnknown { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_batch_that_was_missed_is_never_committed_later() {
    let Some(table) = table().await else { return };
    let store = shared(&table);
    for begun in [false, true] {
        let mut pen = Pen::new(&format!("begun-{begun}"));
        if begun {
            pen.put(store.as_ref(), "first", 2).await;
        }
        let wire = Arc::new(Wire::holding(&table));
        let batch = pen.batch("held up", 1);
        send(&wire, batch.clone()).await;
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        wire.deliver().await;
        assert_eq!(all(store.as_ref(), &pen.stream).await.len() as u64, pen.seq.0);
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        // The caller may send it again, and others may continue.
        pen.put(store.as_ref(), "instead", 1).await;
        assert_eq!(all(store.as_ref(), &pen.stream).await.len() as u64, pen.seq.0);
    }
}

#[tokio::test]
async fn a_batch_that_arrives_before_anybody_looks_is_found() {
    let Some(table) = table().await else { return };
    let store = shared(&table);
    let wire = Arc::new(Wire::holding(&table));
    let pen = Pen::new("a");
    let batch = pen.batch("held up", 1);
    send(&wire, batch.clone()).await;
    wire.deliver().await;
    let there = CommitOutcome::Committed(Committed { seq: Seq(1) });
    assert_eq!(store.resolve(&batch).await.unwrap(), there);
}

/// The hint of a pending commit stays, whichever reader finds it premature; also where it is the same hint as a stale one.
#[tokio::test]
async fn due_work_of_a_commit_under_way_is_not_cleaned_up() {
    let Some(table) = table().await else { return };
    let reader = store(&table, NEVER);
    let mut pen = Pen::new("a");
    let time = Timestamp::from_micros;
    let moved = |was: Option<i64>, due: i64| AgendaChange {
        queue: Queue::Recovery,
        item: Item::Run,
        was: was.map(time),
        due: Some(time(due)),
    };
    for (was, due) in [(None, 1), (Some(1), 2), (Some(2), 3)] {
        let batch = Batch {
            agenda: vec![moved(was, due)],
            ..pen.batch("moved", 1)
        };
        // Each from a process of its own, which does not clean up after the one before.
        assert!(store(&table, NEVER).commit(vec![batch.clone()]).await[0].is_ok());
        pen.advance(&batch);
    }
    let wire = Arc::new(Wire::holding(&table));
    let batch = Batch {
        agenda: vec![moved(Some(3), 1)],
        ..pen.batch("back", 1)
    };
    send(&wire, batch).await;
    let shard = Shard::of(&pen.stream, SHARDS);
    let due = async || {
        let hints = reader
            .due(Queue::Recovery, shard, Timestamp::MAX, None, 10)
            .await
            .unwrap();
        hints
            .into_iter()
            .map(|hint| hint.due.as_micros())
            .collect::<Vec<_>>()
    };
    assert_eq!(due().await, [3]);
    assert_eq!(due().await, [3]);
    wire.deliver().await;
    assert_eq!(due().await, [1]);
}

/// Work that moves back to an earlier due time is found, though the hint of the first time is deleted with the commit that writes the
/// second.
#[tokio::test]
async fn work_that_moves_back_is_found() {
    let Some(table) = table().await else { return };
    let (store, mut pen) = (store(&table, NEVER), Pen::new("a"));
    let time = Timestamp::from_micros;
    for (was, due) in [(None, 1), (Some(1), 2), (Some(2), 1), (Some(1), 2), (Some(2), 1)] {
        let moved = AgendaChange {
            queue: Queue::Recovery,
            item: Item::Run,
            was: was.map(time),
            due: Some(time(due)),
        };
        let batch = Batch {
            agenda: vec![moved],
            ..pen.batch("moved", 1)
        };
        assert!(store.commit(vec![batch.clone()]).await[0].is_ok());
        pen.advance(&batch);
        let shard = Shard::of(&pen.stream, SHARDS);
        let hints = store
            .due(Queue::Recovery, shard, Timestamp::MAX, None, 10)
            .await
            .unwrap();
        assert_eq!(hints.iter().map(|hint| hint.due).collect::<Vec<_>>(), [time(due)]);
    }
}

/// A live writer that was taken for dead finds its hints deleted and its commit refused. It retries by itself, and everything is there.
#[tokio::test]
async fn a_writer_that_was_given_up_tries_again() {
    let Some(table) = table().await else { return };
    let mut pen = Pen::new("a");
    pen.put(shared(&table).as_ref(), "first", 1).await;
    let wire = Arc::new(Wire::holding(&table));
    let work = AgendaChange {
        queue: Queue::Timers,
        item: Item::Merge,
        was: None,
        due: Some(Timestamp::from_micros(1)),
    };
    let batch = Batch {
        agenda: vec![work],
        ..pen.batch("held up", 1)
    };
    send(&wire, batch.clone()).await;
    let impatient = store(&table, AT_ONCE);
    let shard = Shard::of(&pen.stream, SHARDS);
    let due = async || {
        impatient
            .due(Queue::Timers, shard, Timestamp::MAX, None, 10)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(due().await, 0);
    assert_eq!(wire.deliver().await, [false], "it was given up");
    // The store itself does this where it still waits for the answer.
    let known = store(&table, NEVER);
    known.head(&pen.stream).await.unwrap();
    let raised = known.context.ends.get(&pen.stream).unwrap();
    let mut old = raised.clone();
    old.generation -= 1;
    known.context.ends.forget(&pen.stream);
    known.context.ends.note(&pen.stream, &old);
    assert!(known.commit(vec![batch]).await[0].is_ok());
    assert_eq!(due().await, 1);
}

/// Hints of a dead writer stay as long as its commit may be pending, and are then deleted.
#[tokio::test]
async fn what_a_dead_writer_announced_is_cleaned_up() {
    let Some(table) = table().await else { return };
    let mut pen = Pen::new("a");
    pen.put(shared(&table).as_ref(), "first", 1).await;
    let shard = Shard::of(&pen.stream, SHARDS);
    // Others may read the feed first, or the due work.
    for looks_first_at in [b'n', b'a'] {
        let work = AgendaChange {
            queue: Queue::Timers,
            item: Item::Merge,
            was: None,
            due: Some(Timestamp::from_micros(1)),
        };
        let batch = Batch {
            agenda: vec![work],
            ..pen.batch("never", 1)
        };
        let dying: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, 2, Order::Given));
        assert!(store(&dying, NEVER).commit(vec![batch]).await[0].is_err());
        let hints = async || {
            let cells = table::any_of([hint::cells()]);
            let pending = rows_of(table.as_ref(), b'n', cells.clone()).await.len();
            (pending, rows_of(table.as_ref(), b'a', cells).await.len())
        };
        let look = async |reader: BigtableStore| {
            let due = async || {
                reader
                    .due(Queue::Timers, shard, Timestamp::MAX, None, 10)
                    .await
                    .unwrap()
            };
            let end = async || reader.tail_end(shard).await.unwrap();
            if looks_first_at == b'n' {
                end().await;
            }
            assert_eq!(due().await, []);
            end().await;
        };
        look(store(&table, NEVER)).await;
        assert_eq!(hints().await, (1, 1));
        look(store(&table, AT_ONCE)).await;
        assert_eq!(hints().await, (0, 0));
    }
}

/// Writers that pause between their hints and their commits, more of them than are looked at together, hide no writer that comes after
/// them.
#[tokio::test]
async fn pending_streams_of_commits_under_way_hides_no_other() {
    const HELD: usize = 300;
    let Some(table) = table().await else { return };
    let last = Pen::new("z");
    let shard = Shard::of(&last.stream, SHARDS);
    let before = (0..).map(|n| Pen::new(&format!("held-{n}")));
    let held: Vec<Pen> = before
        .filter(|pen| Shard::of(&pen.stream, SHARDS) == shard)
        .take(HELD)
        .collect();
    let wire: Arc<dyn Table> = Arc::new(Wire::holding(&table));
    let batches = held.iter().map(|pen| pen.batch("held up", 1)).collect();
    let answers = store(&wire, NEVER).commit(batches).await;
    assert!(answers.iter().all(Result::is_err));
    let reader = store(&table, NEVER);
    let committed = reader.commit(vec![last.batch("x", 2)]).await;
    assert!(committed[0].is_ok());
    let page = reader.tail(shard, &Cursor::default(), 10).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    let hints = rows_of(table.as_ref(), b'n', table::any_of([hint::cells()])).await;
    assert_eq!(hints.len(), HELD, "they may be committed yet");
}

/// A pending commit that leaves a run in its lists is refused once the run was removed from them: its places there are deleted.
#[tokio::test]
async fn a_commit_does_not_count_on_places_that_were_taken_away() {
    let Some(table) = table().await else { return };
    let listed = |batch: Batch| Batch {
        summary: Some(Summary {
            status: RunStatus::Completed,
            labels: BTreeMap::new(),
            begun_at: Timestamp::from_micros(1),
            changed_at: Timestamp::from_micros(2),
        }),
        ..batch
    };
    let mut pen = Pen::new("a");
    let first = listed(pen.batch("first", 2));
    let other = store(&table, NEVER);
    assert!(other.commit(vec![first.clone()]).await[0].is_ok());
    pen.advance(&first);
    let wire = Arc::new(Wire::holding(&table));
    let batch = listed(pen.batch("held up", 1));
    send(&wire, batch.clone()).await;
    other.drop_before(&[(pen.stream.clone(), pen.seq)]).await.unwrap();
    // What it left is deleted with another commit.
    Pen::new("b").put(&other, "x", 1).await;
    assert_eq!(wire.deliver().await, [false]);
    assert!(other.commit(vec![batch]).await[0].is_ok());
    let all = RunFilter::all(Tenant::new("t").unwrap());
    assert_eq!(other.runs(&all, None, 10).await.unwrap().runs.len(), 1);
}
