//! What a server's failure means for the caller.

use tape_api::JournalError;
use tape_proto::failure::Failure as Wire;
use tonic::Code;

/// What a failure means: whether the request may be sent again.
pub(super) fn failed(failure: impl Into<Wire>) -> JournalError {
    let failure = failure.into();
    match failure {
        Wire::Rejected(rejection) => JournalError::Rejected(rejection),
        Wire::Invalid(field) => JournalError::Invalid(field.to_string()),
        Wire::Unavailable(_)
        | Wire::Draining
        | Wire::OutcomeUnknown(_)
        | Wire::Contended(_)
        | Wire::Overloaded { .. }
        | Wire::SlowReader { .. }
        | Wire::Deadline => JournalError::Unavailable(failure.into()),
        // A status without Tape's reason comes from something in between, whatever its code: a router that does not know the service, a
        // proxy that requires a login, a broken transport. The request may have arrived, and may be sent again.
        Wire::Other { ref reason, .. } if reason.is_empty() => JournalError::Unavailable(failure.into()),
        // A newer server's reasons.
        Wire::Other {
            code, ref message, ..
        } if refused(code) => JournalError::Invalid(message.clone()),
        Wire::Other { code, .. } if code != Code::DataLoss => JournalError::Unavailable(failure.into()),
        _ => JournalError::Damaged(failure.into()),
    }
}

/// Whether a server understood the request and will not take it.
const fn refused(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
    )
}
