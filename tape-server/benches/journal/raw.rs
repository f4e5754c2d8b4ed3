//! What the same rows cost without a journal: one append-only table in a SQLite file with the journal's own settings.

use crate::figure::{Figures, p50_ms, rate};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a row beside its payload: about what an envelope takes.
const ENVELOPE_BYTES: usize = 300;
/// Rows of a transaction.
const ROWS: usize = 64;

/// What a raw loop reached.
pub(crate) struct Rates {
    /// Rows a second in transactions of 64.
    pub(crate) rows_in_64: f64,
    /// The median of a commit of one row.
    pub(crate) one_row_p50_ms: f64,
}

pub(crate) async fn measure(dir: &Path, span: Duration, figures: &mut Figures) -> Rates {
    let mut connection = SqliteConnectOptions::new()
        .filename(dir.join("raw.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .expect("the file opens");
    let table = "CREATE TABLE log (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, payload BLOB NOT NULL)";
    connection.execute(table).await.expect("the table is made");
    let one = commits(&mut connection, 1, span).await;
    let (one_row, one_row_p50_ms) = (rate(one.len(), span), p50_ms(one));
    let rows_in_64 = rate(commits(&mut connection, ROWS, span).await.len() * ROWS, span);
    figures.say("raw_one_row_commits", one_row, "rows/s", one_row);
    figures.say("raw_one_row_commit_p50", one_row_p50_ms, "ms", one_row_p50_ms);
    figures.say("raw_rows_in_transactions_of_64", rows_in_64, "rows/s", rows_in_64);
    Rates {
        rows_in_64,
        one_row_p50_ms,
    }
}

/// Commits so many rows at a time, each time in one statement.
async fn commits(connection: &mut SqliteConnection, rows: usize, span: Duration) -> Vec<Duration> {
    let places = vec!["(?, ?)"; rows].join(", ");
    let insert = format!("INSERT INTO log (envelope, payload) VALUES {places}");
    let (envelope, payload) = (vec![1_u8; ENVELOPE_BYTES], vec![2_u8; crate::work::PAYLOAD_BYTES]);
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let began = Instant::now();
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        for _ in 0..rows {
            query = query.bind(envelope.as_slice()).bind(payload.as_slice());
        }
        query
            .execute(&mut *connection)
            .await
            .expect("the rows are committed");
        times.push(began.elapsed());
    }
    times
}
