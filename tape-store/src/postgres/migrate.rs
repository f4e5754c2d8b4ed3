//! The tables and their versions.
//!
//! A migration only adds, so that servers of the previous version can continue to write. A change that old servers cannot work with waits
//! for a later version. So each version says which is the oldest that can work with it. One process migrates, and others wait for its lock
//! meanwhile. Each migration is a transaction.

use super::error::Failure;
use super::settings::Target;
use crate::error::StoreError;
use crate::migrated::Migrated;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use std::time::Duration;

/// One version of the schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    /// The version after it.
    pub(super) version: i32,
    /// The oldest version of a build that works with it.
    pub(super) compatible_from: i32,
    /// An index that is made before, concurrently with writes: its name and what makes it.
    pub(super) index: Option<(&'static str, &'static str)>,
    /// One transaction.
    pub(super) sql: &'static str,
}

/// All of them, oldest first; never changed once released.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        compatible_from: 1,
        index: None,
        sql: include_str!("schema.sql"),
    },
    Migration {
        version: 2,
        compatible_from: 1,
        // The index of the streams in a part to be emptied; streams in part 0 are not in it.
        index: Some(("tape_head_part", "tape_head(part, stream) WHERE part > 0")),
        sql: include_str!("schema2.sql"),
    },
    Migration {
        version: 3,
        compatible_from: 1,
        // The index of the names of sessions and values. Names of runs and of business keys are not in it.
        index: Some((
            "tape_head_named",
            "tape_head(name) WHERE split_part(name, '/', 2) IN ('session', 'value')",
        )),
        sql: include_str!("schema3.sql"),
    },
    Migration {
        version: 4,
        compatible_from: 1,
        index: None,
        sql: include_str!("schema4.sql"),
    },
];

const DOING: &str = "migrates the database";
/// How soon a process that waits for another's migration tries again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Names the lock of the migration: "Tape" in ASCII.
const LOCK: i64 = 0x5461_7065;
const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS tape_schema( \
       version int PRIMARY KEY, compatible_from int NOT NULL, migrated_at timestamptz NOT NULL DEFAULT now())";

/// The schema version of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    version: i32,
    compatible_from: i32,
}

impl Found {
    /// Refuses a schema that a newer build made for newer builds only.
    fn check(self, known: i32) -> Result<Self, StoreError> {
        let number = |version: i32| u32::try_from(version).unwrap_or_default();
        if self.compatible_from > known {
            return Err(StoreError::NewerSchema {
                found: number(self.version),
                known: number(known),
            });
        }
        Ok(self)
    }
}

/// Brings the tables to the version of this build; with `dry_run`, only says what would be done.
///
/// # Errors
/// [`StoreError::NewerSchema`] where a newer build made the tables for newer builds only; [`StoreError::Unavailable`] where
/// the database cannot be reached or does not allow it.
pub async fn migrate(target: &Target, dry_run: bool) -> Result<Migrated, StoreError> {
    migrate_to(target, MIGRATIONS, dry_run).await
}

pub(super) async fn migrate_to(
    target: &Target,
    migrations: &[Migration],
    dry_run: bool,
) -> Result<Migrated, StoreError> {
    let mut connection = connect(target).await?;
    let known = migrations.last().map_or(0, |last| last.version);
    let done = async {
        let found = look(&mut connection).await?.check(known)?;
        if !dry_run && found.version < known {
            apply(&mut connection, migrations).await?;
        }
        if !dry_run {
            realign(&mut connection).await?;
        }
        let number = |version: i32| u32::try_from(version).unwrap_or_default();
        Ok(Migrated {
            from: number(found.version),
            to: number(found.version.max(known)),
        })
    };
    let done = done.await;
    // The work is committed, however the connection ends.
    let _ = connection.close().await;
    done
}

/// Checks that the tables are ones this build can work with, without changing them.
pub(super) async fn check(target: &Target) -> Result<(), StoreError> {
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    let mut connection = connect(target).await?;
    let found = look(&mut connection).await;
    let aligned = match &found {
        Ok(found) if found.version == known => is_behind(&mut connection).await.map(|behind| !behind),
        _ => Ok(true),
    };
    let _ = connection.close().await;
    let found = found?.check(known)?;
    if !aligned? {
        let problem = "it is a copy from another cluster, so that its feed would put new entries before those that readers have seen: \
             run 'tape-server migrate'";
        return Err(StoreError::Invalid {
            what: "store",
            problem: problem.to_owned(),
        });
    }
    if found.version < known {
        let problem = "its tables are not there or older than this build: run 'tape-server migrate'";
        return Err(StoreError::Invalid {
            what: "store",
            problem: problem.to_owned(),
        });
    }
    Ok(())
}

async fn connect(target: &Target) -> Result<PgConnection, StoreError> {
    let limit = target.settings.connect_timeout;
    let connected = async {
        let mut connection = target.options.connect().await.map_err(Failure::Connect)?;
        target.seen.check(&mut connection, "").await?;
        Ok(connection)
    };
    let connected = tokio::time::timeout(limit, connected).await;
    let connected = connected.unwrap_or(Err(Failure::ConnectTimeout(limit)));
    connected.map_err(|failure| failure.store_error("opens the database"))
}

async fn look(connection: &mut PgConnection) -> Result<Found, StoreError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('tape_schema') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let newest = "SELECT version, compatible_from FROM tape_schema ORDER BY version DESC LIMIT 1";
    let row: Option<(i32, i32)> = if there {
        sqlx::query_as(newest)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?
    } else {
        None
    };
    let (version, compatible_from) = row.unwrap_or_default();
    Ok(Found {
        version,
        compatible_from,
    })
}

/// Applies missing migrations, under the lock. A process that waited for the lock mostly finds none.
async fn apply(connection: &mut PgConnection, migrations: &[Migration]) -> Result<(), StoreError> {
    lock(connection).await?;
    run(connection, VERSIONS).await?;
    let found = look(connection).await?;
    for migration in migrations
        .iter()
        .filter(|migration| migration.version > found.version)
    {
        let Migration {
            version,
            compatible_from,
            index,
            sql,
        } = migration;
        if let Some((name, on)) = index {
            // An earlier attempt may have left an invalid index.
            run(connection, &format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
            run(connection, &format!("CREATE INDEX CONCURRENTLY {name} ON {on}")).await?;
        }
        let note = format!(
            "INSERT INTO tape_schema(version, compatible_from) VALUES ({version}, {compatible_from})"
        );
        // Sent together, the statements are one transaction.
        run(connection, &format!("BEGIN; {sql}; {note}; COMMIT")).await?;
        tracing::info!(version, "the database was migrated");
    }
    run(connection, &format!("SELECT pg_advisory_unlock({LOCK})")).await
}

/// Takes the lock, by polling: a waiting statement would block an index that is made meanwhile.
async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let query = format!("SELECT pg_try_advisory_lock({LOCK})");
    loop {
        let locked: bool = sqlx::query_scalar(AssertSqlSafe(query.clone()))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        if locked {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Places in the feed are transaction ids. In a copy that was loaded into another cluster, the ids begin anew. So their base is raised, and
/// new entries come after the existing ones.
async fn realign(connection: &mut PgConnection) -> Result<(), StoreError> {
    const RAISE: &str = "BEGIN; LOCK TABLE tape_entry IN EXCLUSIVE MODE; \
         UPDATE tape_store SET base = base + greatest(0, 1 + (SELECT max(ord) FROM tape_entry) \
           - pg_snapshot_xmin(pg_current_snapshot())::text::bigint - base); COMMIT";
    if is_behind(connection).await? {
        run(connection, RAISE).await?;
        tracing::warn!(
            "the database is a copy from another cluster: the feed continues after the existing entries"
        );
    }
    Ok(())
}

/// Whether new entries would get places before existing ones.
async fn is_behind(connection: &mut PgConnection) -> Result<bool, StoreError> {
    const BEHIND: &str = "SELECT coalesce((SELECT max(ord) FROM tape_entry), 0) >= \
         pg_snapshot_xmax(pg_current_snapshot())::text::bigint + (SELECT base FROM tape_store)";
    sqlx::query_scalar(BEHIND)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), StoreError> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.map(drop).map_err(failed)
}

fn failed(error: sqlx::Error) -> StoreError {
    Failure::from(error).store_error(DOING)
}
