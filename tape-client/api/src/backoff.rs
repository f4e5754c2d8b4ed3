//! Waits between tries, with jitter, so that callers that failed together do not come back together.

use std::time::Duration;

/// Waits that double up to a longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with a wait of `first`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next wait, with jitter. `chance` is evenly distributed from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2);
        jittered(wait, chance)
    }
}

/// Between half of a wait and all of it. `chance` is evenly distributed from 0 to 1.
#[must_use]
pub fn jittered(wait: Duration, chance: f64) -> Duration {
    wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration};

    #[test]
    fn waits_double_up_to_the_longest_and_are_cut_by_at_most_half() {
        let waits = |chance: f64| {
            let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
            [(); 5].map(|()| backoff.next(chance).as_millis())
        };
        assert_eq!(waits(1.0), [10, 20, 40, 50, 50]);
        assert_eq!(waits(0.0), [5, 10, 20, 25, 25]);
    }
}
