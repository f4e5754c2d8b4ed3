//! Appending the entries of a group of batches: one statement, whose condition is that each stream still ends where its
//! batch says.
//!
//! The statement finds the heads and the end of the table itself, so it does not matter what another process did before. SQLite
//! evaluates all of its select before the first insert, because the table has triggers.

use super::writer::Candidate;
use crate::contract::Batch;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Row as _, query::Query};
use std::collections::HashSet;
use std::sync::LazyLock;
use tape_core::id::Seq;

/// Most rows of one statement: twelve parameters each, below SQLite's 32,766.
pub(super) const ROWS_MAX: usize = 1024;

const ONE: &str = "INSERT INTO entry(pos, stream, seq, prev, epoch, batch, digest, envelope, payload) \
    SELECT (SELECT coalesce(max(pos), 0) + 1 FROM entry), stream, seq + 1, pos, ?, ?, ?, ?, ? \
    FROM head WHERE stream = ? AND seq = ? AND epoch = ? AND (SELECT digest FROM entry WHERE entry.pos = head.pos) IS ?";

/// Statements for 2, 4, 8, ... rows: few, so that they stay prepared. Rows that are not needed are null and match no head.
static MANY: LazyLock<Vec<String>> = LazyLock::new(|| (1..=10).map(|power| many(1 << power)).collect());

fn many(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!(
        "INSERT INTO entry(pos, stream, seq, prev, epoch, batch, digest, envelope, payload) \
         WITH v(nth, stream, seq, end_seq, end_epoch, before, first, epoch, batch, digest, envelope, payload) AS (VALUES {values}) \
         SELECT (SELECT coalesce(max(pos), 0) FROM entry) + v.nth, v.stream, v.seq, \
           CASE WHEN v.first THEN head.pos ELSE (SELECT coalesce(max(pos), 0) FROM entry) + v.nth - 1 END, \
           v.epoch, v.batch, v.digest, v.envelope, v.payload \
         FROM v CROSS JOIN head \
         WHERE head.stream = v.stream AND head.seq = v.end_seq AND head.epoch = v.end_epoch \
           AND (SELECT digest FROM entry WHERE entry.pos = head.pos) IS v.before \
         RETURNING CASE WHEN epoch IS NOT NULL THEN stream END"
    )
}

/// Appends, and returns the streams whose batches were appended. At most [`ROWS_MAX`] entries in all.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    candidates: &[Candidate],
) -> Result<HashSet<i64>, sqlx::Error> {
    let rows: usize = candidates
        .iter()
        .map(|candidate| candidate.batch.entries.len())
        .sum();
    if let ([candidate], 1) = (candidates, rows) {
        let done = append_one(candidate).execute(connection).await?;
        return Ok((done.rows_affected() == 1)
            .then_some(candidate.stream)
            .into_iter()
            .collect());
    }
    let statement = &MANY[rows.next_power_of_two().trailing_zeros() as usize - 1];
    let mut query = sqlx::query(statement.as_str());
    let mut nth = 0_i64;
    for candidate in candidates {
        query = append_rows(query, candidate, &mut nth);
    }
    // Every row is taken, so that the statement runs to its end.
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .filter_map(|row| row.try_get::<Option<i64>, _>(0).transpose())
        .collect()
}

type Statement = Query<'static, sqlx::Sqlite, SqliteArguments>;

fn append_one(candidate: &Candidate) -> Statement {
    let (batch, entry) = (&candidate.batch, &candidate.batch.entries[0]);
    sqlx::query(ONE)
        .bind(signed(batch.next_epoch.0))
        .bind(batch.id.0.as_bytes().to_vec())
        .bind(entry.digest.0.to_vec())
        .bind(entry.envelope.to_vec())
        .bind(entry.payload.as_ref().map(|payload| payload.to_vec()))
        .bind(candidate.stream)
        .bind(signed(batch.expected.0))
        .bind(signed(batch.epoch.0))
        .bind(before(batch))
}

/// The digest of the last entry that a batch's stream must have.
fn before(batch: &Batch) -> Option<Vec<u8>> {
    (batch.expected > Seq::ZERO).then(|| batch.before.0.to_vec())
}

fn append_rows(mut query: Statement, candidate: &Candidate, nth: &mut i64) -> Statement {
    let batch = &candidate.batch;
    for (i, entry) in batch.entries.iter().enumerate() {
        *nth += 1;
        let last = i + 1 == batch.entries.len();
        query = query
            .bind(*nth)
            .bind(candidate.stream)
            .bind(signed(entry.seq.0))
            .bind(signed(batch.expected.0))
            .bind(signed(batch.epoch.0))
            .bind(before(batch))
            .bind(i == 0)
            .bind(last.then(|| signed(batch.next_epoch.0)))
            .bind(last.then(|| batch.id.0.as_bytes().to_vec()))
            .bind(entry.digest.0.to_vec())
            .bind(entry.envelope.to_vec())
            .bind(entry.payload.as_ref().map(|payload| payload.to_vec()));
    }
    query
}

/// As SQLite keeps numbers. No sequence ever gets that long; one that claims to be matches nothing.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
