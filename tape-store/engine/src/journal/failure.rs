//! What an error of the engine or its store means to the caller of a journal.

use crate::EngineError;
use tape_api::JournalError;
use tape_store::error::StoreError;

impl From<EngineError> for JournalError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Rejected(rejection) => Self::Rejected(rejection),
            EngineError::Store(error) => of_store(error),
            EngineError::Contended { .. } | EngineError::OutcomeUnknown { .. } => Self::unavailable(error),
            EngineError::Damaged { .. } => Self::damaged(error),
        }
    }
}

/// What an error of a store means. One that does not say otherwise needs a person.
pub(super) fn of_store(error: StoreError) -> JournalError {
    match error {
        StoreError::Unavailable { .. } => JournalError::unavailable(error),
        StoreError::Invalid { .. } => JournalError::Invalid(error.to_string()),
        _ => JournalError::damaged(error),
    }
}
