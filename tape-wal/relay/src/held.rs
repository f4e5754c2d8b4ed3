//! A stream whose next event was not taken: what waits, until when, and whether the trouble is its own.

use crate::delivery::Offered;
use crate::health::Mark;
use crate::settings::Settings;
use std::collections::VecDeque;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tokio::time::Instant;

/// So many attempts have to fail at least before an event that stays unavailable is given up: as many as the dead letters of Pub/Sub ask for
/// by default.
const FAILURES_MIN: u32 = 5;

/// The events of a stream of which the first was not taken.
#[derive(Debug)]
pub(crate) struct Held {
    /// What waits, in order. Empty only while its first event is offered.
    pub(crate) events: VecDeque<Offered>,
    /// When the first one is offered again.
    pub(crate) until: Instant,
    backoff: Backoff,
    /// How often the first one failed.
    failures: u32,
    /// For how long attempts failed while the sink took events of other streams.
    blamed: Duration,
    /// The last attempt that failed, and what the sink had done by then.
    last: Option<(Instant, Mark)>,
}

impl Held {
    pub(crate) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            events: VecDeque::new(),
            until: now,
            backoff: Backoff::new(settings.backoff, settings.backoff_max),
            failures: 0,
            blamed: Duration::ZERO,
            last: None,
        }
    }

    /// The first event waits, by a rule of the sink: nothing failed.
    pub(crate) fn waits(&mut self, now: Instant, asked: Duration, settings: &Settings) {
        *self = Self {
            events: std::mem::take(&mut self.events),
            until: now + asked.min(settings.backoff_max).max(settings.backoff),
            ..Self::new(now, settings)
        };
    }

    /// The first event failed. Returns whether it is to be given up: for as long as the settings say, attempts failed while others of the sink
    /// were taken.
    pub(crate) fn failed(
        &mut self,
        (now, mark): (Instant, Mark),
        asked: Option<Duration>,
        settings: &Settings,
        chance: f64,
    ) -> bool {
        self.failures = self.failures.saturating_add(1);
        let asked = asked.unwrap_or_default().min(settings.backoff_max);
        self.until = now + asked.max(self.backoff.next(chance));
        let Some((then, before)) = self.last.replace((now, mark)) else {
            return false;
        };
        if !mark.worked_since(before) {
            return false;
        }
        // A process that was suspended made no attempts meanwhile.
        self.blamed += (now - then).min(settings.backoff_max);
        let limit = settings.refuse_after;
        limit.is_some_and(|limit| self.blamed >= limit) && self.failures >= FAILURES_MIN
    }

    /// For how long attempts failed while the sink took others.
    pub(crate) const fn blamed(&self) -> Duration {
        self.blamed
    }

    /// The first event was given up. The next one is offered at once, and given up after its own attempts, without the time again: the
    /// trouble is known to be that of the stream.
    pub(crate) fn gave_up(&mut self, now: Instant, settings: &Settings) {
        self.failures = 0;
        self.until = now;
        self.backoff = Backoff::new(settings.backoff, settings.backoff_max);
    }

    /// The sink takes events again after it took nothing: what failed meanwhile is offered now.
    pub(crate) fn retry(&mut self, now: Instant, settings: &Settings) {
        // One that waits by a rule of the sink keeps its time.
        if self.failures > 0 {
            self.until = now;
            self.backoff = Backoff::new(settings.backoff, settings.backoff_max);
        }
    }
}
