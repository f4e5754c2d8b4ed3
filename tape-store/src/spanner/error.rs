//! What an error of Spanner means for the caller.

use crate::error::StoreError;
use google_cloud_gax::error::rpc::Code;
use google_cloud_spanner::result::RowError;
use std::sync::Arc;
use std::time::Duration;

/// A request that failed, or whose outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Request(#[from] google_cloud_spanner::Error),
    /// Nothing was sent.
    #[error("the client for Spanner could not be made")]
    Client(#[source] google_cloud_gax::client_builder::Error),
    /// Nothing was sent.
    #[error("the commits under way left no room within {0:?}")]
    Busy(Duration),
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
}

impl Failure {
    /// Whether the request certainly left nothing behind, and never will.
    pub(super) fn is_definite(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Client(_) => true,
            Self::Silent(_) => false,
            Self::Request(error) => error
                .status()
                .map_or_else(|| is_unsent(error), |status| is_refusal(status.code)),
        }
    }

    /// Whether a row that a commit changes was missing, or a row that it adds existed: this is how conditions fail.
    pub(super) fn is_unmet_condition(&self) -> bool {
        matches!(self.code(), Some(Code::NotFound | Code::AlreadyExists))
    }

    pub(super) fn is_already_there(&self) -> bool {
        self.code() == Some(Code::AlreadyExists)
    }

    pub(super) fn is_not_there(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// Whether a change of the schema has to wait for another operation under way.
    pub(super) fn is_in_the_way(&self) -> bool {
        matches!(self.code(), Some(Code::FailedPrecondition | Code::Aborted))
            || self.is_precondition_of_the_emulator()
    }

    /// The emulator's errors over REST have a different form.
    fn is_precondition_of_the_emulator(&self) -> bool {
        let Self::Request(error) = self else {
            return false;
        };
        let said = error
            .http_payload()
            .and_then(|body| serde_json::from_slice(body).ok());
        said.is_some_and(|said: serde_json::Value| said["code"] == Code::FailedPrecondition as i64)
    }

    fn code(&self) -> Option<Code> {
        match self {
            Self::Request(error) => Some(error.status()?.code),
            Self::Client(_) | Self::Busy(_) | Self::Silent(_) => None,
        }
    }

    /// The store's error for this failure.
    pub(super) fn store_error(self, doing: &'static str) -> StoreError {
        let damaged = match &self {
            Self::Request(error) => RowError::extract(error).is_some() || self.code() == Some(Code::DataLoss),
            Self::Client(_) | Self::Busy(_) | Self::Silent(_) => false,
        };
        if damaged {
            return StoreError::corrupt("a row", self);
        }
        StoreError::Unavailable {
            doing,
            source: Arc::new(self),
        }
    }
}

/// Whether this code means that Spanner refused a request, and not that its outcome is unknown.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Aborted
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

fn is_unsent(error: &google_cloud_spanner::Error) -> bool {
    error.is_connect() || error.is_authentication() || error.is_binding() || error.is_serialization()
}

/// The error for a row whose content was never written by a store.
pub(super) fn corrupt(table: &str, key: impl std::fmt::Display, problem: impl Into<String>) -> StoreError {
    StoreError::corrupt(format!("row {key} of table {table}"), problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use google_cloud_gax::error::rpc::Status;

    fn refused(code: Code) -> Failure {
        Failure::Request(google_cloud_spanner::Error::service(
            Status::default().set_code(code),
        ))
    }

    /// A commit counts as not made only where Spanner says that it refused the commit.
    #[test]
    fn the_outcome_is_unknown_unless_spanner_refused() {
        for code in [
            Code::Aborted,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::InvalidArgument,
            Code::NotFound,
            Code::OutOfRange,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::Unauthenticated,
            Code::Unimplemented,
        ] {
            assert!(refused(code).is_definite(), "{code}");
        }
        for code in [
            Code::Ok,
            Code::Cancelled,
            Code::DataLoss,
            Code::DeadlineExceeded,
            Code::Internal,
            Code::Unavailable,
            Code::Unknown,
        ] {
            assert!(!refused(code).is_definite(), "{code}");
        }
        assert!(!Failure::Silent(Duration::ZERO).is_definite());
        assert!(Failure::Busy(Duration::ZERO).is_definite());
    }

    /// A request that was lost on the way has an unknown outcome; one that was never sent has a definite one.
    #[test]
    fn what_was_not_sent_is_not_done() {
        use google_cloud_spanner::Error;
        let failed = |error| Failure::Request(error);
        assert!(failed(Error::connect("no way")).is_definite());
        assert!(failed(Error::ser("no form")).is_definite());
        assert!(!failed(Error::io("cut")).is_definite());
        assert!(!failed(Error::timeout("late")).is_definite());
        assert!(!failed(Error::deser("garbled")).is_definite());
    }
}
