//! What a process of Tape takes from outside: the time and randomness.
//!
//! Everything that needs one of the two is given an [`Environment`]: stores when they are opened, engines by their clock, clients when they
//! connect, and workers by their journal. A program makes that of its [`machine()`] in `main`. A simulation gives all parts a
//! `Seeded` one (feature `testing`): then the seed decides every entry that they write.

mod machine;
#[cfg(feature = "testing")]
mod seeded;

pub use machine::{Machine, machine};
#[cfg(feature = "testing")]
pub use seeded::Seeded;

use std::fmt::Debug;
use std::time::Duration;
use tape_core::time::Timestamp;
use uuid::Uuid;

/// The time and randomness, as one process is given them.
pub trait Environment: Debug + Send + Sync + 'static {
    /// What the clock on the wall shows. It may be set at any time, also back.
    fn wall(&self) -> Timestamp;

    /// The time that has passed since a moment in the past. It goes on evenly whatever is done to the clock on the wall, also while the
    /// machine sleeps. Processes with the same [`boot`](Self::boot) count from the same moment.
    fn elapsed(&self) -> Duration;

    /// Names the moment that [`elapsed`](Self::elapsed) counts from. None where other processes count from others.
    fn boot(&self) -> Option<String>;

    /// A number that tells this process from others of its machine, for people who look for it.
    fn process(&self) -> u32;

    /// Random bits, evenly distributed: so many that no other call returns the same.
    fn random(&self) -> u128;

    /// A random number, evenly distributed over all.
    fn random_u64(&self) -> u64 {
        (self.random() >> u64::BITS) as u64
    }

    /// A random number, evenly distributed from 0 to below 1.
    fn chance(&self) -> f64 {
        f64::from((self.random_u64() >> u32::BITS) as u32) / (f64::from(u32::MAX) + 1.0)
    }

    /// A random UUID (version 4), which no other call returns.
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random().to_be_bytes()).into_uuid()
    }
}

/// Whole microseconds; the greatest number where there are more.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
