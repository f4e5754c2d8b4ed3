//! Opens a store by its URL.

use crate::contract::JournalStore;
use crate::error::{STORE_URL, StoreError};
use crate::memory::MemoryStore;
use crate::migrated::Migrated;
use std::sync::Arc;
use tape_environment::{Environment, machine};

/// Opens the store that `url` names: `memory:` for an empty one in memory, `sqlite:PATH` for a file, which is made where there
/// is none, `postgres://...` or `alloydb://...` for a database, whose tables are made or upgraded,
/// `spanner://PROJECT/INSTANCE/DATABASE` for one in Cloud Spanner, likewise, `bigtable://PROJECT/INSTANCE/TABLE` for a table, which is made
/// where there is none. Which URLs are known depends on the features of this build.
///
/// # Errors
/// [`StoreError::Invalid`] where the URL is none of these; otherwise the error of opening the store.
pub async fn open(url: &str) -> Result<Arc<dyn JournalStore>, StoreError> {
    Box::pin(open_in(url, machine())).await
}

/// The same in another environment than the machine's.
///
/// # Errors
/// Those of [`open`].
pub async fn open_in(
    url: &str,
    environment: Arc<dyn Environment>,
) -> Result<Arc<dyn JournalStore>, StoreError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new().environment(environment))),
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) if !path.is_empty() => Ok(Arc::new(
            crate::sqlite::SqliteStore::open_in(
                std::path::Path::new(path),
                &crate::sqlite::Settings::default(),
                environment,
            )
            .await?,
        )),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql" | "alloydb", _)) => {
            // The future that makes a connection with TLS is large; callers should not have to hold it.
            let target = url.parse()?;
            Ok(Arc::new(
                Box::pin(crate::postgres::PostgresStore::open_in(
                    &target,
                    environment.as_ref(),
                ))
                .await?,
            ))
        }
        #[cfg(feature = "bigtable")]
        Some(("bigtable", _)) => {
            let target = url.parse()?;
            Ok(Arc::new(
                Box::pin(crate::bigtable::BigtableStore::open_in(&target, environment)).await?,
            ))
        }
        #[cfg(feature = "spanner")]
        Some(("spanner", _)) => {
            let target = url.parse()?;
            Ok(Arc::new(
                Box::pin(crate::spanner::SpannerStore::open_in(&target, environment)).await?,
            ))
        }
        _ => {
            let known = [
                (true, "memory:"),
                (cfg!(feature = "sqlite"), "sqlite:PATH"),
                (cfg!(feature = "postgres"), "postgres://... and alloydb://..."),
                (cfg!(feature = "bigtable"), "bigtable://PROJECT/INSTANCE/TABLE"),
                (cfg!(feature = "spanner"), "spanner://PROJECT/INSTANCE/DATABASE"),
            ];
            let known: Vec<&str> = known
                .iter()
                .filter(|(built, _)| *built)
                .map(|(_, url)| *url)
                .collect();
            // The error repeats only the scheme: the rest may hold a password.
            let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
            let problem = format!(
                "'{scheme}:' names no store that this build knows: those are {}",
                known.join(", ")
            );
            Err(StoreError::Invalid {
                what: STORE_URL,
                problem,
            })
        }
    }
}

/// Checks that there is a journal at `url`, for programs that inspect or change one: [`open`] would make an empty journal under a misspelt
/// name.
///
/// # Errors
/// [`StoreError::Invalid`] where there is none, as in a file that is not there or is empty, in a database without tables, and in
/// `memory:`; otherwise the error of the check. [`open`] reports what else is wrong with a journal.
pub async fn check_exists(url: &str) -> Result<(), StoreError> {
    let absent = |problem: String| StoreError::Invalid {
        what: "store",
        problem,
    };
    match url.split_once(':') {
        Some(("memory", _)) => Err(absent(
            "memory: is the journal of one process alone, and empty when that starts: give the address of its server".to_owned(),
        )),
        Some(("sqlite", path)) => match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(absent(format!(
                "there is no file {path}: tape-server makes it, or the agent that has its journal there"
            ))),
            Ok(file) if file.is_file() && file.len() == 0 => {
                Err(absent(format!("{path} is empty: there is no journal in it")))
            }
            _ => Ok(()),
        },
        _ => match migrate(url, true).await?.from {
            0 => Err(absent(
                "the database has no tables of a journal: `tape-server migrate` makes them".to_owned(),
            )),
            _ => Ok(()),
        },
    }
}

/// Brings the tables of a database to the version of this build; with `dry_run`, only says what would be done. Servers of the previous
/// version continue meanwhile. Of several migrations at once, one runs and the others wait.
///
/// # Errors
/// [`StoreError::Invalid`] where the URL names no store whose tables are migrated; otherwise the error of the migration.
pub async fn migrate(url: &str, dry_run: bool) -> Result<Migrated, StoreError> {
    #[cfg(feature = "postgres")]
    if let Some(("postgres" | "postgresql" | "alloydb", _)) = url.split_once(':') {
        return Box::pin(crate::postgres::migrate(&url.parse()?, dry_run)).await;
    }
    #[cfg(feature = "bigtable")]
    if let Some(("bigtable", _)) = url.split_once(':') {
        return Box::pin(crate::bigtable::migrate(&url.parse()?, dry_run)).await;
    }
    #[cfg(feature = "spanner")]
    if let Some(("spanner", _)) = url.split_once(':') {
        return Box::pin(crate::spanner::migrate(&url.parse()?, dry_run)).await;
    }
    let _ = dry_run;
    let (scheme, _) = url.split_once(':').unwrap_or((url, ""));
    let problem =
        format!("there is nothing to migrate in a '{scheme}:' store, or this build does not know it");
    Err(StoreError::Invalid {
        what: STORE_URL,
        problem,
    })
}
