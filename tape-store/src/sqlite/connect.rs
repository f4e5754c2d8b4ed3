//! Opening a database file: whose it is, of what version, and how it is written.

use super::error::{primary_code, store_error};
use super::settings::Settings;
use crate::error::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::Path;

/// Marks a file as a Tape journal: "Tape" in ASCII.
const APPLICATION_ID: i64 = 0x5461_7065;
/// The version of the schema this build writes.
const SCHEMA_VERSION: i64 = 4;
const SCHEMA: &str = include_str!("schema.sql");
/// What version 2 added.
const ERASED: &str = include_str!("erased.sql");
/// A journal of version 1 did not say what was erased: what is gone in it counts as erased.
const ERASED_BEFORE: &str = "INSERT INTO erased SELECT pos FROM entry WHERE payload IS NULL";
/// What version 3 added.
const KEPT: &str = include_str!("kept.sql");
/// What version 4 added.
const CLOCK: &str = include_str!("clock.sql");
const PAGE_BYTES: u32 = 4096;

/// What a file is.
enum Found {
    Nothing,
    /// A journal of an older version.
    Older(i64),
    Journal,
}

/// Makes sure that the file is a journal of this version, and makes it one where there is nothing yet. A file of somebody
/// else, or of a newer build, stays as it is, to the byte.
pub(super) async fn prepare(path: &Path, settings: &Settings) -> Result<(), StoreError> {
    const DOING: &str = "opens the database";
    if path.exists() {
        let plain = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(settings.busy_timeout);
        let mut found = plain.connect().await.map_err(|error| foreign(path, error))?;
        let looked = look(&mut found).await;
        found.close().await.map_err(|error| store_error(DOING, error))?;
        if matches!(
            looked.map_err(|error| foreign(path, error))?.judge(path)?,
            Found::Journal
        ) {
            return Ok(());
        }
    }
    let mut made = writer(path, settings)
        .connect()
        .await
        .map_err(|error| store_error(DOING, error))?;
    let done = make(&mut made, path).await;
    made.close().await.map_err(|error| store_error(DOING, error))?;
    done
}

/// How the one connection that writes is opened.
pub(super) fn writer(path: &Path, settings: &Settings) -> SqliteConnectOptions {
    let options = common(path, settings)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
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
pub(super) fn reader(path: &Path, settings: &Settings) -> SqliteConnectOptions {
    common(path, settings)
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
async fn make(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| store_error("makes the tables", error);
    connection.execute("BEGIN IMMEDIATE").await.map_err(failed)?;
    let steps: &[&'static str] = match look(connection).await.map_err(failed)?.judge(path)? {
        Found::Journal => return connection.execute("ROLLBACK").await.map(drop).map_err(failed),
        Found::Older(..2) => &[ERASED, ERASED_BEFORE, KEPT, CLOCK],
        Found::Older(2) => &[KEPT, CLOCK],
        Found::Older(_) => &[CLOCK],
        Found::Nothing => &[SCHEMA, ERASED, KEPT, CLOCK],
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

/// A file that SQLite cannot read is not ours to touch.
fn foreign(path: &Path, error: sqlx::Error) -> StoreError {
    const NOT_A_DATABASE: u32 = 26;
    if primary_code(&error) == Some(NOT_A_DATABASE) {
        let problem = format!("{} is no SQLite database", path.display());
        return StoreError::Invalid {
            what: "store",
            problem,
        };
    }
    store_error("opens the database", error)
}
