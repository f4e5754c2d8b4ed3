//! Waits with jitter, so that tasks that failed together do not retry together.

use std::time::Duration;
pub(crate) use tape_api::backoff::{Backoff, jittered};

/// A wait and up to a quarter more, for one that must not be cut short. `chance` is evenly distributed from 0 to 1.
pub(crate) fn spread(wait: Duration, chance: f64) -> Duration {
    wait.mul_f64(1.0 + chance / 4.0)
}
