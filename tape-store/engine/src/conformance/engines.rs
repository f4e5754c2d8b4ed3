//! The stream service and the engine over the store: their guarantees hold only if the store keeps its contract.

use crate::Engine;
use crate::EngineError;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tape_core::budget::{Currency, Spend};
use tape_core::chain::Verifier;
use tape_core::codec::StoredEntry;
use tape_core::command::{Begin, Command, Create, DriverCommand, RecordDecision, RunCommand, ValueCommand};
use tape_core::effect::{EffectSpec, Mode, Semantics};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{
    BudgetName, BusinessKey, ConnectorName, EffectId, Epoch, Holder, Key, Operation, Position, RequestId,
    RunId, Scope, Seq, StreamId, Tenant, ValueName,
};
use tape_core::limits::REMEMBERED_REPLIES_MAX;
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;
use tape_store::clock::{ManualClock, SystemClock};
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{all, run};
use tape_store::contract::{Batch, Committed, Cursor, JournalStore, Shard};
use tape_store::error::CommitError;
use tape_store::layer::{Fault, FaultyStore, Layer, MeteredStore, Point};

pub(super) fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).expect("a test's payloads are small")
}

/// Begins or adopts a run with a lease of one second. Returns the epoch.
pub(super) async fn begin(engine: &Engine, run: &RunId, holder: &str) -> Epoch {
    let create = Create {
        labels: BTreeMap::new(),
        input: text("go"),
        forked_from: None,
    };
    let holder = Holder::new(holder).expect("it is a name");
    let begin = Begin {
        run: run.clone(),
        create: Some(create),
        holder,
        lease_ms: 1_000,
        adopt: None,
        recovery: false,
    };
    let reply = engine
        .run(run, Command::new(engine.request_id(), RunCommand::Begin(begin)))
        .await
        .expect("it can be taken");
    match reply.result {
        ReplyResult::Leased { epoch, .. } => epoch,
        other => panic!("{run:?} was not leased: {other:?}"),
    }
}

pub(super) async fn drive(
    engine: &Engine,
    run: &RunId,
    epoch: Epoch,
    command: DriverCommand,
) -> Result<Reply, EngineError> {
    engine
        .run(
            run,
            Command::new(engine.request_id(), RunCommand::Drive(epoch, command)),
        )
        .await
}

pub(super) fn decision(k: u32) -> DriverCommand {
    DriverCommand::RecordDecision(RecordDecision {
        position: Position {
            scope: Scope::root(),
            k,
        },
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: text("answered"),
        model: "m".to_owned(),
        usage: Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    })
}

fn checkpoint(n: usize) -> DriverCommand {
    DriverCommand::Checkpoint {
        label: Key::new("n").expect("it is a name"),
        state: text(&n.to_string()),
    }
}

pub(super) fn effect(call: u16) -> EffectId {
    EffectId {
        position: Position {
            scope: Scope::root(),
            k: 0,
        },
        call,
    }
}

pub(super) fn spec(business_key: Option<&str>, reserve: Vec<Spend>) -> EffectSpec {
    EffectSpec {
        connector: ConnectorName::new("bank").expect("it is a name"),
        operation: Operation::new("pay").expect("it is a name"),
        semantics: Semantics::Idempotent,
        mode: Mode::Outbox,
        args: text("args"),
        business_key: business_key.map(|key| BusinessKey::new(key).expect("it is a name")),
        undo: None,
        reserve,
        policy: tape_core::effect::EffectPolicy::default(),
    }
}

/// The first driver pauses past its lease with the state in its cache, and the second adopts the run; then the first continues to write.
/// The store's commit refuses it.
pub(super) async fn a_fenced_driver_with_an_old_state_cannot_write(fixture: Fixture) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
    let metered = Arc::new(MeteredStore::new(Arc::clone(&fixture.store)));
    let first = Engine::new(
        Arc::clone(&metered) as Arc<dyn JournalStore>,
        Arc::clone(&clock) as _,
    );
    let second = Engine::new(Arc::clone(&fixture.store), Arc::clone(&clock) as _);
    for n in 0..5 {
        let run = run(&format!("run-{n}"));
        let old = begin(&first, &run, "first").await;
        drive(&first, &run, old, decision(0)).await.unwrap();
        clock.advance_ms(2_000);
        let new = begin(&second, &run, "second").await;
        assert!(new > old);
        let written = all(fixture.store.as_ref(), &StreamId::Run(run.clone())).await;
        for _ in 0..3 {
            let late = drive(&first, &run, old, decision(1)).await;
            let fenced =
                matches!(&late, Err(EngineError::Rejected(Rejection::Fenced { given, .. })) if *given == old);
            assert!(fenced, "the late write: {late:?}");
        }
        assert_eq!(
            all(fixture.store.as_ref(), &StreamId::Run(run.clone())).await,
            written
        );
        drive(&second, &run, new, decision(1)).await.unwrap();
    }
    assert_eq!(
        metered.counts().fenced,
        5,
        "each time it is the store's commit that refuses the first late write"
    );
}

/// Answers get lost before and after commits: no command is lost, and none is executed twice.
pub(super) async fn lost_answers_do_not_repeat_commands(fixture: Fixture) {
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&fixture.store)));
    let engine = Engine::new(
        Arc::clone(&faulty) as Arc<dyn JournalStore>,
        Arc::new(SystemClock),
    );
    let run = run("run");
    let epoch = begin(&engine, &run, "driver").await;
    for n in 0..60 {
        match n % 6 {
            0 => faulty.plan(Point::BeforeCommit, Fault::Lost),
            1 => faulty.plan(Point::AfterCommit, Fault::Lost),
            2 => {
                faulty.plan(Point::AfterCommit, Fault::Lost);
                faulty.plan(Point::Resolve, Fault::Unavailable);
            }
            _ => {}
        }
        drive(&engine, &run, epoch, checkpoint(n)).await.unwrap();
    }
    assert_eq!(faulty.left(), 0);
    let entries = all(fixture.store.as_ref(), &StreamId::Run(run)).await;
    let decoded = entries
        .iter()
        .map(|entry| tape_core::codec::decode(entry).unwrap().body);
    let checkpoints: Vec<_> = decoded
        .filter(|body| matches!(body, EntryBody::RunCheckpoint(_)))
        .collect();
    let numbers = checkpoints
        .iter()
        .map(|body| body.payloads()[0].bytes().unwrap().clone());
    let expected = (0..60).map(|n: usize| n.to_string());
    assert_eq!(numbers.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Commands of another server at a time.
const OTHERS: usize = 512;

/// A store that loses the answer of one commit while another server continues to write to the stream.
struct Overtaken {
    inner: Arc<dyn JournalStore>,
    value: (Tenant, ValueName),
    is_armed: AtomicBool,
}

#[async_trait]
impl Layer for Overtaken {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let ids: Vec<_> = batches.iter().map(|batch| batch.id).collect();
        let answers = self.inner.commit(batches).await;
        if !self.is_armed.swap(false, Ordering::SeqCst) {
            return answers;
        }
        let other = Engine::new(Arc::clone(&self.inner), Arc::new(SystemClock));
        // More commands than the requests that a stream remembers, so its memory of requests cannot answer.
        for _ in 0..=REMEMBERED_REPLIES_MAX / OTHERS {
            let puts =
                (0..OTHERS).map(|n| put(&other, &self.value, other.request_id(), format!("newer {n}")));
            let put = futures::future::join_all(puts).await;
            assert!(put.iter().all(Result::is_ok));
        }
        let lost = |id| Err(CommitError::outcome_unknown(id, "a fault on purpose"));
        ids.into_iter().map(lost).collect()
    }
}

async fn put(
    engine: &Engine,
    (tenant, name): &(Tenant, ValueName),
    request: RequestId,
    value: String,
) -> Result<Reply, EngineError> {
    let put = ValueCommand::Put {
        value: text(&value),
        expected: None,
    };
    engine.value(tenant, name, Command::new(request, put)).await
}

fn rate() -> ((Tenant, ValueName), StreamId) {
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("rate").unwrap());
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    ((tenant, name), stream)
}

/// How many entries of a stream have a text as their payload.
async fn entries_with(store: &dyn JournalStore, stream: &StreamId, text: &str) -> usize {
    let entries = all(store, stream).await.into_iter();
    let has = |entry: &StoredEntry| {
        entry
            .payload
            .as_ref()
            .is_some_and(|payload| payload.starts_with(text.as_bytes()))
    };
    entries.filter(has).count()
}

/// More entries of others than any store remembers come between a commit and its resolution.
pub(super) async fn a_lost_answer_is_found_behind_much_of_others(fixture: Fixture) {
    let (value, stream) = rate();
    let overtaken = Arc::new(Overtaken {
        inner: Arc::clone(&fixture.store),
        value: value.clone(),
        is_armed: AtomicBool::new(true),
    });
    let engine = Engine::new(overtaken, Arc::new(SystemClock));
    let told = put(&engine, &value, engine.request_id(), "old".to_owned()).await;
    assert_eq!(told.unwrap().seq, Seq(1));
    assert_eq!(entries_with(fixture.store.as_ref(), &stream, "old").await, 1);
}

/// The answer is lost, and the store cannot say what became of the batch. When it is repeated later, the command is executed once, whether
/// it had been committed or not, and nothing is acknowledged that is not durable.
pub(super) async fn a_command_whose_outcome_is_unknown_is_taken_once(fixture: Fixture) {
    const LOOKS: usize = 6;
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&fixture.store)));
    let engine = Engine::new(
        Arc::clone(&faulty) as Arc<dyn JournalStore>,
        Arc::new(SystemClock),
    );
    let (value, stream) = rate();
    for (n, lost) in [Point::BeforeCommit, Point::AfterCommit].into_iter().enumerate() {
        let (request, text) = (engine.request_id(), format!("text {n}"));
        faulty.plan(lost, Fault::Lost);
        (0..LOOKS).for_each(|_| faulty.plan(Point::Resolve, Fault::Unavailable));
        let told = put(&engine, &value, request, text.clone()).await;
        assert!(
            matches!(told, Err(EngineError::OutcomeUnknown { .. })),
            "{told:?}"
        );
        if lost == Point::AfterCommit {
            faulty.plan(Point::Barrier, Fault::Unavailable);
            let told = put(&engine, &value, request, text.clone()).await;
            assert!(
                matches!(told, Err(EngineError::OutcomeUnknown { .. })),
                "what was only read may go yet: {told:?}"
            );
        }
        for _ in 0..2 {
            let told = put(&engine, &value, request, text.clone()).await;
            assert_eq!(told.unwrap().seq, Seq(n as u64 + 1));
        }
        assert_eq!(entries_with(fixture.store.as_ref(), &stream, &text).await, 1);
    }
    assert_eq!(faulty.left(), 0);
}

/// A request is executed once, however much was written before its repetition, on every server.
pub(super) async fn a_repeated_request_is_never_executed_again(fixture: Fixture) {
    let engine = Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("v").unwrap());
    let put = |request, value: &str| {
        let value = text(value);
        Command::new(
            request,
            ValueCommand::Put {
                value,
                expected: None,
            },
        )
    };
    let request = engine.request_id();
    let first = engine.value(&tenant, &name, put(request, "first")).await.unwrap();
    let fresh = || Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    for engine in [&engine, &fresh()] {
        let again = engine.value(&tenant, &name, put(request, "first")).await.unwrap();
        assert_eq!(again, first);
        let other = engine
            .value(&tenant, &name, put(request, "other"))
            .await
            .unwrap_err();
        let reused = matches!(other, EngineError::Rejected(Rejection::RequestReused { .. }));
        assert!(reused, "{other:?}");
    }
    // The ids of one millisecond have no order among each other.
    while engine.request_id().made_at() == request.made_at() {
        tokio::task::yield_now().await;
    }
    let others = (0..REMEMBERED_REPLIES_MAX).map(|n| {
        let (engine, tenant, name) = (engine.clone(), tenant.clone(), name.clone());
        let put = put(engine.request_id(), &n.to_string());
        tokio::spawn(async move { engine.value(&tenant, &name, put).await })
    });
    for other in futures::future::join_all(others.collect::<Vec<_>>()).await {
        other.unwrap().unwrap();
    }
    for engine in [&engine, &fresh()] {
        let again = engine
            .value(&tenant, &name, put(request, "first"))
            .await
            .unwrap_err();
        let too_old = matches!(again, EngineError::Rejected(Rejection::RequestTooOld { .. }));
        assert!(too_old, "{again:?}");
    }
    let value = engine.value_state(&tenant, &name).await.unwrap().unwrap();
    assert_eq!(value.version(), REMEMBERED_REPLIES_MAX as u64 + 1);
}

/// Sixty-four reservations against a cap that has room for ten of them.
pub(super) async fn reservations_never_overspend(fixture: Fixture) {
    const CAP: u64 = 107;
    const EACH: u64 = 10;
    let engines: Vec<_> = (0..2)
        .map(|_| Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)))
        .collect();
    let run = run("run");
    let epoch = begin(&engines[0], &run, "driver").await;
    let budget = BudgetName::new("money").unwrap();
    let open = DriverCommand::OpenBudget {
        budget: budget.clone(),
        parent: None,
        currency: Currency::MicroUsd,
        limit: CAP,
    };
    drive(&engines[0], &run, epoch, open).await.unwrap();
    drive(&engines[0], &run, epoch, decision(0)).await.unwrap();
    // Both cache the run as it is now, so that both decide on the same state.
    engines[1].run_state(&run).await.unwrap();
    let reserve = |call: u16| {
        let (engine, run) = (engines[usize::from(call) % 2].clone(), run.clone());
        let reserve = vec![Spend {
            budget: budget.clone(),
            amount: EACH,
        }];
        let begin = DriverCommand::BeginEffect {
            effect: effect(call),
            spec: spec(None, reserve),
        };
        tokio::spawn(async move { drive(&engine, &run, epoch, begin).await })
    };
    let answers = futures::future::join_all((0..64).map(reserve).collect::<Vec<_>>()).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count() as u64,
        CAP / EACH
    );
    for answer in answers.iter().filter(|answer| answer.is_err()) {
        let exhausted = matches!(
            answer,
            Err(EngineError::Rejected(Rejection::BudgetExhausted {
                left: 7,
                asked: EACH,
                ..
            }))
        );
        assert!(exhausted, "{answer:?}");
    }
    let entries = all(fixture.store.as_ref(), &StreamId::Run(run.clone())).await;
    let intents = entries
        .iter()
        .map(|entry| tape_core::codec::decode(entry).unwrap().body);
    assert_eq!(
        intents
            .filter(|body| matches!(body, EntryBody::EffectBegun(_)))
            .count() as u64,
        CAP / EACH
    );
    let state = engines[1].run_state(&run).await.unwrap().unwrap();
    assert_eq!(state.budgets()[&budget].left(), CAP % EACH);
}

/// Sixty-four compare-and-sets on one version, five times over; a watcher sees each transition once, in order.
pub(super) async fn compare_and_sets_have_one_winner_a_version(fixture: Fixture) {
    let engines: Vec<_> = (0..2)
        .map(|_| Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)))
        .collect();
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("v").unwrap());
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let watcher = tokio::spawn(watch(Arc::clone(&fixture.store), stream.clone(), 5));
    for version in 0..5 {
        let set = |n: usize| {
            let (engine, tenant, name) = (engines[n % 2].clone(), tenant.clone(), name.clone());
            let put = ValueCommand::Put {
                value: text(&format!("{version}-{n}")),
                expected: Some(version),
            };
            tokio::spawn(async move {
                let put = Command::new(engine.request_id(), put);
                engine.value(&tenant, &name, put).await
            })
        };
        let answers = futures::future::join_all((0..64).map(set).collect::<Vec<_>>()).await;
        let won: Vec<_> = answers
            .into_iter()
            .filter_map(|answer| answer.unwrap().ok())
            .collect();
        assert_eq!(won.len(), 1, "version {version}");
        assert_eq!(won[0].result, ReplyResult::Version { version: version + 1 });
    }
    assert_eq!(watcher.await.unwrap(), [1, 2, 3, 4, 5]);
}

/// Follows a value as a watcher does: remembers the last entry it has seen.
async fn watch(store: Arc<dyn JournalStore>, stream: StreamId, until: u64) -> Vec<u64> {
    let shard = Shard::of(&stream, store.capabilities().shards);
    let (mut cursor, mut last, mut versions) = (Cursor::default(), Seq::ZERO, Vec::new());
    while versions.last() != Some(&until) {
        let changed = store.changed();
        let page = store.tail(shard, &cursor, 10).await.unwrap();
        if page.entries.is_empty() {
            changed.await;
        }
        for fed in page.entries.into_iter().filter(|fed| fed.stream == stream) {
            if fed.entry.seq <= last {
                continue;
            }
            last = fed.entry.seq;
            let EntryBody::ValuePut(put) = tape_core::codec::decode(&fed.entry).unwrap().body else {
                panic!("nothing but puts was asked for")
            };
            versions.push(put.version);
        }
        cursor = page.cursor;
    }
    versions
}

/// A long run: the state from its snapshot equals the state folded from all entries.
pub(super) async fn a_state_from_a_snapshot_is_the_one_replayed(fixture: Fixture) {
    let run = run("run");
    let engine = Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    let epoch = begin(&engine, &run, "driver").await;
    for k in 0..700_u32 {
        drive(&engine, &run, epoch, decision(k)).await.unwrap();
    }
    let stream = StreamId::Run(run.clone());
    let head = fixture.store.head(&stream).await.unwrap().unwrap();
    let snapshot = head.snapshot.expect("a long run has a snapshot");
    assert!(snapshot.seq > Seq::ZERO && snapshot.seq <= head.seq);
    let again = Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    let opened = again.run_state(&run).await.unwrap().unwrap();
    let entries = all(fixture.store.as_ref(), &stream).await;
    let (mut replayed, mut verifier) = (tape_core::run::Run::default(), Verifier::new(&stream, None));
    for stored in &entries {
        verifier.check(stored).unwrap();
        let entry = tape_core::codec::decode(stored).unwrap();
        tape_core::decider::Decider::apply(&mut replayed, &entry).unwrap();
    }
    assert_eq!(*opened, replayed);
    assert_eq!(*engine.run_state(&run).await.unwrap().unwrap(), replayed);
}
