//! A separate connection for occasional work of several statements.

use super::error::Failure;
use super::links::{GRACE, Statement, connect};
use super::settings::Target;
use crate::error::StoreError;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use std::time::Duration;
use tokio::time::timeout;

/// A connection that closes with this value; a transaction left open is rolled back.
pub(super) struct Session {
    connection: PgConnection,
    doing: &'static str,
    limit: Duration,
}

impl Session {
    /// Connects. `doing` is what errors say could not be done.
    pub(super) async fn open(target: &Target, doing: &'static str) -> Result<Self, StoreError> {
        let limit = target.settings.connect_timeout;
        let made = timeout(limit, connect(target)).await;
        let made = made.unwrap_or(Err(Failure::ConnectTimeout(limit)));
        let (connection, _) = made.map_err(|failure| failure.store_error(doing))?;
        Ok(Self {
            connection,
            doing,
            limit: target.settings.statement_timeout + GRACE,
        })
    }

    /// Runs a statement, and takes all its rows.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let done = timeout(self.limit, statement.fetch_all(&mut self.connection)).await;
        done.map_err(|_| Failure::Silent(self.limit))?
            .map_err(Failure::from)
    }

    /// The same, for a failure that ends the work.
    pub(super) async fn ask(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, StoreError> {
        let rows = self.rows(statement).await;
        rows.map_err(|failure| failure.store_error(self.doing))
    }

    /// Runs statements without arguments, one after the other.
    pub(super) async fn run(&mut self, statements: &str) -> Result<(), Failure> {
        let run = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut self.connection);
        let done = timeout(self.limit, run).await;
        done.map_err(|_| Failure::Silent(self.limit))?
            .map(drop)
            .map_err(Failure::from)
    }

    /// The same, for a failure that ends the work.
    pub(super) async fn order(&mut self, statements: &str) -> Result<(), StoreError> {
        let done = self.run(statements).await;
        done.map_err(|failure| failure.store_error(self.doing))
    }
}
