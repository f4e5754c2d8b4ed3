//! What an error of Bigtable means for the caller.

use crate::error::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// A call that failed, or whose outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("there are no credentials for the service")]
    Credentials(#[source] Arc<google_cloud_auth::errors::CredentialsError>),
    #[error("the service answered {}", .0.code())]
    Refused(#[source] Status),
    #[error("the service did not answer within {0:?}")]
    Silent(Duration),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl Failure {
    /// Whether the call certainly changed nothing. Codes that a proxy can return after the service has acted are not definite.
    pub(super) fn is_definite(&self) -> bool {
        match self {
            Self::Credentials(_) => true,
            Self::Refused(status) => was_never_connected(status) || self.is_refusal(),
            Self::Silent(_) => false,
        }
    }

    /// Whether the service received the call and refused it: the same call would get the same answer.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        ))
    }

    /// Whether the error is transient: the same call may well succeed when it is repeated at once.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused(status)
            if matches!(status.code(), Code::Unavailable | Code::Aborted | Code::Internal | Code::Unknown))
    }

    /// The store's error for this failure.
    pub(super) fn store_error(self, doing: &'static str) -> StoreError {
        match &self {
            Self::Refused(status) if status.code() == Code::DataLoss => {
                StoreError::corrupt("the table", self)
            }
            _ => StoreError::unavailable(doing, self),
        }
    }
}

/// Whether the connection could not be made.
fn was_never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error for a row whose content was never written by a store.
pub(super) fn corrupt(what: impl std::fmt::Display, problem: impl Into<String>) -> StoreError {
    StoreError::corrupt(format!("the row of {what}"), problem.into())
}
