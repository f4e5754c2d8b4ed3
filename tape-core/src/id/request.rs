//! Request ids. They are ordered by time, so that a stream can tell a new id from one that it has forgotten.

use super::{InvalidName, NameProblem};
use crate::reply::Rejection;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Names one request of one caller: repeating it returns the first outcome.
///
/// It is a UUID of version 7, so it has the time of its creation in milliseconds. Streams refuse other ids; journals of earlier builds may
/// still contain them.
///
/// ```
/// use tape_core::id::RequestId;
/// use tape_core::time::Timestamp;
/// let at = Timestamp::from_micros(1_790_000_000_123_456);
/// let request = RequestId::new(at, 42);
/// assert_eq!(request.made_at(), Some(Timestamp::from_micros(1_790_000_000_123_000)));
/// assert!(RequestId::new(at.plus_millis(1), 0) > request);
/// assert_eq!(RequestId::from_u128(7).made_at(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(#[serde(with = "uuid::serde::simple")] pub uuid::Uuid);

/// The bits of a UUID of version 7 that are free: twelve after the version, and 62 after the variant.
const FREE_BITS: u128 = (0xfff << 64) | ((1 << 62) - 1);
/// Version 7, variant 1.
const FIXED_BITS: u128 = (7 << 76) | (2 << 62);
/// The latest time that fits, in milliseconds.
const MILLIS_MAX: u64 = (1 << 48) - 1;

impl RequestId {
    /// From a number as it is, whether or not that is time-ordered.
    #[must_use]
    pub const fn from_u128(n: u128) -> Self {
        Self(uuid::Uuid::from_u128(n))
    }

    /// An id that is made at `at`, unique by the lowest 74 bits of `random`. Times before 1970 count as 1970.
    #[must_use]
    pub fn new(at: Timestamp, random: u128) -> Self {
        let millis = u64::try_from(at.as_micros().div_euclid(1_000))
            .unwrap_or(0)
            .min(MILLIS_MAX);
        let free = ((random >> 62) << 64 | random & ((1 << 62) - 1)) & FREE_BITS;
        Self::from_u128(u128::from(millis) << 80 | FIXED_BITS | free)
    }

    /// When it was made, to the millisecond; none where it is not time-ordered.
    #[must_use]
    pub fn made_at(self) -> Option<Timestamp> {
        let bits = self.0.as_u128();
        let fixed = FIXED_BITS | (0xf << 76) | (3 << 62);
        if bits & fixed != FIXED_BITS {
            return None;
        }
        let millis = u64::try_from(bits >> 80).unwrap_or(MILLIS_MAX);
        Some(Timestamp::from_micros(0).plus_millis(millis))
    }

    /// Refuses an id that is not time-ordered.
    ///
    /// # Errors
    /// [`Rejection::UnorderedRequest`].
    pub fn check_ordered(self) -> Result<Timestamp, Rejection> {
        self.made_at()
            .ok_or(Rejection::UnorderedRequest { request: self })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = InvalidName {
            what: "request id",
            problem: NameProblem::Form { form: "a UUID" },
        };
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| form)
    }
}

/// The clock by which a client dates its requests: the client's own clock, corrected by what refusals tell of the journal's time.
///
/// A client needs no clock that agrees with the journal's. A request that was sent once and is refused as too old or as from the
/// future was not executed; the clock learns from the refusal, and the client sends the request under a new id.
///
/// ```
/// use tape_core::id::{RequestClock, RequestId};
/// use tape_core::reply::Rejection;
/// use tape_core::time::Timestamp;
/// let hour = 3_600_000;
/// let (right, wrong) = (Timestamp::from_micros(0).plus_millis(100 * hour), Timestamp::from_micros(0).plus_millis(101 * hour));
/// let mut clock = RequestClock::default();
/// let request = clock.next(wrong, 1);
/// assert_eq!(request.made_at(), Some(wrong));
/// assert!(clock.learn(wrong, &Rejection::RequestFromFuture { request, now: right }));
/// assert_eq!(clock.next(wrong, 2).made_at(), Some(right));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestClock {
    /// What is added to the client's own time, in microseconds.
    offset: i64,
    /// The latest time given so far.
    last: Timestamp,
}

impl RequestClock {
    /// A new id, where the client's own clock shows `own`. No id is older than the one before it, unless the clock has learned that
    /// this one was from the future.
    pub fn next(&mut self, own: Timestamp, random: u128) -> RequestId {
        self.last = self.last.max(self.at(own));
        RequestId::new(self.last, random)
    }

    /// Learns from a refusal, where the client's own clock shows `own`. Returns whether the refused request was not executed and may be
    /// sent again under a new id, provided that it was sent only once.
    pub fn learn(&mut self, own: Timestamp, refusal: &Rejection) -> bool {
        let journal = match refusal {
            Rejection::RequestTooOld { forgotten, now, .. } => {
                let next = forgotten.made_at().map_or(*now, |at| at.plus_millis(1));
                next.max(*now)
            }
            Rejection::RequestFromFuture { now, .. } => *now,
            _ => return false,
        };
        self.offset = journal.as_micros().saturating_sub(own.as_micros());
        self.last = journal;
        true
    }

    fn at(&self, own: Timestamp) -> Timestamp {
        Timestamp::from_micros(own.as_micros().saturating_add(self.offset))
    }
}
