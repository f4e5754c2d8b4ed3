//! The parts of the system, all in one environment.

use crate::agents::{self, AGENTS, APP};
use crate::store::Unreliable;
use crate::upstream::Bank;
use std::sync::Arc;
use std::time::Duration;
use tape_client::Tape;
use tape_core::id::{App, ConnectorName, Holder};
use tape_engine::Engine;
use tape_environment::{Environment, Seeded};
use tape_reactors::api::Journal;
use tape_reactors::{
    Compensation, Connectors, Options, Outbox, Reactor, Reconciler, Recovery, Redriver, Registry, Runner,
    Terms, Timers, Watched, Worker,
};
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the system works, by its own clock.
const TIME: Duration = Duration::from_secs(3_600);
/// How many processes there are: each with reactors of its own, and an engine.
const PROCESSES: usize = 2;
/// The store has so many shards.
pub(crate) const SHARDS: u16 = 3;
/// Leases and claims last this long.
const LEASE: Duration = Duration::from_secs(10);

pub(crate) struct System {
    store: Arc<dyn JournalStore>,
    stop: CancellationToken,
    reactors: JoinSet<()>,
    others: JoinSet<()>,
}

impl System {
    pub(crate) async fn start(seed: u64) -> Self {
        let environment: Arc<dyn Environment> = Arc::new(Seeded::new(seed));
        let memory = MemoryStore::with_shards(SHARDS).environment(Arc::clone(&environment));
        let store: Arc<dyn JournalStore> = Arc::new(memory);
        let bank = Bank::new(Arc::clone(&environment));
        let stop = CancellationToken::new();
        let (mut reactors, mut others) = (JoinSet::new(), JoinSet::new());
        for process in 0..PROCESSES {
            let engine = engine(&store, &environment);
            let tape = tape(engine.clone()).await;
            for n in (0..AGENTS).filter(|n| n % PROCESSES == process) {
                let tape = tape.clone();
                others.spawn(async move { agents::drive(&tape, agents::run_id(n), None).await });
            }
            others.spawn(agents::contend(tape.clone()));
            if process == 0 {
                others.spawn(agents::approve(tape.clone()));
            }
            let journal: Arc<dyn Journal> = Arc::new(engine);
            let holder = Holder::new(format!("worker-{process}")).unwrap();
            for reactor in all(&journal.into(), &tape, &bank, &holder) {
                reactors.spawn(reactor.run(stop.clone()));
            }
        }
        Self {
            store,
            stop,
            reactors,
            others,
        }
    }

    /// Works until the time is over.
    pub(crate) async fn work(mut self) -> Arc<dyn JournalStore> {
        tokio::time::sleep(TIME).await;
        self.stop.cancel();
        while let Some(ended) = self.reactors.join_next().await {
            ended.unwrap();
        }
        while let Some(ended) = self.others.join_next().await {
            ended.unwrap();
        }
        self.store
    }
}

/// An engine of a process of its own.
fn engine(store: &Arc<dyn JournalStore>, environment: &Arc<dyn Environment>) -> Engine {
    let unreliable = Unreliable {
        inner: Arc::clone(store),
        environment: Arc::clone(environment),
    };
    Engine::start_in(Arc::new(unreliable), Arc::clone(environment))
}

async fn tape(engine: Engine) -> Tape {
    let tape = Tape::over(engine)
        .lease(LEASE)
        .suspend_after(Duration::from_secs(5));
    tape.connect().await.unwrap()
}

/// Runners of all five reactors.
fn all(journal: &Watched, tape: &Tape, bank: &Bank, holder: &Holder) -> [Runner; 5] {
    let connectors = Connectors::new().with(ConnectorName::new("bank").unwrap(), bank.clone(), 3);
    let terms = Terms {
        claim: LEASE,
        timeout: Duration::from_secs(20),
    };
    let worker = Worker::new(journal.clone(), connectors, holder.clone(), terms);
    let journals = || Arc::new(journal.clone());
    let recovery = Recovery::new(journals(), redriver(tape), holder.clone(), LEASE);
    let reactors: [Arc<dyn Reactor>; 5] = [
        Arc::new(recovery),
        Arc::new(Outbox::new(worker.clone())),
        Arc::new(Reconciler::new(worker.clone())),
        Arc::new(Timers::new(journals())),
        Arc::new(Compensation::new(worker)),
    ];
    reactors.map(|reactor| Runner::new(journal.clone(), reactor, Options::default()))
}

/// Has runs driven again by the agents, four at a time.
fn redriver(tape: &Tape) -> Arc<dyn Redriver> {
    let tape = tape.clone();
    let agents = Registry::new().agent(App::new(APP).unwrap(), 4, move |redrive| {
        let tape = tape.clone();
        async move {
            agents::drive(&tape, redrive.run, Some(redrive.epoch)).await;
            Ok(())
        }
    });
    Arc::new(agents)
}
