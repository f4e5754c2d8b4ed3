//! Opens a database file: checks that it is a journal, its version, and whether it can be written.

use super::error::{is_io, is_no_database, is_write_protection, store_error};
use super::settings::Settings;
use super::writer::in_turn;
use crate::error::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::{Path, PathBuf};
use tape_core::limits::BATCH_BYTES_MAX;
use tape_environment::Environment;
use uuid::Uuid;

/// Marks a file as a Tape journal: "Tape" in ASCII.
const APPLICATION_ID: i64 = 0x5461_7065;
/// The version of the schema this build writes.
const SCHEMA_VERSION: i64 = 5;
const SCHEMA: &str = include_str!("schema.sql");
/// What version 2 added.
const ERASED: &str = include_str!("erased.sql");
/// A journal of version 1 did not record what was erased: its missing payloads count as erased.
const ERASED_BEFORE: &str = "INSERT INTO erased SELECT pos FROM entry WHERE payload IS NULL";
/// What version 3 added.
const KEPT: &str = include_str!("kept.sql");
/// What version 4 added.
const CLOCK: &str = include_str!("clock.sql");
/// What version 5 added.
const RECORDS: &str = include_str!("record.sql");
const PAGE_BYTES: u32 = 4096;
/// Pages in the log after which they are written to the file.
const LOG_PAGES: u32 = 4000;
/// Bytes that the log keeps while it is in use.
const LOG_BYTES: u32 = LOG_PAGES * PAGE_BYTES;

/// What a file is.
enum Found {
    Nothing,
    /// A journal of an older version.
    Older(i64),
    Journal,
}

/// How a file can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Written too.
    Write,
    /// Only read, beside others that may write.
    Read,
    /// Only read, where no process writes: SQLite then needs no files beside it.
    ReadImmutable,
}

const DOING: &str = "opens the database";

/// Makes sure that the file is a journal of this version, and makes it one where there is nothing yet. A file of somebody
/// else, or of a newer build, stays as it is, to the byte. On a disk that takes no writes, a journal of this version is read.
pub(super) async fn prepare(
    path: &Path,
    settings: &Settings,
    environment: &dyn Environment,
) -> Result<Access, StoreError> {
    if path.exists() {
        match look_into(common(path, settings)).await {
            Ok(look) if matches!(look.judge(path)?, Found::Journal) => {
                return recover(path, settings).await;
            }
            Ok(_) => {}
            Err(error) if is_write_protection(&error) && !has_room_for_files(path, environment.uuid()) => {
                return prepare_to_read(path, settings).await;
            }
            Err(error) => return Err(foreign(path, error)),
        }
    }
    let mut made = in_turn!(settings.busy_timeout, writer(path, settings).connect())
        .map_err(|error| store_error(DOING, error))?;
    let done = make(&mut made, path, settings).await;
    made.close().await.map_err(|error| store_error(DOING, error))?;
    done.map(|()| Access::Write)
}

/// How a journal that can be opened can be used.
///
/// A process that died left a log. Its committed content is read from now on, but some of it may be only in the memory of the system, where
/// writing it to the disk failed. So the log is written to the file, and the file to the disk.
async fn recover(path: &Path, settings: &Settings) -> Result<Access, StoreError> {
    const DOING: &str = "writes the log of the database to its file";
    let had_log = has_log(path);
    let recovered = async {
        let mut connection = common(path, settings).connect().await?;
        connection.execute(MAY_WRITE).await?;
        if had_log {
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").await?;
        }
        connection.close().await
    };
    match recovered.await {
        Err(error) if is_io(&error) => Err(store_error(DOING, error)),
        Err(error) if is_write_protection(&error) => Ok(Access::Read),
        // Where another process writes, that process has recovered the log.
        _ => Ok(Access::Write),
    }
}

/// Asks whether the file may be written, and writes nothing. Writing the log to a file that may not be written fails like a disk error, and
/// a write transaction begins there all the same.
pub(super) const MAY_WRITE: &str = "DELETE FROM erased WHERE pos < 0";

/// Writes a page, the one with the mark, and changes nothing.
pub(super) fn writes_a_page() -> String {
    format!("PRAGMA application_id = {APPLICATION_ID}")
}

/// Writes as much as the largest commit, and deletes it again. Deleted bytes are overwritten, so all of it goes to the disk.
pub(super) fn writes_much() -> String {
    format!(
        "BEGIN IMMEDIATE; INSERT INTO snapshot VALUES (-1, 0, zeroblob({BATCH_BYTES_MAX})); \
         DELETE FROM snapshot WHERE stream = -1; COMMIT"
    )
}

/// Whether there is a log with something in it.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// A file that SQLite keeps beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether files can be made beside the database, as SQLite has to. The database itself is not touched: to close a file ends the locks
/// that this process has on it. No other file has the `name`.
fn has_room_for_files(path: &Path, name: Uuid) -> bool {
    let probe = beside(path, &format!("-{name}"));
    let made = std::fs::File::create_new(&probe);
    // A probe that cannot be deleted is empty and harmless.
    let _ = std::fs::remove_file(&probe);
    made.is_ok()
}

/// Looks whether the journal can be read where nothing can be written.
async fn prepare_to_read(path: &Path, settings: &Settings) -> Result<Access, StoreError> {
    let refused = |problem: &str| StoreError::Invalid {
        what: "store",
        problem: format!("{} is on a disk that takes no writes, {problem}", path.display()),
    };
    let (access, look) = match look_into(common(path, settings).read_only(true)).await {
        Ok(look) => (Access::Read, look),
        Err(error) if !is_write_protection(&error) => return Err(foreign(path, error)),
        // Without its log, the newest entries would be missing.
        Err(_) if has_log(path) => {
            return Err(refused(
                "and has a log (-wal) that cannot be read there: copy both to a disk that can be written",
            ));
        }
        Err(_) => {
            let options = common(path, settings).read_only(true).immutable(true);
            let looked = look_into(options).await;
            (
                Access::ReadImmutable,
                looked.map_err(|error| foreign(path, error))?,
            )
        }
    };
    match look.judge(path)? {
        Found::Journal => Ok(access),
        Found::Older(version) => Err(refused(&format!(
            "and has schema version {version}, which has to be brought up to {SCHEMA_VERSION}: copy it to a disk that can be written"
        ))),
        Found::Nothing => Err(refused("and is empty")),
    }
}

async fn look_into(options: SqliteConnectOptions) -> Result<Look, sqlx::Error> {
    let mut connection = options.connect().await?;
    let looked = look_at_once(&mut connection).await;
    connection.close().await?;
    looked
}

/// Looks within one transaction: another process may be making the journal.
async fn look_at_once(connection: &mut SqliteConnection) -> Result<Look, sqlx::Error> {
    connection.execute("BEGIN").await?;
    let looked = look(connection).await?;
    connection.execute("ROLLBACK").await?;
    Ok(looked)
}

/// How the one connection that writes is opened.
pub(super) fn writer(path: &Path, settings: &Settings) -> SqliteConnectOptions {
    let options = common(path, settings)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", LOG_PAGES.to_string())
        // A log that grew while a reader used it is truncated when it restarts.
        .pragma("journal_size_limit", LOG_BYTES.to_string())
        // What is deleted is overwritten: erased bytes must not stay in the file's free space.
        .pragma("secure_delete", "ON")
        .pragma("cache_size", "-65536")
        .row_buffer_size(1024);
    match settings.file_bytes_max {
        Some(bytes) => options.pragma(
            "max_page_count",
            (bytes / u64::from(PAGE_BYTES)).max(1).to_string(),
        ),
        None => options,
    }
}

/// How connections that only read are opened.
pub(super) fn reader(path: &Path, settings: &Settings, access: Access) -> SqliteConnectOptions {
    common(path, settings)
        .read_only(access != Access::Write)
        .immutable(access == Access::ReadImmutable)
        .pragma("query_only", "1")
        .pragma("cache_size", "-16384")
}

fn common(path: &Path, settings: &Settings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .busy_timeout(settings.busy_timeout)
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(128)
        .disable_statement_logging()
}

struct Look {
    application_id: i64,
    version: i64,
    tables: i64,
}

async fn look(connection: &mut SqliteConnection) -> Result<Look, sqlx::Error> {
    let application_id = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await?;
    let version = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    let tables = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *connection)
        .await?;
    Ok(Look {
        application_id,
        version,
        tables,
    })
}

impl Look {
    fn judge(&self, path: &Path) -> Result<Found, StoreError> {
        if (self.application_id, self.version, self.tables) == (0, 0, 0) {
            return Ok(Found::Nothing);
        }
        if self.application_id != APPLICATION_ID {
            let problem = format!("{} is the database of another application", path.display());
            return Err(StoreError::Invalid {
                what: "store",
                problem,
            });
        }
        if self.version > SCHEMA_VERSION {
            let known = u32::try_from(SCHEMA_VERSION).unwrap_or(u32::MAX);
            return Err(StoreError::NewerSchema {
                found: u32::try_from(self.version).unwrap_or(u32::MAX),
                known,
            });
        }
        Ok(if self.version < SCHEMA_VERSION {
            Found::Older(self.version)
        } else {
            Found::Journal
        })
    }
}

/// Makes an empty file or an older journal a journal of this version, in one transaction; of several processes that try, one
/// does.
async fn make(connection: &mut SqliteConnection, path: &Path, settings: &Settings) -> Result<(), StoreError> {
    let failed = |error| store_error("makes the tables", error);
    in_turn!(settings.busy_timeout, connection.execute("BEGIN IMMEDIATE")).map_err(failed)?;
    let steps: &[&'static str] = match look(connection).await.map_err(failed)?.judge(path)? {
        Found::Journal => return connection.execute("ROLLBACK").await.map(drop).map_err(failed),
        Found::Older(..2) => &[ERASED, ERASED_BEFORE, KEPT, CLOCK, RECORDS],
        Found::Older(2) => &[KEPT, CLOCK, RECORDS],
        Found::Older(3) => &[CLOCK, RECORDS],
        Found::Older(_) => &[RECORDS],
        Found::Nothing => &[SCHEMA, ERASED, KEPT, CLOCK, RECORDS],
    };
    for step in steps {
        connection.execute(*step).await.map_err(failed)?;
    }
    let mark =
        format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT");
    connection
        .execute(sqlx::AssertSqlSafe(mark))
        .await
        .map(drop)
        .map_err(failed)
}

/// The error for a file that SQLite cannot read; it stays as it is.
fn foreign(path: &Path, error: sqlx::Error) -> StoreError {
    if is_no_database(&error) {
        let problem = format!("{} is no SQLite database", path.display());
        return StoreError::Invalid {
            what: "store",
            problem,
        };
    }
    store_error(DOING, error)
}
