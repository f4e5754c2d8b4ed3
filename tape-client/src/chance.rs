//! Chance, from the system: what processes draw is not drawn twice.

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
