//! For how long a sink takes nothing.

use std::time::Duration;
use tokio::time::Instant;

/// The time between attempts that failed one after the other, by the clock of the process that made them. Time in which nothing was tried
/// does not count: neither that before a process claimed the part, nor that after its last attempt.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    is_failing: bool,
    /// Over all processes that carried the part since the sink took something last.
    total: Duration,
    /// In this one, since it claimed the part.
    here: Duration,
    last: Option<Instant>,
}

impl Failing {
    /// As the place of the part says it: whether the last process saw it fail, and for how long it had by then.
    pub(crate) const fn known(is_failing: bool, total: Duration) -> Self {
        Self {
            is_failing,
            total: if is_failing { total } else { Duration::ZERO },
            here: Duration::ZERO,
            last: None,
        }
    }

    /// An attempt failed, and the sink took nothing.
    pub(crate) fn failed(&mut self, now: Instant) {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.is_failing = true;
        self.total += since;
        self.here += since;
    }

    /// The sink took something.
    pub(crate) fn works(&mut self) {
        *self = Self::default();
    }

    pub(crate) const fn is_failing(&self) -> bool {
        self.is_failing
    }

    pub(crate) const fn total(&self) -> Duration {
        self.total
    }

    pub(crate) const fn here(&self) -> Duration {
        self.here
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Failing, Instant};

    #[tokio::test(start_paused = true)]
    async fn only_time_between_attempts_that_failed_counts() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut failing = Failing::known(true, Duration::from_secs(40));
        // It was not tried for an hour.
        failing.failed(after(3_600));
        assert_eq!(failing.total().as_secs(), 40);
        failing.failed(after(3_610));
        failing.failed(after(3_625));
        assert_eq!((failing.total().as_secs(), failing.here().as_secs()), (65, 25));
        failing.works();
        assert!(!failing.is_failing());
        failing.failed(after(4_000));
        assert_eq!((failing.is_failing(), failing.total()), (true, Duration::ZERO));
        assert_eq!(
            Failing::known(false, Duration::from_secs(40)).total(),
            Duration::ZERO
        );
    }
}
