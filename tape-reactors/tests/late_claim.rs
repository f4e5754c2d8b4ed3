//! Claims that lapse unnoticed, because their answer comes late or their journal is unreachable: over a memory store, in virtual time,
//! which is also the journal's time.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod logged;

use async_trait::async_trait;
use logged::Log;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::command::{
    AttemptOutcome, Begin, Command, Create, DriverCommand, RecordDecision, RunCommand, WorkerCommand,
};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics, Status};
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{BusinessKey, ConnectorName as Name, EffectId, Epoch, Holder, Operation, RunId, Seq};
use tape_core::payload::Payload;
use tape_core::reply::Reply;
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_reactors::api::due::{DueEffect, DuePage};
use tape_reactors::api::{Journal, JournalError, Layer};
use tape_reactors::{
    Call, Connector, Connectors, NotUndone, Observation, Options, Outbox, Reconciler, Runner, Terms, Worker,
};
use tape_store::clock::Clock;
use tape_store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

const CLAIM: Duration = Duration::from_secs(1);
/// The delay of a late answer to a claim.
const LATE: Duration = Duration::from_millis(990);
/// The time that a request takes to reach the upstream.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let micros = self.0.elapsed().as_micros();
        Timestamp::from_micros(1_000_000 + i64::try_from(micros).unwrap())
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

/// A fault of the connection to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Answers to claims come late.
    LateClaims,
    /// After a claim, no message passes any more.
    CutOff,
}

/// A journal behind a faulty connection.
#[derive(Debug)]
struct Beyond {
    engine: Engine,
    trouble: Trouble,
    claimed: AtomicBool,
}

impl Beyond {
    fn check(&self) -> Result<&Engine, JournalError> {
        if self.trouble == Trouble::CutOff && self.claimed.load(Ordering::SeqCst) {
            return Err(JournalError::unavailable("cut off"));
        }
        Ok(&self.engine)
    }
}

fn beyond(engine: &Engine, trouble: Trouble) -> Arc<dyn Journal> {
    Arc::new(Beyond {
        engine: engine.clone(),
        trouble,
        claimed: AtomicBool::new(false),
    })
}

#[async_trait]
impl Layer for Beyond {
    fn inner(&self) -> &dyn Journal {
        &self.engine
    }

    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        self.check()?.due(queue, within, from, limit).await
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        let claims = matches!(command.body, RunCommand::Work(WorkerCommand::ClaimEffect { .. }));
        let reply = Journal::run(self.check()?, run, command).await;
        if claims {
            self.claimed.store(true, Ordering::SeqCst);
            if self.trouble == Trouble::LateClaims {
                tokio::time::sleep(LATE).await;
            }
        }
        reply
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        Journal::read(self.check()?, run, after, limit).await
    }

    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        self.check()?.due_effect(run, effect).await
    }
}

/// An upstream that acts whenever a request arrives, and reports what it did so far.
#[derive(Clone)]
struct Upstream {
    acts: Arc<AtomicUsize>,
    /// How long the first connection to it takes. A caller that does not wait sends nothing.
    connecting: Duration,
    connected: Arc<AtomicBool>,
}

impl Upstream {
    fn new(connecting: Duration) -> Self {
        Self {
            acts: Arc::default(),
            connecting,
            connected: Arc::default(),
        }
    }
}

#[async_trait]
impl Connector for Upstream {
    async fn dispatch(&self, _call: &Call) -> AttemptOutcome {
        if !self.connected.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(self.connecting).await;
        }
        let acts = Arc::clone(&self.acts);
        // A sent request arrives, also where the caller no longer waits for the answer.
        let arrives = tokio::spawn(async move {
            tokio::time::sleep(ON_ITS_WAY).await;
            acts.fetch_add(1, Ordering::SeqCst);
        });
        arrives.await.unwrap();
        AttemptOutcome::Confirmed {
            result: Payload::empty(),
            undo: None,
            spent: None,
        }
    }

    async fn observe(&self, _call: &Call) -> Observation {
        match self.acts.load(Ordering::SeqCst) {
            0 => Observation::Absent,
            _ => Observation::found(Payload::empty()),
        }
    }

    async fn compensate(&self, _call: &Call) -> Result<Payload, NotUndone> {
        Ok(Payload::empty())
    }
}

async fn ask(engine: &Engine, run: &RunId, command: RunCommand) -> Reply {
    let request = engine.request_id();
    engine.run(run, Command::new(request, command)).await.unwrap()
}

/// A run with one effect in the outbox, which may be sent again once it is known to be absent.
async fn dispatched(engine: &Engine, run: &RunId, effect: &EffectId) {
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::new(),
            input: Payload::empty(),
            forked_from: None,
        }),
        holder: Holder::new("agent").unwrap(),
        lease_ms: 3_600_000,
        adopt: None,
        recovery: false,
    };
    ask(engine, run, RunCommand::Begin(begin)).await;
    let decision = DriverCommand::RecordDecision(RecordDecision {
        position: effect.position.clone(),
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: Payload::empty(),
        model: "m".to_owned(),
        usage: Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    });
    ask(engine, run, RunCommand::Drive(Epoch(1), decision)).await;
    let spec = EffectSpec {
        connector: Name::new("bank").unwrap(),
        operation: Operation::new("pay").unwrap(),
        semantics: Semantics::NonIdempotent,
        mode: Mode::Outbox,
        args: Payload::empty(),
        business_key: Some(BusinessKey::new("invoice-7").unwrap()),
        undo: None,
        reserve: Vec::new(),
        policy: EffectPolicy {
            resend_absent: true,
            ..EffectPolicy::default()
        },
    };
    let begin = DriverCommand::BeginEffect {
        effect: effect.clone(),
        spec,
    };
    ask(engine, run, RunCommand::Drive(Epoch(1), begin)).await;
}

async fn until(engine: &Engine, run: &RunId, effect: &EffectId, status: Status) {
    loop {
        // This is requested before the read, so that an entry written in between is not missed.
        let changed = engine.store().changed();
        let state = engine.run_state(run).await.unwrap().unwrap();
        if state.effects().get(effect).map(|effect| effect.status) == Some(status) {
            return;
        }
        changed.await;
    }
}

fn worker(journal: Arc<dyn Journal>, name: &str, upstream: &Upstream) -> Worker {
    let connectors = Connectors::new().with(Name::new("bank").unwrap(), upstream.clone(), 4);
    let terms = Terms {
        claim: CLAIM,
        ..Terms::default()
    };
    Worker::new(journal, connectors, Holder::new(name).unwrap(), terms)
}

fn start(journal: Arc<dyn Journal>, reactor: Arc<dyn tape_reactors::Reactor>, stop: &CancellationToken) {
    let runner = Runner::new(journal, reactor, Options::default());
    tokio::spawn(runner.run(stop.clone()));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_came_late_is_renewed_before_the_upstream_is_called() {
    acts_once(Trouble::LateClaims, &Upstream::new(Duration::ZERO)).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_outlive_a_claim_that_cannot_be_renewed() {
    acts_once(Trouble::CutOff, &Upstream::new(CLAIM * 2)).await;
}

/// A worker with a fault claims an effect; another takes it up once the claim lapses.
async fn acts_once(trouble: Trouble, upstream: &Upstream) {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let clock = Arc::new(VirtualClock(tokio::time::Instant::now()));
    let engine = Engine::new(Arc::new(MemoryStore::new()), clock);
    let (run, effect) = (
        RunId::new("acme", "app", "ann", "s", "i").unwrap(),
        "#0.0".parse::<EffectId>().unwrap(),
    );
    let stop = CancellationToken::new();
    let beyond = beyond(&engine, trouble);
    let outbox = Outbox::new(worker(Arc::clone(&beyond), "troubled", upstream));
    start(beyond, Arc::new(outbox), &stop);
    dispatched(&engine, &run, &effect).await;
    until(&engine, &run, &effect, Status::Started).await;
    let quick: Arc<dyn Journal> = Arc::new(engine.clone());
    let other = worker(Arc::clone(&quick), "other", upstream);
    start(Arc::clone(&quick), Arc::new(Outbox::new(other.clone())), &stop);
    start(quick, Arc::new(Reconciler::new(other)), &stop);
    until(&engine, &run, &effect, Status::Confirmed).await;
    tokio::time::sleep(CLAIM * 10).await;
    assert_eq!(upstream.acts.load(Ordering::SeqCst), 1, "it acted once");
    // A log line about a payment says whose payment it is.
    let told = log.take();
    let mut of_calls = told
        .iter()
        .filter(|line| !line.contains("the journal"))
        .peekable();
    assert!(of_calls.peek().is_some(), "{told:?}");
    for line in of_calls {
        let about = "run=acme/run/app/ann/s/i effect=#0.0 connector=bank business_key=invoice-7";
        assert!(line.contains(about), "{line}");
    }
    stop.cancel();
}
