//! The runner over a fake agenda, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod logged;

use async_trait::async_trait;
use futures::future::BoxFuture;
use logged::Log;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{ConnectorName, RunId, StreamId};
use tape_engine::Engine;
use tape_reactors::api::due::{DuePage, DueWork};
use tape_reactors::api::{Journal, JournalError, Layer};
use tape_reactors::{ConcurrencyLimit, Options, Reaction, ReactionError, Reactor, Runner, Task, Watched};
use tape_store::memory::MemoryStore;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Work that is due until it is done, with a record of what was done.
#[derive(Debug, Default)]
struct Board {
    due: Mutex<Vec<(usize, DueWork)>>,
    changed: Notify,
    /// How often work on each run was begun.
    begun: Mutex<HashMap<String, usize>>,
    done: Mutex<Vec<String>>,
    at_once: Mutex<HashMap<&'static str, (usize, usize)>>,
    limits: HashMap<&'static str, ConcurrencyLimit>,
    /// Why the agenda is unreachable, where it is.
    away: Mutex<Option<&'static str>>,
    /// Why nothing can be written, where that is so.
    read_only: Mutex<Option<&'static str>>,
}

/// A reactor that treats each run as the run's name says.
struct Clerk(Arc<Board>);

fn piece(tenant: &str, run: &str) -> DueWork {
    DueWork {
        stream: StreamId::Run(RunId::new(tenant, "a", "u", "s", run).unwrap()),
        item: Item::Run,
        due_in: Duration::ZERO,
    }
}

fn name(work: &DueWork) -> String {
    work.stream.as_run().unwrap().invocation.to_string()
}

/// The word that a run's name begins with.
fn kind(work: &DueWork) -> &'static str {
    let name = name(work);
    let kinds = ["stuck", "slow", "quick", "panics", "poisoned", "again"];
    kinds.into_iter().find(|kind| name.starts_with(kind)).unwrap()
}

impl Board {
    fn with(limits: &[(&'static str, usize)]) -> Arc<Self> {
        let limits = limits
            .iter()
            .map(|(kind, places)| (*kind, ConcurrencyLimit::new(*places)));
        Arc::new(Self {
            limits: limits.collect(),
            ..Self::default()
        })
    }

    fn give(&self, work: impl IntoIterator<Item = DueWork>) {
        let mut due = self.due.lock().unwrap();
        let first = due.last().map_or(0, |(place, _)| place + 1);
        due.extend((first..).zip(work));
        self.changed.notify_waiters();
    }

    fn enter(&self, kind: &'static str) {
        let mut at_once = self.at_once.lock().unwrap();
        for kind in [kind, "all"] {
            let (now, most) = at_once.entry(kind).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
    }

    fn leave(&self, work: &DueWork) {
        let mut at_once = self.at_once.lock().unwrap();
        for kind in [kind(work), "all"] {
            at_once.get_mut(kind).unwrap().0 -= 1;
        }
        self.due
            .lock()
            .unwrap()
            .retain(|(_, due)| due.stream != work.stream);
        self.done.lock().unwrap().push(name(work));
    }

    fn most(&self, kind: &'static str) -> usize {
        self.at_once.lock().unwrap()[kind].1
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    async fn until_done(&self, n: usize) {
        while self.done().len() < n {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The board as a journal; a runner only reads its due work.
#[derive(Debug)]
struct Agenda {
    board: Arc<Board>,
    empty: Engine,
}

fn agenda(board: &Arc<Board>) -> Arc<dyn Journal> {
    Arc::new(Agenda {
        board: Arc::clone(board),
        empty: Engine::start(Arc::new(MemoryStore::new())),
    })
}

#[async_trait]
impl Layer for Agenda {
    fn inner(&self) -> &dyn Journal {
        &self.empty
    }

    async fn due(
        &self,
        _queue: Queue,
        _within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        if let Some(why) = *self.board.away.lock().unwrap() {
            return Err(JournalError::unavailable(why));
        }
        let due = self.board.due.lock().unwrap();
        // Places are those in the given list, so that finished work does not move them.
        let from = from.map_or(0, |token| token.parse().unwrap());
        let mut page = due.iter().filter(|(place, _)| *place >= from);
        let work: Vec<_> = page.by_ref().take(usize::try_from(limit).unwrap()).collect();
        Ok(DuePage {
            work: work.into_iter().map(|(_, work)| work.clone()).collect(),
            next: page.next().map(|(place, _)| place.to_string()),
        })
    }

    async fn finish_erasures(&self, _stream: &StreamId) -> Result<(), JournalError> {
        let why = *self.board.read_only.lock().unwrap();
        why.map_or(Ok(()), |why| Err(JournalError::unavailable(why)))
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        let board = Arc::clone(&self.board);
        Box::pin(async move { board.changed.notified().await })
    }
}

#[async_trait]
impl Reactor for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn queue(&self) -> Queue {
        Queue::Outbox
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        if kind(work) == "poisoned" {
            *self.0.begun.lock().unwrap().entry(name(work)).or_default() += 1;
            let connector = ConnectorName::new("unconfigured").unwrap();
            return Err(ReactionError::UnknownConnector { connector });
        }
        Ok(match self.0.limits.get(kind(work)) {
            Some(limit) => Task::limited(limit.clone(), self.act(work)),
            None => Task::now(self.act(work)),
        })
    }
}

impl Clerk {
    async fn act(&self, work: &DueWork) -> Result<Reaction, ReactionError> {
        *self.0.begun.lock().unwrap().entry(name(work)).or_default() += 1;
        self.0.enter(kind(work));
        match kind(work) {
            "stuck" => std::future::pending().await,
            "slow" => tokio::time::sleep(Duration::from_secs(10)).await,
            "panics" if self.0.begun.lock().unwrap()[&name(work)] < 3 => {
                self.0.at_once.lock().unwrap().get_mut("all").unwrap().0 -= 1;
                panic!("a bug");
            }
            // Its own action makes it due once more, and it is seen due before it ends.
            "again" if self.0.begun.lock().unwrap()[&name(work)] == 1 => {
                self.0.changed.notify_waiters();
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.0.at_once.lock().unwrap().get_mut("all").unwrap().0 -= 1;
                return Ok(Reaction::Done);
            }
            _ => tokio::task::yield_now().await,
        }
        self.0.leave(work);
        Ok(Reaction::Done)
    }
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(board: &Arc<Board>, concurrency: usize) -> Running {
    let options = Options {
        concurrency,
        ..Options::default()
    };
    let journal: Arc<dyn Journal> = agenda(board);
    let runner = Runner::new(journal, Arc::new(Clerk(Arc::clone(board))), options);
    let stop = CancellationToken::new();
    Running {
        task: tokio::spawn(runner.run(stop.clone())),
        stop,
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_holds_up_neither_the_queue_nor_other_lanes() {
    let board = Board::with(&[("stuck", 1), ("quick", 1)]);
    // The queue has room for two; the upstream that never answers has room for one of its five hundred.
    board.give((0..500).map(|n| piece("acme", &format!("stuck-{n}"))));
    board.give((0..500).map(|n| piece("acme", &format!("quick-{n}"))));
    let _running = start(&board, 2);
    board.until_done(500).await;
    assert_eq!(board.most("stuck"), 1);
    assert_eq!(board.most("quick"), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_queue_and_lane_allow() {
    let board = Board::with(&[("slow", 3)]);
    board.give((0..20).map(|n| piece("acme", &format!("slow-{n}"))));
    board.give((0..200).map(|n| piece("acme", &format!("quick-{n}"))));
    let _running = start(&board, 5);
    board.until_done(220).await;
    assert_eq!(board.most("slow"), 3);
    assert!(board.most("all") <= 5, "{}", board.most("all"));
    let begun = board.begun.lock().unwrap();
    assert!(begun.values().all(|times| *times == 1), "none twice");
}

#[tokio::test(start_paused = true)]
async fn pieces_that_nobody_can_do_hold_up_nothing_behind_them() {
    let board = Board::with(&[]);
    // More than a page may have, and more than a runner remembers.
    board.give((0..15_000).map(|n| piece("acme", &format!("poisoned-{n}"))));
    board.give((0..10).map(|n| piece("acme", &format!("quick-{n}"))));
    let _running = start(&board, 64);
    board.until_done(10).await;
    // And a piece that comes while all of them wait.
    board.give([piece("acme", "quick-late")]);
    board.until_done(11).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_much_work_does_not_hold_up_another() {
    let board = Board::with(&[]);
    board.give((0..100).map(|n| piece("big", &format!("slow-big-{n}"))));
    board.give([piece("small", "slow-small")]);
    let _running = start(&board, 2);
    board.until_done(10).await;
    let place = board.done().iter().position(|name| name == "slow-small");
    assert!(place.is_some_and(|place| place < 4), "{place:?}");
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_panics_comes_back_and_holds_up_nobody() {
    let board = Board::with(&[]);
    board.give([piece("acme", "panics")]);
    board.give((0..50).map(|n| piece("acme", &format!("quick-{n}"))));
    let _running = start(&board, 1);
    board.until_done(51).await;
    assert_eq!(board.begun.lock().unwrap()["panics"], 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_once_more_when_it_ends_is_not_left_to_the_sweep() {
    let board = Board::with(&[]);
    board.give([piece("acme", "again")]);
    let _running = start(&board, 4);
    let begun = tokio::time::Instant::now();
    board.until_done(1).await;
    assert!(begun.elapsed() < Options::default().sweep / 10);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_told_to_stop_finishes_what_is_under_way_and_no_more() {
    let board = Board::with(&[("slow", 2)]);
    board.give((0..10).map(|n| piece("acme", &format!("slow-{n}"))));
    let running = start(&board, 4);
    while board.begun.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.stop.cancel();
    running.task.await.unwrap();
    assert_eq!(board.done().len(), 2, "those under way are done");
    assert_eq!(
        board.begun.lock().unwrap().len(),
        2,
        "those that waited were left"
    );
}

/// Several processes share the work of a journal, each with the connectors and agents that it has.
#[tokio::test(start_paused = true)]
async fn what_is_not_configured_here_is_said_once_each_five_minutes_and_looked_at_rarely() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let board = Board::with(&[]);
    board.give((0..26).map(|n| piece("acme", &format!("poisoned-{n}"))));
    let journal = Watched::from(agenda(&board));
    let (stop, mut runners) = (CancellationToken::new(), tokio::task::JoinSet::new());
    for _ in 0..3 {
        let clerk = Arc::new(Clerk(Arc::clone(&board)));
        let runner = Runner::new(journal.clone(), clerk, Options::default());
        runners.spawn(runner.run(stop.clone()));
    }
    // A failed piece would be retried many times by then.
    tokio::time::sleep(Options::default().backoff_max / 3).await;
    let looked_at = board.begun.lock().unwrap().clone();
    assert!(
        looked_at.len() == 26 && looked_at.values().all(|times| *times == 3),
        "{looked_at:?}"
    );
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let told = log.take();
    assert!((11..=13).contains(&told.len()), "{told:?}");
    let line = "WARN message=the work is left to other processes name=connector unconfigured why=\"no connector 'unconfigured' is known here\"";
    assert!(told.iter().all(|told| told.starts_with(line)), "{told:?}");
    stop.cancel();
    while runners.join_next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_away_is_said_once_a_minute_by_all_reactors_together() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let board = Board::with(&[]);
    let away = |why| *board.away.lock().unwrap() = why;
    let journal = Watched::from(agenda(&board));
    let (stop, mut runners) = (CancellationToken::new(), tokio::task::JoinSet::new());
    for _ in 0..5 {
        let clerk = Arc::new(Clerk(Arc::clone(&board)));
        let runner = Runner::new(journal.clone(), clerk, Options::default());
        runners.spawn(runner.run(stop.clone()));
    }
    let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    away(Some("refused"));
    board.changed.notify_waiters();
    seconds(30).await;
    let told = log.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("WARN message=the journal is out of reach; trying again error=\"refused\""),
        "{told:?}"
    );
    seconds(300).await;
    assert_eq!(log.take().len(), 5);
    away(Some("no answer"));
    seconds(20).await;
    let told = log.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("no answer"), "{told:?}");
    away(None);
    seconds(300).await;
    let told = log.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("INFO message=the journal is back"),
        "{told:?}"
    );
    stop.cancel();
    while runners.join_next().await.is_some() {}
}

/// A successful read does not end the outage.
#[tokio::test(start_paused = true)]
async fn a_journal_that_takes_no_writes_is_said_once_a_minute_until_it_takes_one() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let board = Board::with(&[]);
    let journal: Arc<dyn Journal> = Arc::new(Watched::from(agenda(&board)));
    let stream = piece("acme", "again").stream;
    let a_minute = async || {
        for _ in 0..60 {
            let _ = journal.finish_erasures(&stream).await;
            journal.due(Queue::Timers, Duration::ZERO, None, 1).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        log.take()
    };
    *board.read_only.lock().unwrap() = Some("read-only");
    for _ in 0..3 {
        let told = a_minute().await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("out of reach") && told[0].contains("read-only"),
            "{told:?}"
        );
    }
    *board.read_only.lock().unwrap() = None;
    let told = a_minute().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("INFO message=the journal is back") && told[0].contains("180 failures"),
        "{told:?}"
    );
    // A journal that was fully unreachable is back once it can be read: there may be nothing to write for long.
    *board.away.lock().unwrap() = Some("refused");
    *board.read_only.lock().unwrap() = Some("refused");
    let asked = journal.finish_erasures(&stream).await.is_err();
    assert!(asked && journal.due(Queue::Timers, Duration::ZERO, None, 1).await.is_err());
    *board.away.lock().unwrap() = None;
    journal.due(Queue::Timers, Duration::ZERO, None, 1).await.unwrap();
    let told = log.take();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[1].starts_with("INFO message=the journal is back"),
        "{told:?}"
    );
}
