//! Hands events to the sink until each is confirmed or refused. An event that is not taken holds up its stream, and no other.

use crate::counts::{Counters, add, change};
use crate::event::Event;
use crate::health::{Health, Mark};
use crate::held::Held;
use crate::offer::{Call, said};
use crate::settings::Settings;
use crate::sink::SinkError;
use crate::window::{Done, PageId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_core::id::StreamId;
use tokio::time::Instant;

/// The events of the window that are neither confirmed nor refused.
#[derive(Debug)]
pub(crate) struct Delivery {
    settings: Settings,
    counters: Arc<Counters>,
    health: Arc<Health>,
    /// What was not offered yet, in the order of the feed. Of streams that are held it is not offered.
    ready: VecDeque<Offered>,
    held: BTreeMap<StreamId, Held>,
    down: Down,
    /// How many held streams the counters know of.
    counted: i64,
}

/// An event, and how often it was sent.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    pub(crate) page: PageId,
}

/// Whether the sink takes nothing at all. Then all streams wait together, so that it is not called for each of them.
#[derive(Debug)]
struct Down {
    is_down: bool,
    until: Option<Instant>,
    backoff: Backoff,
    /// What the sink had done to all parts of the relay when it was called last.
    seen: Mark,
}

/// An event that the sink refused for good.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

/// What came of a call.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) confirmed: u64,
    pub(crate) refused: Vec<Refusal>,
    /// Each event that was confirmed or refused. Those that were refused have to be on record before their page is passed.
    pub(crate) done: Vec<(PageId, Done)>,
    /// Why events were not taken; none where nothing failed.
    pub(crate) failure: Option<String>,
    /// For what the sink waits, by a rule of its own.
    pub(crate) waits: Option<String>,
    /// Why the sink must not be called again.
    pub(crate) disabled: Option<String>,
    /// The streams of which it took something.
    took: BTreeSet<StreamId>,
    /// How many streams failed that were not held before.
    fresh_failed: usize,
    /// The longest wait that it asked for.
    asked: Option<Duration>,
}

impl Delivery {
    pub(crate) fn new(settings: Settings, counters: &Arc<Counters>, health: &Arc<Health>) -> Self {
        Self {
            settings,
            counters: Arc::clone(counters),
            health: Arc::clone(health),
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            down: Down {
                is_down: false,
                until: None,
                backoff: Backoff::new(settings.backoff, settings.backoff_max),
                seen: health.mark(),
            },
            counted: 0,
        }
    }

    pub(crate) fn push(&mut self, event: Event, page: PageId) {
        self.ready.push_back(Offered {
            event,
            attempts: 0,
            page,
        });
    }

    /// Whether nothing is left but what is held.
    pub(crate) fn is_offered(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether the sink takes nothing at all.
    pub(crate) const fn is_down(&self) -> bool {
        self.down.is_down
    }

    /// When the next call is to be made; none where nothing is left.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        let next = match self.ready.is_empty() {
            false => Some(now),
            true => self.held.values().map(|held| held.until).min(),
        };
        next.map(|next| self.down.until.map_or(next, |until| until.max(next)))
    }

    /// The events of the next call: of held streams that are due the first one, and what was not offered yet.
    pub(crate) fn call(&mut self, now: Instant) -> Call {
        let mut call = Call::default();
        for held in self.held.values_mut().filter(|held| held.until <= now) {
            let Some(first) = held.events.pop_front_if(|first| call.takes_probe(&first.event)) else {
                break;
            };
            call.push_probe(first);
        }
        while let Some(next) = self.ready.pop_front() {
            if let Some(held) = self.held.get_mut(next.event.stream()) {
                held.events.push_back(next);
            } else if call.takes(&next.event) {
                call.push(next);
            } else {
                self.ready.push_front(next);
                break;
            }
        }
        call
    }

    /// Notes what the sink answered to the events of a call.
    pub(crate) fn answered(
        &mut self,
        call: Call,
        answers: Vec<Result<(), SinkError>>,
        now: Instant,
        mut chance: impl FnMut() -> f64,
    ) -> Round {
        let mut round = Round::default();
        let mut failures: Vec<(StreamId, SinkError)> = Vec::new();
        let mut blocked = BTreeSet::new();
        for ((mut offered, is_probe), answer) in call.into_offered().zip(answers) {
            let stream = offered.event.stream();
            // One that the sink took out of its order comes again, after the one before it.
            let is_blocked = blocked.contains(stream);
            match answer {
                Ok(()) if !is_blocked => {
                    add(&self.counters.events_delivered, 1);
                    round.took(stream);
                    round.confirmed += 1;
                    round.done.push((offered.page, Done::of(&offered.event)));
                }
                Err(SinkError::Refused { reason }) if !is_blocked => {
                    round.took(stream);
                    offered.attempts = offered.attempts.saturating_add(1);
                    self.refuse(offered, said(&reason), &mut round);
                }
                answer => {
                    if !is_blocked {
                        let error = answer.err().unwrap_or(SinkError::Behind);
                        round.note(&error, is_probe);
                        blocked.insert(stream.clone());
                        failures.push((stream.clone(), error));
                        offered.attempts = offered.attempts.saturating_add(1);
                        add(&self.counters.events_retried, 1);
                    }
                    self.hold(offered, is_probe, now);
                }
            }
        }
        self.release(&round.took, &blocked);
        self.judge(&round, now, chance());
        let mark = self.down.seen;
        for (stream, error) in failures {
            self.failed(&stream, &error, (now, mark), chance(), &mut round);
        }
        self.count();
        round
    }

    fn hold(&mut self, offered: Offered, is_probe: bool, now: Instant) {
        let stream = offered.event.stream().clone();
        let settings = &self.settings;
        let held = self
            .held
            .entry(stream)
            .or_insert_with(|| Held::new(now, settings));
        if is_probe {
            held.events.push_front(offered);
        } else {
            held.events.push_back(offered);
        }
    }

    /// Lets streams go on of which the sink took the first event that was held.
    fn release(&mut self, took: &BTreeSet<StreamId>, blocked: &BTreeSet<StreamId>) {
        if self.held.is_empty() {
            return;
        }
        for stream in took.difference(blocked) {
            self.let_go(stream);
        }
    }

    /// What waits behind the first event of a stream is offered next. It is older than all of its stream that was not offered yet.
    fn let_go(&mut self, stream: &StreamId) {
        let waiting = self.held.remove(stream).map(|held| held.events);
        for offered in waiting.into_iter().flatten().rev() {
            self.ready.push_front(offered);
        }
    }

    /// Judges by a call whether the sink takes anything at all.
    fn judge(&mut self, round: &Round, now: Instant, chance: f64) {
        let before = std::mem::replace(&mut self.down.seen, self.health.mark());
        let others = self.down.seen.taken > before.taken;
        self.health.note(round.took.len(), round.fresh_failed);
        self.down.seen = self.health.mark();
        let is_lost = round.failure.is_some() && (round.fresh_failed > 0 || self.down.is_down);
        if !round.took.is_empty() || others || round.failure.is_none() {
            let was_down = std::mem::take(&mut self.down.is_down);
            self.down.until = None;
            self.down.backoff = Backoff::new(self.settings.backoff, self.settings.backoff_max);
            if was_down {
                for held in self.held.values_mut() {
                    held.retry(now, &self.settings);
                }
            }
        } else if is_lost {
            let asked = round.asked.unwrap_or_default().min(self.settings.backoff_max);
            self.down.is_down = true;
            self.down.until = Some(now + asked.max(self.down.backoff.next(chance)));
        }
    }

    /// The first event of a stream was not taken.
    fn failed(
        &mut self,
        stream: &StreamId,
        error: &SinkError,
        at: (Instant, Mark),
        chance: f64,
        round: &mut Round,
    ) {
        let Some(held) = self.held.get_mut(stream) else {
            return;
        };
        let (asked, reason) = match error {
            SinkError::Waits { retry_after, .. } => return held.waits(at.0, *retry_after, &self.settings),
            SinkError::Unavailable { retry_after, reason } => (*retry_after, reason.clone()),
            other => (None, other.to_string()),
        };
        if !held.failed(at, asked, &self.settings, chance) {
            return;
        }
        let seconds = held.blamed().as_secs();
        held.gave_up(at.0, &self.settings);
        let first = held.events.pop_front();
        if held.events.is_empty() {
            self.held.remove(stream);
        }
        if let Some(first) = first {
            let reason = format!("unavailable for {seconds} s while the sink took other events: {reason}");
            self.refuse(first, said(&reason), round);
        }
    }

    fn refuse(&self, offered: Offered, reason: String, round: &mut Round) {
        add(&self.counters.events_refused, 1);
        round.done.push((offered.page, Done::of(&offered.event)));
        round.refused.push(Refusal {
            event: offered.event,
            attempts: offered.attempts,
            reason,
        });
    }

    fn count(&mut self) {
        let held = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
        change(&self.counters.streams_held, held - self.counted);
        self.counted = held;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.held.clear();
        self.count();
    }
}

impl Round {
    /// Whether the sink confirmed or refused something.
    pub(crate) fn took_something(&self) -> bool {
        !self.took.is_empty()
    }

    fn took(&mut self, stream: &StreamId) {
        if !self.took.contains(stream) {
            self.took.insert(stream.clone());
        }
    }

    fn note(&mut self, failure: &SinkError, is_probe: bool) {
        match failure {
            SinkError::Waits { reason, .. } => self.waits = Some(said(reason)),
            SinkError::Disabled { reason } => self.disabled = Some(said(reason)),
            failure => {
                self.fresh_failed += usize::from(!is_probe);
                if let SinkError::Unavailable { reason, retry_after } = failure {
                    self.asked = self.asked.max(*retry_after);
                    self.failure = Some(reason.clone());
                } else {
                    self.failure.get_or_insert_with(|| failure.to_string());
                }
            }
        }
    }
}
