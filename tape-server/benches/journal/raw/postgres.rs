//! A table in the journal's own database: one connection by itself, and `pgbench` with many.

use super::{ENVELOPE_BYTES, ROWS, Rates, say};
use crate::figure::Figures;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TABLE: &str = "DROP TABLE IF EXISTS raw_log; \
    CREATE TABLE raw_log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, envelope bytea NOT NULL, payload bytea NOT NULL)";
const INSERT: &str = "INSERT INTO raw_log (envelope, payload) SELECT * FROM unnest($1::bytea[], $2::bytea[])";
/// Connections of `pgbench`.
const CONNECTIONS: [usize; 2] = [16, 64];

pub(super) async fn measure(url: &str, dir: &Path, span: Duration, figures: &mut Figures) -> Rates {
    // The parameters concern the journal's connections.
    let url = url.split('?').next().unwrap_or(url);
    let options: PgConnectOptions = url.parse().expect("it is the URL of a database");
    let mut connection = options.connect().await.expect("the database is there");
    connection.execute(TABLE).await.expect("the table is made");
    let one = commits(&mut connection, 1, span).await;
    let many = commits(&mut connection, ROWS, span).await;
    let mut rates = say(one, &many, span, figures);
    for connections in CONNECTIONS {
        let Some(rate) = pgbench(url, dir, connections, span) else {
            println!("# pgbench is not installed: no rates of commits by many connections");
            break;
        };
        let name = format!("pgbench_one_row_commits_{connections}_connections");
        figures.say(&name, rate, "rows/s", rate);
        rates.one_row_at_once = Some(rate);
    }
    connection
        .execute("DROP TABLE raw_log")
        .await
        .expect("the table is dropped");
    rates
}

/// Commits `rows` rows at a time, each time in one statement.
async fn commits(connection: &mut PgConnection, rows: usize, span: Duration) -> Vec<Duration> {
    let envelopes = vec![vec![1_u8; ENVELOPE_BYTES]; rows];
    let payloads = vec![vec![2_u8; crate::work::PAYLOAD_BYTES]; rows];
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let began = Instant::now();
        let query = sqlx::query(INSERT)
            .bind(envelopes.as_slice())
            .bind(payloads.as_slice());
        query
            .execute(&mut *connection)
            .await
            .expect("the rows are committed");
        times.push(began.elapsed());
    }
    times
}

/// Commits of the same row a second by `pgbench`, where it is installed.
fn pgbench(url: &str, dir: &Path, connections: usize, span: Duration) -> Option<f64> {
    let script = dir.join("pgbench.sql");
    let (envelope, payload) = (
        "01".repeat(ENVELOPE_BYTES),
        "02".repeat(crate::work::PAYLOAD_BYTES),
    );
    let insert =
        format!("INSERT INTO raw_log (envelope, payload) VALUES ('\\x{envelope}', '\\x{payload}');\n");
    std::fs::write(&script, insert).expect("the script is written");
    let ran = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-j", "2", "-c"])
        .arg(connections.to_string())
        .arg("-T")
        .arg(span.as_secs().max(1).to_string())
        .arg("-f")
        .arg(&script)
        .arg(url)
        .output()
        .ok()?;
    assert!(
        ran.status.success(),
        "pgbench: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let rate = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    Some(rate.unwrap_or_else(|| panic!("pgbench says no rate: {said}")))
}
