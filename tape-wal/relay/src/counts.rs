//! What the relays of a process have done, as numbers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)+) => {
        /// What a relay has done in this process so far, and where it stands. Numbers of one reading need not fit each other exactly.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts {
            $($(#[$doc])* pub $name: counts!(@number $kind),)+
        }

        /// The same, counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: $kind,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
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
    /// Moves of the place.
    moves: AtomicU64,
    /// Parts that were lost to another process.
    takeovers: AtomicU64,
    /// The time of the oldest event that is read and not confirmed, in microseconds since 1970; zero where there is none.
    oldest_waiting_us: AtomicI64,
}

/// Counts `n` more.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

/// Changes a gauge.
pub(crate) fn change(gauge: &AtomicI64, by: i64) {
    gauge.fetch_add(by, Relaxed);
}
