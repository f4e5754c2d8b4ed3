//! A SQLite file with the journal's own settings.

use super::{ENVELOPE_BYTES, ROWS, Rates, say};
use crate::figure::Figures;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) async fn measure(dir: &Path, span: Duration, figures: &mut Figures) -> Rates {
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
    let many = commits(&mut connection, ROWS, span).await;
    say(one, &many, span, figures)
}

/// Commits `rows` rows at a time, each time in one statement.
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
