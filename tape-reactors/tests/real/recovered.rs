//! Runs whose drivers died, driven again through the agents' own endpoints while workers are killed.
//!
//! At full size: `TAPE_RECOVERY_RUNS=1000`.

use crate::process::{Child, role, say};
use crate::upstream::Upstream;
use crate::world::{Driven, World, ask, engine};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::StreamExt as _;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::command::{Begin, DriverCommand, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::id::{App, Epoch, Holder, RunId};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_store::clock::{Clock, SystemClock};
use tokio::sync::{Notify, watch};

const WORKERS: usize = 3;
const KILLS: usize = 3;
/// Runs that a worker re-drives at once.
const AT_ONCE: usize = 4;
const SECRET: &str = "between the two of us";
/// How long an agent's lease is where its driver stays alive.
const LEASE_MS: u64 = 60_000;
/// The same where a tool takes longer than that.
const SHORT_LEASE_MS: u64 = 8_000;

#[derive(Deserialize)]
struct Redrive {
    run: RunId,
    epoch: Epoch,
}

#[tokio::test]
async fn runs_whose_drivers_died_at_once_are_each_driven_again_once() {
    driven_once(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn runs_whose_drivers_died_at_once_are_each_driven_again_once_on_postgres() {
    if let Some(world) = World::postgres().await {
        driven_once(&world).await;
    }
}

pub(crate) async fn driven_once(world: &World) {
    let all = std::env::var("TAPE_RECOVERY_RUNS").map_or(40, |runs| runs.parse().unwrap());
    let upstream = Upstream::start(world.dir.path(), true);
    let agent = Arc::new(Agent::new(world.engine.clone()));
    let fragile = Fragile::start(world);
    let entry = |app: &str, url: &str| entry(app, url) + &format!("concurrency = {AT_ONCE}\n");
    let more = format!(
        "concurrency = {AT_ONCE}\nlease_ms = 2000\n{}{}",
        entry("treasury", &serve(&agent).await),
        entry("fragile", &fragile.url)
    );
    let runs: Vec<Driven> = futures::stream::iter(0..all)
        .map(|n| world.begin(named("treasury", &format!("dead-{n}")), 100))
        .buffered(16)
        .collect()
        .await;
    let slow = world.begin(named("treasury", "slow"), 100).await;
    // No agent here drives the runs of this app: that must not make the run stuck.
    let foreign = world.begin(named("another", "dead"), 100).await;
    let crashing = world.begin(named("fragile", "crashing"), 100).await;
    let spent = at_its_bound(world).await;

    let start = || world.worker_in(&upstream, &more, &[("AGENT_SECRET", SECRET)]);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| start()).collect();
    for kill in 1..=KILLS {
        agent.until_driven(all * kill / (KILLS + 1)).await;
        let worker = &mut workers[kill % WORKERS];
        worker.kill();
        *worker = start();
    }
    for run in &runs {
        run.until_run(RunStatus::Completed).await;
    }
    // Its driver kept it for longer than a lease, while others were driven.
    slow.until_count("lease.renewed", 100).await;
    agent.tool_is_done.notify_one();
    slow.until_run(RunStatus::Completed).await;

    agent.check(runs.iter().chain([&slow]));
    assert_eq!(foreign.count("lease.acquired").await, 1, "it was left alone");
    crashes_ever_later(&crashing).await;
    spent.until_run(RunStatus::Stuck).await;
    assert_eq!(spent.count("run.stuck").await, 1, "the feed has it");
}

/// An agent in the configuration.
fn entry(app: &str, url: &str) -> String {
    format!("[agents.{app}]\nurl = \"{url}\"\nsecret_env = \"AGENT_SECRET\"\n")
}

/// An agent that takes every request and answers none would hold all places, for as long as the adoption of a run may take.
#[tokio::test]
async fn an_agent_that_hangs_holds_up_no_other() {
    beside_one_that_hangs(&World::sqlite().await).await;
}

pub(crate) async fn beside_one_that_hangs(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let agent = Arc::new(Agent::new(world.engine.clone()));
    // The requests that it takes are held, with their connections.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = format!(
        "concurrency = {AT_ONCE}\nlease_ms = {LEASE_MS}\n{}{}",
        entry("hanging", &format!("http://{}/", hanging.local_addr().unwrap())),
        entry("treasury", &serve(&agent).await),
    );
    let mut hung = Vec::new();
    for n in 0..3 * AT_ONCE {
        hung.push(world.begin(named("hanging", &format!("hung-{n}")), 100).await);
    }
    let _worker = world.worker_in(&upstream, &more, &[("AGENT_SECRET", SECRET)]);
    let _held = hanging.accept().await.unwrap();
    let run = world.begin(named("treasury", "dead"), 100).await;
    run.until_run(RunStatus::Completed).await;
    let mut taken = 0;
    for run in &hung {
        taken += run.count("lease.acquired").await - 1;
    }
    assert_eq!(taken, AT_ONCE / 4, "no more than the bound of its agent");
}

/// A run that its agent does not adopt is released, and so is one whose agent is gone; neither says anything about the run.
#[tokio::test]
async fn a_run_that_nobody_adopts_is_let_go_and_driven_again() {
    let_go(&World::sqlite().await).await;
}

pub(crate) async fn let_go(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let agent = Arc::new(Agent::new(world.engine.clone()));
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hanging.local_addr().unwrap();
    let more = format!(
        "lease_ms = 200\n{}",
        entry("treasury", &format!("http://{address}/"))
    );
    let run = world.begin(named("treasury", "dead"), 100).await;
    let _worker = world.worker_in(&upstream, &more, &[("AGENT_SECRET", SECRET)]);
    let held = hanging.accept().await.unwrap();
    until_let_go(&run, 1).await;
    drop((held, hanging));
    until_let_go(&run, 2).await;
    serve_at(&agent, address).await;
    run.until_run(RunStatus::Completed).await;
}

/// Waits until it was released `times` times because no agent was reached, and for no other reason.
async fn until_let_go(run: &Driven, times: usize) {
    run.until_count("lease.released", times).await;
    let released = run.entries().await.into_iter().filter_map(|body| match body {
        EntryBody::LeaseReleased(released) => Some(released.undriven),
        _ => None,
    });
    assert!(released.into_iter().all(|undriven| undriven));
}

fn named(app: &str, name: &str) -> RunId {
    RunId::new("acme", app, "ann", "s1", name).unwrap()
}

/// The process that drives it is gone each time: the waits get longer, as the rules of the run say.
async fn crashes_ever_later(run: &Driven) {
    // Each re-drive has one by recovery and one by the agent.
    run.until_count("lease.acquired", 1 + 2 * 3).await;
    let taken = |body: &EntryBody| matches!(body, EntryBody::LeaseAcquired(taken) if taken.recovery);
    let times = run.times(taken).await;
    let waits: Vec<_> = times.windows(2).map(|two| two[1].millis_since(two[0])).collect();
    assert!(waits[0] >= 1_000 && waits[1] >= 2_000, "{waits:?}");
    let redrives = run.entries().await.into_iter().filter_map(|body| match body {
        EntryBody::LeaseAcquired(taken) if taken.recovery => Some(taken.redrives),
        _ => None,
    });
    let redrives: Vec<_> = redrives.take(3).collect();
    assert_eq!(redrives, [1, 2, 3], "none of them made progress");
}

/// A clock that starts two days ago.
struct Past(AtomicI64);

impl Clock for Past {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

/// A run that was re-driven without progress as often as the rules allow. In real time that takes more than an hour.
async fn at_its_bound(world: &World) -> Driven {
    const TWO_DAYS_US: i64 = 2 * 24 * 3_600 * 1_000_000;
    let then = SystemClock.now().as_micros() - TWO_DAYS_US;
    let clock = Arc::new(Past(AtomicI64::new(then)));
    let past = Engine::new(Arc::clone(world.engine.store()), Arc::<Past>::clone(&clock));
    let run = Driven::begin_on(&past, named("fragile", "spent"), 100).await;
    for _ in 0..tape_core::limits::REDRIVES_WITHOUT_PROGRESS_MAX {
        let due = run
            .state()
            .await
            .agenda()
            .due(Queue::Recovery, &Item::Run)
            .unwrap();
        clock.0.store(due.as_micros(), Ordering::SeqCst);
        let taken = ask(&past, &run.run, begin(&run.run, None, true, 100))
            .await
            .unwrap();
        let ReplyResult::Leased { epoch, .. } = taken.result else {
            panic!("not taken: {taken:?}")
        };
        ask(&past, &run.run, begin(&run.run, Some(epoch), false, 100))
            .await
            .unwrap();
    }
    Driven {
        engine: world.engine.clone(),
        ..run
    }
}

fn begin(run: &RunId, adopt: Option<Epoch>, recovery: bool, lease_ms: u64) -> RunCommand {
    RunCommand::Begin(Begin {
        run: run.clone(),
        create: None,
        holder: Holder::new("agent").unwrap(),
        lease_ms,
        adopt,
        recovery,
    })
}

/// Adopts a run; none where another driver has it now.
async fn adopt(engine: &Engine, Redrive { run, epoch }: &Redrive, lease_ms: u64) -> Option<Epoch> {
    let adopted = ask(engine, run, begin(run, Some(*epoch), false, lease_ms)).await;
    match adopted.ok()?.result {
        ReplyResult::Leased { epoch, .. } => Some(epoch),
        _ => None,
    }
}

/// An agent that finishes each run that it is given, and records what it does.
struct Agent {
    engine: Engine,
    driven: watch::Sender<HashMap<RunId, usize>>,
    under_way: Mutex<HashSet<RunId>>,
    at_once_max: Mutex<usize>,
    tool_is_done: Notify,
}

impl Agent {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            driven: watch::Sender::default(),
            under_way: Mutex::default(),
            at_once_max: Mutex::default(),
            tool_is_done: Notify::new(),
        }
    }

    async fn until_driven(&self, n: usize) {
        let mut driven = self.driven.subscribe();
        driven.wait_for(|driven| driven.len() >= n).await.unwrap();
    }

    fn check<'a>(&self, runs: impl Iterator<Item = &'a Driven>) {
        let mut driven = self.driven.borrow().clone();
        for run in runs {
            assert_eq!(driven.remove(&run.run), Some(1), "{:?} is driven once", run.run);
        }
        assert_eq!(driven, HashMap::new());
        // Work begun by a killed worker continues beside the work of the others.
        let most = (WORKERS + KILLS) * AT_ONCE;
        let at_once = *self.at_once_max.lock().unwrap();
        assert!(at_once <= most, "{at_once} at once");
    }

    async fn drive(self: Arc<Self>, redrive: Redrive) {
        let slow = redrive.run.invocation.as_str() == "slow";
        let lease_ms = if slow { SHORT_LEASE_MS } else { LEASE_MS };
        let Some(epoch) = adopt(&self.engine, &redrive, lease_ms).await else {
            return;
        };
        let run = redrive.run;
        {
            let mut under_way = self.under_way.lock().unwrap();
            assert!(under_way.insert(run.clone()), "driven twice at once");
            let mut most = self.at_once_max.lock().unwrap();
            *most = under_way.len().max(*most);
        }
        self.driven
            .send_modify(|driven| *driven.entry(run.clone()).or_default() += 1);
        if slow {
            tokio::select! {
                () = self.tool_is_done.notified() => {}
                () = self.keep(&run, epoch) => {}
            }
        }
        let output = Payload::empty();
        let complete = RunCommand::Drive(epoch, DriverCommand::Complete { output });
        ask(&self.engine, &run, complete).await.unwrap();
        self.under_way.lock().unwrap().remove(&run);
    }

    /// Renews the lease for as long as it holds it.
    async fn keep(&self, run: &RunId, epoch: Epoch) {
        let renew = || {
            let lease_ms = SHORT_LEASE_MS;
            RunCommand::Drive(epoch, DriverCommand::RenewLease { lease_ms })
        };
        let mut often = tokio::time::interval(Duration::from_millis(100));
        loop {
            often.tick().await;
            ask(&self.engine, run, renew()).await.unwrap();
        }
    }
}

async fn serve(agent: &Arc<Agent>) -> String {
    let address = serve_at(agent, ([127, 0, 0, 1], 0).into()).await;
    format!("http://{address}/")
}

async fn serve_at(agent: &Arc<Agent>, address: SocketAddr) -> SocketAddr {
    let router = axum::Router::new()
        .route("/", post(redriven))
        .with_state(Arc::clone(agent));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn redriven(State(agent): State<Arc<Agent>>, headers: HeaderMap, body: String) -> StatusCode {
    if !is_signed(&headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    // The drive runs in its own task: the requesting worker may be killed.
    let driving = tokio::spawn(agent.drive(serde_json::from_str(&body).unwrap()));
    driving.await.unwrap();
    StatusCode::NO_CONTENT
}

fn is_signed(headers: &HeaderMap, body: &str) -> bool {
    let signature = headers[tape_reactors::SIGNATURE_HEADER].to_str().unwrap();
    let now = u64::try_from(machine().wall().as_micros() / 1_000_000).unwrap();
    let tolerance = Duration::from_secs(60);
    tape_reactors::verify(SECRET.as_bytes(), signature, body.as_bytes(), now, tolerance)
}

/// The process of an agent that crashes with each run that it adopts. It is started again whenever it is gone.
struct Fragile {
    url: String,
    stop: Arc<AtomicBool>,
}

impl Fragile {
    fn start(world: &World) -> Self {
        let (path, store) = (world.dir.path().to_owned(), world.url.clone());
        let launch = move |listen: &str| {
            let env = [
                ("FRAGILE_STORE", store.clone()),
                ("FRAGILE_LISTEN", listen.to_owned()),
            ];
            let mut child = Child::start_role("recovered::fragile_agent", &path, &env);
            let address = child.said();
            (child, address)
        };
        let (mut child, address) = launch("127.0.0.1:0");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, at) = (Arc::clone(&stop), address.clone());
        std::thread::spawn(move || {
            child.wait();
            while !stopped.load(Ordering::SeqCst) {
                (child, _) = launch(&at);
                child.wait();
            }
        });
        let url = format!("http://{address}/");
        Self { url, stop }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn fragile_agent() {
    if role("recovered::fragile_agent").is_none() {
        return;
    }
    let (store, listen) = (
        std::env::var("FRAGILE_STORE").unwrap(),
        std::env::var("FRAGILE_LISTEN").unwrap(),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let router = axum::Router::new()
            .route("/", post(crash))
            .with_state(engine(&store).await);
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        say(&listener.local_addr().unwrap().to_string());
        axum::serve(listener, router).await.unwrap();
    });
}

async fn crash(State(engine): State<Engine>, body: String) {
    let redrive: Redrive = serde_json::from_str(&body).unwrap();
    assert_eq!(redrive.run.app, App::new("fragile").unwrap());
    if adopt(&engine, &redrive, 100).await.is_some() {
        std::process::abort();
    }
}
