//! Maps internal errors to the failures that callers get.

use std::error::Error;
use tape_api::JournalError;
use tape_api::argument::InvalidArgument;
use tape_core::causes::Causes;
use tape_engine::EngineError;
use tape_proto::convert::InvalidField;
use tape_proto::failure::Failure;
use tape_store::error::StoreError;

/// The failure for an error of the journal.
pub(crate) fn of_journal(error: EngineError) -> Failure {
    match error {
        EngineError::Rejected(rejection) => Failure::Rejected(rejection),
        EngineError::Store(error) => of_store(&error),
        EngineError::Contended { .. } => Failure::Contended(error.to_string()),
        EngineError::OutcomeUnknown { .. } => Failure::OutcomeUnknown(Causes(&error).to_string()),
        // Damage needs a person, and so does an error that this build does not know.
        other => damaged(&other),
    }
}

/// The failure for an error of the store.
pub(crate) fn of_store(error: &StoreError) -> Failure {
    match error {
        // Another server of the journal can do it, or this one after a restart.
        StoreError::Unavailable { .. } | StoreError::Poisoned { .. } => {
            Failure::Unavailable(Causes(error).to_string())
        }
        StoreError::NewerSchema { .. } => Failure::NewerSchema(error.to_string()),
        StoreError::Invalid { what, problem } => {
            Failure::Invalid(InvalidField::new(what.replace(' ', "_"), problem.clone()))
        }
        other => damaged(other),
    }
}

/// The failure for an error of a query.
pub(crate) fn of_query(error: JournalError) -> Failure {
    match error {
        JournalError::Rejected(rejection) => Failure::Rejected(rejection),
        JournalError::Invalid(text) => {
            // It names the field as the contract does.
            let (field, problem) = text.split_once(": ").unwrap_or(("request", &text));
            InvalidField::new(field, problem.to_owned()).into()
        }
        JournalError::Unavailable(source) => Failure::Unavailable(Causes(source.as_ref()).to_string()),
        // Damage needs a person, and so does an error that this build does not know.
        JournalError::Damaged(source) => damaged(source.as_ref()),
        other => damaged(&other),
    }
}

/// The failure for an argument that no journal takes.
pub(crate) fn of_argument(invalid: InvalidArgument) -> Failure {
    Failure::Invalid(InvalidField::new(invalid.what, invalid.problem))
}

/// Stored bytes do not fit together. This is logged, since the operator of this server must look.
pub(crate) fn damaged(error: &(dyn Error + 'static)) -> Failure {
    let text = Causes(error).to_string();
    tracing::error!(error = %text, "damaged journal");
    Failure::Damaged(text)
}
