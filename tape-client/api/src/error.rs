//! Errors of a journal, by what the caller does next.

use tape_core::reply::Rejection;

/// The cause beneath an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The rules refuse the command. Nothing is written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The journal is out of reach or busy, or its answer was lost, so that the command may be written. The same request, with its
    /// id, may be sent again.
    #[error("the journal is out of reach")]
    Unavailable(#[source] Source),
    /// The journal does not take the request as it is. Nothing is written.
    #[error("the journal does not take the request: {0}")]
    Invalid(String),
    /// The stored data is inconsistent or from a newer build. Sending the request again does not help: a person must look.
    #[error("the journal cannot be used as it is")]
    Damaged(#[source] Source),
}

impl JournalError {
    /// An [`Unavailable`](Self::Unavailable) error with its cause.
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::Unavailable(source.into())
    }

    /// A [`Damaged`](Self::Damaged) error with its cause.
    pub fn damaged(source: impl Into<Source>) -> Self {
        Self::Damaged(source.into())
    }
}
