//! Runs a reactor: finds due work, keeps what is under way bounded, comes back to what failed, drains.

use crate::access::{Access, DueWork};
use crate::backoff::jittered;
use crate::fair::in_turns;
use crate::reactor::{Reaction, ReactionError, Reactor};
use rand::seq::SliceRandom as _;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Item;
use tape_core::id::StreamId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Failed pieces that are remembered; beyond that the oldest wait is forgotten, and its piece tried again early.
const FAILED_MAX: usize = 10_000;

/// Pieces that wait for their lane, beside those under way in the queue; while there are more, nothing new is taken up.
const PARKED_MAX: usize = 4_096;

/// However much is written, looks at the agenda are this far apart at least.
const PAUSE: Duration = Duration::from_millis(10);

/// The same while what is written is nothing for this reactor, so that the work of others costs it little. Whoever has looked
/// at nothing for longer than this is woken at once.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// How a driver works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pieces of work under way at once, at least one.
    pub concurrency: usize,
    /// The agenda is looked at this often even where nothing wakes the driver: the safety net under lost wake-ups.
    pub sweep: Duration,
    /// The first wait after a failure; it doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// Pieces of work read from the agenda at a time.
    pub page: u32,
}

impl Default for Options {
    /// 64 at once, a sweep every 10 s, waits from 200 ms to 1 min, pages of 256.
    fn default() -> Self {
        Self {
            concurrency: 64,
            sweep: Duration::from_secs(10),
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            page: 256,
        }
    }
}

type Piece = (StreamId, Item);
type Ended = Result<(Id, Result<Reaction, ReactionError>), JoinError>;

/// Runs one reactor over a journal until it is told to stop.
pub struct Driver {
    access: Arc<dyn Access>,
    reactor: Arc<dyn Reactor>,
    options: Options,
    slots: Slots,
    /// Due work that was read and not yet taken up, in the order in which it will be.
    backlog: VecDeque<DueWork>,
    looked: Instant,
    pause: Duration,
    /// The agenda is looked at from here on.
    look_at: Instant,
    under_way: HashSet<Piece>,
    failed: HashMap<Piece, Failure>,
    tasks: JoinSet<Result<Reaction, ReactionError>>,
    pieces: HashMap<Id, Piece>,
}

/// The places of a queue.
#[derive(Clone)]
struct Slots {
    free: Arc<Semaphore>,
    /// A piece gave its place back before it ended.
    given_back: Arc<Notify>,
    stop: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    times: u32,
    until: Instant,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("reactor", &self.reactor.name())
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver of `reactor` over `access`.
    pub fn new(access: Arc<dyn Access>, reactor: Arc<dyn Reactor>, options: Options) -> Self {
        let now = Instant::now();
        Self {
            access,
            reactor,
            options,
            slots: Slots {
                free: Arc::new(Semaphore::new(
                    options.concurrency.clamp(1, Semaphore::MAX_PERMITS),
                )),
                given_back: Arc::new(Notify::new()),
                stop: CancellationToken::new(),
            },
            backlog: VecDeque::new(),
            looked: now,
            pause: PAUSE,
            look_at: now,
            under_way: HashSet::new(),
            failed: HashMap::new(),
            tasks: JoinSet::new(),
            pieces: HashMap::new(),
        }
    }

    /// Works until `stop`; then takes up nothing new, and returns once what is under way is done.
    pub async fn run(mut self, stop: CancellationToken) {
        self.slots.stop = stop.clone();
        let given_back = Arc::clone(&self.slots.given_back);
        while !stop.is_cancelled() {
            // Asked for before looking, so that what is written in between is not missed.
            let changed = self.access.changed(self.reactor.queue());
            self.take_up().await;
            let idle = self.has_room();
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                () = given_back.notified() => {}
                () = changed, if idle => self.look_at = self.look_at.min(self.looked + self.pause),
                () = tokio::time::sleep_until(self.look_at), if idle => {}
            }
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn has_room(&self) -> bool {
        self.slots.free.available_permits() > 0 && self.under_way.len() < self.under_way_max()
    }

    fn under_way_max(&self) -> usize {
        self.options.concurrency.saturating_add(PARKED_MAX)
    }

    /// Starts what is due and has room; looks at the agenda where it is time to.
    async fn take_up(&mut self) {
        self.start_backlog();
        if self.has_room() && self.backlog.is_empty() && self.look_at <= Instant::now() {
            self.look().await;
            self.start_backlog();
        }
    }

    async fn look(&mut self) {
        self.looked = Instant::now();
        // Work that is under way or waits after a failure is on the page too; it must not hide the rest.
        let known = u32::try_from(self.under_way.len() + self.failed.len()).unwrap_or(u32::MAX);
        let limit = self
            .options
            .page
            .saturating_add(known)
            .min(tape_core::limits::PAGE_ENTRIES_MAX);
        match self
            .access
            .due(self.reactor.queue(), self.options.sweep, limit)
            .await
        {
            Ok(page) => self.sort_in(page),
            Err(error) => {
                warn!(reactor = self.reactor.name(), error = %Chain(&error), "the agenda is out of reach");
                self.look_at = Instant::now() + self.options.backoff;
            }
        }
    }

    /// Keeps what is due for now, and notes when there will be more.
    fn sort_in(&mut self, page: Vec<DueWork>) {
        let now = Instant::now();
        self.look_at = now + self.options.sweep;
        // What failed and is not due any more begins anew when it comes back.
        let there: HashSet<_> = page.iter().map(|work| (&work.stream, &work.item)).collect();
        self.failed
            .retain(|(stream, item), failure| failure.until > now || there.contains(&(stream, item)));
        let mut due_now = Vec::new();
        for work in page {
            let piece = (work.stream.clone(), work.item.clone());
            if self.under_way.contains(&piece) {
                continue;
            }
            let held = self.failed.get(&piece).map_or(now, |failure| failure.until);
            match (now + work.due_in).max(held) {
                due if due <= now => due_now.push(work),
                due => self.look_at = self.look_at.min(due).max(now + PAUSE),
            }
        }
        if due_now.is_empty() {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else {
            self.pause = PAUSE;
            // There may be more than fits a page.
            self.look_at = now + PAUSE;
        }
        // Copies of the reactor see the same page: they should not all begin with the same piece.
        due_now.shuffle(&mut rand::rng());
        self.backlog = in_turns(due_now);
    }

    fn start_backlog(&mut self) {
        while self.under_way.len() < self.under_way_max() {
            let Ok(slot) = Arc::clone(&self.slots.free).try_acquire_owned() else {
                return;
            };
            let Some(work) = self.backlog.pop_front() else {
                return;
            };
            let piece = (work.stream.clone(), work.item.clone());
            self.under_way.insert(piece.clone());
            let reactor = Arc::clone(&self.reactor);
            let task = self.tasks.spawn(self.slots.clone().see_to(reactor, work, slot));
            self.pieces.insert(task.id(), piece);
        }
    }

    fn ended(&mut self, ended: Ended) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(panic) => (panic.id(), Err(ReactionError::Panicked)),
        };
        let piece = self.pieces.remove(&id).expect("every task has its piece");
        self.under_way.remove(&piece);
        match result {
            Ok(Reaction::Done) => {
                debug!(reactor = self.reactor.name(), stream = %piece.0, item = %piece.1, "done");
                self.failed.remove(&piece);
            }
            // The hint was early or stale: looking at it again at once would be a busy loop.
            Ok(Reaction::Nothing) => self.hold_off(piece),
            Err(error) => {
                let (stream, item) = (&piece.0, &piece.1);
                warn!(reactor = self.reactor.name(), %stream, %item, error = %Chain(&error), "will try again");
                self.hold_off(piece);
            }
        }
    }

    /// Leaves a piece alone for a while, longer each time.
    fn hold_off(&mut self, piece: Piece) {
        let times = self
            .failed
            .get(&piece)
            .map_or(1, |failure| failure.times.saturating_add(1));
        let wait = self
            .options
            .backoff
            .saturating_mul(1 << (times - 1).min(16))
            .min(self.options.backoff_max);
        let until = Instant::now() + jittered(wait);
        if self.failed.len() >= FAILED_MAX {
            self.failed.retain(|_, failure| failure.until > Instant::now());
        }
        self.failed.insert(piece, Failure { times, until });
    }
}

impl Slots {
    /// Has the reactor see to a piece. While the piece waits for its lane, it gives its place in the queue to others: a slow upstream
    /// does not hold up the work of the rest.
    async fn see_to(
        self,
        reactor: Arc<dyn Reactor>,
        work: DueWork,
        slot: OwnedSemaphorePermit,
    ) -> Result<Reaction, ReactionError> {
        let Some(lane) = reactor.lane(&work).await? else {
            let reacted = reactor.react(&work).await;
            drop(slot);
            return reacted;
        };
        let (_place, _slot) = if let Some(place) = lane.try_enter() {
            (place, slot)
        } else {
            drop(slot);
            self.given_back.notify_one();
            let both = async {
                let place = lane.enter().await;
                let slot = self.free.acquire_owned().await;
                (place, slot.expect("nobody closes the queue"))
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Reaction::Nothing),
                both = both => both,
            }
        };
        reactor.react(&work).await
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
