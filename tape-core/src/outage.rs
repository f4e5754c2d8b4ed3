//! Log lines about outages, limited in number. A line for each failed try would flood the log.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

/// Most reasons of one outage that get a line of their own; further ones are logged with the next reminder.
const REASONS_MAX: usize = 8;

/// The availability of a dependency, such as a journal or an upstream. Time is an argument.
///
/// It asks for one log line when the dependency becomes unavailable, one for each new reason, one each period during the outage, and one
/// when it is available again. A dependency that comes and goes all the time gets one line a period.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tape_core::outage::Outage;
/// let (mut journal, noon) = (Outage::new(Duration::from_secs(60)), Instant::now());
/// assert!(journal.lost(noon, "refused").is_some());
/// assert!(journal.lost(noon + Duration::from_secs(59), "refused").is_none());
/// let away = journal.back(noon + Duration::from_secs(61)).unwrap();
/// assert_eq!(away.to_string(), "after 61 s and 2 failures");
/// ```
#[derive(Debug)]
pub struct Outage {
    period: Duration,
    /// When the outage was last logged.
    said: Option<Instant>,
    /// The reasons logged so far.
    reasons: BTreeSet<String>,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    failures: u64,
    said: bool,
}

/// The length of an outage, and the number of failures in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// Its length.
    pub lasts: Duration,
    /// The number of failures.
    pub failures: u64,
}

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, failures) = (self.lasts.as_secs(), self.failures);
        let word = if failures == 1 { "failure" } else { "failures" };
        write!(f, "after {seconds} s and {failures} {word}")
    }
}

impl Outage {
    /// For an available dependency. An outage is logged once a period.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self {
            period,
            said: None,
            reasons: BTreeSet::new(),
            away: None,
        }
    }

    /// Whether the dependency is unavailable.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Notes a failure. Returns the outage so far if it should be logged now.
    pub fn lost(&mut self, now: Instant, reason: &str) -> Option<Spell> {
        let lately = self
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < self.period);
        if self.away.is_none() && !lately {
            self.reasons.clear();
        }
        let away = self.away.get_or_insert(Away {
            since: now,
            failures: 0,
            said: false,
        });
        away.failures += 1;
        let changed = self.reasons.len() < REASONS_MAX && self.reasons.insert(reason.to_owned());
        (changed || !lately).then(|| {
            self.said = Some(now);
            away.said = true;
            away.spell(now)
        })
    }

    /// Notes that the dependency is available. Returns the outage if it was logged.
    pub fn back(&mut self, now: Instant) -> Option<Spell> {
        let away = self.away.take()?;
        away.said.then(|| away.spell(now))
    }
}

impl Away {
    fn spell(&self, now: Instant) -> Spell {
        Spell {
            lasts: now.saturating_duration_since(self.since),
            failures: self.failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines are logged in a minute of failures, one each 10 ms, for alternating reasons.
    fn minute(outage: &mut Outage, from: Instant, reasons: &[&str]) -> usize {
        let fails = |n: u64| {
            let reason = reasons[usize::try_from(n).unwrap() % reasons.len()];
            outage.lost(from + Duration::from_millis(10 * n), reason)
        };
        (0..6_000).filter_map(fails).count()
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "some point in time, from which all others are counted"
    )]
    fn it_is_said_once_a_minute_and_for_each_reason_once() {
        let (mut outage, noon) = (Outage::new(Duration::from_secs(60)), Instant::now());
        let after = |minutes: u64| noon + Duration::from_secs(60 * minutes);
        assert_eq!(outage.back(noon), None);
        assert_eq!(minute(&mut outage, noon, &["refused"]), 1);
        assert_eq!(minute(&mut outage, after(1), &["refused"]), 1);
        // Alternating reasons are each logged once.
        assert_eq!(minute(&mut outage, after(2), &["refused", "no answer"]), 2);
        assert_eq!(minute(&mut outage, after(3), &["refused", "no answer"]), 1);
        let many: Vec<String> = (0..6_000).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(minute(&mut outage, after(4), &many) <= REASONS_MAX);
        let spell = outage.back(after(5)).unwrap();
        assert_eq!(spell.to_string(), "after 300 s and 30000 failures");
        assert_eq!(outage.back(after(5)), None);
        assert_eq!(minute(&mut outage, after(6), &["refused"]), 1, "another outage");
        // It comes and goes.
        let comes_and_goes = |n: u64| {
            let now = after(10) + Duration::from_millis(10 * n);
            [outage.lost(now, "refused"), outage.back(now)]
        };
        assert_eq!((0..6_000).flat_map(comes_and_goes).flatten().count(), 2);
    }
}
