//! The source of the time at which commands are decided.

mod journal;

pub use journal::{JournalClock, Skew};

use crate::error::StoreError;
use futures::future::BoxFuture;
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicI64, Ordering};
use tape_core::id::RequestId;
use tape_core::time::{Now, Timestamp};
use tape_environment::{Environment, Machine, machine};

/// Says what time it is in a journal. All engines of a journal must have clocks that agree: [`JournalClock`] does, whatever the
/// clocks of their machines show.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// What the process that keeps this clock takes from outside, beside the journal's time: an engine takes its randomness from here.
    fn environment(&self) -> Arc<dyn Environment>;

    /// A new name for a request that is made now.
    fn request_id(&self) -> RequestId {
        RequestId::new(self.now(), self.environment().random())
    }

    /// The time now, with how well it is known: exactly, unless the clock says otherwise.
    fn read(&self) -> Now {
        self.now().into()
    }

    /// The work to do before the time is known; none where the time is known.
    fn unsettled(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        None
    }

    /// How the time is measured, for a clock that measures it.
    fn skew(&self) -> Option<Skew> {
        None
    }
}

/// The clock of the machine. It may jump, and those of two machines differ: an engine that shares its journal with others
/// needs a [`JournalClock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Machine.wall()
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

/// A clock that stands until it is set: for tests. All engines of a journal are to share it. Its environment is the machine's.
#[cfg(feature = "testing")]
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

#[cfg(feature = "testing")]
impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Moves the clock on.
    pub fn advance_ms(&self, millis: u64) {
        self.set(self.now().plus_millis(millis));
    }
}

#[cfg(feature = "testing")]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}
