//! Leases over connections that break: a driver that renews in time keeps its runs, whatever happens to its connections and servers.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod astray;
mod imposter;
mod proxy;

use futures::StreamExt as _;
use imposter::Imposter;
use proxy::Proxy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::agenda::Queue;
use tape_client::core::command::{Begin, Command, RunCommand};
use tape_client::core::id::{Epoch, Holder, Key, Seq, StreamId};
use tape_client::core::run::Lease;
use tape_client::core::state::Delta;
use tape_client::core::time::Timestamp;
use tape_client::{Error, Run, RunId, Tape};
use tape_engine::Engine;
use tape_server::config::Config;
use tape_server::server::Server as Served;
use tape_store::clock::{Clock as _, SystemClock};
use tape_store::contract::JournalStore;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Runs that one client drives.
const RUNS: usize = 2_000;
/// Long enough that no lease runs out in a test.
const LEASE: Duration = Duration::from_secs(90);
/// The grace period of a client whose connection closed.
const GRACE_MS: u64 = 6_000;
/// How long a server waits before it gives up a silent connection.
const SILENCE_MS: u64 = 4_000;

fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap()
}

/// A server with threads of its own, so that it can be killed.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    fn start(store: &Arc<dyn JournalStore>) -> Self {
        let config = Config {
            lease_grace_ms: GRACE_MS,
            silence_ms: SILENCE_MS,
            drain_ms: 200,
            ..Config::new("memory:", "127.0.0.1:0".parse().unwrap())
        };
        let engine = Engine::new(Arc::clone(store), Arc::new(SystemClock));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let (listening, address) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let server = Served::over(config, engine).unwrap();
            listening.send(server.address()).unwrap();
            server.run(async { drop(stopped.await) }).await.unwrap();
        });
        Self {
            address: address.recv().unwrap(),
            stop: Some(stop),
            runtime: Some(runtime),
        }
    }

    /// As SIGTERM does.
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// As SIGKILL does.
    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs that a client drives through a proxy, and what their journal says.
struct World {
    store: Arc<dyn JournalStore>,
    engine: Engine,
    server: Server,
    proxy: Proxy,
    runs: Vec<Run>,
    /// A run of another client over the same proxy, which disappears without a message.
    deserted: Option<(Run, Tape)>,
}

impl World {
    async fn new(runs: usize) -> Self {
        let store = tape_store::open::open("memory:").await.unwrap();
        let server = Server::start(&store);
        let proxy = Proxy::to(server.address).await;
        let tape = connect(&proxy, LEASE).await;
        let begins = (0..runs).map(|n| begin(&tape, format!("i{n}")));
        let runs = futures::stream::iter(begins)
            .buffer_unordered(256)
            .collect()
            .await;
        let other = connect(&proxy, LEASE).await;
        let deserted = begin(&other, "deserted".to_owned()).await;
        Self {
            engine: Engine::new(Arc::clone(&store), Arc::new(SystemClock)),
            store,
            server,
            proxy,
            runs,
            deserted: Some((deserted, other)),
        }
    }

    async fn lease(&self, run: &RunId) -> Lease {
        let state = self.engine.run_state(run).await.unwrap().unwrap();
        state.lease().clone()
    }

    /// The current ends of the leases.
    async fn ends(&self) -> Vec<Timestamp> {
        let ends = self
            .runs
            .iter()
            .map(async |run| match self.lease(run.id()).await {
                Lease::Held { until, .. } => until,
                lease => panic!("{lease:?}"),
            });
        futures::future::join_all(ends).await
    }

    /// Waits until every lease was renewed since.
    async fn renewed_since(&self, before: &[Timestamp]) {
        for (run, before) in self.runs.iter().zip(before) {
            while !matches!(self.lease(run.id()).await, Lease::Held { until, .. } if until > *before) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Takes runs that are due for recovery, as a reactor does, until it gets `wanted`. Returns the runs that it took.
    async fn recover_until(&self, wanted: &RunId) -> Vec<RunId> {
        let mut taken = Vec::new();
        while !taken.contains(wanted) {
            let now = SystemClock.now();
            let due = self
                .engine
                .due_page(Queue::Recovery, now, None, 1_000)
                .await
                .unwrap();
            for hint in due.hints {
                let StreamId::Run(run) = hint.stream else { continue };
                let begin = Begin {
                    run: run.clone(),
                    create: None,
                    holder: Holder::new("recovery").unwrap(),
                    lease_ms: 60_000,
                    adopt: None,
                    recovery: true,
                };
                let command = Command::new(self.engine.request_id(), RunCommand::Begin(begin));
                if self.engine.run(&run, command).await.is_ok() {
                    taken.push(run);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        taken
    }

    /// The other client's run is recovered after every run that was due before it; no run of a live driver is recovered.
    async fn only_the_deserted_is_recovered(&mut self) {
        let (deserted, other) = self.deserted.take().unwrap();
        let run = deserted.id().clone();
        drop((deserted, other));
        assert_eq!(self.recover_until(&run).await, vec![run]);
        for run in &self.runs {
            assert!(run.holds_lease());
            assert!(matches!(self.lease(run.id()).await, Lease::Held { .. }));
        }
        for run in self.runs.iter().step_by(97) {
            run.checkpoint("alive", &()).await.unwrap();
            assert_eq!(run.epoch(), Epoch(1));
        }
    }
}

async fn connect(proxy: &Proxy, lease: Duration) -> Tape {
    Tape::at(&proxy.url()).lease(lease).connect().await.unwrap()
}

async fn begin(tape: &Tape, name: String) -> Run {
    tape.run(id(&name)).begin().await.unwrap().driving().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_takes_no_run_from_a_driver_that_comes_back() {
    let mut world = World::new(RUNS).await;
    let before = world.ends().await;
    world.proxy.reset();
    world.renewed_since(&before).await;
    world.only_the_deserted_is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_takes_no_run_from_its_driver() {
    let mut world = World::new(RUNS).await;
    let before = world.ends().await;
    world.proxy.swallow();
    world.renewed_since(&before).await;
    // The other client also notices and reconnects; then it disappears.
    let (deserted, _) = world.deserted.as_ref().unwrap();
    deserted.checkpoint("alive", &()).await.unwrap();
    world.only_the_deserted_is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_falls_silent_keeps_its_lease_to_its_end() {
    let mut world = World::new(0).await;
    let silent = Proxy::to(world.server.address).await;
    let tape = connect(&silent, LEASE).await;
    let run = begin(&tape, "silent".to_owned()).await;
    // It cannot reconnect.
    silent.lead_to(Imposter::start().await.address);
    silent.swallow();
    silent.given_up_by_the_server().await;
    let (deserted, other) = world.deserted.take().unwrap();
    let gone = deserted.id().clone();
    drop((deserted, other));
    assert_eq!(world.recover_until(&gone).await, vec![gone]);
    assert!(matches!(world.lease(run.id()).await, Lease::Held { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_takes_no_run_with_it() {
    let mut world = World::new(RUNS).await;
    let before = world.ends().await;
    let next = Server::start(&world.store);
    world.proxy.lead_to(next.address);
    world.server.kill();
    world.renewed_since(&before).await;
    let (deserted, _) = world.deserted.as_ref().unwrap();
    deserted.checkpoint("alive", &()).await.unwrap();
    world.only_the_deserted_is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_hands_its_drivers_over() {
    let mut world = World::new(200).await;
    let before = world.ends().await;
    let next = Server::start(&world.store);
    world.proxy.lead_to(next.address);
    world.server.stop();
    world.renewed_since(&before).await;
    let (deserted, _) = world.deserted.as_ref().unwrap();
    deserted.checkpoint("alive", &()).await.unwrap();
    world.only_the_deserted_is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hears_late_of_a_close_takes_no_run_that_was_renewed_at_another() {
    let mut world = World::new(200).await;
    let before = world.ends().await;
    let next = Server::start(&world.store);
    world.proxy.lead_to(next.address);
    world.proxy.tell_clients();
    world.renewed_since(&before).await;
    // The other client does not write to the next server before the first server learns that it is gone.
    let (deserted, other) = world.deserted.take().unwrap();
    let run = deserted.id().clone();
    drop((deserted, other));
    world.proxy.tell_servers();
    assert_eq!(world.recover_until(&run).await, vec![run]);
    for run in &world.runs {
        run.checkpoint("alive", &()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_to_renewals_are_told_once_the_lease_is_over_and_tried_again() {
    let world = World::new(0).await;
    let lease = Duration::from_millis(1_500);
    let run = begin(&connect(&world.proxy, lease).await, "i1".to_owned()).await;
    assert!(run.holds_lease());
    let imposter = Imposter::start().await;
    world.proxy.lead_to(imposter.address);
    world.proxy.reset();
    run.gone().await;
    assert!(!run.holds_lease());
    assert!(imposter.asked() > 1, "it was tried again");
    world.proxy.lead_to(world.server.address);
    world.proxy.reset();
    while !run.holds_lease() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let other = connect(&world.proxy, lease).await.run(id("i1")).begin().await;
    assert!(matches!(other, Err(Error::Busy { .. })), "{other:?}");
    run.checkpoint("alive", &()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_message_is_refused_before_it_is_sent() {
    let world = World::new(1).await;
    let tape = connect(&world.proxy, LEASE).await;
    let failing = begin(&tape, "fails".to_owned()).await;
    let driven = begin(&tape, "driven".to_owned()).await;
    let labels = (0..40).fold(tape.run(id("large")), |run, n| {
        run.label(&format!("l{n}"), &"x".repeat(200_000))
    });
    let refused = labels.begin().await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let large = (0..40).map(|n| {
        let (key, value) = (Key::new(format!("k{n}")), format!("\"{}\"", "x".repeat(200_000)));
        (key.unwrap(), Some(value.try_into().unwrap()))
    });
    let refused = tape
        .session(driven.id().session())
        .create(Delta(large.collect()))
        .await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let stream = StreamId::Run(driven.id().clone());
    let refused = tape.erase(&stream, vec![Seq(1)], &"x".repeat(5 << 20)).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    failing.fail("x".repeat(5 << 20)).await.unwrap();
    let before = world.engine.run_state(driven.id()).await.unwrap().unwrap();
    driven.checkpoint("alive", &()).await.unwrap();
    let after = world.engine.run_state(driven.id()).await.unwrap().unwrap();
    use tape_client::core::decider::Decider as _;
    assert_eq!(after.seq().0, before.seq().0 + 1, "the stream did not break");
}
