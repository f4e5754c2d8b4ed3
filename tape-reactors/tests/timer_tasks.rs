//! Tasks that wake timers, over a journal and a queue in this process that share a clock, which the test sets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cloud_tasks;

use async_trait::async_trait;
use cloud_tasks::{Call, CloudTasks, Fault, QUEUE, REMEMBERED};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::command::{Begin, Command, Create, DriverCommand, RunCommand};
use tape_core::id::{Epoch, GateName, Holder, RunId, Seq, StreamId, TimerName};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_core::time::{Deadline, Timestamp};
use tape_engine::Engine;
use tape_environment::{Environment, Machine};
use tape_reactors::api::{Journal, Layer};
use tape_reactors::{Options, Runner, TaskIdentity, TaskQueue, TaskTarget, TimerTasks, Timers, Wake};
use tape_store::clock::Clock;
use tape_store::memory::MemoryStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3_600 * SECOND;
/// The longest. Sweeps are at the multiples of it since 1970: none is in the hours after the start.
const NO_SWEEP: Duration = Duration::from_secs(14 * 24 * 3_600);
/// What the clock shows first.
const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A clock that stands until it is set.
#[derive(Debug)]
struct Time(AtomicI64);

impl Time {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START.as_micros())))
    }

    fn set(&self, to: Timestamp) {
        self.0.store(to.as_micros(), Ordering::SeqCst);
    }
}

impl Environment for Time {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Machine.elapsed()
    }
    fn boot(&self) -> Option<String> {
        None
    }
    fn process(&self) -> u32 {
        1
    }
    fn random(&self) -> u128 {
        Machine.random()
    }
}

/// The clock of the engine.
#[derive(Debug)]
struct EngineClock(Arc<Time>);

impl Clock for EngineClock {
    fn now(&self) -> Timestamp {
        self.0.wall()
    }
    fn environment(&self) -> Arc<dyn Environment> {
        Arc::<Time>::clone(&self.0)
    }
}

/// A journal, a queue, and processes that arm tasks and fire timers.
struct World {
    time: Arc<Time>,
    engine: Engine,
    tasks: CloudTasks,
    /// Requests that reached the endpoint, and the tokens that they had.
    requests: watch::Receiver<usize>,
    tokens: Arc<std::sync::Mutex<Vec<String>>>,
    target: TaskTarget,
    wake: Wake,
    sweep: Duration,
    _endpoint: JoinSet<()>,
}

/// A process that arms tasks. It ends with this, without a word.
struct Process(#[expect(dead_code, reason = "it is aborted when this is dropped")] JoinSet<()>);

impl World {
    async fn new() -> Self {
        Self::sweeping(NO_SWEEP).await
    }

    async fn sweeping(sweep: Duration) -> Self {
        let time = Time::new();
        let engine = Engine::new(
            Arc::new(MemoryStore::new()),
            Arc::new(EngineClock(Arc::clone(&time))),
        );
        let tasks = CloudTasks::start(Arc::<Time>::clone(&time)).await;
        let wake = Wake::new();
        let (count, requests) = watch::channel(0);
        let tokens = Arc::new(std::sync::Mutex::new(Vec::new()));
        let endpoint_wakes = {
            let (wake, tokens) = (wake.clone(), Arc::clone(&tokens));
            async move |headers: axum::http::HeaderMap| {
                let token = headers
                    .get("authorization")
                    .map(|value| value.to_str().unwrap().to_owned());
                tokens.lock().unwrap().extend(token);
                count.send_modify(|count| *count += 1);
                wake.hint();
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/wake", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/wake", axum::routing::post(endpoint_wakes));
        let mut endpoint = JoinSet::new();
        endpoint.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let identity = TaskIdentity {
            service_account: "timers@test.iam.gserviceaccount.com".to_owned(),
            audience: None,
        };
        Self {
            time,
            engine,
            tasks,
            requests,
            tokens,
            target: TaskTarget {
                url,
                identity: Some(identity),
            },
            wake,
            sweep,
            _endpoint: endpoint,
        }
    }

    fn now(&self) -> Timestamp {
        self.time.wall()
    }

    /// Sets the clock, and waits for a request that the tasks of that time send, if one is due.
    async fn jump(&self, to: Timestamp) {
        self.time.set(to);
        self.tasks.jumped();
    }

    /// A process that arms tasks.
    async fn arms(&self) -> Process {
        let queue = TaskQueue::open(QUEUE, Some(self.tasks.address())).await.unwrap();
        let journal: Arc<dyn Journal> = Arc::new(self.engine.clone());
        let tasks =
            TimerTasks::new(journal, queue, self.target.clone(), self.sweep).woken_by(self.wake.clone());
        let mut process = JoinSet::new();
        process.spawn(tasks.run(CancellationToken::new()));
        Process(process)
    }

    /// A process that fires timers, and that nothing but a request wakes.
    fn fires(&self) -> Process {
        let journal = self.wake.journal(Arc::new(self.engine.clone()));
        let options = Options {
            sweep: Duration::from_secs(3_600),
            ahead: Some(Duration::ZERO),
            ..Options::default()
        };
        let runner = Runner::new(journal.clone(), Arc::new(Timers::new(journal)), options);
        let mut process = JoinSet::new();
        process.spawn(runner.run(CancellationToken::new()));
        Process(process)
    }

    async fn run(&self, name: &str) -> Driven {
        let run = RunId::new("acme", "a", "u", "s", name).unwrap();
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
        let command = Command::new(self.engine.request_id(), RunCommand::Begin(begin));
        let reply = self.engine.run(&run, command).await.unwrap();
        let ReplyResult::Leased { epoch, .. } = reply.result else {
            panic!("not leased: {reply:?}");
        };
        Driven {
            engine: self.engine.clone(),
            run,
            epoch,
        }
    }

    /// How many tasks were created.
    fn created(&self) -> usize {
        count(&self.tasks.calls(), |call| matches!(call, Call::Created { .. }))
    }
}

fn count(calls: &[Call], which: impl Fn(&Call) -> bool) -> usize {
    calls.iter().filter(|call| which(call)).count()
}

struct Driven {
    engine: Engine,
    run: RunId,
    epoch: Epoch,
}

impl Driven {
    async fn drive(&self, command: DriverCommand) {
        let command = RunCommand::Drive(self.epoch, command);
        let command = Command::new(self.engine.request_id(), command);
        self.engine.run(&self.run, command).await.unwrap();
    }

    async fn timer(&self, name: &str, due: Timestamp) {
        let (timer, due, note) = (TimerName::new(name).unwrap(), Deadline::At(due), Payload::empty());
        self.drive(DriverCommand::SetTimer { timer, due, note }).await;
    }

    async fn cancel(&self, name: &str) {
        let timer = TimerName::new(name).unwrap();
        self.drive(DriverCommand::CancelTimer { timer }).await;
    }

    /// How many entries of a kind the journal has.
    async fn count(&self, kind: &str) -> usize {
        let stream = StreamId::Run(self.run.clone());
        let page = self.engine.store().read(&stream, Seq::ZERO, 1_000).await.unwrap();
        let entries = page
            .iter()
            .map(|stored| tape_core::codec::decode(stored).unwrap());
        entries.filter(|entry| entry.body.kind() == kind).count()
    }

    async fn until(&self, kind: &str, n: usize) {
        loop {
            let changed = self.engine.store().changed();
            if self.count(kind).await >= n {
                return;
            }
            changed.await;
        }
    }
}

#[tokio::test]
async fn a_timer_has_a_task_that_wakes_it_and_no_other() {
    let world = World::new().await;
    let (_arms, _fires) = (world.arms().await, world.fires());
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    let name = world.tasks.until_task_at(due).await;
    assert_eq!(name.len(), 64, "it is a hash: {name}");
    world.jump(due).await;
    run.until("timer.fired", 1).await;
    let delivered = Call::Delivered { name, status: 200 };
    world.tasks.until(|calls| calls.contains(&delivered)).await;
    assert_eq!(run.count("timer.fired").await, 1);
    let token = world.tokens.lock().unwrap()[0].clone();
    assert!(token.starts_with("Bearer ey"), "the request shows who it is from");
}

#[tokio::test]
async fn a_gate_has_one_too_and_an_answer_deletes_it() {
    let world = World::new().await;
    let _arms = world.arms().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    let gate = GateName::new("approval").unwrap();
    let (command_gate, deadline) = (gate.clone(), Some(Deadline::At(due)));
    run.drive(DriverCommand::OpenGate {
        gate: command_gate,
        deadline,
    })
    .await;
    let name = world.tasks.until_task_at(due).await;
    let signal = tape_core::command::ExternalCommand::Signal {
        gate,
        id: "yes".parse().unwrap(),
        answer: Payload::empty(),
        seen: None,
    };
    let command = Command::new(world.engine.request_id(), RunCommand::External(signal));
    world.engine.run(&run.run, command).await.unwrap();
    world
        .tasks
        .until(|calls| calls.contains(&Call::Deleted { name: name.clone() }))
        .await;
}

#[tokio::test]
async fn a_timer_that_is_cancelled_loses_its_task_and_another_one_gets_its_own() {
    let world = World::new().await;
    let _arms = world.arms().await;
    let run = world.run("i").await;
    let (first, second) = (
        world.now().plus_millis(3_600 * SECOND),
        world.now().plus_millis(7_200 * SECOND),
    );
    run.timer("t", first).await;
    let name = world.tasks.until_task_at(first).await;
    run.cancel("t").await;
    run.timer("t-2", second).await;
    let replaced = world.tasks.until_task_at(second).await;
    world
        .tasks
        .until(|calls| calls.contains(&Call::Deleted { name: name.clone() }))
        .await;
    assert_ne!(name, replaced);
}

#[tokio::test]
async fn a_lost_answer_creates_no_second_task() {
    let world = World::new().await;
    let sweeps = 2;
    world.tasks.faults([Fault::LoseAnswer; 3]);
    let _arms = world.arms().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    world.tasks.until_task_at(due).await;
    // Each lost answer is followed by a creation that finds the name taken.
    let is_named = |call: &Call| matches!(call, Call::Named { .. });
    world.tasks.until(|calls| count(calls, is_named) >= 2).await;
    assert_eq!(world.tasks.tasks().len(), sweeps + 1);
    assert_eq!(world.created(), sweeps + 1);
}

#[tokio::test]
async fn while_the_queue_refuses_tasks_are_tried_again() {
    let world = World::new().await;
    world.tasks.faults([
        Fault::Refuse(403, "PERMISSION_DENIED"),
        Fault::LoseRequest,
        Fault::Refuse(503, "UNAVAILABLE"),
        Fault::Refuse(429, "RESOURCE_EXHAUSTED"),
    ]);
    let _arms = world.arms().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    world.tasks.until_task_at(due).await;
}

/// A timer beyond what the queue takes is reached in steps, each armed when the one before wakes the journal.
#[tokio::test]
async fn a_timer_beyond_thirty_days_is_reached_in_steps() {
    let world = World::new().await;
    let (_arms, _fires) = (world.arms().await, world.fires());
    let run = world.run("i").await;
    let due = world.now().plus_millis(100 * DAY);
    run.timer("t", due).await;
    let mut steps = 0;
    loop {
        let step = due.minus_millis((3 - steps) * 28 * DAY);
        assert_eq!(run.count("timer.fired").await, 0);
        world.tasks.until_task_at(step).await;
        world.jump(step).await;
        if step == due {
            break;
        }
        steps += 1;
    }
    run.until("timer.fired", 1).await;
    assert_eq!(steps, 3);
    let refused = |call: &Call| matches!(call, Call::Refused { .. });
    assert_eq!(count(&world.tasks.calls(), refused), 0, "none was too far ahead");
}

#[tokio::test]
async fn a_process_that_died_before_it_armed_a_task_is_made_up_for_by_the_next() {
    let world = World::new().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    // Nothing but the agenda knows of the timer.
    let first = world.arms().await;
    let name = world.tasks.until_task_at(due).await;
    drop(first);
    // The next process knows no task of the one before, and creates none again.
    let _second = world.arms().await;
    world
        .tasks
        .until(|calls| calls.contains(&Call::Named { name: name.clone() }))
        .await;
    assert_eq!(world.tasks.tasks().values().filter(|at| **at == due).count(), 1);
}

/// The name of a task that was deleted stays taken for an hour. A timer that is pending gets a task of another name.
#[tokio::test]
async fn a_name_that_was_used_up_is_not_taken_for_a_task() {
    let world = World::new().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    let first = world.arms().await;
    let name = world.tasks.until_task_at(due).await;
    drop(first);
    let queue = reqwest::Client::new();
    let url = format!("http://{}/v2/{QUEUE}/tasks/{name}", world.tasks.address());
    let deleted = queue.delete(&url).send().await.unwrap();
    assert_eq!(deleted.status(), 200);
    let _second = world.arms().await;
    assert_ne!(world.tasks.until_task_at(due).await, name);
}

#[tokio::test]
async fn a_task_that_is_delivered_twice_fires_its_timer_once() {
    let world = World::new().await;
    world.tasks.copies(2);
    let _arms = world.arms().await;
    let _fires = [world.fires(), world.fires(), world.fires()];
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    for n in 0..20 {
        run.timer(&format!("t-{n}"), due).await;
    }
    world.tasks.until_task_at(due).await;
    world
        .tasks
        .until(|calls| count(calls, |call| matches!(call, Call::Created { .. })) == 22)
        .await;
    world.jump(due).await;
    run.until("timer.fired", 20).await;
    let delivered = |call: &Call| matches!(call, Call::Delivered { .. });
    world.tasks.until(|calls| count(calls, delivered) == 40).await;
    assert_eq!(run.count("timer.fired").await, 20);
}

/// The queue loses a task. The next sweep, which is a task as well, finds the timer.
#[tokio::test]
async fn a_task_that_is_lost_delays_its_timer_to_the_next_sweep() {
    let sweep = Duration::from_secs(600);
    let world = World::sweeping(sweep).await;
    let arms = world.arms().await;
    let _fires = world.fires();
    let run = world.run("i").await;
    let due = world.now().plus_millis(30 * SECOND);
    run.timer("t", due).await;
    let name = world.tasks.until_task_at(due).await;
    drop(arms);
    world.tasks.lose(&name);
    world.jump(due).await;
    let next = *world.tasks.tasks().values().min().unwrap();
    assert!(next.millis_since(due) <= 600 * SECOND);
    world.jump(next).await;
    run.until("timer.fired", 1).await;
}

/// A sweep arms the one after the next, so that the chain goes on if one of them is lost.
#[tokio::test]
async fn two_sweeps_are_always_ahead() {
    let sweep = Duration::from_secs(600);
    let world = World::sweeping(sweep).await;
    let _arms = world.arms().await;
    let is_sweep = |at: &Timestamp| at.as_micros() % i64::try_from(sweep.as_micros()).unwrap() == 0;
    world
        .tasks
        .until(|calls| count(calls, |call| matches!(call, Call::Created { .. })) == 2)
        .await;
    for n in 3..8 {
        let tasks = world.tasks.tasks();
        assert!(tasks.values().all(is_sweep) && tasks.len() == 2, "{tasks:?}");
        world.jump(*tasks.values().min().unwrap()).await;
        world
            .tasks
            .until(|calls| count(calls, |call| matches!(call, Call::Created { .. })) == n)
            .await;
        world
            .tasks
            .until(|calls| count(calls, |call| matches!(call, Call::Delivered { .. })) == n - 2)
            .await;
    }
}

/// Many timers cost a look no more than a few do: the tasks of those that come first are armed, and their wake-ups arm the next.
#[tokio::test]
async fn of_many_timers_those_that_come_first_are_armed() {
    const TIMERS: usize = 1_000;
    const RUNS: usize = 10;
    let world = World::new().await;
    let journal = Arc::new(Counted {
        engine: world.engine.clone(),
        pages: AtomicUsize::new(0),
    });
    for n in 0..RUNS {
        let run = world.run(&format!("i-{n}")).await;
        for t in 0..TIMERS / RUNS {
            let due = world.now().plus_millis(DAY + (t * RUNS + n) as u64 * SECOND);
            run.timer(&format!("t-{t}"), due).await;
        }
    }
    let queue = TaskQueue::open(QUEUE, Some(world.tasks.address())).await.unwrap();
    let layered: Arc<dyn Journal> = Arc::<Counted>::clone(&journal);
    let arming = TimerTasks::new(layered, queue, world.target.clone(), NO_SWEEP).woken_by(world.wake.clone());
    let mut process = JoinSet::new();
    process.spawn(arming.run(CancellationToken::new()));
    world
        .tasks
        .until(|calls| count(calls, |call| matches!(call, Call::Created { .. })) == 258)
        .await;
    let mut times: Vec<Timestamp> = world.tasks.tasks().into_values().collect();
    times.sort();
    let first = world.now().plus_millis(DAY);
    let armed: Vec<Timestamp> = (0..256).map(|n| first.plus_millis(n * SECOND)).collect();
    assert_eq!(times[..256], armed);
    assert!(journal.pages.load(Ordering::SeqCst) <= 4, "a page a look");
    // The first hundred wake their timers, and the next hundred are armed.
    let _fires = world.fires();
    world.jump(first.plus_millis(99 * SECOND)).await;
    world.tasks.until_task_at(first.plus_millis(355 * SECOND)).await;
}

/// Counts pages of the agenda.
#[derive(Debug)]
struct Counted {
    engine: Engine,
    pages: AtomicUsize,
}

#[async_trait]
impl Layer for Counted {
    fn inner(&self) -> &dyn Journal {
        &self.engine
    }

    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<tape_reactors::api::due::PendingPage, tape_reactors::api::JournalError> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        Journal::pending(&self.engine, queue, from, limit).await
    }
}

/// What the other tests stand on: the queue does what Google says.
#[tokio::test]
async fn the_queue_remembers_names_and_repeats_deliveries() {
    let world = World::new().await;
    let arms = world.arms().await;
    let run = world.run("i").await;
    let due = world.now().plus_millis(3_600 * SECOND);
    run.timer("t", due).await;
    let name = world.tasks.until_task_at(due).await;
    drop(arms);
    let http = reqwest::Client::new();
    let tasks = format!("http://{}/v2/{QUEUE}/tasks", world.tasks.address());
    let create = async |name: &str, at: Option<Timestamp>| {
        let at = at.map(humantime);
        let mut task = serde_json::json!({
            "name": format!("{QUEUE}/tasks/{name}"), "httpRequest": {"url": world.target.url},
        });
        if let Some(at) = at {
            task["scheduleTime"] = at.into();
        }
        let answer = http.post(&tasks).json(&serde_json::json!({"task": task})).send();
        answer.await.unwrap().status().as_u16()
    };
    assert_eq!(create(&name, None).await, 409, "it is there");
    assert_eq!(
        http.delete(format!("{tasks}/{name}"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        http.delete(format!("{tasks}/{name}"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        http.get(format!("{tasks}/{name}")).send().await.unwrap().status(),
        404
    );
    assert_eq!(create(&name, None).await, 409, "it was there within the hour");
    let before = world.now();
    world
        .time
        .set(before.plus_millis(u64::try_from(REMEMBERED.as_millis()).unwrap()));
    assert_eq!(create(&name, None).await, 200, "the hour is over");
    assert_eq!(create("a b", None).await, 400);
    assert_eq!(
        create("far", Some(world.now().plus_millis(30 * DAY + 1))).await,
        400
    );
    assert_eq!(create("near", Some(world.now().plus_millis(30 * DAY))).await, 200);
    let delivered = Call::Delivered { name, status: 200 };
    world.tasks.until(|calls| calls.contains(&delivered)).await;
    assert_eq!(*world.requests.borrow(), 1);
    world.tasks.pause(true);
    assert_eq!(create("paused", None).await, 200);
    assert_eq!(
        world.tasks.tasks().len(),
        4,
        "two sweeps, one far ahead, one that waits"
    );
    world.tasks.pause(false);
    world
        .tasks
        .until(|calls| count(calls, |call| matches!(call, Call::Delivered { .. })) == 2)
        .await;
}

fn humantime(at: Timestamp) -> String {
    let time = google_cloud_wkt::Timestamp::clamp(
        at.as_micros().div_euclid(1_000_000),
        i32::try_from(at.as_micros().rem_euclid(1_000_000) * 1_000).unwrap(),
    );
    serde_json::to_value(time).unwrap().as_str().unwrap().to_owned()
}

/// A journal as a process sees it whose machine's clock is so many milliseconds ahead.
#[derive(Debug)]
struct Ahead(Engine, u64);

#[derive(Debug)]
struct MachineAhead(Arc<dyn Environment>, u64);

impl Environment for MachineAhead {
    fn wall(&self) -> Timestamp {
        self.0.wall().plus_millis(self.1)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn boot(&self) -> Option<String> {
        None
    }

    fn process(&self) -> u32 {
        2
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}

impl Layer for Ahead {
    fn inner(&self) -> &dyn Journal {
        &self.0
    }

    fn environment(&self) -> Arc<dyn Environment> {
        Arc::new(MachineAhead(Layer::inner(self).environment(), self.1))
    }
}

#[tokio::test]
async fn a_timer_has_a_task_whatever_the_clock_of_the_machine_that_arms_it() {
    let world = World::new().await;
    let queue = TaskQueue::open(QUEUE, Some(world.tasks.address())).await.unwrap();
    let journal: Arc<dyn Journal> = Arc::new(Ahead(world.engine.clone(), 60 * SECOND));
    let tasks =
        TimerTasks::new(journal, queue, world.target.clone(), world.sweep).woken_by(world.wake.clone());
    let mut process = JoinSet::new();
    process.spawn(tasks.run(CancellationToken::new()));
    let due = START.plus_millis(30 * SECOND);
    world.run("i").await.timer("t", due).await;
    world.tasks.until_task_at(due).await;
}
