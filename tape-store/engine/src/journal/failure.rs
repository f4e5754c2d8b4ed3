//! Maps errors of the engine or its store to errors of a journal.

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

/// The journal's error for an error of a store. An error of an unknown kind needs a person.
pub(crate) fn of_store(error: StoreError) -> JournalError {
    match error {
        StoreError::Unavailable { .. } => JournalError::unavailable(error),
        // Named as the field of the contract is, so that both doors say the same.
        StoreError::Invalid { what, problem } => {
            JournalError::Invalid(format!("{}: {problem}", what.replace(' ', "_")))
        }
        _ => JournalError::damaged(error),
    }
}
