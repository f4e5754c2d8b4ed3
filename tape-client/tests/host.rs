//! A host of agents: runs are driven to their ends, whatever dies, by one driver at a time.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_client::core::id::Holder;
use tape_client::core::status::RunStatus;
use tape_client::core::time::Timestamp;
use tape_client::{Answer, CallError, Connect, Error, Host, Run, RunId, RunQuery, RunResult, Tape};
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_store::clock::{Clock, SystemClock};
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const LEASE: Duration = Duration::from_secs(30);

/// Tokio's paused clock as the time of a journal.
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

/// Everything that outlives a process.
#[derive(Clone)]
struct World {
    store: Arc<dyn JournalStore>,
    clock: Arc<dyn Clock>,
    lease: Duration,
    /// What the upstream did, by key: how often it was asked to.
    ledger: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl World {
    fn virtual_time() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(VirtualClock(tokio::time::Instant::now())),
            lease: LEASE,
            ledger: Arc::default(),
        }
    }

    async fn on_disk(dir: &Path) -> Self {
        let url = format!("sqlite:{}", dir.join("tape.db").display());
        Self {
            store: tape_store::open::open(&url).await.unwrap(),
            clock: Arc::new(SystemClock),
            lease: Duration::from_millis(200),
            ledger: Arc::default(),
        }
    }

    async fn process(&self, name: &str) -> Tape {
        self.connect(name).connect().await.unwrap()
    }

    fn connect(&self, name: &str) -> Connect {
        Tape::over(Engine::new(self.store.clone(), self.clock.clone()))
            .holder(Holder::new(name).unwrap())
            .lease(self.lease)
    }

    async fn of_version(&self, version: &str) -> Tape {
        let connect = self.connect(version).agent_version(version);
        connect.connect().await.unwrap()
    }

    /// An upstream that writes down what it does.
    async fn act(&self, run: &Run, what: &str) -> Result<(), Error> {
        let decision = run
            .decide(&what, || async { Answer::json(&json!({ "do": what })) })
            .await?;
        run.effect(&decision, "bank", what)
            .run(async |call| {
                let name = format!("{} {what} {}", run.id().invocation, call.key());
                *self.ledger.lock().unwrap().entry(name).or_default() += 1;
                Ok::<_, CallError>(())
            })
            .await
    }

    /// What the upstream did, each with how often it was asked.
    fn asked(&self) -> Vec<u32> {
        self.ledger.lock().unwrap().values().copied().collect()
    }

    /// Begins a run as a process that dies at once.
    async fn abandon(&self, run: RunId) {
        let tape = self.process("dies").await;
        drop(tape.run(run).begin().await.unwrap().driving().unwrap());
    }

    async fn status(&self, run: &RunId) -> RunStatus {
        let tape = self.process("looks").await;
        let query = RunQuery {
            app: Some(run.app.clone()),
            ..RunQuery::all(run.tenant.clone())
        };
        let page = tape.runs(&query, None, 1000).await.unwrap();
        let found = page.runs.into_iter().find(|(found, _)| found == run);
        found.unwrap().1.status
    }

    async fn until(&self, run: &RunId, wanted: RunStatus) {
        while self.status(run).await != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn id(app: &str, n: usize) -> RunId {
    RunId::new("acme", app, "ann", "s", &format!("i{n}")).unwrap()
}

/// A host that serves until it is told to stop.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

fn serve(host: Host) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(async move { host.serve_until(stopped).await });
    Serving { stop, task }
}

impl Serving {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// Pays, waits once for `held`, and pays again.
fn payer(
    world: &World,
    held: Arc<Notify>,
) -> impl Fn(Run) -> futures::future::BoxFuture<'static, Result<RunResult, Error>> + Send + Sync + use<> {
    let world = world.clone();
    move |run: Run| {
        let (world, held) = (world.clone(), held.clone());
        Box::pin(async move {
            world.act(&run, "first").await?;
            held.notified().await;
            world.act(&run, "second").await?;
            run.complete(&"paid").await
        })
    }
}

async fn killed_in_mid_run(world: World) {
    let (held, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let one = Host::new(world.process("one").await).agent("pay", payer(&world, held));
    let run = one.tape().run(id("pay", 1));
    let killed = tokio::spawn(async move { one.drive(run).await });
    while world.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    go.notify_one();
    let two = Host::new(world.process("two").await).agent("pay", payer(&world, go));
    let serving = serve(two);
    world.until(&id("pay", 1), RunStatus::Completed).await;
    serving.stop().await;
    assert_eq!(world.asked(), [1, 1], "each effect once");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_died_is_driven_again_to_its_end_in_memory() {
    killed_in_mid_run(World::virtual_time()).await;
}

#[tokio::test]
async fn a_run_whose_process_died_is_driven_again_to_its_end_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    killed_in_mid_run(World::on_disk(dir.path()).await).await;
}

async fn dead_drivers_lease(world: World) {
    world.abandon(id("pay", 1)).await;
    let go = Arc::new(Notify::new());
    go.notify_one();
    let host = Host::new(world.process("one").await).agent("pay", payer(&world, go));
    let driven = host.drive(host.tape().run(id("pay", 1))).await.unwrap();
    assert_eq!(driven.output::<String>().unwrap(), "paid");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_dead_driver_is_waited_out_in_memory() {
    dead_drivers_lease(World::virtual_time()).await;
}

#[tokio::test]
async fn the_lease_of_a_dead_driver_is_waited_out_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    dead_drivers_lease(World::on_disk(dir.path()).await).await;
}

#[tokio::test(start_paused = true)]
async fn while_another_drives_a_run_its_end_is_waited_for() {
    let world = World::virtual_time();
    let (calls, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let agent = |calls: Arc<AtomicUsize>, go: Arc<Notify>| {
        move |run: Run| {
            calls.fetch_add(1, Ordering::SeqCst);
            let go = go.clone();
            async move {
                go.notified().await;
                run.complete(&"once").await
            }
        }
    };
    let one = Host::new(world.process("one").await).agent("pay", agent(calls.clone(), go.clone()));
    let two = Host::new(world.process("two").await).agent("pay", agent(calls.clone(), go.clone()));
    let first = one.drive(one.tape().run(id("pay", 1)));
    let second = two.drive(two.tape().run(id("pay", 1)));
    let release = async {
        tokio::time::sleep(10 * LEASE).await;
        go.notify_one();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!(first.unwrap().output::<String>().unwrap(), "once");
    assert_eq!(second.unwrap().output::<String>().unwrap(), "once");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_run_is_driven_on_when_its_timer_is_due() {
    let world = World::virtual_time();
    let at = world.clone();
    let sleeper = move |run: Run| {
        let world = at.clone();
        async move {
            world.act(&run, "first").await?;
            run.sleep("night", Duration::from_secs(600)).await?;
            world.act(&run, "second").await?;
            run.complete(&()).await
        }
    };
    let host = Host::new(world.process("one").await).agent("sleep", sleeper);
    let began = tokio::time::Instant::now();
    let driven = host.drive(host.tape().run(id("sleep", 1))).await;
    assert!(matches!(driven, Err(Error::Suspended)), "{driven:?}");
    let serving = serve(host);
    world.until(&id("sleep", 1), RunStatus::Completed).await;
    let took = began.elapsed().as_secs();
    assert!((600..610).contains(&took), "{took} s");
    assert_eq!(world.asked(), [1, 1]);
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_without_a_driver_is_ended_and_its_agent_is_not_called() {
    let world = World::virtual_time();
    world.abandon(id("pay", 1)).await;
    let tape = world.process("person").await;
    tape.cancel(&id("pay", 1), "no longer wanted").await.unwrap();
    assert_eq!(world.status(&id("pay", 1)).await, RunStatus::Running);
    let never = async |run: Run| panic!("called for {:?}", run.id());
    let serving = serve(Host::new(world.process("one").await).agent("pay", never));
    world.until(&id("pay", 1), RunStatus::Cancelled).await;
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_that_an_agent_hands_up_is_accepted() {
    let world = World::virtual_time();
    let (at, begun) = (world.clone(), Arc::new(Notify::new()));
    let told = begun.clone();
    let agent = move |run: Run| {
        let (world, told) = (at.clone(), told.clone());
        async move {
            told.notify_one();
            for n in 0.. {
                world.act(&run, &format!("step {n}")).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            run.complete(&()).await
        }
    };
    let host = Host::new(world.process("one").await).agent("pay", agent);
    let tape = host.tape().clone();
    let driven = tokio::spawn(async move { host.drive(host.tape().run(id("pay", 1))).await });
    begun.notified().await;
    tape.cancel(&id("pay", 1), "enough").await.unwrap();
    let driven = driven.await.unwrap().unwrap();
    let reason = "enough".to_owned();
    assert_eq!(driven, RunResult::Cancelled { reason });
}

/// An agent that panics in its first calls: before its future is made, and then within it.
fn panicking(
    calls: &Arc<AtomicUsize>,
) -> impl Fn(Run) -> futures::future::BoxFuture<'static, Result<RunResult, Error>> + use<> {
    let calls = calls.clone();
    move |run: Run| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        assert!(call > 0, "at once");
        Box::pin(async move {
            assert!(call > 1, "in the middle");
            run.complete(&()).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_the_run_is_let_go_and_driven_again() {
    let world = World::virtual_time();
    let calls = Arc::new(AtomicUsize::new(0));
    let host = Host::new(world.process("one").await).agent("pay", panicking(&calls));
    let driven = host.drive(host.tape().run(id("pay", 1))).await;
    assert!(
        matches!(&driven, Err(Error::Panicked { problem, .. }) if problem == "at once"),
        "{driven:?}"
    );
    let began = tokio::time::Instant::now();
    let serving = serve(host);
    world.until(&id("pay", 1), RunStatus::Completed).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(began.elapsed() < LEASE, "no lease was waited out");
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_a_host_takes_up_nothing_new_and_waits_for_what_is_under_way() {
    let world = World::virtual_time();
    world.abandon(id("pay", 1)).await;
    let held = Arc::new(Notify::new());
    let host = Host::new(world.process("one").await).agent("pay", payer(&world, held.clone()));
    let Serving { stop, task } = serve(host.drain(Duration::from_secs(3600)));
    while world.asked().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.send(()).unwrap();
    world.abandon(id("pay", 2)).await;
    tokio::time::sleep(10 * LEASE).await;
    assert!(!task.is_finished());
    held.notify_one();
    task.await.unwrap().unwrap();
    assert_eq!(world.status(&id("pay", 1)).await, RunStatus::Completed);
    assert_eq!(world.asked(), [1, 1], "nothing of the other run");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_not_done_in_time_is_cut_off_and_its_run_is_free_at_once() {
    let world = World::virtual_time();
    world.abandon(id("pay", 1)).await;
    let never = Arc::new(Notify::new());
    let one = Host::new(world.process("one").await).agent("pay", payer(&world, never));
    let serving = serve(one);
    while world.asked().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    serving.stop().await;
    let began = tokio::time::Instant::now();
    let go = Arc::new(Notify::new());
    go.notify_one();
    let two = Host::new(world.process("two").await).agent("pay", payer(&world, go));
    two.drive(two.tape().run(id("pay", 1))).await.unwrap();
    assert!(began.elapsed() < LEASE / 3, "no lease was waited out");
    assert_eq!(world.asked(), [1, 1]);
}

/// An agent that counts its calls and those at once of one run, and takes a second.
fn counting(
    world: &World,
    calls: &Arc<AtomicUsize>,
    now: &Arc<Mutex<Counted>>,
) -> impl Fn(Run) -> futures::future::BoxFuture<'static, Result<RunResult, Error>> + use<> {
    let (world, calls, now) = (world.clone(), calls.clone(), now.clone());
    move |run: Run| {
        let (world, now) = (world.clone(), now.clone());
        calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            now.lock().unwrap().enter(run.id());
            world.act(&run, "pay").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let done = run.complete(&()).await;
            now.lock().unwrap().leave(run.id());
            done
        })
    }
}

/// Runs that are driven now.
#[derive(Default)]
struct Counted {
    now: BTreeMap<RunId, u32>,
    most: usize,
}

impl Counted {
    fn enter(&mut self, run: &RunId) {
        let drivers = self.now.entry(run.clone()).or_default();
        *drivers += 1;
        assert_eq!(*drivers, 1, "two drivers at once");
        self.most = self.most.max(self.now.len());
    }

    fn leave(&mut self, run: &RunId) {
        self.now.remove(run);
    }
}

#[tokio::test(start_paused = true)]
async fn two_hosts_share_the_runs_and_each_run_has_one_driver() {
    const RUNS: usize = 40;
    let world = World::virtual_time();
    for n in 0..RUNS {
        world.abandon(id("pay", n)).await;
    }
    let now = Arc::default();
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let host = async |name: &str, calls: &Arc<AtomicUsize>| {
        let host = Host::new(world.process(name).await).concurrency(2);
        serve(host.agent("pay", counting(&world, calls, &now)))
    };
    let hosts = [host("one", &first).await, host("two", &second).await];
    for n in 0..RUNS {
        world.until(&id("pay", n), RunStatus::Completed).await;
    }
    let (first, second) = (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst));
    assert_eq!(first + second, RUNS, "no run was driven twice");
    assert!(first > 0 && second > 0, "{first} and {second}");
    assert_eq!(world.asked(), [1; RUNS]);
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_has_its_places_at_most_and_leaves_those_of_another() {
    let world = World::virtual_time();
    for n in 0..20 {
        world.abandon(id("pay", n)).await;
    }
    world.abandon(id("other", 0)).await;
    let (calls, now) = (Arc::default(), Arc::default());
    let host = Host::new(world.process("one").await)
        .agent("pay", counting(&world, &calls, &now))
        .agent("other", async |run: Run| run.complete(&()).await)
        .concurrency(3);
    let serving = serve(host);
    world.until(&id("other", 0), RunStatus::Completed).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "the rest waits");
    for n in 0..20 {
        world.until(&id("pay", n), RunStatus::Completed).await;
    }
    assert_eq!(now.lock().unwrap().most, 3);
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn runs_of_apps_without_an_agent_here_are_left_alone() {
    let world = World::virtual_time();
    world.abandon(id("elsewhere", 1)).await;
    let before = world
        .process("looks")
        .await
        .head(&id("elsewhere", 1))
        .await
        .unwrap();
    let serving =
        serve(Host::new(world.process("one").await).agent("pay", async |run: Run| run.complete(&()).await));
    tokio::time::sleep(20 * LEASE).await;
    let after = world
        .process("looks")
        .await
        .head(&id("elsewhere", 1))
        .await
        .unwrap();
    assert_eq!(after, before, "nothing is written");
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_makes_no_progress_is_driven_ever_later_and_then_waits_for_a_person() {
    let world = World::virtual_time();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let fails = move |_run: Run| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            Err(Error::NoAnswer {
                source: "down".into(),
            })
        }
    };
    let host = Host::new(world.process("one").await).agent("pay", fails);
    let began = tokio::time::Instant::now();
    let driven = host.drive(host.tape().run(id("pay", 1))).await;
    assert!(matches!(driven, Err(Error::NoAnswer { .. })), "{driven:?}");
    let serving = serve(host);
    world.until(&id("pay", 1), RunStatus::Stuck).await;
    assert_eq!(calls.load(Ordering::SeqCst), 21, "20 re-drives");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(3000), "{took:?}");
    serving.stop().await;
}

#[tokio::test]
async fn an_app_that_cannot_be_registered_is_said_when_the_host_is_used() {
    let tape = Tape::connect("memory:").await.unwrap();
    let agent = async |run: Run| run.complete(&()).await;
    let twice = Host::new(tape.clone()).agent("pay", agent).agent("pay", agent);
    let refused = twice.serve_until(std::future::pending()).await.unwrap_err();
    assert_eq!(refused.to_string(), "app: 'pay' has an agent already");
    let unnamed = Host::new(tape.clone()).agent("", agent);
    let refused = unnamed.drive(tape.run(id("pay", 1))).await.unwrap_err();
    assert_eq!(refused.to_string(), "app: is empty");
    let other = Host::new(tape.clone()).agent("pay", agent);
    let refused = other.drive(tape.run(id("book", 1))).await.unwrap_err();
    assert_eq!(refused.to_string(), "app: 'book' has no agent here");
}

#[tokio::test(start_paused = true)]
async fn a_host_of_its_own_version_alone_leaves_the_runs_of_others() {
    let world = World::virtual_time();
    for (n, version) in ["1", "2"].into_iter().enumerate() {
        let tape = world.of_version(version).await;
        drop(tape.run(id("pay", n)).begin().await.unwrap().driving().unwrap());
    }
    world.abandon(id("pay", 2)).await;
    let done = async |run: Run| run.complete(&()).await;
    let own = Host::new(world.of_version("2").await)
        .agent("pay", done)
        .only_own_version();
    let serving = serve(own);
    world.until(&id("pay", 1), RunStatus::Completed).await;
    tokio::time::sleep(20 * LEASE).await;
    for n in [0, 2] {
        assert_eq!(world.status(&id("pay", n)).await, RunStatus::Running, "run {n}");
    }
    serving.stop().await;
    let any = serve(Host::new(world.of_version("2").await).agent("pay", done));
    for n in [0, 2] {
        world.until(&id("pay", n), RunStatus::Completed).await;
    }
    any.stop().await;
}
