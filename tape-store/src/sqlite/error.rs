//! What an error of SQLite means for the caller.

use crate::error::StoreError;
use std::sync::Arc;

/// Whether a failed commit certainly left nothing behind.
pub(super) fn is_definite(error: &sqlx::Error) -> bool {
    // Of SQLite's own errors only those of I/O leave it open whether the commit reached the disk; whatever else goes wrong
    // beneath (a worker that is gone, a connection that is closed) leaves it open too.
    const IO: u32 = 10;
    primary_code(error).is_some_and(|code| code != IO)
}

/// Whether another process is writing.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    primary_code(error) == Some(BUSY)
}

/// What could not be done, and who can do something about it.
pub(super) fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    const CORRUPT: u32 = 11;
    const NOT_A_DATABASE: u32 = 26;
    let decoding = matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_));
    match primary_code(&error) {
        Some(CORRUPT | NOT_A_DATABASE) => StoreError::corrupt("the database file", error),
        _ if decoding => StoreError::corrupt("a row", error),
        _ => StoreError::Unavailable {
            doing,
            source: Arc::new(error),
        },
    }
}

/// SQLite's primary result code, where the error is SQLite's.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// A row that cannot be what was written.
pub(super) fn corrupt(table: &str, key: impl std::fmt::Display, problem: impl Into<String>) -> StoreError {
    StoreError::corrupt(format!("row {key} of table {table}"), problem.into())
}
