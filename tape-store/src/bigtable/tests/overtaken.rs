//! Processes that are suspended before any call, while what they are about to write is written, dropped and deleted by others.

use super::pen::{Pen, all};
use super::wire::{Order, Wire};
use super::{NEVER, SHARDS, rows_of, shared, store, table};
use crate::bigtable::append::{ENTRIES, ERASED, PAYLOADS, qualifier};
use crate::bigtable::end::{ABOUT, End};
use crate::bigtable::error::Failure;
use crate::bigtable::row_reservation::{RESERVATIONS, RowReservation};
use crate::bigtable::table::{self, Cell, Change, Check, Row, RowFilter, Rows, Table};
use crate::bigtable::tail::PARTS;
use crate::bigtable::{BigtableStore, end, keys};
use crate::contract::{Cursor, JournalStore, Shard};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tape_core::id::{Seq, StreamId};
use tape_environment::{Environment as _, Machine};

/// More calls to the table than any call of a store takes.
const CALLS_MAX: u64 = 60;
const SHARD: Shard = Shard(0);

/// Pens of different streams of one shard.
fn pens<const N: usize>() -> [Pen; N] {
    let mut of_shard = (0..)
        .map(|n| Pen::new(&format!("run-{n}")))
        .filter(|pen| Shard::of(&pen.stream, SHARDS) == SHARD);
    std::array::from_fn(|_| of_shard.next().expect("there are as many as one likes"))
}

/// A reader and what it has seen.
#[derive(Default)]
struct FeedReader {
    cursor: Cursor,
    seen: HashMap<StreamId, Seq>,
}

impl FeedReader {
    /// Reads on to the end.
    async fn follow(&mut self, store: &dyn JournalStore) {
        loop {
            let page = store.tail(SHARD, &self.cursor, 2).await.unwrap();
            self.cursor = page.cursor;
            if page.entries.is_empty() {
                return;
            }
            for fed in page.entries {
                let last = self.seen.entry(fed.stream).or_default();
                *last = fed.entry.seq.max(*last);
            }
        }
    }
}

async fn reclaim_all(store: &dyn JournalStore) {
    while store.reclaim().await.unwrap() {}
}

async fn log(table: &dyn Table) -> Vec<Row> {
    let (begin, end) = keys::log_from(SHARD, 0);
    let cells = table::any_of([table::columns(ABOUT, PARTS, PARTS), table::family(RESERVATIONS)]);
    table
        .read(Rows::Range(begin, end), cells, usize::MAX)
        .await
        .unwrap()
}

/// What a process does with its store.
type Deed = fn(BigtableStore, Pen) -> BoxFuture<'static, ()>;

/// Suspends a process before one of its calls while something else happens. Returns whether it came to that call.
async fn suspend(
    table: &Arc<dyn Table>,
    calls: u64,
    (deed, pen): (Deed, Pen),
    meanwhile: impl Future<Output = ()>,
) -> bool {
    let wire = Arc::new(Wire::pausing_after(table, calls));
    let over: Arc<dyn Table> = Arc::clone(&wire) as _;
    let mut process = tokio::spawn(deed(store(&over, NEVER), pen));
    let paused = tokio::select! {
        () = wire.paused() => true,
        done = &mut process => {
            done.unwrap();
            false
        }
    };
    if paused {
        meanwhile.await;
        wire.resume();
        process.await.unwrap();
    }
    paused
}

fn follow(store: BigtableStore, _: Pen) -> BoxFuture<'static, ()> {
    Box::pin(async move { FeedReader::default().follow(&store).await })
}

fn reclaim(store: BigtableStore, _: Pen) -> BoxFuture<'static, ()> {
    Box::pin(async move { reclaim_all(&store).await })
}

/// A process reads the log or shortens it, and is suspended. Meanwhile the log grows and, where `shorter`, is shortened at the place where
/// the process was about to write.
async fn the_log_moves_on(deed: Deed, shorter: bool, calls: u64) -> bool {
    let table = table().await.expect("there is an emulator");
    let other = store(&table, NEVER);
    let [mut gone, mut kept] = pens();
    let mut ahead = FeedReader::default();
    gone.put(&other, "gone", 3).await;
    let named = gone.clone();
    let meanwhile = async {
        if !shorter {
            gone.put(&other, "more", 1).await;
            kept.put(&other, "kept", 2).await;
            return ahead.follow(&other).await;
        }
        ahead.follow(&other).await;
        gone.put(&other, "last", 1).await;
        ahead.follow(&other).await;
        let drops = [(gone.stream.clone(), gone.seq)];
        other.drop_before(&drops).await.unwrap();
        reclaim_all(&other).await;
        kept.put(&other, "kept", 2).await;
    };
    let paused = suspend(&table, calls, (deed, named), meanwhile).await;
    if !paused {
        return false;
    }
    ahead.follow(&other).await;
    let mut late = FeedReader::default();
    late.follow(&store(&table, NEVER)).await;
    for reader in [&ahead, &late] {
        for pen in [&gone, &kept] {
            let seen = reader.seen.get(&pen.stream);
            assert_eq!(seen, Some(&pen.seq), "suspended after {calls} calls");
        }
    }
    let log = log(table.as_ref()).await;
    let first = log.first().and_then(|row| keys::read_log(&row.key));
    assert!(
        !shorter || first > Some(1),
        "suspended after {calls} calls, it made the first row again"
    );
    assert!(
        log.iter().all(|row| row.cell(ABOUT, PARTS).is_some()),
        "a reservation is left"
    );
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_does_not_make_a_row_of_the_log_again() {
    if table().await.is_none() {
        return;
    }
    for (deed, shorter, at_least) in [(follow as Deed, true, 9), (follow, false, 9), (reclaim, true, 1)] {
        let mut calls = 0;
        while the_log_moves_on(deed, shorter, calls).await {
            calls += 1;
            assert!(calls < CALLS_MAX, "it comes to an end");
        }
        assert!(calls >= at_least, "it made {calls} calls");
    }
}

fn commit(store: BigtableStore, pen: Pen) -> BoxFuture<'static, ()> {
    // Whether it is overtaken or not.
    Box::pin(async move { drop(store.commit(vec![pen.batch("late", 1)]).await) })
}

fn erase(store: BigtableStore, pen: Pen) -> BoxFuture<'static, ()> {
    Box::pin(async move { store.erase(&pen.stream, &[Seq(7)]).await.unwrap() })
}

fn drop_all(store: BigtableStore, pen: Pen) -> BoxFuture<'static, ()> {
    Box::pin(async move { store.drop_before(&[(pen.stream, Seq(u64::MAX))]).await.unwrap() })
}

/// A process moves entries of a full row to a segment, erases one there, or drops them, and is suspended; meanwhile others drop all that
/// can be dropped. Before that, where `go_on`, they commit, which finishes the segment.
async fn the_stream_is_dropped(deed: Deed, is_sealed: bool, (first, go_on): (Seq, bool), calls: u64) -> bool {
    let table = table().await.expect("there is an emulator");
    let other = shared(&table);
    let [mut pen] = pens();
    pen.put(other.as_ref(), "secret", 200).await;
    pen.put(other.as_ref(), "secret", 100).await;
    if is_sealed {
        pen.put(other.as_ref(), "secret", 1).await;
    }
    let meanwhile = async {
        if go_on {
            drop(other.commit(vec![pen.batch("other", 1)]).await);
        }
        let drops = [(pen.stream.clone(), first)];
        other.drop_before(&drops).await.unwrap();
    };
    let paused = suspend(&table, calls, (deed, pen.clone()), meanwhile).await;
    let families = [ENTRIES, PAYLOADS, ERASED, RESERVATIONS].map(table::family);
    let cells = table::any_of(families.into_iter().chain([end::cells()]));
    let rows = rows_of(table.as_ref(), b's', cells).await;
    if paused {
        let at = format!("suspended after {calls} calls");
        let dropped = End::read(&pen.stream, &rows[0]).unwrap().open.dropped;
        // The last entry always stays.
        let last_to_go = if go_on { 300 } else { 299 };
        assert!(dropped >= Seq(last_to_go.min(first.0 - 1)), "{at}");
        let cells = rows.iter().flat_map(|row| &row.cells);
        let left = cells.filter(|cell| is_of_entry(cell) && cell.qualifier <= qualifier(dropped));
        assert_eq!(left.count(), 0, "{at}");
        assert!(
            dropped < Seq(300) || rows.len() == 1,
            "{at}: there are {} rows",
            rows.len()
        );
        assert_eq!(
            all(other.as_ref(), &pen.stream).await[0].seq,
            dropped.next(),
            "{at}"
        );
    }
    paused
}

fn is_of_entry(cell: &Cell) -> bool {
    [ENTRIES, PAYLOADS, ERASED].contains(&cell.family.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_brings_nothing_back_that_was_dropped() {
    if table().await.is_none() {
        return;
    }
    // All that can be dropped, or a part that ends within the segment.
    let (all, within) = (Seq(u64::MAX), Seq(100));
    for (deed, is_sealed, others, at_least) in [
        (commit as Deed, false, (all, true), 8),
        (commit, false, (all, false), 8),
        (commit, false, (within, true), 8),
        (commit, false, (within, false), 8),
        (erase, true, (all, true), 3),
        (erase, false, (all, true), 2),
        (drop_all, true, (all, true), 4),
    ] {
        let mut calls = 0;
        while the_stream_is_dropped(deed, is_sealed, others, calls).await {
            calls += 1;
            assert!(calls < CALLS_MAX, "it comes to an end");
        }
        assert!(calls >= at_least, "it made {calls} calls");
    }
}

/// A process died while it moved entries to a segment, and another is suspended at the same work. Meanwhile payloads are erased and, where
/// `go_on`, a third makes the segment.
async fn payloads_are_erased(died_after: u64, go_on: bool, calls: u64) -> bool {
    const GONE: [u64; 6] = [1, 7, 200, 256, 257, 300];
    let table = table().await.expect("there is an emulator");
    let other = shared(&table);
    let [mut pen] = pens();
    pen.put(other.as_ref(), "secret", 200).await;
    pen.put(other.as_ref(), "secret", 100).await;
    if died_after > 0 {
        let wire: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, died_after, Order::Given));
        commit(store(&wire, NEVER), pen.clone()).await;
    }
    let (stream, suspended) = (pen.stream.clone(), pen.clone());
    let meanwhile = async {
        for seq in GONE {
            other.erase(&stream, &[Seq(seq)]).await.unwrap();
        }
        if go_on {
            pen.put(other.as_ref(), "goes on", 1).await;
        }
    };
    let paused = suspend(&table, calls, (commit, suspended), meanwhile).await;
    if paused {
        let at =
            format!("died after {died_after} changes, suspended after {calls} calls, others go on: {go_on}");
        let entries = all(other.as_ref(), &stream).await;
        assert_eq!(entries.len(), 301, "{at}");
        for entry in entries {
            let is_erased = GONE.contains(&entry.seq.0);
            assert_eq!(entry.payload.is_none(), is_erased, "{at}: entry {}", entry.seq);
        }
        let rows = rows_of(table.as_ref(), b's', table::any_of([table::family(PAYLOADS)])).await;
        for seq in GONE.map(Seq).map(qualifier) {
            let secrets = rows.iter().filter(|row| row.cell(PAYLOADS, &seq).is_some());
            assert_eq!(secrets.count(), 0, "{at}");
        }
    }
    paused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_suspended_brings_no_erased_payload_back() {
    if table().await.is_none() {
        return;
    }
    let plays = (0..=4).flat_map(|died_after| [(died_after, true), (died_after, false)]);
    let plays = plays.map(|(died_after, go_on)| {
        tokio::spawn(async move {
            let mut calls = 0;
            while payloads_are_erased(died_after, go_on, calls).await {
                calls += 1;
                assert!(calls < CALLS_MAX, "it comes to an end");
            }
            calls
        })
    });
    for calls in futures::future::join_all(plays).await {
        assert!(calls.unwrap() >= 3);
    }
}

/// The end of a segment is fixed before it is written. Otherwise an erasure meanwhile would move the end, and the first segment would stay
/// with the erased bytes.
#[tokio::test]
async fn a_segment_ends_where_it_was_begun() {
    const SECRETS: u64 = 5;
    let Some(table) = table().await else { return };
    let other = shared(&table);
    for died_after in 1..=3 {
        let mut pen = Pen::new(&format!("run-{died_after}"));
        let text = "x".repeat(250_000);
        for _ in 0..3 {
            pen.put(other.as_ref(), &text, 6).await;
        }
        let wire: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, died_after, Order::Given));
        commit(store(&wire, NEVER), pen.clone()).await;
        for seq in 1..=SECRETS {
            other.erase(&pen.stream, &[Seq(seq)]).await.unwrap();
        }
        for _ in 0..3 {
            pen.put(other.as_ref(), &text, 6).await;
        }
        let entries = all(other.as_ref(), &pen.stream).await;
        assert_eq!(entries.len(), 36);
        for entry in entries {
            let is_erased = entry.seq.0 <= SECRETS;
            assert_eq!(entry.payload.is_none(), is_erased, "entry {}", entry.seq);
        }
    }
}

/// A table in which the first scan of the log stalls: it returns rows up to a key from before an event, and later rows from after it.
struct Stalling {
    inner: Arc<dyn Table>,
    reached: Bytes,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Stalling {
    fn at(inner: &Arc<dyn Table>, row: u64, meanwhile: BoxFuture<'static, ()>) -> Arc<dyn Table> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            reached: keys::log(SHARD, row),
            meanwhile: Mutex::new(Some(meanwhile)),
        })
    }

    fn stalls_in(&self, rows: &Rows) -> Option<BoxFuture<'static, ()>> {
        let Rows::Range(from, _) = rows else { return None };
        let is_it = from.starts_with(b"l") && *from <= self.reached;
        is_it.then(|| self.meanwhile.lock().unwrap().take()).flatten()
    }
}

#[async_trait]
impl Table for Stalling {
    async fn read(&self, rows: Rows, filter: RowFilter, limit: usize) -> Result<Vec<Row>, Failure> {
        let Some(meanwhile) = self.stalls_in(&rows) else {
            return self.inner.read(rows, filter, limit).await;
        };
        let mut read = self.inner.read(rows.clone(), filter.clone(), limit).await?;
        read.retain(|row| row.key <= self.reached);
        meanwhile.await;
        let rest = self.inner.read(rows, filter, limit).await?;
        read.extend(rest.into_iter().filter(|row| row.key > self.reached));
        Ok(read)
    }

    async fn mutate(&self, changes: Vec<Change>) -> Vec<Result<(), Failure>> {
        self.inner.mutate(changes).await
    }

    async fn check_and_mutate(&self, check: Check) -> Result<bool, Failure> {
        self.inner.check_and_mutate(check).await
    }
}

/// A run gets a few entries at a time, and each time a reader makes a row of the log for them.
fn log_grows(table: &Arc<dyn Table>, rows: u64) -> BoxFuture<'static, ()> {
    let other = store(table, NEVER);
    Box::pin(async move {
        let ([mut pen], mut ahead) = (pens(), FeedReader::default());
        for _ in 0..rows {
            pen.put(&other, "x", 2).await;
            ahead.follow(&other).await;
        }
    })
}

async fn seqs_in_the_feed(store: &dyn JournalStore) -> Vec<u64> {
    let page = store.tail(SHARD, &Cursor::default(), 100).await.unwrap();
    page.entries.iter().map(|fed| fed.entry.seq.0).collect()
}

/// A read of many rows is not atomic: a row that was made during the read is not taken for a deleted one.
#[tokio::test]
async fn a_row_that_is_made_while_the_log_is_read_is_not_passed_over() {
    let Some(table) = table().await else { return };
    let stalling = Stalling::at(&table, 1, log_grows(&table, 3));
    let reader = store(&stalling, NEVER);
    assert_eq!(seqs_in_the_feed(&reader).await, [1, 2, 3, 4, 5, 6]);
}

/// A process that shortens the log sees a row as only reserved, and later ones that were made after it. It deletes the reservations of that
/// row, and nothing else.
#[tokio::test]
async fn a_row_that_is_made_while_the_log_is_shortened_stays() {
    let Some(table) = table().await else { return };
    let reserved = keys::log(SHARD, 1);
    let made = table::columns(ABOUT, PARTS, PARTS);
    assert!(
        RowReservation::put(table.as_ref(), reserved, made, Machine.uuid())
            .await
            .unwrap()
            .is_some()
    );
    let stalling = Stalling::at(&table, 1, log_grows(&table, 2));
    reclaim_all(&store(&stalling, NEVER)).await;
    assert_eq!(seqs_in_the_feed(&store(&table, NEVER)).await, [1, 2, 3, 4]);
}

/// A reservation that arrives where a row was deleted is removed by the next pass.
#[tokio::test]
async fn a_claim_that_was_left_behind_goes() {
    let Some(table) = table().await else { return };
    log_grows(&table, 2).await;
    let late = table::set(RESERVATIONS, Bytes::from_static(b"late"), Bytes::new());
    let change = Change {
        key: keys::log(SHARD, 1),
        mutations: vec![table::unset_row(), late],
    };
    table.mutate(vec![change]).await.remove(0).unwrap();
    reclaim_all(&store(&table, NEVER)).await;
    assert_eq!(log(table.as_ref()).await.len(), 1);
}
