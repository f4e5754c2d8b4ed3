//! The tables and their versions.
//!
//! A migration only adds, so that servers of the previous version can continue to write. A change that old servers cannot work with waits
//! for a later version. So each version says which is the oldest that can work with it. Spanner executes changes of a schema one after the
//! other, and each statement does nothing where its work is done, so several processes may migrate at once.

use super::append;
use super::error::Failure;
use super::link::{Link, Question, use_ring};
use super::read::get;
use super::settings::Target;
use crate::error::StoreError;
use crate::migrated::Migrated;
use google_cloud_auth::credentials::anonymous;
use google_cloud_lro::Poller as _;
use google_cloud_spanner::client::DatabaseAdmin;
use google_cloud_spanner::key;
use google_cloud_spanner::key::KeySet;
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use google_cloud_spanner::statement::Statement;
use std::time::Duration;

/// One version of the schema.
#[derive(Clone, Copy, Debug)]
struct Migration {
    /// The version after it.
    version: i64,
    /// The oldest version of a build that works with it.
    compatible_from: i64,
    sql: &'static str,
}

/// All of them, oldest first; never changed once released.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        compatible_from: 1,
        sql: include_str!("schema.sql"),
    },
    // Servers of the previous version write to a table that this one drops.
    Migration {
        version: 2,
        compatible_from: 2,
        sql: include_str!("schema2.sql"),
    },
    Migration {
        version: 3,
        compatible_from: 2,
        sql: include_str!("schema3.sql"),
    },
    Migration {
        version: 4,
        compatible_from: 2,
        sql: include_str!("schema4.sql"),
    },
];

const DOING: &str = "migrates the database";
const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS tape_schema ( \
       version INT64 NOT NULL, compatible_from INT64 NOT NULL) PRIMARY KEY (version)";
const HAS_VERSIONS: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = '' AND table_name = 'tape_schema'";
const HAS_HEADS: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = '' AND table_name = 'tape_head'";
const DROP_HEADS: &str = "DROP TABLE IF EXISTS tape_head";
/// Heads that are moved in one commit.
const HEADS_MAX: u32 = 500;
/// How often moving heads is retried.
const MOVES_MAX: u32 = 8;
const NEWEST: &str = "SELECT version, compatible_from FROM tape_schema ORDER BY version DESC LIMIT 1";
const SHARDS: &str = "SELECT shards FROM tape_store";
/// How often a change of the schema is tried while another one blocks it, and how long to wait in between.
const TRIES_MAX: u32 = 300;
const PAUSE: Duration = Duration::from_millis(200);

/// The schema version of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    version: i64,
    compatible_from: i64,
}

impl Found {
    /// Refuses a schema that a newer build made for newer builds only.
    fn check(self) -> Result<Self, StoreError> {
        if self.compatible_from > known() {
            return Err(StoreError::NewerSchema {
                found: number(self.version),
                known: number(known()),
            });
        }
        Ok(self)
    }
}

fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |last| last.version)
}

fn number(version: i64) -> u32 {
    u32::try_from(version).unwrap_or_default()
}

/// Brings the tables to the version of this build; with `dry_run`, only says what would be done. The database has to be there.
///
/// # Errors
/// [`StoreError::NewerSchema`] where a newer build made the tables for newer builds only; [`StoreError::Unavailable`] where
/// the database cannot be reached or does not allow it.
pub async fn migrate(target: &Target, dry_run: bool) -> Result<Migrated, StoreError> {
    let link = Link::open(target).await?;
    migrate_through(&link, target, dry_run).await
}

pub(super) async fn migrate_through(
    link: &Link,
    target: &Target,
    dry_run: bool,
) -> Result<Migrated, StoreError> {
    let found = look(link).await?.check()?;
    if !dry_run && found.version < known() {
        apply(link, target, found).await?;
    }
    Ok(Migrated {
        from: number(found.version),
        to: number(found.version.max(known())),
    })
}

/// Checks that the tables are ones this build can work with, without changing them.
pub(super) async fn check(link: &Link) -> Result<(), StoreError> {
    if look(link).await?.check()?.version < known() {
        let problem = "its tables are not there or older than this build: run 'tape-server migrate'";
        return Err(StoreError::Invalid {
            what: "store",
            problem: problem.to_owned(),
        });
    }
    Ok(())
}

/// The number of shards of the agenda and the feed.
pub(super) async fn shards(link: &Link) -> Result<u16, StoreError> {
    let shards = link
        .ask("opens the database", query(SHARDS), |row| get::<i64>(row, 0))
        .await?;
    let shards = shards.first().and_then(|shards| u16::try_from(*shards).ok());
    shards.ok_or_else(|| StoreError::corrupt("the row of table tape_store", "it has no number of shards"))
}

async fn look(link: &Link) -> Result<Found, StoreError> {
    let there = link
        .ask("looks at the schema", query(HAS_VERSIONS), |row| {
            get::<String>(row, 0)
        })
        .await?;
    if there.is_empty() {
        return Ok(Found::default());
    }
    let newest = link.ask("looks at the schema", query(NEWEST), |row| {
        Ok(Found {
            version: get(row, 0)?,
            compatible_from: get(row, 1)?,
        })
    });
    Ok(newest.await?.first().copied().unwrap_or_default())
}

async fn apply(link: &Link, target: &Target, found: Found) -> Result<(), StoreError> {
    let admin = admin(target).await?;
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| migration.version > found.version)
    {
        let statements = std::iter::once(VERSIONS.to_owned()).chain(statements(migration.sql));
        change(&admin, target, statements.collect()).await?;
        match migration.version {
            1 => settle_shards(link, target.settings.shards).await?,
            2 => {
                move_heads(link).await?;
                change(&admin, target, vec![DROP_HEADS.to_owned()]).await?;
            }
            _ => {}
        }
        let row = Mutation::new_insert_or_update_builder("tape_schema")
            .set("version")
            .to(migration.version);
        let row = row.set("compatible_from").to(migration.compatible_from).build();
        link.write(vec![row]).await.map_err(failed)?;
        tracing::info!(version = migration.version, "the database was migrated");
    }
    Ok(())
}

/// The first process fixes the number of shards.
async fn settle_shards(link: &Link, shards: u16) -> Result<(), StoreError> {
    let row = Mutation::new_insert_builder("tape_store").set("single").to(true);
    match link
        .write(vec![row.set("shards").to(i64::from(shards)).build()])
        .await
    {
        Err(failure) if failure.is_already_there() => Ok(()),
        done => done.map_err(failed),
    }
}

/// Moves the heads of version 1 to the table of version 2.
async fn move_heads(link: &Link) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let there = link.ask(DOING, query(HAS_HEADS), |row| get::<String>(row, 0));
        if there.await?.is_empty() {
            return Ok(());
        }
        match move_some(link).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Other migrating processes make the table and drop it meanwhile.
            Err(_) if tries < MOVES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Moves some heads. Returns whether there may be more.
async fn move_some(link: &Link) -> Result<bool, StoreError> {
    let request = ReadRequest::builder("tape_head", ["id", "seq", "epoch", "digest"])
        .with_keys(KeySet::all())
        .set_limit(HEADS_MAX.into());
    let head = |row: &Row| {
        let (seq, epoch): (i64, i64) = (get(row, 1)?, get(row, 2)?);
        Ok((get::<Vec<u8>>(row, 0)?, seq, epoch, get::<Vec<u8>>(row, 3)?))
    };
    let heads = link.ask(DOING, Question::Keys(request.build()), head).await?;
    if heads.is_empty() {
        return Ok(false);
    }
    let moved = heads.into_iter().flat_map(|(id, seq, epoch, digest)| {
        // Fails where another process has moved the head: the moved head may have changed since.
        let row = Mutation::new_update_builder("tape_head").set("id").to(id.clone());
        let row = row.set("seq").to(seq).set("epoch").to(epoch);
        let there = row.set("digest").to(digest.clone()).build();
        let key = KeySet::builder().add_key(key![id, seq, epoch]).build();
        let gone = Mutation::delete("tape_head", key);
        [there, gone, append::end_row(id, seq, epoch, digest)]
    });
    match link.write(moved.collect()).await {
        Err(failure) if failure.is_unmet_condition() => Ok(true),
        moved => moved.map(|()| true).map_err(failed),
    }
}

async fn change(admin: &DatabaseAdmin, target: &Target, statements: Vec<String>) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let request = admin.update_database_ddl().set_database(&target.database);
        let changed = request
            .set_statements(statements.clone())
            .poller()
            .until_done()
            .await;
        match changed.map_err(Failure::from) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_in_the_way() && tries < TRIES_MAX => tries += 1,
            Err(failure) => return Err(failed(failure)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn admin(target: &Target) -> Result<DatabaseAdmin, StoreError> {
    use_ring();
    let mut builder = DatabaseAdmin::builder();
    if let Some(emulator) = &target.emulator {
        builder = builder
            .with_endpoint(emulator.rest.as_str())
            .with_credentials(anonymous::Builder::new().build());
    }
    builder
        .build()
        .await
        .map_err(|error| failed(Failure::Client(error)))
}

/// The statements of a script, without its comments.
fn statements(script: &str) -> impl Iterator<Item = String> {
    let code = |line: &str| !line.trim_start().starts_with("--");
    let script: Vec<&str> = script.lines().filter(|line| code(line)).collect();
    let script = script.join("\n");
    let statements: Vec<String> = script
        .split(";\n")
        .map(|text| text.trim_end_matches(';').trim().to_owned())
        .collect();
    statements.into_iter().filter(|text| !text.is_empty())
}

fn query(text: &str) -> Question {
    Question::Query(Statement::builder(text).build())
}

fn failed(failure: Failure) -> StoreError {
    failure.store_error(DOING)
}
