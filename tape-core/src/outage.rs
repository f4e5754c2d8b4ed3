//! Something that is away: what is said of it, and how often. A log that says so at each try says nothing else any more.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

/// Reasons of one outage that are told apart; more are told with the next reminder.
const REASONS_MAX: usize = 8;

/// What others need that is away now and then, such as a journal or an upstream. Time is an argument.
///
/// It says one line when that goes, one when there is a reason that was not said yet, one each period while it is away, and one when
/// it is back. What comes and goes all the time is said once a period.
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
    /// When it was said the last time that it is away.
    said: Option<Instant>,
    /// What was said then.
    reasons: BTreeSet<String>,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    failures: u64,
    said: bool,
}

/// How long something has been away, and how often it failed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// So long.
    pub lasts: Duration,
    /// So often.
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
    /// Of something that is there; while it is away, that is said once a period.
    #[must_use]
    pub const fn new(period: Duration) -> Self {
        Self {
            period,
            said: None,
            reasons: BTreeSet::new(),
            away: None,
        }
    }

    /// Whether it is away.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// It failed again, or for the first time. How it has been so far, where that is to be said.
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

    /// It is there. How it was away, where it was said that it is.
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

    /// How many lines a minute has in which it fails each 10 ms for one of some reasons.
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
        // Reasons that alternate are each said once, and then with the others.
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
