//! Waits that grow, with jitter, so that those who failed together do not come back together.

use rand::RngExt as _;
use std::time::Duration;

/// Waits that double up to a longest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2);
        jittered(wait)
    }
}

/// Between half of a wait and all of it.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// A wait and up to a quarter more, for one that must not be cut short.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(1.0..1.25))
}
