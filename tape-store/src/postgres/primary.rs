//! Finds the server that takes the commits. A standby answers too, with older data, and so does a server that another one replaced.

use super::error::{Failure, is_refusal};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use std::sync::{Arc, Mutex};

/// The session and the server of a connection. A standby has no timeline of its own.
const LOOK: &str = "SELECT pg_is_in_recovery() AS standby, pg_backend_pid() AS process, \
         (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS started, \
         CASE WHEN NOT pg_is_in_recovery() THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END AS timeline";
/// The cluster, which not every role may read.
const CLUSTER: &str = ", (SELECT system_identifier::text FROM pg_control_system()) AS cluster";

/// A server that takes commits. Servers that do not reveal their cluster count as one cluster. Each failover increases the timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Primary {
    cluster: Option<String>,
    timeline: i64,
}

/// One session of the database, distinct from later sessions with the same process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) process: i32,
    pub(super) started: String,
}

/// The primary that was seen last. Shared by all connections of a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<Primary>>>);

impl Seen {
    /// Runs `first` on a new connection, and makes sure that it is to the primary. Refuses a standby, another cluster, and a server that
    /// another one replaced. Mostly one request.
    pub(super) async fn check(
        &self,
        connection: &mut PgConnection,
        first: &str,
    ) -> Result<(Session, Primary), Failure> {
        let row = match ask(connection, format!("{first}{LOOK}{CLUSTER}")).await {
            Err(error) if is_refusal(&error) => ask(connection, format!("{first}{LOOK}")).await,
            looked => looked,
        };
        let row = row.map_err(Failure::Connect)?;
        let (standby, session, primary) = read(&row).map_err(Failure::Connect)?;
        if standby {
            return Err(Failure::Standby);
        }
        self.note(&primary)?;
        Ok((session, primary))
    }

    /// Whether no server has taken over from this one, as far as this process has seen.
    pub(super) fn is_latest(&self, primary: &Primary) -> bool {
        self.lock().as_ref() == Some(primary)
    }

    fn note(&self, found: &Primary) -> Result<(), Failure> {
        let mut seen = self.lock();
        if let (Some(seen), Some(cluster)) = (seen.as_ref(), &found.cluster) {
            match &seen.cluster {
                Some(before) if before != cluster => return Err(Failure::OtherCluster),
                Some(_) if found.timeline < seen.timeline => return Err(Failure::Overtaken),
                _ => {}
            }
        }
        *seen = Some(found.clone());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Primary>> {
        self.0.lock().expect("no code panics while it holds the primary")
    }
}

/// The last row of statements that are sent together.
async fn ask(connection: &mut PgConnection, statements: String) -> Result<PgRow, sqlx::Error> {
    let asked = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection);
    asked.await?.pop().ok_or(sqlx::Error::RowNotFound)
}

fn read(row: &PgRow) -> Result<(bool, Session, Primary), sqlx::Error> {
    let session = Session {
        process: row.try_get("process")?,
        started: row.try_get("started")?,
    };
    let timeline: Option<i64> = row.try_get("timeline")?;
    let primary = Primary {
        cluster: row.try_get("cluster").ok(),
        timeline: timeline.unwrap_or_default(),
    };
    Ok((row.try_get("standby")?, session, primary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(cluster: &str, timeline: i64) -> Primary {
        Primary {
            cluster: Some(cluster.to_owned()),
            timeline,
        }
    }

    #[test]
    fn a_server_that_was_overtaken_is_refused() {
        let seen = Seen::default();
        seen.note(&primary("a", 1)).unwrap();
        seen.note(&primary("a", 2)).unwrap();
        assert!(!seen.is_latest(&primary("a", 1)));
        assert!(seen.is_latest(&primary("a", 2)));
        assert!(matches!(seen.note(&primary("a", 1)), Err(Failure::Overtaken)));
        seen.note(&primary("a", 2)).unwrap();
    }

    #[test]
    fn a_copy_in_another_cluster_is_refused() {
        let seen = Seen::default();
        seen.note(&primary("a", 2)).unwrap();
        assert!(matches!(seen.note(&primary("b", 3)), Err(Failure::OtherCluster)));
        assert!(seen.is_latest(&primary("a", 2)));
    }
}
