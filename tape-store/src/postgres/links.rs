//! Connections: how they are made, shared, and given up.
//!
//! A connection whose last answer did not come is given up, and its session in the database stays in doubt: what was sent may
//! still be carried out. Before anybody says that a batch was not committed, such sessions are ended.

use super::error::{Failure, is_refusal};
use super::settings::{Settings, Target};
use crate::error::StoreError;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Postgres, Row as _};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// A statement that the database should have given up by itself is waited for this much longer.
pub(super) const GRACE: Duration = Duration::from_secs(2);

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A bounded number of connections.
#[derive(Debug)]
pub(super) struct Links {
    options: PgConnectOptions,
    settings: Settings,
    idle: Mutex<Vec<Link>>,
    places: Semaphore,
    connections: u16,
    /// Sessions that may still carry out what was sent; none are kept where nobody asks what became of it.
    doubtful: Option<Mutex<Vec<Session>>>,
}

#[derive(Debug)]
struct Link {
    connection: PgConnection,
    session: Session,
}

/// One session of the database, whatever later gets its process id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    process: i32,
    started: String,
}

/// A connection in use. Dropped amid a statement, it leaves its session in doubt.
struct Held<'l> {
    links: &'l Links,
    link: Option<Link>,
    _place: SemaphorePermit<'l>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let (Some(link), Some(doubtful)) = (self.link.take(), &self.links.doubtful) {
            lock(doubtful).push(link.session);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds the connections")
}

impl Links {
    pub(super) fn new(target: &Target, connections: u16) -> Self {
        let connections = connections.max(1);
        Self {
            connections,
            options: target.options.clone(),
            settings: target.settings.clone(),
            idle: Mutex::default(),
            places: Semaphore::new(usize::from(connections)),
            doubtful: Some(Mutex::default()),
        }
    }

    /// The same for statements of which nobody asks later whether they were carried out.
    pub(super) fn that_only_read(target: &Target, connections: u16) -> Self {
        Self {
            doubtful: None,
            ..Self::new(target, connections)
        }
    }

    /// How many connections there are at most.
    pub(super) fn at_once(&self) -> u16 {
        self.connections
    }

    /// Runs a statement to its end, once.
    pub(super) async fn run(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let mut held = self.take().await?;
        let limit = self.settings.statement_timeout + GRACE;
        let link = held.link.as_mut().expect("a connection in use is there");
        // All rows are taken: only then has the database said that the commit is done.
        let Ok(outcome) = timeout(limit, statement.fetch_all(&mut link.connection)).await else {
            return Err(Failure::Silent(limit));
        };
        match outcome {
            Err(error) if !is_refusal(&error) => {
                // The others are most likely as dead as this one.
                lock(&self.idle).clear();
                Err(error.into())
            }
            outcome => {
                lock(&self.idle).extend(held.link.take());
                outcome.map_err(Failure::from)
            }
        }
    }

    /// Runs a statement that changes nothing, or may be repeated. A connection that broke while nobody used it is made anew.
    pub(super) async fn query<'q>(
        &self,
        doing: &'static str,
        statement: impl Fn() -> Statement<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let first = self.run(statement()).await;
        let outcome = match first {
            Err(failure) if failure.is_of_the_connection() => self.run(statement()).await,
            outcome => outcome,
        };
        outcome.map_err(|failure| failure.store_error(doing))
    }

    /// Sees to it that nothing sent over a connection that was given up is carried out from now on.
    pub(super) async fn settle(&self, doing: &'static str) -> Result<(), StoreError> {
        let Some(doubtful) = &self.doubtful else {
            return Ok(());
        };
        let sessions = lock(doubtful).clone();
        for session in sessions {
            self.end(&session, doing).await?;
            lock(doubtful).retain(|other| *other != session);
        }
        Ok(())
    }

    async fn end(&self, session: &Session, doing: &'static str) -> Result<(), StoreError> {
        // The function waits until the session is gone, and says whether it is.
        let wait = self.settings.statement_timeout / 2;
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).max(1);
        let end = || {
            sqlx::query(
                "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start::text = $2",
            )
            .bind(session.process)
            .bind(session.started.clone())
            .bind(wait_ms)
        };
        let rows = self.query(doing, end).await?;
        let gone = |row: &PgRow| row.try_get::<bool, _>(0).is_ok_and(|gone| gone);
        if rows.iter().all(gone) {
            return Ok(());
        }
        Err(StoreError::unavailable(
            doing,
            "a session that may still commit does not end",
        ))
    }

    async fn take(&self) -> Result<Held<'_>, Failure> {
        let wait = self.settings.wait_timeout;
        let place = timeout(wait, self.places.acquire()).await;
        let place = place
            .map_err(|_| Failure::Busy(wait))?
            .expect("the places are never closed");
        let idle = lock(&self.idle).pop();
        let link = match idle {
            Some(link) => link,
            None => self.connect().await?,
        };
        Ok(Held {
            links: self,
            link: Some(link),
            _place: place,
        })
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let limit = self.settings.connect_timeout;
        let made = timeout(limit, link(&self.options, &self.settings)).await;
        made.map_err(|_| Failure::ConnectTimeout(limit))?
            .map_err(Failure::Connect)
    }
}

async fn link(options: &PgConnectOptions, settings: &Settings) -> Result<Link, sqlx::Error> {
    let mut connection = connect(options, settings).await?;
    let row =
        sqlx::query("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
    let session = Session {
        process: row.try_get(0)?,
        started: row.try_get(1)?,
    };
    Ok(Link { connection, session })
}

/// Makes a connection of which everything that matters is set, whatever the database's defaults are.
///
/// Plans are made once and use the indexes: the first plan may be made while the tables are small, and is kept.
pub(super) async fn connect(
    options: &PgConnectOptions,
    settings: &Settings,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let limit = settings.statement_timeout.as_millis();
    let set = format!(
        "SET statement_timeout = {limit}; SET lock_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
         SET default_transaction_isolation = 'read committed'; SET client_min_messages = error; \
         SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off; \
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off; \
         SET max_parallel_workers_per_gather = 0; SET seq_page_cost = 0; SET random_page_cost = 0; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    );
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection).await?;
    Ok(connection)
}
