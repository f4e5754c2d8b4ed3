//! A runner that hints wake, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{RunId, StreamId};
use tape_engine::Engine;
use tape_reactors::api::due::{DueWork, PendingPage, PendingWork};
use tape_reactors::api::{Journal, JournalError, Layer};
use tape_reactors::{Options, Reaction, ReactionError, Reactor, Runner, Task, Wake};
use tape_store::memory::MemoryStore;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_hours(1);

/// Work that is due until it is done, in a journal that must not be asked for changes.
#[derive(Debug)]
struct Board {
    due: Mutex<Vec<(Instant, DueWork)>>,
    looks: Mutex<Vec<Instant>>,
    done: watch::Sender<Vec<Instant>>,
    /// With this, work comes right after the next page was read, and is hinted at.
    late: Mutex<Option<Wake>>,
    empty: Engine,
}

impl Board {
    fn give(&self, name: &str, after: Duration) {
        let run = RunId::new("acme", "a", "u", "s", name).unwrap();
        let work = DueWork {
            stream: StreamId::Run(run),
            item: Item::Run,
            due_in: Duration::ZERO,
        };
        let at = Instant::now() + after;
        self.due.lock().unwrap().push((at, work));
    }
}

#[async_trait]
impl Layer for Board {
    fn inner(&self) -> &dyn Journal {
        &self.empty
    }

    async fn pending(
        &self,
        _queue: Queue,
        _from: Option<&str>,
        _limit: u32,
    ) -> Result<PendingPage, JournalError> {
        let (now, wall) = (Instant::now(), self.empty.environment().wall());
        self.looks.lock().unwrap().push(now);
        let due = self.due.lock().unwrap();
        let work = due.iter().map(|(at, work)| PendingWork {
            stream: work.stream.clone(),
            item: work.item.clone(),
            due: wall.plus_millis(u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap()),
        });
        let work = work.collect();
        drop(due);
        if let Some(wake) = self.late.lock().unwrap().take() {
            self.give("late", Duration::ZERO);
            wake.hint();
        }
        let now = Some(wall);
        Ok(PendingPage {
            work,
            next: None,
            now,
        })
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        panic!("the journal is watched although hints are to wake");
    }
}

struct Clerk(Arc<Board>);

#[async_trait]
impl Reactor for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn queue(&self) -> Queue {
        Queue::Outbox
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        Ok(Task::now(async move {
            let mut due = self.0.due.lock().unwrap();
            due.retain(|(_, due)| due.stream != work.stream);
            self.0.done.send_modify(|done| done.push(Instant::now()));
            Ok(Reaction::Done)
        }))
    }
}

struct World {
    board: Arc<Board>,
    wake: Wake,
    stop: CancellationToken,
    runner: tokio::task::JoinHandle<()>,
}

impl World {
    /// A runner that hints wake, and a sweep, which has looked for the first time.
    async fn new(sweep: Duration) -> Self {
        let board = Arc::new(Board {
            due: Mutex::default(),
            looks: Mutex::default(),
            done: watch::Sender::default(),
            late: Mutex::default(),
            empty: Engine::start(Arc::new(MemoryStore::new())),
        });
        let (wake, stop) = (Wake::new(), CancellationToken::new());
        let options = Options {
            sweep,
            ..Options::default()
        };
        let journal = wake.journal(board.clone());
        let runner = Runner::new(journal, Arc::new(Clerk(board.clone())), options);
        let runner = tokio::spawn(runner.run(stop.clone()));
        let world = Self {
            board,
            wake,
            stop,
            runner,
        };
        while world.looks() == 0 {
            tokio::task::yield_now().await;
        }
        world
    }

    fn looks(&self) -> usize {
        self.board.looks.lock().unwrap().len()
    }

    fn give(&self, name: &str, after: Duration) {
        self.board.give(name, after);
    }

    /// When the work was done that was done as the `n`th.
    async fn done(&self, n: usize) -> Instant {
        let mut done = self.board.done.subscribe();
        done.wait_for(|done| done.len() >= n).await.unwrap()[n - 1]
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_leads_to_a_look_at_once() {
    let world = World::new(24 * HOUR).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.looks(), 1, "nothing else leads to one");
    world.give("a", Duration::ZERO);
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.board.done.borrow().len(), 0, "no hint came");
    let said = Instant::now();
    world.wake.hint();
    assert!(world.done(1).await - said < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_delays_work_until_the_sweep_and_no_longer() {
    let world = World::new(HOUR).await;
    world.give("a", Duration::from_secs(60));
    let given = Instant::now();
    let waited = world.done(1).await - given;
    assert!(waited <= HOUR + Duration::from_secs(1), "{waited:?}");
    assert!(
        waited > HOUR - Duration::from_secs(1),
        "the sweep did it: {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_becomes_due_by_time_alone_needs_no_second_hint() {
    let world = World::new(24 * HOUR).await;
    world.give("a", 3 * HOUR);
    world.wake.hint();
    let given = Instant::now();
    let waited = world.done(1).await - given;
    assert!(
        waited >= 3 * HOUR && waited < 3 * HOUR + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_hints_is_no_flood_of_looks() {
    let world = World::new(24 * HOUR).await;
    tokio::time::sleep(HOUR).await;
    let before = world.looks();
    for _ in 0..1_000 {
        world.wake.hint();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let looks = world.looks() - before;
    assert!((1..=100).contains(&looks), "{looks} looks in a second");
}

/// A hint that comes after the agenda was read, and before the runner waits for one, is about what the page does not have.
#[tokio::test(start_paused = true)]
async fn a_hint_between_a_look_and_the_wait_is_heard() {
    let world = World::new(24 * HOUR).await;
    *world.board.late.lock().unwrap() = Some(world.wake.clone());
    let said = Instant::now();
    world.wake.hint();
    let waited = world.done(1).await - said;
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    world.stop.cancel();
    world.runner.await.unwrap();
}
