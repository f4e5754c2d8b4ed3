//! What an error of Postgres means for the caller.

use crate::error::StoreError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use std::sync::Arc;
use std::time::Duration;

/// A statement that failed, or whose outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("there is no connection to the database")]
    Connect(#[source] sqlx::Error),
    /// Nothing was sent.
    #[error("making a connection to the database took longer than {0:?}")]
    ConnectTimeout(Duration),
    /// Nothing was sent.
    #[error("no connection to the database was free within {0:?}")]
    Busy(Duration),
    #[error(transparent)]
    Statement(#[from] sqlx::Error),
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    /// The statement was executed, and may be lost with the primary.
    #[error("the database warned that standbys may not have what was committed")]
    Warned,
    /// Nothing was sent.
    #[error("the server is a standby, which is behind and takes no commits: connect to the primary")]
    Standby,
    /// Nothing was sent.
    #[error("another server has taken over from this one: connect to the primary")]
    Overtaken,
    /// Nothing was sent.
    #[error("the server is of another cluster than before; if that is meant, restart this process")]
    OtherCluster,
    #[error("a session that may still commit does not end")]
    StillThere,
}

impl Failure {
    /// Whether the statement certainly left nothing behind.
    pub(super) fn is_definite(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout(_)
            | Self::Busy(_)
            | Self::Standby
            | Self::Overtaken
            | Self::OtherCluster => true,
            Self::Statement(error) => is_refusal(error),
            Self::Silent(_) | Self::Warned | Self::StillThere => false,
        }
    }

    /// Whether the statement collided with others and may simply be sent again.
    pub(super) fn is_collision(&self) -> bool {
        const SERIALIZATION: &str = "40001";
        const DEADLOCK: &str = "40P01";
        matches!(self, Self::Statement(error) if matches!(code(error).as_deref(), Some(SERIALIZATION | DEADLOCK)))
    }

    /// Whether another session has the requested lock.
    pub(super) fn is_lock_not_available(&self) -> bool {
        const LOCK_NOT_AVAILABLE: &str = "55P03";
        matches!(self, Self::Statement(error) if code(error).as_deref() == Some(LOCK_NOT_AVAILABLE))
    }

    /// Whether the connection was broken, which says nothing about the database.
    pub(super) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Statement(error) if !is_refusal(error))
    }

    /// The store's error for this failure.
    pub(super) fn store_error(self, doing: &'static str) -> StoreError {
        const DATA_CORRUPTED: &str = "XX001";
        const INDEX_CORRUPTED: &str = "XX002";
        if let Self::Statement(error) = &self {
            if matches!(code(error).as_deref(), Some(DATA_CORRUPTED | INDEX_CORRUPTED)) {
                return StoreError::corrupt("the database", self);
            }
            if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
                return StoreError::corrupt("a row", self);
            }
        }
        StoreError::Unavailable {
            doing,
            source: Arc::new(self),
        }
    }
}

/// Whether the database refused the statement and rolled it back. An error that ends the session may come after the commit.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    const COMPLETION_UNKNOWN: &str = "40003";
    let error = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| {
        matches!(error.severity(), PgSeverity::Error) && error.code() != COMPLETION_UNKNOWN
    })
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// The error for a row whose content was never written by a store.
pub(super) fn corrupt(table: &str, key: impl std::fmt::Display, problem: impl Into<String>) -> StoreError {
    StoreError::corrupt(format!("row {key} of table {table}"), problem.into())
}
