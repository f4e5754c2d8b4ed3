//! What a process takes from its machine: the time, and chance that no two processes draw twice.

use std::time::{SystemTime, UNIX_EPOCH};
use tape_core::time::Timestamp;

/// The time by the machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Random bits.
pub(crate) fn bits() -> u64 {
    getrandom::u64().expect("the system has random bits")
}

/// Twice as many.
pub(crate) fn wide() -> u128 {
    u128::from(bits()) << 64 | u128::from(bits())
}

/// A share of a whole, evenly distributed, from 0 to below 1.
pub(crate) fn share() -> f64 {
    f64::from((bits() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}
