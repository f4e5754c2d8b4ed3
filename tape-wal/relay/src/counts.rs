//! What the relays of a process have done, as numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tape_core::time::Timestamp;

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ident,)+) => {
        /// What a relay has done in this process so far, and where it stands. Numbers of one reading need not fit each other exactly.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[doc = $doc])* pub $name: counts!(@number $kind),)+
        }

        /// The numbers that only grow or come and go: their names, their kinds and what they mean, as exporters of metrics need them.
        pub const COUNT_NAMES: &[(&str, &str, &str)] =
            &[$((stringify!($name), counts!(@kind $kind), concat!($($doc),+)),)+];

        impl Counts {
            /// A number by its name.
            #[must_use]
            pub fn named(&self, name: &str) -> Option<i128> {
                match name {
                    $(stringify!($name) => Some(self.$name.into()),)+
                    _ => None,
                }
            }
        }

        /// The same, counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: $kind,)+
            /// The time of the oldest event of each part that waits.
            waiting: Mutex<BTreeMap<u16, i64>>,
        }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
    (@kind AtomicU64) => { "counter" };
    (@kind AtomicI64) => { "gauge" };
    (@number AtomicU64) => { u64 };
    (@number AtomicI64) => { i64 };
}

counts! {
    /// Parts that this process carries.
    parts: AtomicI64,
    /// Entries that the feed gave.
    entries_read: AtomicU64,
    /// Events that the sink confirmed.
    events_delivered: AtomicU64,
    /// Events that the sink refused for good.
    events_refused: AtomicU64,
    /// Attempts to deliver an event that failed and were made again.
    events_retried: AtomicU64,
    /// Entries that cannot be read. They are passed over, and the log names them.
    entries_unreadable: AtomicU64,
    /// Entries that were not chosen because the predicate failed on them.
    predicate_failures: AtomicU64,
    /// Events that are read and not confirmed yet.
    events_waiting: AtomicI64,
    /// Streams whose next event the sink did not take yet. They wait, and others go on.
    streams_held: AtomicI64,
    /// Moves of the place.
    moves: AtomicU64,
    /// Parts that were lost to another process.
    takeovers: AtomicU64,
    /// Refusals that the journal could not put on record. The log names them.
    refusals_unrecorded: AtomicU64,
    /// Parts whose task panicked and was started again, which is a defect.
    panics: AtomicU64,
    /// The time of the oldest event that is read and not confirmed, in microseconds since 1970; zero where there is none.
    oldest_waiting_us: AtomicI64,
}

impl Counts {
    /// For how long the oldest event that is read has waited, in microseconds, where it is `now_us` since 1970; zero where none waits.
    #[must_use]
    pub fn lag_us(&self, now_us: i64) -> i64 {
        match self.oldest_waiting_us {
            0 => 0,
            oldest => now_us.saturating_sub(oldest).max(0),
        }
    }
}

impl Counters {
    /// Notes since when the oldest event of a part waits; none where none does.
    pub(crate) fn oldest(&self, part: u16, at: Option<Timestamp>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match at {
            Some(at) => drop(waiting.insert(part, at.as_micros())),
            None => drop(waiting.remove(&part)),
        }
        let oldest = waiting.values().min().copied().unwrap_or(0);
        self.oldest_waiting_us.store(oldest, Relaxed);
    }
}

/// Events that are read and neither confirmed nor refused. Those that are left count no longer once this is gone: the part was lost.
#[derive(Debug)]
pub(crate) struct Waiting {
    counters: Arc<Counters>,
    left: i64,
}

impl Waiting {
    pub(crate) fn new(counters: &Arc<Counters>, events: usize) -> Self {
        let left = i64::try_from(events).unwrap_or(i64::MAX);
        change(&counters.events_waiting, left);
        Self {
            counters: Arc::clone(counters),
            left,
        }
    }

    /// One waits no longer.
    pub(crate) fn one_less(&mut self) {
        self.left -= 1;
        change(&self.counters.events_waiting, -1);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        change(&self.counters.events_waiting, -self.left);
    }
}

/// Counts `n` more.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

/// Changes a gauge.
pub(crate) fn change(gauge: &AtomicI64, by: i64) {
    gauge.fetch_add(by, Relaxed);
}
