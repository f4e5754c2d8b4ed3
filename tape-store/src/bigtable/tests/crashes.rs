//! A process dies after each single change of a row, and another continues: no work is lost, none is done twice, and nothing that stays
//! behind does harm.

use super::pen::{Pen, all};
use super::wire::{Order, Wire};
use super::{AT_ONCE, NEVER, SHARDS, rows_of, store, table};
use crate::bigtable::append::PAYLOADS;
use crate::bigtable::end::ABOUT;
use crate::bigtable::row_reservation::RESERVATIONS;
use crate::bigtable::table::{self, Rows, Table};
use crate::bigtable::tail::{self, PARTS};
use crate::bigtable::{BigtableStore, hint, keys, read};
use crate::contract::{Batch, CommitOutcome, Cursor, JournalStore, RunFilter, Shard, SnapshotChange};
use crate::error::{CommitError, StoreError};
use crate::memory::MemoryStore;
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{App, Key, Seq, StreamId, Tenant, TimerName};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// Plays that run at the same time.
const UNDER_WAY_MAX: usize = 6;

/// The process died.
struct Died;

/// The steps of a script.
#[derive(Clone)]
enum Step {
    /// One call with batches of different streams.
    Commit(Vec<Batch>),
    Erase(StreamId, Seq),
    Drop(Vec<(StreamId, Seq)>),
    /// Gives back all space that can be given back.
    Reclaim,
    /// Reads the new entries of the feed.
    Follow,
    /// Reads all due work and all lists.
    Look,
}

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn due(item: Item, was: Option<i64>, due: Option<i64>) -> AgendaChange {
    let queue = if item == Item::Run {
        Queue::Recovery
    } else {
        Queue::Timers
    };
    AgendaChange {
        queue,
        item,
        was: was.map(at),
        due: due.map(at),
    }
}

fn summary(status: RunStatus, begun_at: i64) -> Option<Summary> {
    Some(Summary {
        status,
        labels: BTreeMap::from([(Key::new("label").unwrap(), "value".to_owned())]),
        begun_at: at(begun_at),
        changed_at: at(9),
    })
}

/// Runs that begin, move, grow over a row, lose payloads, end and are dropped.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut pens: Vec<Pen> = (0..4).map(|n| Pen::new(&format!("run-{n}"))).collect();
    let mut put = |n: usize, text: &str, entries: usize, with: Batch| {
        let batch = Batch {
            agenda: with.agenda,
            summary: with.summary,
            snapshot: with.snapshot,
            ..pens[n].batch(text, entries)
        };
        pens[n].advance(&batch);
        batch
    };
    let blank = Pen::new("blank").batch("blank", 1);
    let timer = Item::Timer(TimerName::new("timer").unwrap());
    let begun = |n: i64| Batch {
        agenda: vec![due(Item::Run, None, Some(100 + n))],
        summary: summary(RunStatus::Running, n),
        ..blank.clone()
    };
    let stream = |n: usize| Pen::new(&format!("run-{n}")).stream;
    steps.push(Step::Commit(vec![put(0, "begun", 1, begun(0))]));
    steps.push(Step::Commit(vec![put(1, "begun", 2, begun(1))]));
    steps.push(Step::Follow);
    let moved = Batch {
        agenda: vec![
            due(Item::Run, Some(100), Some(200)),
            due(timer.clone(), None, Some(5)),
        ],
        snapshot: SnapshotChange::Replace(Bytes::from("state")),
        ..blank.clone()
    };
    steps.push(Step::Commit(vec![put(0, "moved", 1, moved)]));
    steps.push(Step::Follow);
    steps.push(Step::Commit(vec![put(0, "secret", 3, blank.clone())]));
    steps.push(Step::Follow);
    steps.push(Step::Commit(vec![put(0, "grows", 250, blank.clone())]));
    steps.push(Step::Erase(stream(0), Seq(3)));
    let both = vec![
        put(0, "grows", 20, blank.clone()),
        put(2, "begun", 1, begun(2)),
        put(3, "begun", 1, begun(3)),
    ];
    steps.push(Step::Commit(both));
    let timer_is_over = Batch {
        agenda: vec![due(timer, Some(5), None)],
        ..blank.clone()
    };
    steps.push(Step::Commit(vec![put(0, "secret", 2, timer_is_over)]));
    steps.push(Step::Erase(stream(0), Seq(4)));
    steps.push(Step::Erase(stream(0), Seq(5)));
    steps.push(Step::Erase(stream(0), Seq(276)));
    steps.push(Step::Erase(stream(0), Seq(277)));
    steps.push(Step::Follow);
    let ended = |was: i64, n: i64| Batch {
        agenda: vec![due(Item::Run, Some(was), None)],
        summary: summary(RunStatus::Completed, n),
        ..blank.clone()
    };
    steps.push(Step::Commit(vec![
        put(0, "ended", 1, ended(200, 0)),
        put(1, "ended", 1, ended(101, 1)),
    ]));
    steps.push(Step::Look);
    steps.push(Step::Follow);
    steps.push(Step::Drop(vec![
        (stream(0), Seq(270)),
        (stream(1), Seq(u64::MAX)),
    ]));
    steps.push(Step::Reclaim);
    steps.push(Step::Drop(vec![(stream(0), Seq(276))]));
    steps.push(Step::Commit(vec![put(2, "on", 1, blank)]));
    steps.push(Step::Reclaim);
    steps.push(Step::Follow);
    steps
}

/// A script and its progress, as known outside the process.
struct History {
    steps: Vec<Step>,
    next: usize,
    /// Whether a process died during the next step.
    in_doubt: bool,
    cursors: Vec<Cursor>,
    seen: HashMap<StreamId, Seq>,
}

impl History {
    fn new() -> Self {
        Self {
            steps: script(),
            next: 0,
            in_doubt: false,
            cursors: vec![Cursor::default(); SHARDS.into()],
            seen: HashMap::new(),
        }
    }

    /// Continues until the end, or until the process dies.
    async fn go_on(&mut self, store: &dyn JournalStore) -> Result<(), Died> {
        while let Some(step) = self.steps.get(self.next).cloned() {
            let done = match step {
                Step::Commit(batches) => commit(store, batches, self.in_doubt).await,
                Step::Erase(stream, seq) => alive(store.erase(&stream, &[seq]).await),
                Step::Drop(drops) => alive(store.drop_before(&drops).await),
                Step::Reclaim => reclaim(store).await,
                Step::Follow => self.follow(store).await,
                Step::Look => look(store).await,
            };
            self.in_doubt = done.is_err();
            done?;
            self.next += 1;
        }
        Ok(())
    }

    async fn follow(&mut self, store: &dyn JournalStore) -> Result<(), Died> {
        for shard in (0..SHARDS).map(Shard) {
            let cursor = &mut self.cursors[usize::from(shard.0)];
            loop {
                let page = alive(store.tail(shard, cursor, 7).await)?;
                *cursor = page.cursor;
                if page.entries.is_empty() {
                    break;
                }
                for fed in page.entries {
                    let last = self.seen.entry(fed.stream.clone()).or_default();
                    assert!(
                        fed.entry.seq <= last.next(),
                        "{} comes after {last} of {}",
                        fed.entry.seq,
                        fed.stream
                    );
                    *last = fed.entry.seq.max(*last);
                }
            }
        }
        Ok(())
    }
}

/// The result of a call to a process that may die.
fn alive<T>(outcome: Result<T, StoreError>) -> Result<T, Died> {
    match outcome {
        Ok(value) => Ok(value),
        Err(StoreError::Unavailable { .. }) => Err(Died),
        Err(other) => panic!("{other}: {:?}", std::error::Error::source(&other)),
    }
}

async fn reclaim(store: &dyn JournalStore) -> Result<(), Died> {
    while alive(store.reclaim().await)? {}
    Ok(())
}

/// Commits what is not committed yet.
async fn commit(store: &dyn JournalStore, batches: Vec<Batch>, in_doubt: bool) -> Result<(), Died> {
    let mut left = Vec::new();
    for batch in batches {
        let there = in_doubt && matches!(alive(store.resolve(&batch).await)?, CommitOutcome::Committed(_));
        left.extend((!there).then_some(batch));
    }
    for answer in store.commit(left).await {
        match answer {
            Ok(_) => {}
            Err(CommitError::OutcomeUnknown { .. } | CommitError::Store(StoreError::Unavailable { .. })) => {
                return Err(Died);
            }
            Err(other) => panic!("{other}"),
        }
    }
    Ok(())
}

fn filters() -> Vec<RunFilter> {
    let every = RunFilter::all(Tenant::new("t").unwrap());
    let app = Some(App::new("app").unwrap());
    let label = Some((Key::new("label").unwrap(), "value".to_owned()));
    let mut filters = vec![
        RunFilter {
            app: app.clone(),
            ..every.clone()
        },
        RunFilter {
            label,
            ..every.clone()
        },
    ];
    for status in [RunStatus::Running, RunStatus::Completed] {
        let by_status = RunFilter {
            statuses: BTreeSet::from([status]),
            ..every.clone()
        };
        filters.push(RunFilter {
            app: app.clone(),
            ..by_status.clone()
        });
        filters.push(by_status);
    }
    filters.push(every);
    filters
}

async fn look(store: &dyn JournalStore) -> Result<(), Died> {
    for shard in (0..SHARDS).map(Shard) {
        for queue in Queue::ALL {
            alive(store.due(queue, shard, Timestamp::MAX, None, 100).await)?;
        }
    }
    for filter in filters() {
        alive(store.runs(&filter, None, 100).await)?;
    }
    Ok(())
}

/// Due work as texts.
async fn work(store: &dyn JournalStore) -> BTreeSet<String> {
    let mut work = BTreeSet::new();
    for shard in (0..SHARDS).map(Shard) {
        for queue in Queue::ALL {
            for hint in store.due(queue, shard, Timestamp::MAX, None, 100).await.unwrap() {
                work.insert(format!("{hint:?}"));
            }
        }
    }
    work
}

/// The whole feed, by stream.
async fn feed(store: &dyn JournalStore) -> BTreeMap<StreamId, Vec<Seq>> {
    let mut fed: BTreeMap<StreamId, Vec<Seq>> = BTreeMap::new();
    for shard in (0..SHARDS).map(Shard) {
        let mut cursor = Cursor::default();
        loop {
            let page = store.tail(shard, &cursor, 100).await.unwrap();
            if page.entries.is_empty() {
                break;
            }
            for entry in page.entries {
                fed.entry(entry.stream).or_default().push(entry.entry.seq);
            }
            cursor = page.cursor;
        }
    }
    fed
}

/// The store has exactly what a store without failures would have, in every place where it can be found.
async fn compare(history: &History, table: &Arc<dyn Table>, at: &str) {
    let (model, store) = (MemoryStore::with_shards(SHARDS), store(table, AT_ONCE));
    assert!(reclaim(&store).await.is_ok(), "{at}");
    let mut streams = BTreeSet::new();
    for step in &history.steps {
        match step {
            Step::Commit(batches) => {
                streams.extend(batches.iter().map(|batch| batch.stream.clone()));
                assert!(model.commit(batches.clone()).await.iter().all(Result::is_ok));
            }
            Step::Erase(stream, seq) => model.erase(stream, &[*seq]).await.unwrap(),
            Step::Drop(drops) => model.drop_before(drops).await.unwrap(),
            Step::Reclaim | Step::Follow | Step::Look => {}
        }
    }
    for stream in &streams {
        assert_eq!(
            store.head(stream).await.unwrap(),
            model.head(stream).await.unwrap(),
            "{at}"
        );
        assert_eq!(all(&store, stream).await, all(&model, stream).await, "{at}");
    }
    assert_eq!(work(&store).await, work(&model).await, "{at}");
    for filter in filters() {
        let listed = store.runs(&filter, None, 100).await.unwrap().runs;
        assert_eq!(
            listed,
            model.runs(&filter, None, 100).await.unwrap().runs,
            "{at}: {filter:?}"
        );
    }
    assert_eq!(feed(&store).await, feed(&model).await, "{at}");
    for stream in &streams {
        let end = model.head(stream).await.unwrap().unwrap().seq;
        assert_eq!(
            history.seen.get(stream),
            Some(&end),
            "{at}: the reader of {stream}"
        );
    }
    check_leftovers(history, table.as_ref(), &work(&model).await, at).await;
    check_log(&store, table.as_ref(), at).await;
}

/// Every row of the log names a kept entry, except the last of each shard; and there is nothing but the log.
async fn check_log(store: &BigtableStore, table: &dyn Table, at: &str) {
    let cells = table::any_of([table::columns(ABOUT, PARTS, PARTS), table::family(RESERVATIONS)]);
    for shard in (0..SHARDS).map(Shard) {
        let (begin, end) = keys::log_from(shard, 0);
        let rows = Rows::Range(begin, end);
        let rows = table.read(rows, cells.clone(), usize::MAX).await.unwrap();
        for row in &rows[..rows.len().saturating_sub(1)] {
            let (number, parts) = tail::parse(shard, row).unwrap();
            let mut kept = false;
            for part in &parts {
                let end = store
                    .context
                    .read_ends("looks", std::slice::from_ref(&part.stream));
                kept |= end.await.unwrap()[0].open.dropped < part.to;
            }
            assert!(kept, "{at}: row {number} of shard {} has {parts:?}", shard.0);
        }
    }
}

/// Nothing remains of steps that did not happen, or of erased payloads.
async fn check_leftovers(history: &History, table: &dyn Table, work: &BTreeSet<String>, at: &str) {
    let hints = async |kind: u8| rows_of(table, kind, table::any_of([hint::cells()])).await.len();
    assert_eq!(hints(b'n').await, 0, "{at}: pending streams");
    assert_eq!(hints(b'a').await, work.len(), "{at}: hints of due work");
    // Two of the four runs were dropped; each of the others stands in five lists.
    assert_eq!(hints(b'r').await, 10, "{at}: places in lists");
    let secret = |value: &Bytes| value.windows(6).any(|text| text == b"secret");
    let payloads = rows_of(table, b's', table::any_of([table::family(PAYLOADS)])).await;
    let cells = payloads.iter().flat_map(|row| &row.cells);
    let left = cells.filter(|cell| secret(&cell.value)).count();
    let erased = history
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Erase(..)))
        .count();
    assert_eq!((left, erased), (0, 5), "{at}: erased payloads");
}

/// Checks what readers find after a process died, before another one repairs what it left: every stream can be read to its end, and a run
/// that is not dropped completely is still listed, so that it is found.
async fn check_amid(history: &History, table: &Arc<dyn Table>) {
    let (done, next) = history.steps.split_at(history.next);
    let store = store(table, NEVER);
    for step in &history.steps {
        let Step::Commit(batches) = step else { continue };
        for batch in batches {
            all(&store, &batch.stream).await;
        }
    }
    let Some(Step::Drop(drops)) = next.first() else {
        return;
    };
    let were_dropped = |stream: &StreamId| {
        let of =
            |step: &Step| matches!(step, Step::Drop(drops) if drops.iter().any(|(one, _)| one == stream));
        done.iter().any(of)
    };
    for (stream, first) in drops.iter().filter(|(stream, _)| !were_dropped(stream)) {
        let ends = store
            .context
            .read_ends("looks", std::slice::from_ref(stream))
            .await;
        let end = ends.unwrap().remove(0);
        let before = Seq(first.0.min(end.seq.0) - 1);
        let is_left = rows_of(
            table.as_ref(),
            b's',
            table::any_of(read::cells_of_entries(Seq::ZERO, before)),
        )
        .await
        .iter()
        .any(|row| row.key.starts_with(&keys::stream(stream)));
        assert!(
            end.listed.is_some() || !is_left,
            "{stream} is left, and no list has it"
        );
    }
}

/// Plays the script; the first process dies after `changes` changes of rows, the next does not.
async fn crash_after(changes: u64, order: Order) {
    let table = table().await.expect("there is an emulator");
    let mut history = History::new();
    let wire: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, changes, order));
    // Where only clean-up fails, which others can do as well, it lives to the end.
    let _ = history.go_on(&store(&wire, NEVER)).await;
    check_amid(&history, &table).await;
    assert!(
        history.go_on(&store(&table, NEVER)).await.is_ok(),
        "the next process carries on"
    );
    compare(
        &history,
        &table,
        &format!("death after {changes} changes, {order:?}"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_process_dies_the_next_carries_on() {
    let Some(whole) = table().await else { return };
    let mut history = History::new();
    let wire = Arc::new(Wire::new(&whole));
    let counted: Arc<dyn Table> = Arc::clone(&wire) as _;
    assert!(history.go_on(&store(&counted, NEVER)).await.is_ok());
    compare(&history, &whole, "nothing fails").await;
    let changes = wire.changes();
    assert!(changes > 60, "the script has many changes of rows");
    // Both orders differ only within a call.
    let reversed = (1..changes).step_by(3).map(|n| (n, Order::Reversed));
    let deaths = (1..changes).map(|n| (n, Order::Given)).chain(reversed);
    let played = deaths.map(|(n, order)| tokio::spawn(crash_after(n, order)));
    let mut played = futures::stream::iter(played).buffer_unordered(UNDER_WAY_MAX);
    while let Some(outcome) = played.next().await {
        outcome.unwrap();
    }
}

/// No process gets far: each dies after a few changes, also while it repairs what the one before left.
async fn short_lives(seed: u64) {
    let table = table().await.expect("there is an emulator");
    let (mut history, mut dice) = (History::new(), seed);
    for life in 0.. {
        assert!(life < 1_000, "it gets on");
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (order, changes) = match dice >> 62 {
            0 | 1 => (Order::Given, 1 + (dice >> 40) % 12),
            _ => (Order::Reversed, 1 + (dice >> 40) % 24),
        };
        let wire: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, changes, order));
        if history.go_on(&store(&wire, NEVER)).await.is_ok() {
            break;
        }
    }
    compare(&history, &table, &format!("seed {seed}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_die_again_and_again_get_on() {
    if table().await.is_none() {
        return;
    }
    let played = (0..24).map(|seed| tokio::spawn(short_lives(seed)));
    let mut played = futures::stream::iter(played).buffer_unordered(UNDER_WAY_MAX);
    while let Some(outcome) = played.next().await {
        outcome.unwrap();
    }
}
