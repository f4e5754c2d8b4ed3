//! What can be set about a SQLite store.

use std::time::Duration;

/// What can be set about a SQLite store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long a commit waits for another process's before it is refused as
    /// [`Unavailable`](crate::error::StoreError::Unavailable).
    pub busy_timeout: Duration,
    /// The largest the database file may get, in bytes; beyond it, commits are refused as
    /// [`Unavailable`](crate::error::StoreError::Unavailable).
    pub file_bytes_max: Option<u64>,
    /// How many connections read at the same time, at least one.
    pub readers: u32,
}

impl Default for Settings {
    /// 5 seconds, no bound, 4 readers.
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            file_bytes_max: None,
            readers: 4,
        }
    }
}
