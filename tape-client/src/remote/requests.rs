//! The names of requests.

use crate::machine;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tape_api::JournalError;
use tape_core::id::{RequestClock, RequestId};

/// Names requests, dated by a clock that learns the journal's time from refusals.
#[derive(Debug, Default)]
pub(crate) struct RequestIds(Mutex<RequestClock>);

impl RequestIds {
    /// A new name for a request.
    pub(crate) fn next(&self) -> RequestId {
        self.clock().next(machine::now(), machine::wide())
    }

    /// Learns from what became of a request.
    pub(crate) fn learn(&self, failure: &JournalError) {
        if let JournalError::Rejected(rejection) = failure {
            self.clock().learn(machine::now(), rejection);
        }
    }

    fn clock(&self) -> MutexGuard<'_, RequestClock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
