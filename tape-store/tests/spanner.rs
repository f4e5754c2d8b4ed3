//! Tests for a store in Spanner: the requests of a step, lost answers, late commits, schemas, and servers that learn of each other's
//! commits.

#![cfg(feature = "spanner")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod spanner_emulator;
mod wire;

use pen::{Pen, all};
use spanner_emulator::Database;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Seq, Tenant, TimerName, ValueName};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_store::clock::SystemClock;
use tape_store::contract::{Batch, CommitOutcome, Committed, Cursor, JournalStore, Shard};
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::{CommitError, StoreError};
use tape_store::migrated::Migrated;
use tape_store::spanner::{SpannerStore, migrate};
use wire::{Fault, Wire, late};

async fn open(url: &str) -> Arc<SpannerStore> {
    Arc::new(SpannerStore::open(&url.parse().unwrap()).await.unwrap())
}

/// A store behind a wire, with the database.
async fn wired() -> Option<(Database, Wire, Arc<SpannerStore>)> {
    let database = Database::create()?;
    let wire = Wire::start(database.port()).await;
    let store = open(&database.url_at(wire.port())).await;
    wire.counts();
    Some((database, wire, store))
}

/// A number that a full-size run of the test increases.
fn scale(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[track_caller]
fn assert_costs(wire: &Wire, expected: &[(&str, usize)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(method, n)| ((*method).to_owned(), *n))
        .collect();
    assert_eq!(wire.counts(), expected);
}

/// The requests that each call of the store costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_commit_and_nothing_else() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    pen.put(store.as_ref(), "begun", 1).await;
    assert_costs(&wire, &[("Commit", 1)]);
    pen.put(store.as_ref(), "went on", 3).await;
    assert_costs(&wire, &[("Commit", 1)]);
    let group = vec![pen.batch("c", 1), other.batch("d", 2)];
    assert!(store.commit(group.clone()).await.iter().all(Result::is_ok));
    assert_costs(&wire, &[("Commit", 2)]);
    let refused = store.commit(group.clone()).await;
    assert!(
        refused
            .iter()
            .all(|answer| matches!(answer, Err(CommitError::Conflict { .. })))
    );
    assert_costs(&wire, &[("Commit", 2), ("StreamingRead", 2)]);
    pen.advance(&group[0]);
    other.advance(&group[1]);

    store.head(&pen.stream).await.unwrap();
    assert_costs(&wire, &[("StreamingRead", 2)]);
    store.read(&pen.stream, Seq(1), 100).await.unwrap();
    assert_costs(&wire, &[("StreamingRead", 1)]);
    store
        .due(Queue::Timers, Shard(0), Timestamp::MAX, None, 10)
        .await
        .unwrap();
    assert_costs(&wire, &[("StreamingRead", 1)]);
    let shard = Shard::of(&pen.stream, store.capabilities().shards);
    let page = store.tail(shard, &Cursor::default(), 10).await.unwrap();
    assert_costs(&wire, &[("StreamingRead", 3)]);
    let end = store.tail(shard, &page.cursor, 10).await.unwrap();
    assert_eq!(end.entries, []);
    assert_costs(&wire, &[("StreamingRead", 1)]);
    let fate = store.resolve(&group[0]).await.unwrap();
    assert!(matches!(fate, CommitOutcome::Committed(_)), "{fate:?}");
    assert_costs(&wire, &[("StreamingRead", 2)]);
    store.erase(&pen.stream, &[Seq(1)]).await.unwrap();
    assert_costs(&wire, &[("Commit", 1)]);
    store.probe().await.unwrap();
    assert_costs(&wire, &[("Commit", 1)]);
}

/// A step through all layers above the store: its state is cached, so it is one commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_one_commit() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let engine = Engine::new(store, Arc::new(SystemClock));
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("v").unwrap());
    for n in 0..10_u32 {
        let value = Payload::new("text/plain", n.to_string()).unwrap();
        let put = ValueCommand::Put {
            value,
            expected: None,
        };
        engine
            .value(&tenant, &name, Command::new(engine.request_id(), put))
            .await
            .unwrap();
        let loads = if n == 0 { 2 } else { 0 };
        let expected = [("Commit", 1), ("StreamingRead", loads)];
        assert_costs(&wire, &expected[..1 + usize::from(loads > 0)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let mut pen = Pen::new("a");
    for n in 0..3 {
        let batch = pen.batch("x", 1 + n);
        wire.plan(Fault::AnswerLost);
        let answer = store.commit(vec![batch.clone()]).await.remove(0);
        assert!(
            matches!(answer, Err(CommitError::OutcomeUnknown { batch: id, .. }) if id == batch.id),
            "{answer:?}"
        );
        let there = CommitOutcome::Committed(Committed { seq: batch.last() });
        assert_eq!(store.resolve(&batch).await.unwrap(), there);
        pen.advance(&batch);
    }
    assert_eq!(all(store.as_ref(), &pen.stream).await.len(), 6);
}

/// A commit that its sender has given up is still under way. A caller that resolves it is told that it was not made, and then it never is.
/// This holds whether the commit begins a stream or extends one, and whether the stream has moved on or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_looked_for_and_not_found_never_comes() {
    const ALREADY_EXISTS: &str = "6";
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let mut pen = Pen::new("a");
    for _ in 0..3 {
        let (fault, arrival) = late();
        wire.plan(Fault::Late(fault));
        let batch = pen.batch("late", 1);
        let answer = store.commit(vec![batch.clone()]).await.remove(0);
        assert!(
            matches!(answer, Err(CommitError::OutcomeUnknown { .. })),
            "{answer:?}"
        );
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        // Asking again changes nothing.
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        assert_eq!(arrival.status().await, ALREADY_EXISTS);
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        pen.put(store.as_ref(), "in time", 1).await;
    }
    let entries = all(store.as_ref(), &pen.stream).await;
    let text = |n: usize| entries[n].payload.clone().unwrap();
    assert!((0..entries.len()).all(|n| text(n) == "in time"));
    assert_eq!(entries.len(), 3);
}

/// Commits of sixteen writers on two servers, some of which are delayed while others pass. A reader that follows and is replaced
/// repeatedly, with only its cursors, sees every entry and each stream in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_skips_nothing_under_writers_that_are_held_up() {
    const WRITERS: usize = 16;
    let batches = scale("TAPE_SPANNER_BATCHES", 12);
    let Some(database) = Database::create() else {
        return;
    };
    let wire = Wire::start(database.port()).await;
    // Commits wait on the wire, not in the store.
    let url = format!("{}&commits_under_way=16", database.url_at(wire.port()));
    let servers = [open(&url).await, open(&url).await];
    wire.slow(7);
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let write = |n: usize| {
        let (store, writing) = (Arc::clone(&servers[n % 2]), Arc::clone(&writing));
        async move {
            let mut pen = Pen::new(&format!("run-{n}"));
            for round in 0..batches {
                pen.put(store.as_ref(), "x", 1 + round % 3).await;
            }
            writing.fetch_sub(1, Ordering::SeqCst);
            pen
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(n))).collect();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut cursors = vec![Cursor::default(); 3];
    loop {
        let over = writing.load(Ordering::SeqCst) == 0;
        let store = open(&url).await;
        let mut news = false;
        for (shard, cursor) in (0..).map(Shard).zip(&mut cursors) {
            let page = store.tail(shard, cursor, 5).await.unwrap();
            news |= !page.entries.is_empty();
            for fed in &page.entries {
                let last = seen.entry(fed.stream.to_string()).or_default();
                assert_eq!(fed.entry.seq.0, *last + 1, "{} in the feed", fed.stream);
                *last += 1;
            }
            *cursor = Cursor(page.cursor.0.to_vec().into());
        }
        if over && !news {
            break;
        }
    }
    for writer in writers {
        let pen = writer.await.unwrap();
        assert_eq!(seen.get(&pen.stream.to_string()), Some(&pen.seq.0));
    }
}

/// Where a stream ends is one row, however many ends it had before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_an_end_reads_one_row() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let (mut pen, mut other) = (Pen::new("a"), Pen::new("b"));
    let first = pen.batch("x", 1);
    for n in 0..5 {
        pen.put(store.as_ref(), "x", 1 + n).await;
        other.put(store.as_ref(), "x", 1).await;
    }
    wire.reads();
    let late = vec![Pen::new("a").batch("late", 1), Pen::new("b").batch("late", 1)];
    assert!(store.commit(late).await.iter().all(Result::is_err));
    assert_eq!(
        store.resolve(&first).await.unwrap(),
        CommitOutcome::Committed(Committed { seq: Seq(1) })
    );
    store.head(&pen.stream).await.unwrap().unwrap();
    let drops = [&pen, &other].map(|pen| (pen.stream.clone(), pen.seq));
    store.drop_before(&drops).await.unwrap();
    let mut reads = wire.reads();
    reads.retain(|read| read.table == "tape_end");
    // Two late reads, one for the batch, one for the head, two for dropped entries.
    assert_eq!(reads.len(), 6);
    assert!(
        reads.iter().all(|read| (read.limit, read.rows) == (1, 1)),
        "{reads:?}"
    );
}

/// Due work is found by one read of the rows that are due and of no others, whatever work before them is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn due_work_costs_one_read_whatever_ended_before() {
    const OVER: usize = 10_500;
    let ended = scale("TAPE_SPANNER_RUNS", 300);
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    end_runs(store.as_ref(), ended, OVER.div_ceil(ended)).await;
    let due = (0..5).map(|n| Batch {
        agenda: vec![moved(0, None, Some(10 + n))],
        ..Pen::new(&format!("due-{n}")).batch("x", 1)
    });
    assert!(store.commit(due.collect()).await.iter().all(Result::is_ok));
    wire.counts();
    wire.reads();
    let mut found = 0;
    for shard in (0..store.capabilities().shards).map(Shard) {
        let until = Timestamp::from_micros(20);
        let due = store.due(Queue::Timers, shard, until, None, 100).await.unwrap();
        assert_costs(&wire, &[("StreamingRead", 1)]);
        let rows: Vec<usize> = wire.reads().iter().map(|read| read.rows).collect();
        assert_eq!(rows, [due.len()]);
        found += due.len();
    }
    assert_eq!(found, 5);
}

fn moved(piece: usize, was: Option<i64>, due: Option<i64>) -> AgendaChange {
    AgendaChange {
        queue: Queue::Timers,
        item: Item::Timer(TimerName::new(format!("timer-{piece}")).unwrap()),
        was: was.map(Timestamp::from_micros),
        due: due.map(Timestamp::from_micros),
    }
}

/// Runs with `pieces` pieces of work each that were due before anything else, and are done.
async fn end_runs(store: &dyn JournalStore, runs: usize, pieces: usize) {
    for group in (0..runs).collect::<Vec<_>>().chunks(100) {
        let mut pens: Vec<Pen> = group.iter().map(|n| Pen::new(&format!("ended-{n}"))).collect();
        for (was, due) in [(None, Some(1)), (Some(1), None)] {
            let batch = |pen: &Pen| Batch {
                agenda: (0..pieces).map(|piece| moved(piece, was, due)).collect(),
                ..pen.batch("x", 1)
            };
            let batches: Vec<Batch> = pens.iter().map(batch).collect();
            assert!(store.commit(batches.clone()).await.iter().all(Result::is_ok));
            pens.iter_mut()
                .zip(&batches)
                .for_each(|(pen, batch)| pen.advance(batch));
        }
    }
}

/// A missing database does not count as one with nothing to erase.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_for_erased_where_the_database_is_gone() {
    let Some((database, _wire, store)) = wired().await else {
        return;
    };
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "secret", 1).await;
    // There is no such entry.
    store.erase(&pen.stream, &[Seq(2)]).await.unwrap();
    store.erase(&Pen::new("b").stream, &[Seq(1)]).await.unwrap();
    database.remove();
    let erased = store.erase(&pen.stream, &[Seq(1)]).await;
    assert!(
        matches!(erased, Err(StoreError::Unavailable { .. })),
        "{erased:?}"
    );
}

fn place(version: u64) -> Record {
    Record {
        version,
        bytes: "place".into(),
    }
}

fn replaced(expected: u64, next: u64) -> Swap {
    let next = place(next);
    Swap::Replace { expected, next }
}

/// A change of a record is one commit, and the record is read only where it may have another version. A list reads what it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_record_is_one_commit() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    let commit = [("Commit", 1)];
    let and_read = [("Commit", 1), ("StreamingRead", 1)];
    for (change, is_made, costs) in [
        (replaced(1, 2), false, &and_read[..]),
        (Swap::Make(place(1)), true, &commit),
        (Swap::Make(place(1)), false, &commit),
        (replaced(1, 2), true, &commit),
        (replaced(1, 3), false, &and_read),
        (Swap::Remove { expected: 1 }, false, &and_read),
        (Swap::Remove { expected: 2 }, true, &commit),
    ] {
        assert_eq!(store.swap_record("t/a/0", &change).await.unwrap(), is_made);
        assert_costs(&wire, costs);
    }
    for name in ["t/a/0", "t/a/1", "t/b/0"] {
        assert!(store.swap_record(name, &Swap::Make(place(1))).await.unwrap());
    }
    wire.reads();
    assert_eq!(store.records("t/a/", None, 1_000).await.unwrap().len(), 2);
    let rows: Vec<_> = wire
        .reads()
        .into_iter()
        .map(|read| (read.table, read.rows))
        .collect();
    assert_eq!(rows, [("tape_record".to_owned(), 2)]);
}

/// The change is made and its answer is lost: that is an error, and the change is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_record_whose_answer_is_lost_is_not_sent_again() {
    let Some((_database, wire, store)) = wired().await else {
        return;
    };
    for change in [Swap::Make(place(1)), replaced(1, 2), Swap::Remove { expected: 2 }] {
        wire.plan(Fault::AnswerLost);
        let answer = store.swap_record("t/a/0", &change).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable { .. })),
            "{answer:?}"
        );
        assert_costs(&wire, &[("Commit", 1)]);
        assert_eq!(store.record("t/a/0").await.unwrap().as_ref(), change.next());
        wire.counts();
    }
}

/// A missing database does not count as a record of another version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_of_a_record_is_refused_where_the_database_is_gone() {
    let Some((database, _wire, store)) = wired().await else {
        return;
    };
    assert!(store.swap_record("t/a/0", &Swap::Make(place(1))).await.unwrap());
    database.remove();
    for change in [replaced(1, 2), replaced(7, 8), Swap::Make(place(1))] {
        let answer = store.swap_record("t/a/0", &change).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable { .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_hear_of_each_others_commits() {
    let Some((database, wire, store)) = wired().await else {
        return;
    };
    let other = open(&database.url()).await;
    let mut pen = Pen::new("a");
    for _ in 0..3 {
        let changed = store.changed();
        pen.put(other.as_ref(), "x", 1).await;
        changed.await;
        assert_eq!(
            store
                .read(&pen.stream, Seq(pen.seq.0 - 1), 1)
                .await
                .unwrap()
                .len(),
            1
        );
    }
    let asked: usize = wire.counts().into_iter().map(|(_, n)| n).sum();
    assert!(asked > 3, "it looked for commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_migrate_at_once() {
    let Some(database) = Database::create() else {
        return;
    };
    let target = |parameters: &str| format!("{}{parameters}", database.url()).parse().unwrap();
    let refused = SpannerStore::open(&target("&migrate=never")).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    let planned = Migrated { from: 0, to: 4 };
    for _ in 0..2 {
        assert_eq!(migrate(&target(""), true).await.unwrap(), planned);
    }
    let servers = ["&shards=4", "&shards=5", "&shards=6"].map(target);
    let migrated = futures::future::join_all(servers.iter().map(|server| migrate(server, false))).await;
    assert!(migrated.iter().all(Result::is_ok), "{migrated:?}");
    assert_eq!(
        migrate(&target(""), false).await.unwrap(),
        Migrated { from: 4, to: 4 }
    );
    let mut shards = Vec::new();
    for server in &servers {
        shards.push(SpannerStore::open(server).await.unwrap().capabilities().shards);
    }
    assert!(
        (4..7).contains(&shards[0]) && shards.iter().all(|n| *n == shards[0]),
        "{shards:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_for_newer_builds_only_is_refused() {
    let Some(database) = Database::create() else {
        return;
    };
    let target = database.url().parse().unwrap();
    migrate(&target, false).await.unwrap();
    let version = |version: &str, from: &str| {
        format!(
            r#"{{"insert": {{"table": "tape_schema", "columns": ["version", "compatible_from"], "values": [["{version}", "{from}"]]}}}}"#
        )
    };
    database.commit(&version("5", "4"));
    SpannerStore::open(&target).await.unwrap();
    database.commit(&version("6", "5"));
    let refused = SpannerStore::open(&target).await;
    assert!(
        matches!(refused, Err(StoreError::NewerSchema { found: 6, known: 4 })),
        "{refused:?}"
    );
}

/// The ends in the tables of the first version are migrated once, by any number of processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_of_the_version_before_are_moved() {
    const HEADS: &str = "CREATE TABLE tape_head ( id BYTES(16) NOT NULL, seq INT64 NOT NULL, epoch INT64 NOT NULL, digest BYTES(32) NOT NULL \
         ) PRIMARY KEY (id, seq DESC, epoch), INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE";
    let Some(database) = Database::create() else {
        return;
    };
    let target = database.url().parse().unwrap();
    let store = open(&database.url()).await;
    let mut pens: Vec<Pen> = (0..3).map(|n| Pen::new(&format!("run-{n}"))).collect();
    for pen in &mut pens {
        pen.put(store.as_ref(), "x", 2).await;
    }
    drop(store);
    database.change_schema(HEADS);
    let head = |pen: &Pen| {
        let key = base64(&Digest::of(pen.stream.to_string().as_bytes()).0[..16]);
        format!(r#"["{key}", "{}", "0", "{}"]"#, pen.seq, base64(&pen.digest.0))
    };
    let heads = pens.iter().map(head).collect::<Vec<_>>().join(", ");
    database.commit(&format!(
        r#"{{"insert": {{"table": "tape_head", "columns": ["id", "seq", "epoch", "digest"], "values": [{heads}]}}}},
           {{"delete": {{"table": "tape_end", "keySet": {{"all": true}}}}}},
           {{"delete": {{"table": "tape_schema", "keySet": {{"keys": [["2"], ["3"], ["4"]]}}}}}}"#
    ));
    let migrated = futures::future::join_all((0..3).map(|_| migrate(&target, false))).await;
    assert!(migrated.iter().all(Result::is_ok), "{migrated:?}");
    let store = open(&database.url()).await;
    for pen in &mut pens {
        let head = store.head(&pen.stream).await.unwrap().unwrap();
        assert_eq!((head.seq, head.digest), (pen.seq, pen.digest));
        pen.put(store.as_ref(), "y", 1).await;
    }
}

/// Destroyed bytes are detected; erased bytes are marked in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_nobody_erased_is_missed() {
    let Some(database) = Database::create() else {
        return;
    };
    let store = open(&database.url()).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "kept", 2).await;
    store.erase(&pen.stream, &[Seq(1)]).await.unwrap();
    assert_eq!(all(store.as_ref(), &pen.stream).await[0].payload, None);
    let key = base64(&Digest::of(pen.stream.to_string().as_bytes()).0[..16]);
    database.commit(&format!(
        r#"{{"update": {{"table": "tape_entry", "columns": ["id", "seq", "payload"], "values": [["{key}", "2", null]]}}}}"#
    ));
    let shard = Shard::of(&pen.stream, store.capabilities().shards);
    let read = store.read(&pen.stream, Seq(0), 10).await;
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    let fed = store.tail(shard, &Cursor::default(), 10).await.unwrap();
    assert_eq!(fed.damaged[0].stream.as_ref(), Some(&pen.stream), "{fed:?}");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |n: usize| char::from(DIGITS[bits >> (18 - 6 * n) & 63]);
        text.extend((0..=three.len()).map(digit));
        text.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    text
}

/// A missing database: calls end with an error that says why, and a commit that may have arrived has an unknown outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_when_the_database_is_gone() {
    let Some(database) = Database::create() else {
        return;
    };
    let url = format!("{}&commit_timeout_ms=500&read_timeout_ms=500", database.url());
    let store = open(&url).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "x", 1).await;
    store.probe().await.unwrap();
    drop(database);
    let unavailable = |error: StoreError| matches!(error, StoreError::Unavailable { .. });
    assert!(unavailable(store.head(&pen.stream).await.unwrap_err()));
    assert!(unavailable(store.probe().await.unwrap_err()));
    let answer = store.commit(vec![pen.batch("y", 1)]).await.remove(0);
    let not_done = matches!(
        answer,
        Err(CommitError::OutcomeUnknown { .. } | CommitError::Store(StoreError::Unavailable { .. }))
    );
    assert!(not_done, "{answer:?}");
    assert!(SpannerStore::open(&url.parse().unwrap()).await.is_err());
}
