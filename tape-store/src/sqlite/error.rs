//! What an error of SQLite means for the caller.

use super::place::{Lost, Place};
use crate::error::StoreError;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

const BUSY: u32 = 5;
const READ_ONLY: u32 = 8;
const IO: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NOT_A_DATABASE: u32 = 26;

/// Whether a failed commit certainly left nothing behind.
pub(super) fn is_definite(error: &sqlx::Error) -> bool {
    // Of SQLite's own errors, only I/O errors leave open whether the commit reached the disk. Errors of the layer beneath (a worker that is
    // gone, a closed connection) leave it open too.
    primary_code(error).is_some_and(|code| code != IO)
}

/// Whether an entry was refused because its stream does not end where its batch says.
pub(super) fn is_misfit(error: &sqlx::Error) -> bool {
    const NOT_NULL: u32 = 1299;
    let is_of_stream = |error: &dyn sqlx::error::DatabaseError| error.message().ends_with("entry.stream");
    extended_code(error) == Some(NOT_NULL) && error.as_database_error().is_some_and(is_of_stream)
}

/// Whether another process is writing.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(BUSY)
}

/// Whether the file system gave an error.
pub(super) fn is_io(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(IO)
}

/// Whether the file, or one beside it, cannot be written.
pub(super) fn is_write_protection(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(READ_ONLY | CANNOT_OPEN))
}

/// Whether there was no transaction to end.
pub(super) fn is_no_transaction(error: &sqlx::Error) -> bool {
    const ERROR: u32 = 1;
    primary_code(error) == Some(ERROR)
}

pub(super) fn is_no_database(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(NOT_A_DATABASE)
}

/// The store's error for an error of SQLite.
pub(super) fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    let decoding = matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_));
    match primary_code(&error) {
        Some(CORRUPT | NOT_A_DATABASE) => StoreError::corrupt("the database file", Cause(error)),
        _ if decoding => StoreError::corrupt("a row", Cause(error)),
        _ => StoreError::Unavailable {
            doing,
            source: Arc::new(Cause(error)),
        },
    }
}

/// SQLite's primary result code, where the error is SQLite's.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    extended_code(error).map(|code| code & 0xff)
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// The error for a row whose content was never written by a store.
pub(super) fn corrupt(table: &str, key: impl fmt::Display, problem: impl Into<String>) -> StoreError {
    StoreError::corrupt(format!("row {key} of table {table}"), problem.into())
}

/// The same error with the path of the file: a process may use several files.
pub(super) fn in_file(path: &Path, error: StoreError) -> StoreError {
    let named = |source: crate::error::Source| -> crate::error::Source {
        Arc::new(InFile(format!("{}: {source}", path.display())))
    };
    match error {
        StoreError::Unavailable { doing, source } => StoreError::Unavailable {
            doing,
            source: named(source),
        },
        StoreError::Poisoned { doing, source } => StoreError::Poisoned {
            doing,
            source: named(source),
        },
        StoreError::Corrupt { what, source } => StoreError::Corrupt {
            what,
            source: named(source),
        },
        other => other,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InFile(String);

/// SQLite's message, once and in words.
#[derive(Debug)]
struct Cause(sqlx::Error);

impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.as_database_error() else {
            return self.0.fmt(f);
        };
        f.write_str(error.message())?;
        let Some(code) = extended_code(&self.0) else {
            return Ok(());
        };
        match operation(code) {
            Some(operation) => write!(f, ": {operation} failed (SQLite code {code})"),
            None => write!(f, " (SQLite code {code})"),
        }
    }
}

/// The file operation that failed, by SQLite's extended result code.
const fn operation(code: u32) -> Option<&'static str> {
    Some(match code {
        266 | 522 => "reading",
        778 => "writing",
        1034 => "fsync",
        1290 => "fsync of the directory",
        1546 => "shortening a file",
        2570 => "deleting a file",
        4618 | 4874 | 5130 | 5386 => "the shared memory file",
        _ => return None,
    })
}

/// The state of the file and its disk.
///
/// After a failed write to the disk, its content is unknown: the system may have discarded the pages, and what it reports of them later
/// proves nothing. Writes to a file that its path no longer leads to are lost. After either, nothing is read or written until the file is
/// opened anew, when SQLite recovers its log.
#[derive(Debug)]
pub(super) struct Poison {
    failed: OnceLock<StoreError>,
    file: Place,
    /// Whether the disk or the file had no room for the last write that failed.
    is_full: AtomicBool,
}

impl Poison {
    /// The state of a file that was just opened.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            failed: OnceLock::new(),
            file: Place::of(path.to_owned()),
            is_full: AtomicBool::new(false),
        }
    }

    /// Refuses a call after a failure.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.failed.get().cloned().map_or(Ok(()), Err)
    }

    /// The same, and also refuses a call where the path now leads to another file.
    pub(super) fn check_file(&self) -> Result<(), StoreError> {
        self.check()?;
        self.file
            .check()
            .map_err(|lost| self.lost("looks for its file", lost))
    }

    /// The error for a lost file, which poisons the store where the file is gone.
    pub(super) fn lost(&self, doing: &'static str, lost: Lost) -> StoreError {
        match lost.error(doing) {
            error @ StoreError::Poisoned { .. } => self.failed.get_or_init(|| error).clone(),
            error => error,
        }
    }

    /// The error for a failed write, which poisons the store where the disk may have failed.
    pub(super) fn write_failed(&self, doing: &'static str, error: sqlx::Error) -> StoreError {
        if primary_code(&error) == Some(FULL) {
            self.is_full.store(true, Ordering::Relaxed);
        }
        if !is_io(&error) {
            return store_error(doing, error);
        }
        let poisoned = || StoreError::Poisoned {
            doing,
            source: Arc::new(Cause(error)),
        };
        self.failed.get_or_init(poisoned).clone()
    }

    /// Whether the last failed write found no room, and none has been found since.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Records that there is room for the largest commit.
    pub(super) fn has_room(&self) {
        self.is_full.store(false, Ordering::Relaxed);
    }
}
