//! The names of requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tape_api::JournalError;
use tape_core::id::{RequestClock, RequestId};
use tape_environment::Environment;

/// Names requests, dated by a clock that learns the journal's time from refusals.
#[derive(Debug)]
pub(crate) struct RequestIds {
    environment: Arc<dyn Environment>,
    clock: Mutex<RequestClock>,
}

impl RequestIds {
    pub(crate) fn new(environment: Arc<dyn Environment>) -> Self {
        let clock = Mutex::default();
        Self { environment, clock }
    }

    /// A new name for a request.
    pub(crate) fn next(&self) -> RequestId {
        self.clock()
            .next(self.environment.wall(), self.environment.random())
    }

    /// Learns from what became of a request.
    pub(crate) fn learn(&self, failure: &JournalError) {
        if let JournalError::Rejected(rejection) = failure {
            self.clock().learn(self.environment.wall(), rejection);
        }
    }

    fn clock(&self) -> MutexGuard<'_, RequestClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
