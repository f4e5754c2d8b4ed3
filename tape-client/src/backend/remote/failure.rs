//! What a server's failure means for who asked.

use crate::backend::Failure;
use tape_proto::failure::Failure as Wire;
use tonic::{Code, Status};

impl From<Wire> for Failure {
    fn from(failure: Wire) -> Self {
        match failure {
            Wire::Rejected(rejection) => Self::Rejected(rejection),
            Wire::Invalid(field) => Self::Invalid(field.to_string()),
            Wire::Unavailable(_)
            | Wire::Draining
            | Wire::OutcomeUnknown(_)
            | Wire::Contended(_)
            | Wire::Overloaded { .. }
            | Wire::SlowReader { .. }
            | Wire::Deadline => Self::Retryable(failure.into()),
            // A status without Tape's reason is of something on the way, whatever it says: a router that knows no such service, a proxy
            // that wants to be logged in to, a transport that broke off. The request may have arrived, and may be sent again.
            Wire::Other { ref reason, .. } if reason.is_empty() => Self::Retryable(failure.into()),
            // A newer server's reasons.
            Wire::Other {
                code, ref message, ..
            } if refused(code) => Self::Invalid(message.clone()),
            Wire::Other { code, .. } if code != Code::DataLoss => Self::Retryable(failure.into()),
            _ => Self::Fatal(failure.into()),
        }
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

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Wire::from(&status).into()
    }
}
