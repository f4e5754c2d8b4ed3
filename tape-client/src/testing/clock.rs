//! The journal's time in a test: tokio's clock, which stands still while a task can run.

use tape_core::time::Timestamp;
use tape_store::clock::Clock;
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z, in microseconds.
const START: i64 = 1_767_225_600_000_000;

/// A clock that follows tokio's.
#[derive(Debug)]
pub(super) struct TokioClock(Instant);

impl TokioClock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(START.saturating_add(passed))
    }
}
