//! How soon a reactor of an idle system is called for what becomes due, and what idle reactors ask of the store meanwhile: over a SQLite
//! file, over PostgreSQL where it is installed, and through a server over a SQLite file.
//!
//! `cargo bench -p tape-reactors --bench wake --features postgres`

#![expect(clippy::unwrap_used, reason = "a bench stops where something fails")]
#![expect(clippy::print_stdout, reason = "its figures are for people")]

#[cfg(feature = "postgres")]
#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tape_core::agenda::Queue;
use tape_core::command::{
    AttemptOutcome, Begin, Command, Create, DriverCommand, RecordDecision, RunCommand, WorkerCommand,
};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{ConnectorName, EffectId, Epoch, Holder, Operation, RunId, Seq, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_engine::Engine;
use tape_environment::machine;
use tape_reactors::api::Journal;
use tape_reactors::api::due::DueWork;
use tape_reactors::{
    Compensation, Connectors, Outbox, Reaction, ReactionError, Reactor, Reconciler, Recovery, Registry,
    Runner, Task, Terms, Timers, Worker,
};
use tape_server::config::Config;
use tape_server::server::Server;
use tape_store::clock::SystemClock;
use tape_store::contract::JournalStore;
use tape_store::layer::MeteredStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 100;
/// Before each thing that is measured nothing happens for this long.
const QUIET: Duration = Duration::from_millis(120);
/// Idle reactors are watched for this long.
const IDLE: Duration = Duration::from_secs(12);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    let (engine, store) = open(&file("straight.db")).await;
    measure("SQLite", Arc::new(engine), &store).await;
    #[cfg(feature = "postgres")]
    if let Some(database) = postgres_server::Database::create() {
        let (engine, store) = open(&database.url()).await;
        measure("PostgreSQL", Arc::new(engine), &store).await;
    }
    let (engine, store) = open(&file("served.db")).await;
    let server = Server::over(Config::new("", "127.0.0.1:0".parse().unwrap()), engine).unwrap();
    let address = server.address().to_string();
    tokio::spawn(async move { server.run(std::future::pending()).await.unwrap() });
    let remote = tape_client::Remote::new(&address, Duration::from_secs(30), machine()).unwrap();
    measure("a server over SQLite", Arc::new(remote), &store).await;
}

async fn open(url: &str) -> (Engine, Arc<MeteredStore>) {
    let store = tape_store::open::open(url).await.unwrap();
    let store = Arc::new(MeteredStore::new(store));
    let metered: Arc<dyn JournalStore> = Arc::<MeteredStore>::clone(&store);
    (Engine::new(metered, Arc::new(SystemClock)), store)
}

async fn measure(place: &str, journal: Arc<dyn Journal>, store: &MeteredStore) {
    let (woken, mut wakes) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let probes = [Queue::Outbox, Queue::Recovery].map(|queue| {
        let probe = Probe {
            queue,
            woken: woken.clone(),
        };
        let runner = Runner::new(Arc::clone(&journal), Arc::new(probe), Default::default());
        tokio::spawn(runner.run(stop.clone()))
    });
    let (mut due, mut confirmed) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let run = Run::begin(&journal, n).await;
        tokio::time::sleep(QUIET).await;
        // From before the commit: what is shown has the commit in it.
        let asked = Instant::now();
        run.begin_effect().await;
        due.push(called(&mut wakes, Queue::Outbox, &run).await - asked);
        run.wait_for_effect().await;
        tokio::time::sleep(QUIET).await;
        let asked = Instant::now();
        run.confirm_effect().await;
        confirmed.push(called(&mut wakes, Queue::Recovery, &run).await - asked);
        run.end().await;
    }
    stop.cancel();
    futures::future::join_all(probes).await;
    show(place, "effect due -> react", due);
    show(place, "effect confirmed -> react for its run", confirmed);
    let asked = idle(&journal, store).await;
    println!("{place}: five idle reactors ask the store {asked:.2} times a second each");
}

/// How often each of five idle reactors asks the store, in a second.
async fn idle(journal: &Arc<dyn Journal>, store: &MeteredStore) -> f64 {
    let holder = Holder::new("idle").unwrap();
    let worker = Worker::new(
        journal.clone(),
        Connectors::new(),
        holder.clone(),
        Terms::default(),
    );
    let agents = Arc::new(Registry::new());
    let reactors: [Arc<dyn Reactor>; 5] = [
        Arc::new(Outbox::new(worker.clone())),
        Arc::new(Reconciler::new(worker.clone())),
        Arc::new(Compensation::new(worker)),
        Arc::new(Timers::new(journal.clone())),
        Arc::new(Recovery::new(
            journal.clone(),
            agents,
            holder,
            Duration::from_secs(30),
        )),
    ];
    let stop = CancellationToken::new();
    let drivers = reactors.map(|reactor| {
        let runner = Runner::new(journal.clone(), reactor, Default::default());
        tokio::spawn(runner.run(stop.clone()))
    });
    // Not what they begin with.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked =
        |counts: tape_store::layer::Counts| counts.dues + counts.reads + counts.heads + counts.commits;
    let before = asked(store.counts());
    tokio::time::sleep(IDLE).await;
    let asked = asked(store.counts()) - before;
    stop.cancel();
    futures::future::join_all(drivers).await;
    f64::from(u32::try_from(asked).unwrap()) / IDLE.as_secs_f64() / 5.0
}

/// Says when it is called, and for what.
struct Probe {
    queue: Queue,
    woken: mpsc::UnboundedSender<(Queue, StreamId, Instant)>,
}

#[async_trait]
impl Reactor for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn queue(&self) -> Queue {
        self.queue
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        let called = (self.queue, work.stream.clone(), Instant::now());
        let _ = self.woken.send(called);
        Ok(Task::now(std::future::ready(Ok(Reaction::Nothing))))
    }
}

/// When the reactor of a queue was called for a run.
async fn called(
    wakes: &mut mpsc::UnboundedReceiver<(Queue, StreamId, Instant)>,
    queue: Queue,
    run: &Run,
) -> Instant {
    loop {
        let (of, stream, at) = wakes.recv().await.unwrap();
        if of == queue && stream.as_run() == Some(&run.id) {
            return at;
        }
    }
}

/// A run with one effect for the outbox.
struct Run {
    journal: Arc<dyn Journal>,
    id: RunId,
    epoch: Epoch,
}

impl Run {
    async fn begin(journal: &Arc<dyn Journal>, n: usize) -> Self {
        let mut run = Self {
            journal: Arc::clone(journal),
            id: RunId::new("bench", "a", "u", "s", &format!("run-{n}")).unwrap(),
            epoch: Epoch::default(),
        };
        run.take().await;
        run.drive(DriverCommand::RecordDecision(RecordDecision {
            position: "#0".parse().unwrap(),
            fingerprint: Fingerprint::of_bytes(b"asked"),
            response: Payload::empty(),
            model: "m".to_owned(),
            usage: Usage::default(),
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        }))
        .await;
        run
    }

    async fn take(&mut self) {
        let create = Create {
            labels: BTreeMap::new(),
            input: Payload::empty(),
            forked_from: None,
        };
        let begin = RunCommand::Begin(Begin {
            run: self.id.clone(),
            create: Some(create),
            holder: Holder::new("bench").unwrap(),
            lease_ms: 60_000,
            adopt: None,
            recovery: false,
        });
        match self.ask(begin).await {
            ReplyResult::Leased { epoch, .. } => self.epoch = epoch,
            other => panic!("not leased: {other:?}"),
        }
    }

    async fn begin_effect(&self) {
        let spec = EffectSpec {
            connector: ConnectorName::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            semantics: Semantics::NonIdempotent,
            mode: Mode::Outbox,
            args: Payload::empty(),
            business_key: None,
            undo: None,
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        };
        let effect = effect();
        self.drive(DriverCommand::BeginEffect { effect, spec }).await;
    }

    /// A worker takes the effect, and the run waits for what comes of it.
    async fn wait_for_effect(&self) {
        let claim = WorkerCommand::ClaimEffect {
            effect: effect(),
            holder: Holder::new("worker").unwrap(),
            claim_ms: 60_000,
        };
        self.ask(RunCommand::Work(claim)).await;
        let (seen, resume) = (Seq(u64::MAX), None);
        self.drive(DriverCommand::Suspend { seen, resume }).await;
    }

    async fn confirm_effect(&self) {
        let ending = AttemptOutcome::Confirmed {
            result: Payload::empty(),
            undo: None,
            spent: None,
        };
        let finish = WorkerCommand::FinishClaimed {
            effect: effect(),
            holder: Holder::new("worker").unwrap(),
            attempt: 1,
            ending,
        };
        self.ask(RunCommand::Work(finish)).await;
    }

    async fn end(mut self) {
        self.take().await;
        let output = Payload::empty();
        self.drive(DriverCommand::Complete { output }).await;
    }

    async fn drive(&self, command: DriverCommand) {
        self.ask(RunCommand::Drive(self.epoch, command)).await;
    }

    async fn ask(&self, command: RunCommand) -> ReplyResult {
        let command = Command::new(self.journal.request_id(), command);
        self.journal.run(&self.id, command).await.unwrap().result
    }
}

fn effect() -> EffectId {
    "#0.0".parse().unwrap()
}

fn show(place: &str, what: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!(
        "{place}: {what}: p50 {:?}  p99 {:?}  max {:?}  ({ROUNDS} rounds, each after {QUIET:?} of quiet)",
        at(50),
        at(99),
        at(100)
    );
}
