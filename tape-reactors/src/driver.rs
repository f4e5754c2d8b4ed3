//! Runs a reactor: finds due work, keeps what is under way bounded, comes back to what failed, drains.

use crate::access::{Access, DueWork};
use crate::reactor::{Reaction, ReactionError, Reactor};
use rand::RngExt as _;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Item;
use tape_core::id::StreamId;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Failed pieces that are remembered; beyond that the oldest wait is forgotten, and its piece tried again early.
const FAILED_MAX: usize = 10_000;

/// How a driver works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pieces of work under way at once.
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
type Ended = (Piece, Result<Reaction, ReactionError>);

/// Runs one reactor over a journal until it is told to stop.
pub struct Driver {
    access: Arc<dyn Access>,
    reactor: Arc<dyn Reactor>,
    options: Options,
    under_way: HashSet<Piece>,
    failed: HashMap<Piece, Failure>,
    tasks: JoinSet<Ended>,
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
        Self {
            access,
            reactor,
            options,
            under_way: HashSet::new(),
            failed: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Works until `stop`; then takes up nothing new, and returns once what is under way is done.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = self.take_up().await;
            let access = Arc::clone(&self.access);
            let idle = self.under_way.len() < self.options.concurrency;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(ended),
                () = access.changed(), if idle => {}
                () = tokio::time::sleep(wait), if idle => {}
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
    }

    /// Starts what is due and has room; says how long nothing more is due, as far as is known.
    async fn take_up(&mut self) -> Duration {
        let room = self.options.concurrency.saturating_sub(self.under_way.len());
        if room == 0 {
            return self.options.sweep;
        }
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
            Ok(work) => self.start(work, room),
            Err(error) => {
                warn!(reactor = self.reactor.name(), error = %Chain(&error), "the agenda is out of reach");
                self.options.backoff
            }
        }
    }

    fn start(&mut self, work: Vec<DueWork>, mut room: usize) -> Duration {
        let now = Instant::now();
        let mut wait = self.options.sweep;
        for work in work {
            let piece = (work.stream.clone(), work.item.clone());
            let held = self
                .failed
                .get(&piece)
                .map_or(Duration::ZERO, |failure| failure.until - now);
            let due_in = work.due_in.max(held);
            if self.under_way.contains(&piece) {
                continue;
            }
            if !due_in.is_zero() || room == 0 {
                wait = wait.min(due_in);
                continue;
            }
            room -= 1;
            self.under_way.insert(piece.clone());
            let reactor = Arc::clone(&self.reactor);
            self.tasks
                .spawn(async move { (piece, reactor.react(&work).await) });
        }
        wait
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let (piece, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Which piece panicked is not known; each is found again by the sweep.
                warn!(reactor = self.reactor.name(), %error, "a reaction panicked");
                self.under_way.clear();
                return;
            }
        };
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
        let until = Instant::now() + wait.mul_f64(rand::rng().random_range(0.5..1.0));
        if self.failed.len() >= FAILED_MAX {
            self.failed.retain(|_, failure| failure.until > Instant::now());
        }
        self.failed.insert(piece, Failure { times, until });
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
