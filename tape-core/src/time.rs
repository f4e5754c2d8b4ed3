//! Time as data: the core never reads a clock.

use crate::limits::LEASE_MS_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use tape_core::time::Timestamp;
/// let noon = Timestamp::from_micros(1_000_000);
/// assert_eq!(noon.plus_millis(5).as_micros(), 1_005_000);
/// assert_eq!(Timestamp::MAX.plus_millis(1), Timestamp::MAX);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(#[serde(deserialize_with = "crate::number::signed")] i64);

impl Timestamp {
    /// The earliest time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time.
    pub const MAX: Self = Self(i64::MAX);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This time moved later by `millis`; stops at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        let micros = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self(self.0.saturating_add(micros))
    }

    /// This time moved earlier by `millis`; stops at [`Timestamp::MIN`].
    #[must_use]
    pub fn minus_millis(self, millis: u64) -> Self {
        let micros = i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self(self.0.saturating_sub(micros))
    }

    /// Milliseconds from `earlier` to this time; zero where `earlier` is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0).max(0) / 1_000).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// A time, or a wait that counts from when the command is decided. With a wait, the client's clock need not agree with the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// At a time.
    At(Timestamp),
    /// After so many milliseconds.
    InMs(u64),
}

impl Deadline {
    /// The time it means, where `now` is.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::InMs(millis) => now.plus_millis(millis),
        }
    }
}

/// How far in the future a lease or claim may end. One that ends later was written by a server whose clock was wrong.
const AHEAD_MS_MAX: u64 = 2 * LEASE_MS_MAX;

/// The time of the journal at which a command is decided, and how well the server knows it.
///
/// All servers of a journal share one time. A server knows it within bounds: it is at least `earliest` and at most `at`. Entries use `at`,
/// so that a lease or claim is never shorter than was asked for. Whether the lease or claim of *another* is over is judged by `earliest`.
///
/// ```
/// use tape_core::time::{Now, Timestamp};
/// let second = Timestamp::from_micros;
/// let now = Now::within(second(990), second(1_000));
/// assert_eq!(now.outlived(second(990)), Some(true));
/// assert_eq!(now.outlived(second(995)), Some(false));
/// assert_eq!(now.unsure().outlived(second(990)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    earliest: Timestamp,
    at: Timestamp,
    stepped_ms: u64,
    sure: bool,
}

impl From<Timestamp> for Now {
    fn from(at: Timestamp) -> Self {
        Self::within(at, at)
    }
}

impl Now {
    /// A time between `earliest` and `latest`, both included.
    #[must_use]
    pub const fn within(earliest: Timestamp, latest: Timestamp) -> Self {
        Self {
            earliest,
            at: latest,
            stepped_ms: 0,
            sure: true,
        }
    }

    /// The same after the journal's clock was recently set by so many milliseconds: leases and claims that were written before may end that
    /// much later than they say.
    #[must_use]
    pub const fn after_step(self, millis: u64) -> Self {
        Self {
            stepped_ms: millis,
            ..self
        }
    }

    /// The same for a server that does not know the time well enough to tell whether a lease or claim of another is over.
    #[must_use]
    pub const fn unsure(self) -> Self {
        Self { sure: false, ..self }
    }

    /// The time that is recorded: the latest possible one.
    #[must_use]
    pub const fn at(self) -> Timestamp {
        self.at
    }

    /// The earliest possible time.
    #[must_use]
    pub const fn earliest(self) -> Timestamp {
        self.earliest
    }

    /// Whether the server can tell if leases and claims of others are over.
    #[must_use]
    pub const fn is_sure(self) -> bool {
        self.sure
    }

    /// Whether a lease or claim of another that ends at `until` is over for certain; none where the server cannot tell.
    ///
    /// One that ends after [`Now::ends_max`] is over, too: it was written under a wrong clock, and would otherwise block its work for as
    /// long as that clock was ahead.
    #[must_use]
    pub fn outlived(self, until: Timestamp) -> Option<bool> {
        self.sure.then(|| !self.holds(until) || until > self.ends_max())
    }

    /// The latest end that a valid lease or claim can have.
    #[must_use]
    pub fn ends_max(self) -> Timestamp {
        self.at.plus_millis(AHEAD_MS_MAX.saturating_add(self.stepped_ms))
    }

    /// Whether the holder of a lease or claim that ends at `until` may still use it. It may as long as others may not take it.
    #[must_use]
    pub fn holds(self, until: Timestamp) -> bool {
        !self.sure || until.plus_millis(self.stepped_ms) > self.earliest
    }
}
