//! The source of the time at which commands are decided.

mod journal;
pub(crate) mod machine;

pub use journal::{JournalClock, Skew};
pub use machine::SystemClock;

use crate::error::StoreError;
use futures::future::BoxFuture;
use tape_core::id::RequestId;
use tape_core::time::{Now, Timestamp};

/// Says what time it is in a journal. All engines of a journal must have clocks that agree: [`JournalClock`] does, whatever the
/// clocks of their machines show.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// A new name for a request that is made now.
    fn request_id(&self) -> RequestId {
        RequestId::new(self.now(), uuid::Uuid::new_v4().as_u128())
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

/// A clock that stands until it is set: for tests. All engines of a journal are to share it.
#[cfg(feature = "testing")]
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

#[cfg(feature = "testing")]
impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(std::sync::atomic::AtomicI64::new(now.as_micros()))
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Moves the clock on.
    pub fn advance_ms(&self, millis: u64) {
        self.set(self.now().plus_millis(millis));
    }
}

#[cfg(feature = "testing")]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
