//! Whether a sink takes events, as far as all parts of its relay in this process have seen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the sink did to streams. Shared by the parts of a relay, which have one sink.
#[derive(Debug, Default)]
pub(crate) struct Health {
    taken: AtomicU64,
    failed: AtomicU64,
}

/// How much was taken and failed up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) taken: u64,
    pub(crate) failed: u64,
}

impl Health {
    /// Notes of how many streams the sink took events in a call, and of how many it failed to take the first that it was offered. A stream
    /// that is held says nothing new of the sink each time that it fails.
    pub(crate) fn note(&self, taken: usize, failed: usize) {
        self.taken.fetch_add(taken as u64, Relaxed);
        self.failed.fetch_add(failed as u64, Relaxed);
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            taken: self.taken.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

impl Mark {
    /// Whether the sink worked since an earlier mark: it took more than it failed to take. Of a sink that is overloaded and takes one event
    /// in ten, this does not hold.
    pub(crate) const fn worked_since(self, earlier: Self) -> bool {
        self.taken.saturating_sub(earlier.taken) > self.failed.saturating_sub(earlier.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Mark};

    #[test]
    fn a_sink_that_takes_little_does_not_work() {
        let health = Health::default();
        let before = health.mark();
        assert!(!health.mark().worked_since(before), "nothing was taken");
        health.note(1, 9);
        assert!(!health.mark().worked_since(before));
        health.note(9, 0);
        assert!(health.mark().worked_since(before));
        assert!(!health.mark().worked_since(health.mark()));
        assert_eq!(health.mark(), Mark { taken: 10, failed: 9 });
    }
}
