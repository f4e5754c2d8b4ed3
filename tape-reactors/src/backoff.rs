//! Waits with jitter, so that those who failed together do not come back together.

use rand::RngExt as _;
use std::time::Duration;
pub(crate) use tape_api::backoff::{Backoff, jittered};

/// A share of a whole by chance, from 0 to below 1.
pub(crate) fn chance() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

/// A wait and up to a quarter more, for one that must not be cut short.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + chance() / 4.0)
}
