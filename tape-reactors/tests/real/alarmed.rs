//! Timers that tasks of Cloud Tasks wake, in workers that are really killed.

use crate::cloud_tasks::{Call, CloudTasks, Fault, QUEUE, Retries};
use crate::process::Child;
use crate::upstream::Upstream;
use crate::world::{Driven, World};
use std::time::Duration;
use tape_core::command::DriverCommand;
use tape_core::entry::EntryBody;
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::time::{Deadline, Timestamp};
use tape_environment::machine;

const ACCOUNT: &str = "timers@test.iam.gserviceaccount.com";
const SECOND: u64 = 1_000;

/// A journal, a queue, and the place of a worker at a fixed port.
struct Alarmed {
    world: World,
    tasks: CloudTasks,
    upstream: Upstream,
    port: u16,
}

impl Alarmed {
    async fn new() -> Self {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let tasks = CloudTasks::start(machine()).await;
        tasks.retries(Retries {
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(400),
            ..Retries::default()
        });
        Self {
            world,
            tasks,
            upstream,
            port: free_port(),
        }
    }

    /// A worker that looks at the agenda once an hour, and otherwise where a request wakes it.
    fn worker(&self) -> Child {
        self.worker_at(self.port)
    }

    fn worker_at(&self, port: u16) -> Child {
        let more = format!(
            "[timers.cloud_tasks]\nqueue = \"{QUEUE}\"\nurl = \"http://127.0.0.1:{}/wake\"\n\
             emulator = \"{}\"\nsweep_ms = 3600000\n",
            self.port,
            self.tasks.address(),
        );
        let (listen, keys) = (format!("127.0.0.1:{port}"), self.tasks.keys());
        let flags = [
            "--timers=cloud-tasks",
            "--wake=push",
            "--sweep=off",
            "--listen",
            &listen,
            "--push-audience",
            &format!("http://127.0.0.1:{}/wake", self.port),
            "--push-account",
            ACCOUNT,
            "--push-issuer=https://accounts.google.com",
            "--jwks-url",
            &keys,
        ];
        self.world.worker_with(&self.upstream, &more, &flags)
    }

    fn now(&self) -> Timestamp {
        machine().wall()
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) async fn timer(run: &Driven, name: &str, due: Timestamp) {
    let (timer, due, note) = (TimerName::new(name).unwrap(), Deadline::At(due), Payload::empty());
    run.drive(DriverCommand::SetTimer { timer, due, note }).await;
}

async fn cancel(run: &Driven, name: &str) {
    let timer = TimerName::new(name).unwrap();
    run.drive(DriverCommand::CancelTimer { timer }).await;
}

/// The timers that fired, in order.
pub(crate) async fn fired(run: &Driven) -> Vec<String> {
    let entries = run.entries().await;
    let fired = entries.into_iter().filter_map(|body| match body {
        EntryBody::TimerFired(fired) => Some(fired.timer.to_string()),
        _ => None,
    });
    fired.collect()
}

/// Nothing but the task can wake the worker: it sees 10 s ahead, and looks again in an hour.
#[tokio::test]
async fn a_task_wakes_the_worker_when_its_timer_is_due() {
    let alarmed = Alarmed::new().await;
    let _worker = alarmed.worker();
    let run = alarmed.world.run("i").await;
    let due = alarmed.now().plus_millis(12 * SECOND);
    timer(&run, "t", due).await;
    let name = alarmed.tasks.until_task_at(due).await;
    run.until_count("timer.fired", 1).await;
    let delivered = Call::Delivered { name, status: 204 };
    alarmed.tasks.until(|calls| calls.contains(&delivered)).await;
    assert!(alarmed.now() >= due);
}

/// Workers are killed while they arm tasks and fire timers. The queue loses answers and delivers each task twice.
#[tokio::test]
async fn no_timer_is_lost_or_fires_twice_however_often_workers_are_killed() {
    const ROUNDS: usize = 12;
    let alarmed = Alarmed::new().await;
    alarmed.tasks.copies(2);
    let run = alarmed.world.run("i").await;
    let mut names = Vec::new();
    for n in 0..ROUNDS {
        let mut worker = alarmed.worker();
        if n % 3 == 0 {
            alarmed.tasks.faults([Fault::LoseAnswer, Fault::LoseRequest]);
        }
        let due = alarmed.now().plus_millis(2 * SECOND);
        let name = format!("t-{n}");
        timer(&run, &name, due).await;
        names.push(name);
        match n % 3 {
            // Killed with the timer recorded, and perhaps not armed.
            0 => worker.kill(),
            // Killed with its task in the queue.
            1 => {
                alarmed.tasks.until_task_at(due).await;
                worker.kill();
            }
            // Killed while it fires.
            _ => {
                let before = alarmed.tasks.calls().len();
                let delivered = |call: &Call| matches!(call, Call::Delivered { status: 204, .. });
                alarmed
                    .tasks
                    .until(|calls| calls[before..].iter().any(delivered))
                    .await;
                worker.kill();
            }
        }
    }
    let _worker = alarmed.worker();
    run.until_count("timer.fired", ROUNDS).await;
    let mut fired = fired(&run).await;
    fired.sort();
    names.sort();
    assert_eq!(fired, names);
}

/// A worker that dies between the entry and its task leaves nothing but the agenda. The next one arms what it finds there.
#[tokio::test]
async fn a_timer_that_was_recorded_while_no_worker_was_there_gets_its_task() {
    let alarmed = Alarmed::new().await;
    let run = alarmed.world.run("i").await;
    let due = alarmed.now().plus_millis(3_600 * SECOND);
    timer(&run, "t", due).await;
    let _worker = alarmed.worker();
    alarmed.tasks.until_task_at(due).await;
}

/// A creation is answered never, and its worker is killed. The next worker finds the task by its name.
#[tokio::test]
async fn a_worker_that_is_killed_before_a_creation_is_answered_leaves_one_task() {
    let alarmed = Alarmed::new().await;
    let run = alarmed.world.run("i").await;
    let due = alarmed.now().plus_millis(3_600 * SECOND);
    timer(&run, "t", due).await;
    alarmed.tasks.faults([Fault::HoldAnswer; 3]);
    let mut worker = alarmed.worker();
    let name = alarmed.tasks.until_task_at(due).await;
    worker.kill();
    let _worker = alarmed.worker();
    let named = Call::Named { name: name.clone() };
    alarmed.tasks.until(|calls| calls.contains(&named)).await;
    assert_eq!(alarmed.tasks.tasks().values().filter(|at| **at == due).count(), 1);
}

#[tokio::test]
async fn a_cancelled_timer_does_not_fire_and_the_one_in_its_place_does() {
    let alarmed = Alarmed::new().await;
    let _workers = [alarmed.worker(), alarmed.worker_at(free_port())];
    let run = alarmed.world.run("i").await;
    let due = alarmed.now().plus_millis(60 * SECOND);
    timer(&run, "t", due).await;
    let name = alarmed.tasks.until_task_at(due).await;
    cancel(&run, "t").await;
    let soon = alarmed.now().plus_millis(2 * SECOND);
    timer(&run, "t-2", soon).await;
    run.until_count("timer.fired", 1).await;
    alarmed
        .tasks
        .until(|calls| calls.contains(&Call::Deleted { name: name.clone() }))
        .await;
    assert_eq!(fired(&run).await, ["t-2"]);
}

/// A timer far ahead has a task that the queue takes, well before it.
#[tokio::test]
async fn a_timer_beyond_thirty_days_has_a_task_on_the_way() {
    const DAY: u64 = 24 * 3_600 * SECOND;
    let alarmed = Alarmed::new().await;
    let run = alarmed.world.run("i").await;
    let due = alarmed.now().plus_millis(70 * DAY);
    timer(&run, "t", due).await;
    let _worker = alarmed.worker();
    alarmed.tasks.until_task_at(due.minus_millis(2 * 28 * DAY)).await;
    let refused = |call: &Call| matches!(call, Call::Refused { .. });
    assert!(!alarmed.tasks.calls().iter().any(refused));
}

/// A request that does not show the account's token wakes nothing.
#[tokio::test]
async fn only_the_accounts_token_opens_the_endpoint() {
    let alarmed = Alarmed::new().await;
    let _worker = alarmed.worker();
    let url = format!("http://127.0.0.1:{}/wake", alarmed.port);
    let refused = crate::upstream::http().post(url).body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 401);
}
