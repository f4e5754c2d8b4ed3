//! The journal's time in a test: that of its environment, which goes with tokio's clock.

use std::sync::Arc;
use tape_core::time::Timestamp;
use tape_environment::{Environment, Seeded};
use tape_store::clock::Clock;

/// All drives have one seed, so that a violation is found again.
const SEED: u64 = 1;

/// A clock that shows what its environment's does.
#[derive(Debug)]
pub(super) struct SeededClock(Arc<Seeded>);

impl SeededClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Seeded::new(SEED)))
    }
}

impl Clock for SeededClock {
    fn now(&self) -> Timestamp {
        self.0.wall()
    }

    fn environment(&self) -> Arc<dyn Environment> {
        Arc::clone(&self.0) as Arc<dyn Environment>
    }
}
