//! What operations cost, in calls and rows.

use super::pen::Pen;
use super::wire::{Counts, Wire};
use super::{NEVER, SHARDS, rows_of, shared, store, table};
use crate::bigtable::end::ABOUT;
use crate::bigtable::table::{self, Change, Table};
use crate::bigtable::tail::{PARTS, Part};
use crate::bigtable::{BigtableStore, keys};
use crate::contract::{Batch, Cursor, JournalStore, RunFilter, Shard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{Seq, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn moved(was: Option<i64>, due: Option<i64>) -> Vec<AgendaChange> {
    vec![AgendaChange {
        queue: Queue::Recovery,
        item: Item::Run,
        was: was.map(at),
        due: due.map(at),
    }]
}

fn summary(status: RunStatus, begun_at: i64) -> Option<Summary> {
    Some(Summary {
        status,
        labels: BTreeMap::new(),
        begun_at: at(begun_at),
        changed_at: at(1),
    })
}

/// A store whose calls are counted.
fn counted(table: &Arc<dyn Table>) -> (Arc<Wire>, BigtableStore) {
    let wire = Arc::new(Wire::new(table));
    let over: Arc<dyn Table> = Arc::clone(&wire) as _;
    (wire, store(&over, NEVER))
}

/// The cost of a call.
async fn cost<T>(wire: &Wire, call: impl Future<Output = T>) -> (Counts, T) {
    let before = wire.counts();
    let outcome = call.await;
    let after = wire.counts();
    let counts = Counts {
        reads: after.reads - before.reads,
        rows_read: after.rows_read - before.rows_read,
        mutates: after.mutates - before.mutates,
        rows_changed: after.rows_changed - before.rows_changed,
        checks: after.checks - before.checks,
    };
    (counts, outcome)
}

/// One call for all hints and one conditional change; nothing is read.
#[tokio::test]
async fn a_step_is_two_calls() {
    let Some(table) = table().await else { return };
    let (wire, store) = counted(&table);
    let mut pen = Pen::new("a");
    let two_calls = |rows_changed| Counts {
        mutates: 1,
        rows_changed,
        checks: 1,
        ..Counts::default()
    };
    let steps = [
        // The hint of the pending stream, due work, and the four lists of a run without labels.
        (moved(None, Some(10)), summary(RunStatus::Running, 1), 6),
        (Vec::new(), None, 1),
        (Vec::new(), None, 1),
        (moved(Some(10), Some(20)), None, 2),
        // This also deletes the hint that the step before made obsolete.
        (Vec::new(), None, 2),
        // Two of the lists are new.
        (moved(Some(20), None), summary(RunStatus::Completed, 1), 3),
        // A hint and two places in lists are obsolete.
        (Vec::new(), None, 4),
        (Vec::new(), None, 1),
    ];
    for (n, (agenda, summary, rows)) in steps.into_iter().enumerate() {
        let batch = Batch {
            agenda,
            summary,
            ..pen.batch("step", 3)
        };
        pen.advance(&batch);
        let (counts, answers) = cost(&wire, store.commit(vec![batch])).await;
        assert!(answers[0].is_ok());
        assert_eq!(counts, two_calls(rows), "step {n}");
    }
    // Hints of many batches share their call.
    let pens: Vec<Pen> = (0..20).map(|n| Pen::new(&format!("run-{n}"))).collect();
    let batches: Vec<Batch> = pens.iter().map(|pen| pen.batch("step", 1)).collect();
    let (counts, answers) = cost(&wire, store.commit(batches)).await;
    assert!(answers.iter().all(Result::is_ok));
    let expected = Counts {
        checks: 20,
        ..two_calls(20)
    };
    assert_eq!(counts, expected);
}

/// A server that has not seen a run first reads its end, with its state or alone.
#[tokio::test]
async fn the_first_step_on_a_run_reads_its_end_once() {
    let Some(table) = table().await else { return };
    let mut pen = Pen::new("a");
    pen.put(shared(&table).as_ref(), "first", 1).await;
    let (wire, store) = counted(&table);
    let (counts, answers) = cost(&wire, store.commit(vec![pen.batch("second", 1)])).await;
    assert!(answers[0].is_ok());
    assert_eq!((counts.reads, counts.rows_read, counts.checks), (1, 1, 1));
}

/// How many runs ended before the ones that are due.
fn finished() -> usize {
    let wanted = std::env::var("TAPE_BIGTABLE_FINISHED_RUNS").ok();
    wanted.map_or(10_500, |wanted| wanted.parse().expect("it is a number"))
}

/// Ended runs add no cost to a search for work or to a list of running runs, after the first search: also if the processes that ended them
/// died before they deleted their hints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn due_work_costs_what_is_due_whatever_has_ended() {
    let Some(table) = table().await else { return };
    let mut costs = Vec::new();
    for runs in [100, finished()] {
        end_runs(&table, costs.len(), runs).await;
        let pen = Pen::new(&format!("due-{}", costs.len()));
        let batch = Batch {
            agenda: moved(None, Some(1_000_000)),
            summary: summary(RunStatus::Running, 5),
            ..pen.batch("due", 1)
        };
        assert!(store(&table, NEVER).commit(vec![batch]).await[0].is_ok());
        let (first, second) = (look(&table).await, look(&table).await);
        let due = costs.len() + 1;
        assert_eq!((first.1, second.1), ((due, due), (due, due)));
        // Each run that ended left a hint of due work before those that are due, and a place before those in the list of what runs. The
        // first reader of one reads it and the stream's row, and deletes it.
        let runs = runs as u64;
        let (read, changed) = (first.0.rows_read - second.0.rows_read, first.0.rows_changed);
        assert_eq!((read, changed), (4 * runs, 2 * runs));
        costs.push((second.0.rows_read, second.0.rows_changed));
    }
    // Each due run costs a hint and a row in both searches; the second time there is one more of them.
    assert_eq!(costs, [(4, 0), (8, 0)], "among 100 finished runs and among many");
}

/// How many runs are due, and how many are listed that run.
async fn look(table: &Arc<dyn Table>) -> (Counts, (usize, usize)) {
    let (wire, reader) = counted(table);
    cost(&wire, async {
        let mut due = 0;
        for shard in (0..SHARDS).map(Shard) {
            let hints = reader.due(Queue::Recovery, shard, Timestamp::MAX, None, 10).await;
            due += hints.unwrap().len();
        }
        let running = RunFilter {
            statuses: BTreeSet::from([RunStatus::Running]),
            ..RunFilter::all(Tenant::new("t").unwrap())
        };
        let listed = reader.runs(&running, None, 10).await.unwrap().runs.len();
        (due, listed)
    })
    .await
}

/// Runs that were due before anything else, and ended. Each process dies before it deletes what became obsolete.
async fn end_runs(table: &Arc<dyn Table>, nth: usize, runs: usize) {
    for first in (0..runs).step_by(250) {
        let store = store(table, NEVER);
        let mut pens: Vec<Pen> = (first..runs.min(first + 250))
            .map(|n| Pen::new(&format!("ended-{nth}-{n}")))
            .collect();
        for (was, due, status) in [
            (None, Some(1), RunStatus::Running),
            (Some(1), None, RunStatus::Completed),
        ] {
            let batches: Vec<Batch> = pens
                .iter()
                .map(|pen| Batch {
                    agenda: moved(was, due),
                    summary: summary(status, 7),
                    ..pen.batch("x", 1)
                })
                .collect();
            let answers = store.commit(batches.clone()).await;
            assert!(answers.iter().all(Result::is_ok));
            pens.iter_mut()
                .zip(&batches)
                .for_each(|(pen, batch)| pen.advance(batch));
        }
    }
}

/// A run that grows by an entry a commit, whose row is emptied each time it has 256 entries: the commit that finds it full pays for that.
#[tokio::test]
async fn a_segment_is_four_changes_and_three_reads() {
    const ENTRIES: u64 = 600;
    let Some(table) = table().await else { return };
    let (wire, store) = counted(&table);
    let mut pen = Pen::new("a");
    let (counts, ()) = cost(&wire, async {
        for _ in 0..ENTRIES {
            pen.put(&store, "x", 1).await;
        }
    })
    .await;
    let segments = (ENTRIES - 1) / 256;
    let expected = Counts {
        reads: 3 * segments,
        rows_read: 3 * segments,
        mutates: ENTRIES,
        rows_changed: ENTRIES,
        checks: ENTRIES + 4 * segments,
    };
    assert_eq!(counts, expected);
}

/// Looking for pending streams where there is none is a scan of the log's end before and after a scan of the pending streams.
#[tokio::test]
async fn a_feed_without_news_is_three_reads_of_no_rows() {
    let Some(table) = table().await else { return };
    let (wire, store) = counted(&table);
    let mut pen = Pen::new("a");
    let shard = Shard::of(&pen.stream, SHARDS);
    pen.put(&store, "x", 3).await;
    let page = store.tail(shard, &Cursor::default(), 10).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    let (counts, page) = cost(&wire, store.tail(shard, &page.cursor, 10)).await;
    assert!(page.unwrap().entries.is_empty());
    let expected = Counts {
        reads: 3,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    // With pending streams: the log three times, the set, the stream's end and its entries; the row of the log, which is reserved and made,
    // and the hints that it makes obsolete.
    pen.put(&store, "x", 3).await;
    let cursor = store.tail_end(shard).await.unwrap();
    pen.put(&store, "x", 3).await;
    let (counts, page) = cost(&wire, store.tail(shard, &cursor, 10)).await;
    assert_eq!(page.unwrap().entries.len(), 3);
    assert_eq!((counts.reads, counts.mutates, counts.checks), (6, 2, 2));
}

/// Shortening the log reads a bounded number of rows and streams at a time, whatever its length, and continues where it was.
#[tokio::test]
async fn a_piece_of_shortening_the_log_is_bounded() {
    let Some(table) = table().await else { return };
    let (wire, store) = counted(&table);
    let (mut gone, mut kept) = (Pen::new("gone"), Pen::new("kept"));
    gone.put(&store, "x", 2).await;
    kept.put(&store, "x", 1).await;
    // Each row names the first entry of the one stream, and every tenth also that of the other.
    let row = |number: u64| {
        let pens = if number.is_multiple_of(10) {
            &[&gone, &kept][..]
        } else {
            &[&gone]
        };
        let part = |pen: &&Pen| Part {
            stream: pen.stream.clone(),
            from: Seq(1),
            to: Seq(1),
        };
        let parts: Vec<Part> = pens.iter().map(part).collect();
        Change {
            key: keys::log(Shard(0), number),
            mutations: vec![table::set(ABOUT, PARTS, serde_json::to_vec(&parts).unwrap())],
        }
    };
    let rows: Vec<Change> = (1..=601).map(row).collect();
    for outcome in table.mutate(rows).await {
        outcome.unwrap();
    }
    let log = async || {
        let rows = rows_of(table.as_ref(), b'l', table::any_of([table::family(ABOUT)])).await;
        rows.len()
    };
    let pieces = async || {
        let mut changed = Vec::new();
        loop {
            let (counts, more) = cost(&wire, store.reclaim()).await;
            assert!(counts.rows_read <= 256 + 2 && counts.checks == 0);
            changed.push(counts.rows_changed);
            if !more.unwrap() {
                return changed;
            }
        }
    };
    assert_eq!(pieces().await, [0, 0, 0]);
    let drops = [(gone.stream.clone(), Seq(2))];
    store.drop_before(&drops).await.unwrap();
    // A piece begins with the row that the one before ended with.
    assert_eq!(pieces().await, [230, 229, 81]);
    assert_eq!(log().await, 61);
    assert_eq!(pieces().await, [0]);
}
