//! The indexes beside the entries: they can be compared with the streams and corrected, and data beside entries is not trusted where it
//! contradicts them.

use crate::EngineError;
use crate::{Engine, IndexFinding, IndexProblem};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tape_core::agenda::{self, AgendaChange, Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::command::{Begin, Command, Create, DriverCommand, RunCommand, ValueCommand};
use tape_core::decider::Decider as _;
use tape_core::id::{Epoch, Holder, Key, RunId, Seq, StreamId, Tenant, TimerName, ValueName};
use tape_core::payload::Payload;
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;
use tape_store::clock::SystemClock;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::run;
use tape_store::contract::{Head, Hint, JournalStore, PageToken, RunFilter, Shard, Snapshot};
use tape_store::error::StoreError;
use tape_store::layer::Layer;
use tape_store::upkeep::{Correction, End};

fn engine(store: Arc<dyn JournalStore>) -> Engine {
    Engine::new(store, Arc::new(SystemClock))
}

fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).expect("a test's payloads are small")
}

async fn begin(engine: &Engine, run: &RunId) {
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::from([(Key::new("topic").expect("a name"), "sweep".to_owned())]),
            input: text("go"),
            forked_from: None,
        }),
        holder: Holder::new("driver").expect("a name"),
        lease_ms: 60_000,
        adopt: None,
        recovery: false,
    };
    let begin = Command::new(engine.request_id(), RunCommand::Begin(begin));
    engine.run(run, begin).await.expect("it can be taken");
}

async fn checkpoint(engine: &Engine, run: &RunId) {
    let checkpoint = DriverCommand::Checkpoint {
        label: Key::new("k").expect("a name"),
        state: text("here"),
    };
    let drive = Command::new(engine.request_id(), RunCommand::Drive(Epoch(1), checkpoint));
    engine.run(run, drive).await.expect("it is driven");
}

async fn put(engine: &Engine, tenant: &Tenant, name: &ValueName, value: &str) {
    let put = ValueCommand::Put {
        value: text(value),
        expected: None,
    };
    let put = Command::new(engine.request_id(), put);
    engine.value(tenant, name, put).await.expect("it can be put");
}

/// All findings, in pages of two.
pub(super) async fn check(engine: &Engine, correct: bool) -> Vec<IndexFinding> {
    let (mut findings, mut from): (Vec<IndexFinding>, Option<PageToken>) = (Vec::new(), None);
    loop {
        let page = engine
            .check_index(from.as_ref(), 2, correct)
            .await
            .expect("it reads");
        findings.extend(page.findings);
        from = page.next;
        if from.is_none() {
            return findings;
        }
    }
}

/// Where a stream ends.
async fn end(store: &dyn JournalStore, stream: &StreamId) -> End {
    let head = store.head(stream).await.expect("it reads").expect("it is there");
    End {
        seq: head.seq,
        epoch: head.epoch,
        digest: head.digest,
    }
}

async fn due(store: &dyn JournalStore, queue: Queue) -> Vec<Hint> {
    let mut due = Vec::new();
    for shard in (0..store.capabilities().shards).map(Shard) {
        due.extend(
            store
                .due(queue, shard, Timestamp::MAX, None, 100)
                .await
                .expect("it reads"),
        );
    }
    due
}

async fn listed(store: &dyn JournalStore, status: RunStatus) -> usize {
    let filter = RunFilter {
        statuses: BTreeSet::from([status]),
        ..RunFilter::all(run("x").tenant)
    };
    store
        .runs(&filter, None, 100)
        .await
        .expect("they are listed")
        .runs
        .len()
}

/// Takes the due work of a run out of the index, puts other work in, and changes its row in the list.
async fn spoil(store: &dyn JournalStore, stream: &StreamId) -> Hint {
    let due = due(store, Queue::Recovery).await;
    let lost = due
        .into_iter()
        .find(|hint| hint.stream == *stream)
        .expect("the lease ends some day");
    let change = |queue, item, was, due| AgendaChange {
        queue,
        item,
        was,
        due,
    };
    let ghost = Item::Timer(TimerName::new("ghost").expect("a name"));
    let indexed = store.upkeep().indexed(stream, std::slice::from_ref(&lost)).await;
    let indexed = indexed.expect("it reads");
    assert_eq!(indexed.due, [true]);
    let wrong = Correction {
        agenda: vec![
            change(Queue::Recovery, lost.item.clone(), Some(lost.due), None),
            change(Queue::Timers, ghost, None, Some(Timestamp::from_micros(5))),
        ],
        summary: Some(Summary {
            status: RunStatus::Stuck,
            ..indexed.summary.expect("it is listed")
        }),
        named: false,
    };
    let end = end(store, stream).await;
    assert!(
        store
            .upkeep()
            .reindex(stream, end, &wrong)
            .await
            .expect("it is written")
    );
    lost
}

pub(super) async fn indexes_that_were_lost_are_put_right(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let engine = engine(Arc::clone(&fixture.store));
    let (whole, spoilt) = (run("whole"), run("spoilt"));
    for run in [&whole, &spoilt] {
        begin(&engine, run).await;
    }
    let (tenant, name) = (
        Tenant::new("t").expect("a name"),
        ValueName::new("v").expect("a name"),
    );
    put(&engine, &tenant, &name, "1").await;
    assert_eq!(check(&engine, false).await, Vec::new(), "nothing is wrong yet");
    let stream = StreamId::Run(spoilt);
    let lost = spoil(store, &stream).await;
    assert_eq!(
        (
            due(store, Queue::Recovery).await.len(),
            listed(store, RunStatus::Stuck).await
        ),
        (1, 1)
    );

    let expected = |corrected| {
        let finding = |problem| IndexFinding {
            stream: stream.to_string(),
            problem,
            corrected,
        };
        vec![
            finding(IndexProblem::Missing {
                queue: Queue::Recovery,
                item: lost.item.clone(),
                due: lost.due,
            }),
            finding(IndexProblem::Listed),
            finding(IndexProblem::Stale {
                queue: Queue::Timers,
                item: Item::Timer(TimerName::new("ghost").expect("a name")),
                due: Timestamp::from_micros(5),
            }),
        ]
    };
    assert_eq!(check(&engine, false).await, expected(false));
    assert_eq!(
        check(&engine, false).await,
        expected(false),
        "looking changes nothing"
    );
    assert_eq!(check(&engine, true).await, expected(true));
    assert_eq!(check(&engine, true).await, Vec::new());
    let mut found = due(store, Queue::Recovery).await;
    found.retain(|hint| hint.stream == stream);
    assert_eq!(found, [lost]);
    assert_eq!(due(store, Queue::Timers).await, Vec::new());
    assert_eq!(
        (
            listed(store, RunStatus::Stuck).await,
            listed(store, RunStatus::Running).await
        ),
        (0, 2)
    );
    // The stream goes on as ever.
    let StreamId::Run(spoilt) = stream else {
        unreachable!("it is a run")
    };
    checkpoint(&engine, &spoilt).await;
    assert_eq!(check(&engine, false).await, Vec::new());
}

pub(super) async fn a_correction_of_an_old_end_is_refused(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let engine = engine(Arc::clone(&fixture.store));
    let run = run("run");
    begin(&engine, &run).await;
    let stream = StreamId::Run(run.clone());
    let old = end(store, &stream).await;
    checkpoint(&engine, &run).await;
    let ghost = Correction {
        agenda: vec![AgendaChange {
            queue: Queue::Timers,
            item: Item::Merge,
            was: None,
            due: Some(Timestamp::from_micros(5)),
        }],
        ..Correction::default()
    };
    let never = End {
        epoch: Epoch(9),
        ..end(store, &stream).await
    };
    for end in [old, never] {
        let made = store.upkeep().reindex(&stream, end, &ghost).await;
        assert!(!made.expect("it is told"));
    }
    assert_eq!(due(store, Queue::Timers).await, Vec::new());
    let nowhere = StreamId::Run(tape_store::conformance::pen::run("nowhere"));
    assert!(
        !store
            .upkeep()
            .reindex(&nowhere, old, &ghost)
            .await
            .expect("it is told")
    );
}

/// Commits continue while the indexes are checked and corrected: every finding is real.
pub(super) async fn nothing_is_found_while_others_write(fixture: Fixture) {
    let runs: Vec<RunId> = (0..4).map(|n| run(&format!("r{n}"))).collect();
    let writing: Vec<_> = runs
        .iter()
        .map(|run| {
            let (engine, run) = (engine(Arc::clone(&fixture.store)), run.clone());
            tokio::spawn(async move {
                begin(&engine, &run).await;
                for _ in 0..20 {
                    checkpoint(&engine, &run).await;
                }
            })
        })
        .collect();
    let engine = engine(Arc::clone(&fixture.store));
    let mut looks = 0;
    while looks < 3 || writing.iter().any(|writer| !writer.is_finished()) {
        looks += 1;
        for finding in check(&engine, true).await {
            assert_eq!(finding.problem, IndexProblem::Busy, "{finding:?}");
        }
    }
    for writer in writing {
        writer.await.expect("no writer fails");
    }
    assert_eq!(check(&engine, false).await, Vec::new());
    for run in &runs {
        assert_eq!(
            engine
                .run_state(run)
                .await
                .expect("it reads")
                .expect("it is there")
                .seq(),
            Seq(22)
        );
    }
}

pub(super) async fn indexes_of_an_earlier_computation_are_made_current(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let engine = engine(Arc::clone(&fixture.store));
    assert_eq!(
        store.upkeep().index_version().await.expect("it reads"),
        0,
        "none was ever said"
    );
    let run = run("run");
    begin(&engine, &run).await;
    assert!(!engine.is_index_current().await.expect("it reads"));
    engine.keep_index_current().await;
    assert!(engine.is_index_current().await.expect("it reads"));
    assert_eq!(
        store.upkeep().index_version().await.expect("it reads"),
        agenda::VERSION
    );
    let later = agenda::VERSION + 3;
    for version in [later, agenda::VERSION, 0] {
        store
            .upkeep()
            .set_index_version(version)
            .await
            .expect("it is written");
        assert_eq!(store.upkeep().index_version().await.expect("it reads"), later);
    }
    assert_eq!(
        check(&engine, false).await,
        Vec::new(),
        "the version is no due work"
    );
}

/// Returns streams other than they are.
struct Shown {
    inner: Arc<dyn JournalStore>,
    /// A stream that is returned in place of another.
    instead: Option<(StreamId, StreamId)>,
    /// Whether one digit of each snapshot is changed.
    spoils_snapshots: bool,
}

impl Shown {
    fn stream<'s>(&'s self, stream: &'s StreamId) -> &'s StreamId {
        match &self.instead {
            Some((of, other)) if of == stream => other,
            _ => stream,
        }
    }
}

#[async_trait]
impl Layer for Shown {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        let mut head = self.inner.head(self.stream(stream)).await?;
        if let Some(snapshot) = head.as_mut().and_then(|head| head.snapshot.as_mut())
            && self.spoils_snapshots
        {
            *snapshot = spoilt(snapshot);
        }
        Ok(head)
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.read(self.stream(stream), after, limit).await
    }
}

/// A snapshot that can still be read, with another value in it.
fn spoilt(snapshot: &Snapshot) -> Snapshot {
    let text = String::from_utf8(snapshot.bytes.to_vec()).expect("it is JSON");
    let wrong = text.replacen("\"version\":", "\"version\":1", 1);
    assert_ne!(text, wrong, "it has a version");
    Snapshot {
        bytes: Bytes::from(wrong),
        ..snapshot.clone()
    }
}

pub(super) async fn a_snapshot_that_was_changed_is_not_believed(fixture: Fixture) {
    let first = engine(Arc::clone(&fixture.store));
    let (tenant, name) = (
        Tenant::new("t").expect("a name"),
        ValueName::new("v").expect("a name"),
    );
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    for extra in 0..2 {
        let ahead = if extra == 0 { 300 } else { 3 };
        for n in 0..ahead {
            put(&first, &tenant, &name, &n.to_string()).await;
        }
        let expected = first.value_state(&tenant, &name).await.expect("it reads");
        let head = fixture
            .store
            .head(&stream)
            .await
            .expect("it reads")
            .expect("it is there");
        assert!(head.snapshot.is_some(), "the engine has put a snapshot");
        for spoils_snapshots in [false, true] {
            let shown = Shown {
                inner: Arc::clone(&fixture.store),
                instead: None,
                spoils_snapshots,
            };
            let state = engine(Arc::new(shown)).value_state(&tenant, &name).await;
            assert_eq!(state.expect("the entries are there"), expected);
        }
    }
}

pub(super) async fn a_stream_in_the_place_of_another_is_found(fixture: Fixture) {
    let first = engine(Arc::clone(&fixture.store));
    let name = ValueName::new("v").expect("a name");
    let tenants = ["t", "u"].map(|tenant| Tenant::new(tenant).expect("a name"));
    // With a snapshot and without.
    for (tenant, puts) in tenants.iter().zip([300, 3]) {
        for n in 0..puts {
            put(&first, tenant, &name, &n.to_string()).await;
        }
    }
    let stream = |tenant: &Tenant| StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let [t, u] = &tenants;
    for (of, other) in [(t, u), (u, t)] {
        let shown = Shown {
            inner: Arc::clone(&fixture.store),
            instead: Some((stream(of), stream(other))),
            spoils_snapshots: false,
        };
        let found = engine(Arc::new(shown)).value_state(of, &name).await;
        assert!(matches!(found, Err(EngineError::Damaged { .. })), "{found:?}");
    }
}
