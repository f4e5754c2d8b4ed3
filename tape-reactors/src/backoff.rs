//! Waits with jitter, so that tasks that failed together do not retry together.

use rand::RngExt as _;
use std::time::Duration;
pub(crate) use tape_api::backoff::{Backoff, jittered};

/// A random share, from 0 to below 1.
pub(crate) fn chance() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

/// A wait plus up to a quarter more, for a wait that must not be shortened.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + chance() / 4.0)
}
