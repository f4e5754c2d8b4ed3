//! Connections: how they are made, shared, and given up.
//!
//! A connection whose last answer did not arrive is discarded, and its session in the database stays in doubt: the database may still
//! execute what was sent. Such sessions are ended before a batch is reported as not committed.

use super::error::{Failure, is_refusal};
use super::notices;
use super::primary::{Primary, Session};
use super::settings::{Settings, Target};
use crate::error::StoreError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Postgres, Row as _};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How much longer than its own timeout the client waits for a statement.
pub(super) const GRACE: Duration = Duration::from_secs(2);

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A bounded number of connections.
#[derive(Debug)]
pub(super) struct Links {
    target: Target,
    idle: Mutex<Vec<Link>>,
    places: Semaphore,
    connections: u16,
    /// Sessions that may still execute what was sent. None where no caller resolves the outcome later.
    doubtful: Option<Mutex<Vec<Session>>>,
}

#[derive(Debug)]
struct Link {
    connection: PgConnection,
    session: Session,
    primary: Primary,
}

/// A connection in use. Dropped amid a statement, it leaves its session in doubt.
pub(super) struct Held<'l> {
    links: &'l Links,
    link: Option<Link>,
    /// Whether the last statement may be a commit, whose outcome a caller may resolve.
    commits: bool,
    _place: SemaphorePermit<'l>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let (Some(link), Some(doubtful), true) = (self.link.take(), &self.links.doubtful, self.commits) {
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
            target: target.clone(),
            idle: Mutex::default(),
            places: Semaphore::new(usize::from(connections)),
            doubtful: Some(Mutex::default()),
        }
    }

    /// The same for statements whose outcome no caller resolves later.
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
        let rows = held.run(statement).await;
        held.give_back(&rows);
        rows
    }

    /// Runs a statement that changes nothing, or may be repeated. A connection that broke while idle is made anew.
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

    /// A connection, to run several statements on one server.
    pub(super) async fn take(&self) -> Result<Held<'_>, Failure> {
        let wait = self.settings().wait_timeout;
        let place = timeout(wait, self.places.acquire()).await;
        let place = place
            .map_err(|_| Failure::Busy(wait))?
            .expect("the places are never closed");
        let link = match self.idle() {
            Some(link) => link,
            None => self.connect().await?,
        };
        Ok(Held {
            links: self,
            link: Some(link),
            commits: true,
            _place: place,
        })
    }

    /// A free connection to the primary that was seen last: a connection to a replaced primary cannot be used.
    fn idle(&self) -> Option<Link> {
        let mut idle = lock(&self.idle);
        while let Some(link) = idle.pop() {
            if self.target.seen.is_latest(&link.primary) {
                return Some(link);
            }
        }
        None
    }

    fn settings(&self) -> &Settings {
        &self.target.settings
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let limit = self.settings().connect_timeout;
        timeout(limit, link(&self.target))
            .await
            .map_err(|_| Failure::ConnectTimeout(limit))?
    }
}

impl Held<'_> {
    /// Runs a statement to its end, once. Where it fails, [`Held::give_back`] decides about the connection.
    pub(super) async fn run(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        self.commits = true;
        self.send(statement).await
    }

    /// The same for a statement that commits nothing.
    pub(super) async fn ask(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        self.commits = false;
        self.send(statement).await
    }

    async fn send(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let limit = self.links.settings().statement_timeout + GRACE;
        let link = self.link.as_mut().expect("a connection in use is there");
        // All rows are read: only then has the database confirmed the commit.
        let listened = notices::listen(statement.fetch_all(&mut link.connection));
        let Ok((outcome, warned)) = timeout(limit, listened).await else {
            return Err(Failure::Silent(limit));
        };
        let rows = outcome?;
        if warned {
            return Err(Failure::Warned);
        }
        Ok(rows)
    }

    /// The connection is free for others, unless its last statement left it in doubt.
    pub(super) fn give_back<T>(mut self, outcome: &Result<T, Failure>) {
        match outcome {
            Err(Failure::Statement(error)) if !is_refusal(error) => {
                // The other idle connections are most likely as dead as this one.
                lock(&self.links.idle).clear();
            }
            Err(Failure::Silent(_)) => {}
            _ => lock(&self.links.idle).extend(self.link.take()),
        }
    }

    /// Ends the sessions of discarded connections, so that nothing sent over them is executed from now on. A server that took over from
    /// another does not have the other's sessions, and they commit nothing.
    pub(super) async fn end_doubtful(&mut self) -> Result<(), Failure> {
        let Some(doubtful) = &self.links.doubtful else {
            return Ok(());
        };
        let sessions = lock(doubtful).clone();
        if sessions.is_empty() {
            return Ok(());
        }
        // The function waits until the session is gone, and says whether it is.
        let wait = self.links.settings().statement_timeout / 2;
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).max(1);
        let end = sqlx::query(END_SESSIONS)
            .bind(sessions.iter().map(|session| session.process).collect::<Vec<_>>())
            .bind(
                sessions
                    .iter()
                    .map(|session| session.started.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(wait_ms);
        let rows = self.ask(end).await?;
        let gone = |row: &PgRow| row.try_get::<bool, _>(0).is_ok_and(|gone| gone);
        if !rows.iter().all(gone) {
            return Err(Failure::StillThere);
        }
        lock(doubtful).retain(|session| !sessions.contains(session));
        Ok(())
    }
}

/// Ends the sessions with process ids $1 that started at $2, each within $3 milliseconds.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(a.pid, $3) \
         FROM unnest($1::int[], $2::text[]) AS s(pid, started) \
         JOIN pg_stat_activity a ON a.pid = s.pid AND a.backend_start::text = s.started";

async fn link(target: &Target) -> Result<Link, Failure> {
    let (connection, (session, primary)) = connect(target).await?;
    Ok(Link {
        connection,
        session,
        primary,
    })
}

/// Makes a connection to the primary, and sets everything that matters, whatever the database's defaults are.
///
/// Plans are made once and use the indexes: the first plan may be made while the tables are small, and is kept. That a commit waits for
/// the disk, and for standbys where there are synchronous ones, is set for the session, so that no change of a default disables it.
pub(super) async fn connect(target: &Target) -> Result<(PgConnection, (Session, Primary)), Failure> {
    let mut connection = target.options.connect().await.map_err(Failure::Connect)?;
    let limit = target.settings.statement_timeout.as_millis();
    let set = format!(
        "SET statement_timeout = {limit}; SET lock_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
         SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning; \
         SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off; \
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off; \
         SET max_parallel_workers_per_gather = 0; SET seq_page_cost = 0; SET random_page_cost = 0; \
         SELECT set_config('synchronous_commit', \
           CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false); "
    );
    let server = target.seen.check(&mut connection, &set).await?;
    Ok((connection, server))
}
