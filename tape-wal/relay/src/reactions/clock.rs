//! The journal's time, for rules about the times that entries have.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::time::Timestamp;
use tape_environment::Environment;

/// The journal's time, as far as its answers told it. The clock of this machine may be any: a bound that was judged by it would not hold.
#[derive(Debug)]
pub(super) struct Clock {
    environment: Arc<dyn Environment>,
    /// A time of the journal, and how long this machine ran when it was told.
    learned: Mutex<Option<(Timestamp, Duration)>>,
}

impl Clock {
    pub(super) fn new(environment: Arc<dyn Environment>) -> Self {
        Self {
            environment,
            learned: Mutex::default(),
        }
    }

    /// An answer said that it was made at a time. It came a little later, so that [`now`](Self::now) is rather too early than too late.
    pub(super) fn learn(&self, at: Timestamp) {
        *self.learned() = Some((at, self.environment.elapsed()));
    }

    /// The time; that of this machine where the journal has told none yet.
    pub(super) fn now(&self) -> Timestamp {
        let Some((at, learned)) = *self.learned() else {
            return self.environment.wall();
        };
        let since = self.environment.elapsed().saturating_sub(learned);
        at.plus_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, Option<(Timestamp, Duration)>> {
        self.learned
            .lock()
            .expect("nothing panics while it holds the time")
    }
}
