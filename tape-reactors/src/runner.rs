//! Runs a reactor: finds due work, bounds the work under way, retries failed work, and drains.

use crate::backlog::{Backlog, WaitSlots};
use crate::backoff::jittered;
use crate::connector::ConcurrencyLimit;
use crate::fair::select_fairly;
use crate::reactor::{Reaction, ReactionError, Reactor};
use crate::watched::Watched;
use futures::future::BoxFuture;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tape_api::due::{DuePage, DueWork};
use tape_api::{Journal, JournalError};
use tape_core::agenda::Item;
use tape_core::causes::Causes;
use tape_core::id::StreamId;
use tape_core::outage::Outage;
use tape_environment::Environment;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Failed pieces that are remembered; beyond that the ones due for the soonest retry are forgotten, and retried early.
const FAILED_MAX: usize = 10_000;

/// Pieces that wait for limits, beside those under way in the queue; while there are more, nothing new is taken up.
const WAITING_MAX: usize = 4_096;

/// Most pieces that are taken up after a look, and fewest where most of them find their limits full.
const PIECES_MAX: usize = 256;
const PIECES_MIN: usize = 8;

/// While other copies are mostly faster, at least one in this many runs is taken up after a look.
const ONE_OF_MAX: u32 = 64;

/// After this long without work, the share for other copies is reset: a woken runner takes any due work.
const QUIET: Duration = Duration::from_secs(1);

/// However much is written, looks at the agenda are this far apart at least...
const PAUSE: Duration = Duration::from_millis(10);

/// ...and this many times as long as a look takes, up to a bound, so that many copies over much work do not spend most of their time on
/// looks.
const PAUSE_LOOKS: u32 = 4;
const REST_MAX: Duration = Duration::from_millis(250);

/// The same while written entries concern other reactors, so that their work costs this one little. A runner that has found nothing for
/// longer than this is woken at once.
const PAUSE_MAX: Duration = Duration::from_millis(40);

/// While the agenda cannot be read, the log says so this often.
const UNREAD_AGAIN: Duration = Duration::from_secs(60);

/// How a runner works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pieces of work under way at once, at least one.
    pub concurrency: usize,
    /// The agenda is looked at this often even where nothing wakes the runner: the safety net under lost wake-ups.
    pub sweep: Duration,
    /// A look also sees what becomes due within this time, so that it is taken up then; by default before the next sweep. What becomes due
    /// later is found by the next sweep, or once something wakes the runner.
    pub ahead: Option<Duration>,
    /// The first wait after a failure; it doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// Pieces of work read from the agenda at a time: of many more than are taken up, copies of a reactor choose different ones.
    pub page: u32,
}

impl Default for Options {
    /// 64 at once, a sweep every 10 s, waits from 200 ms to 1 min, pages of 1024.
    fn default() -> Self {
        Self {
            concurrency: 64,
            sweep: Duration::from_secs(10),
            ahead: None,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            page: 1_024,
        }
    }
}

type Piece = (StreamId, Item);
type Finished = Result<(Id, Result<Outcome, ReactionError>), JoinError>;

/// The result of a piece that was taken up.
enum Outcome {
    Reacted(Reaction),
    /// Enough pieces wait for its limit already.
    AtLimit(ConcurrencyLimit),
}

/// Runs one reactor over a journal until it is told to stop.
pub struct Runner {
    journal: Watched,
    environment: Arc<dyn Environment>,
    /// The agenda, where the journal answers and that is no page of it.
    unread: Outage,
    reactor: Arc<dyn Reactor>,
    options: Options,
    slots: Slots,
    /// Due work that was read and not yet taken up, in the order in which it will be.
    queue: VecDeque<DueWork>,
    /// How much is taken up at a time, and how it went with what was taken up since the last look.
    share: Share,
    looked: Instant,
    /// The shortest time between two looks, by how long the last one took.
    rest: Duration,
    pause: Duration,
    /// The agenda is looked at from here on.
    look_at: Instant,
    /// The page of the agenda that is looked at next; none for the first.
    page: Option<String>,
    /// Whether there was something to do since the first page was looked at.
    found: bool,
    /// When there was something to do the last time.
    found_at: Instant,
    /// When something will be due that was seen since then, at the latest the next sweep.
    due_next: Instant,
    /// The pieces under way, and whether each was seen due again meanwhile.
    under_way: HashMap<Piece, bool>,
    /// Comes once something is written after the first page was looked at; none once it came.
    changed: Option<BoxFuture<'static, ()>>,
    failed: HashMap<Piece, Failure>,
    backlog: Backlog<Piece>,
    tasks: JoinSet<Result<Outcome, ReactionError>>,
    pieces: HashMap<Id, Piece>,
}

/// How much of what is due is taken up after a look: less while other copies of the reactor are mostly faster, so that the copies do not
/// take the same pieces.
#[derive(Clone, Copy, Debug)]
struct Share {
    one_of: u32,
    pieces: usize,
    won: usize,
    lost: usize,
    at_limit: usize,
    failed: usize,
}

impl Share {
    const fn new() -> Self {
        Self {
            one_of: 1,
            pieces: PIECES_MAX,
            won: 0,
            lost: 0,
            at_limit: 0,
            failed: 0,
        }
    }

    /// Whether all work taken up last failed, such as the work of a connector that is not configured: then there is no hurry to take up
    /// more.
    const fn is_hopeless(&self) -> bool {
        self.failed > 0 && self.won + self.lost + self.at_limit == 0
    }

    /// Adapts the share to the results of the work taken up last.
    fn next(&mut self) -> Self {
        if self.lost > self.won {
            self.one_of = (self.one_of * 2).min(ONE_OF_MAX);
        } else if self.won > 0 {
            self.one_of = (self.one_of / 2).max(1);
        }
        if self.at_limit > self.won + self.lost {
            self.pieces = (self.pieces / 2).max(PIECES_MIN);
        } else {
            self.pieces = (self.pieces * 2).min(PIECES_MAX);
        }
        (self.won, self.lost, self.at_limit, self.failed) = (0, 0, 0, 0);
        *self
    }
}

/// The places of a queue.
#[derive(Clone)]
struct Slots {
    free: Arc<Semaphore>,
    wait_slots: WaitSlots,
    /// A piece gave its place back before it ended.
    given_back: Arc<Notify>,
    stop: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    times: u32,
    until: Instant,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("reactor", &self.reactor.name())
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner of `reactor` over `journal`.
    pub fn new(journal: impl Into<Watched>, reactor: Arc<dyn Reactor>, options: Options) -> Self {
        let (now, journal) = (Instant::now(), journal.into());
        Self {
            environment: journal.environment(),
            journal,
            unread: Outage::new(UNREAD_AGAIN),
            reactor,
            options,
            slots: Slots {
                free: Arc::new(Semaphore::new(
                    options.concurrency.clamp(1, Semaphore::MAX_PERMITS),
                )),
                wait_slots: WaitSlots::default(),
                given_back: Arc::new(Notify::new()),
                stop: CancellationToken::new(),
            },
            queue: VecDeque::new(),
            share: Share::new(),
            looked: now,
            rest: PAUSE,
            pause: PAUSE,
            look_at: now,
            page: None,
            found: false,
            found_at: now,
            due_next: now,
            under_way: HashMap::new(),
            changed: None,
            failed: HashMap::new(),
            backlog: Backlog::new(),
            tasks: JoinSet::new(),
            pieces: HashMap::new(),
        }
    }

    /// Works until `stop`; then takes up nothing new, and returns once what is under way is done.
    pub async fn run(mut self, stop: CancellationToken) {
        self.slots.stop = stop.clone();
        let given_back = Arc::clone(&self.slots.given_back);
        while !stop.is_cancelled() {
            self.take_up().await;
            let idle = self.has_room();
            tokio::select! {
                // Nothing comes before the end. What is done makes room before anything more is looked for; there is never more of it
                // than was taken up.
                biased;
                () = stop.cancelled() => {}
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                () = given_back.notified() => {}
                () = heard(&mut self.changed), if idle => self.look_within(self.pause),
                () = tokio::time::sleep_until(self.look_at), if idle => {}
            }
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// Looks at the agenda once so long has passed since the last look.
    fn look_within(&mut self, pause: Duration) {
        self.look_at = self.look_at.min(self.looked + pause);
    }

    fn has_room(&self) -> bool {
        self.slots.free.available_permits() > 0 && self.under_way.len() < self.under_way_max()
    }

    fn under_way_max(&self) -> usize {
        self.options.concurrency.saturating_add(WAITING_MAX)
    }

    /// Starts what is due and has room; looks at the agenda where it is time to.
    async fn take_up(&mut self) {
        self.start_backlog();
        if self.has_room() && self.queue.is_empty() && self.look_at <= Instant::now() {
            self.look().await;
            self.start_backlog();
        }
    }

    /// Looks at one page of the agenda and goes on to the next one, after the last to the first. So pieces that cannot be done, however
    /// many, do not hide later ones.
    async fn look(&mut self) {
        self.looked = Instant::now();
        self.backlog.go_on(&self.slots.wait_slots);
        if self.page.is_none() {
            self.begin_round();
        }
        let queue = self.reactor.queue();
        let ahead = self.options.ahead.unwrap_or(self.options.sweep);
        let limit = self.options.page.clamp(1, tape_core::limits::PAGE_ENTRIES_MAX);
        let page = self.journal.due(queue, ahead, self.page.as_deref(), limit);
        let page = page.await;
        self.rest = (self.looked.elapsed() * PAUSE_LOOKS).clamp(PAUSE, REST_MAX);
        match page {
            Ok(page) => {
                self.unread.back(Instant::now().into_std());
                self.sort_in(page);
            }
            Err(error) => {
                self.tell(&error);
                self.page = None;
                self.look_at = Instant::now() + self.options.backoff;
            }
        }
    }

    /// Says why the agenda could not be looked at, where the journal itself has not said it.
    fn tell(&mut self, error: &JournalError) {
        if matches!(error, JournalError::Unavailable(_)) {
            return;
        }
        let error = Causes(error).to_string();
        if let Some(spell) = self.unread.lost(Instant::now().into_std(), &error) {
            warn!(reactor = self.reactor.name(), error, %spell, "the agenda cannot be read");
        }
    }

    fn begin_round(&mut self) {
        // This is requested before the read, so that an entry written in between is not missed.
        self.changed = Some(self.journal.changed(self.reactor.queue()));
        self.found = false;
        self.due_next = self.looked + self.options.sweep;
        // A sweep would have found every failed piece that is still due; a piece that fails again later begins with the first wait.
        let (now, sweep) = (self.looked, self.options.sweep);
        self.failed.retain(|_, failure| failure.until + sweep > now);
    }

    /// Takes up what is due for now, or notes where and when to look next.
    fn sort_in(&mut self, page: DuePage) {
        let now = Instant::now();
        let due_now = self.due_now(page.work, now);
        self.page = page.next;
        // There are more pages, or there was something to do, and may be more of it.
        self.look_at = now + self.rest;
        if !due_now.is_empty() {
            self.found = true;
            self.pause = self.rest;
            self.found_at = now;
            if self.share.is_hopeless() {
                self.look_at = now + self.options.backoff;
            }
            let Share { one_of, pieces, .. } = self.share.next();
            self.queue = select_fairly(due_now, one_of, pieces, &mut self.generator());
        } else if self.page.is_none() && !self.found {
            // What was written since the first page was looked at may stand before this one.
            let news = self.changed.is_none();
            self.look_at = if news { now } else { self.due_next }.max(now + self.rest);
            if now - self.found_at > QUIET {
                self.share = Share::new();
            }
            self.pause = (self.pause * 2).min(PAUSE_MAX).max(self.rest);
        }
    }

    /// The chance by which copies of a reactor go for different work.
    fn generator(&self) -> StdRng {
        StdRng::seed_from_u64(self.environment.random_u64())
    }

    /// What of a page can be taken up now; of the rest it notes when.
    fn due_now(&mut self, page: Vec<DueWork>, now: Instant) -> Vec<DueWork> {
        let mut due_now = Vec::new();
        for work in page {
            let piece = (work.stream.clone(), work.item.clone());
            if let Some(seen) = self.under_way.get_mut(&piece) {
                *seen = true;
                continue;
            }
            if self.backlog.has(&piece) {
                continue;
            }
            let held = self.failed.get(&piece).map_or(now, |failure| failure.until);
            match (now + work.due_in).max(held) {
                due if due <= now => due_now.push(work),
                due => self.due_next = self.due_next.min(due),
            }
        }
        due_now
    }

    fn start_backlog(&mut self) {
        while self.under_way.len() < self.under_way_max() {
            let Ok(slot) = Arc::clone(&self.slots.free).try_acquire_owned() else {
                return;
            };
            let Some(work) = self.queue.pop_front() else {
                return;
            };
            let piece = (work.stream.clone(), work.item.clone());
            self.under_way.insert(piece.clone(), false);
            let reactor = Arc::clone(&self.reactor);
            let task = self.tasks.spawn(self.slots.clone().see_to(reactor, work, slot));
            self.pieces.insert(task.id(), piece);
        }
    }

    fn ended(&mut self, ended: Finished) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(panic) => (panic.id(), Err(ReactionError::Panicked)),
        };
        let piece = self.pieces.remove(&id).expect("every task has its piece");
        // The hint may refer to follow-up work.
        if self.under_way.remove(&piece) == Some(true) {
            self.look_within(self.rest);
        }
        match result {
            Ok(Outcome::Reacted(Reaction::Done)) => {
                debug!(reactor = self.reactor.name(), stream = %piece.0, item = %piece.1, "done");
                self.share.won += 1;
                self.failed.remove(&piece);
            }
            // The hint was early or stale: looking at it again at once would be a busy loop.
            Ok(Outcome::Reacted(Reaction::Nothing)) => {
                self.share.lost += 1;
                self.hold_off(piece);
            }
            Ok(Outcome::AtLimit(limit)) => {
                self.share.at_limit += 1;
                self.backlog.join(piece, limit);
            }
            Err(error) => self.failed(piece, &error),
        }
        if self.backlog.may_go_on(&self.slots.wait_slots) {
            self.look_within(self.rest);
        }
    }

    /// Logs why a piece could not be done, and sets it aside for a while.
    fn failed(&mut self, piece: Piece, error: &ReactionError) {
        self.share.failed += 1;
        let (reactor, stream, item) = (self.reactor.name(), &piece.0, &piece.1);
        let why = Causes(error).to_string();
        if let Some(name) = error.unconfigured() {
            self.journal.unconfigured().lost(&name, &why);
            return self.leave_to_others(piece);
        }
        if let ReactionError::Journal(JournalError::Unavailable(_)) = error {
            // The watched journal has already logged it.
            debug!(reactor, %stream, %item, error = %why, "will try again");
        } else {
            warn!(reactor, %stream, %item, error = %why, "will try again");
        }
        self.hold_off(piece);
    }

    /// Sets a piece aside for a while, longer each time.
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
        self.hold_off_for(piece, times, wait);
    }

    /// Sets aside a piece that cannot be done here, however often it is tried: it waits as long as a piece that failed most often.
    fn leave_to_others(&mut self, piece: Piece) {
        self.hold_off_for(piece, 1, self.options.backoff_max);
    }

    fn hold_off_for(&mut self, piece: Piece, times: u32, wait: Duration) {
        let until = Instant::now() + jittered(wait, self.environment.chance());
        if self.failed.len() >= FAILED_MAX {
            self.forget_the_soonest();
        }
        self.failed.insert(piece, Failure { times, until });
    }

    /// Forgets half of the failed pieces: they are retried before their waits are over.
    fn forget_the_soonest(&mut self) {
        let mut untils: Vec<Instant> = self.failed.values().map(|failure| failure.until).collect();
        let middle = untils.len() / 2;
        let (_, middle, _) = untils.select_nth_unstable(middle);
        self.failed.retain(|_, failure| failure.until > *middle);
    }
}

impl Slots {
    /// Lets the reactor handle a piece. While the piece waits for its limit, it gives its place in the queue to others: a slow upstream
    /// does not block other work.
    async fn see_to(
        self,
        reactor: Arc<dyn Reactor>,
        work: DueWork,
        slot: OwnedSemaphorePermit,
    ) -> Result<Outcome, ReactionError> {
        let (limit, act) = reactor.react(&work).await?.into_parts();
        let Some(limit) = limit else {
            let reacted = act.await;
            drop(slot);
            return reacted.map(Outcome::Reacted);
        };
        let (_place, _slot) = if let Some(place) = limit.try_enter() {
            (place, slot)
        } else {
            drop(slot);
            self.given_back.notify_one();
            let Some(waiting) = self.wait_slots.enter(&limit) else {
                return Ok(Outcome::AtLimit(limit));
            };
            let both = async {
                let place = limit.enter().await;
                drop(waiting);
                let slot = self.free.acquire_owned().await;
                (place, slot.expect("the queue is never closed"))
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Outcome::Reacted(Reaction::Nothing)),
                both = both => both,
            }
        };
        act.await.map(Outcome::Reacted)
    }
}

/// Waits until something was written; for ever where that was reported already.
async fn heard(changed: &mut Option<BoxFuture<'static, ()>>) {
    match changed {
        Some(written) => written.await,
        None => std::future::pending().await,
    }
    *changed = None;
}
