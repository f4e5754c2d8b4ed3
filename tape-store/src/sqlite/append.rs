//! Appending the entries of a group of batches: one statement, whose condition is that each stream still ends where its batch says. Where
//! one does not, its entry gets no stream, which the table refuses, and nothing of the group is appended.
//!
//! The statement finds the heads and the end of the table itself, so it does not matter what another process did before. SQLite
//! evaluates all of its select before the first insert, because the table has triggers.

use super::writer::Candidate;
use crate::contract::Batch;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use std::sync::LazyLock;
use tape_core::id::{Epoch, Seq};

pub(super) type Statement = Query<'static, sqlx::Sqlite, SqliteArguments>;

/// Most rows of one statement: thirteen parameters each, below SQLite's 32,766.
pub(super) const ROWS_MAX: usize = SIZES[SIZES.len() - 1];
/// The numbers of rows that there are statements for: few, so that they stay prepared. Rows that are not needed are null.
const SIZES: [usize; 20] = [
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
];

/// The statements, by their size.
static STATEMENTS: LazyLock<[String; SIZES.len()]> = LazyLock::new(|| SIZES.map(of_size));

fn of_size(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!(
        "INSERT INTO entry(pos, stream, seq, prev, epoch, batch, digest, envelope, payload) \
         WITH v(nth, stream, name, seq, end_seq, end_epoch, before, first, epoch, batch, digest, envelope, payload) AS (VALUES {values}) \
         SELECT (SELECT coalesce(max(pos), 0) FROM entry) + v.nth, head.stream, v.seq, \
           CASE WHEN v.first THEN head.pos ELSE (SELECT coalesce(max(pos), 0) FROM entry) + v.nth - 1 END, \
           v.epoch, v.batch, v.digest, v.envelope, v.payload \
         FROM v LEFT JOIN head ON head.stream = coalesce(v.stream, (SELECT id FROM stream WHERE stream.name = v.name)) \
           AND head.seq = v.end_seq AND head.epoch = v.end_epoch \
           AND (SELECT digest FROM entry WHERE entry.pos = head.pos) IS v.before \
         WHERE v.nth IS NOT NULL"
    )
}

/// The text of the statement for so many rows.
pub(super) fn text(rows: usize) -> &'static str {
    let size = SIZES.partition_point(|size| *size < rows);
    &STATEMENTS[size]
}

/// The rows of candidates.
pub(super) fn rows(candidates: &[Candidate]) -> usize {
    let entries = candidates.iter().map(|candidate| candidate.batch.entries.len());
    entries.sum()
}

/// Binds the rows of the candidates.
pub(super) fn bind(mut query: Statement, candidates: &[Candidate]) -> Statement {
    let mut nth = 0_i64;
    for candidate in candidates {
        query = bind_rows(query, candidate, &mut nth);
    }
    query
}

/// Binds nothing for the rows that a statement has and does not need.
pub(super) fn pad(mut query: Statement, candidates: &[Candidate]) -> Statement {
    const COLUMNS: usize = 13;
    let rows = rows(candidates);
    let size = SIZES[SIZES.partition_point(|size| *size < rows)];
    for _ in rows * COLUMNS..size * COLUMNS {
        query = query.bind(None::<i64>);
    }
    query
}

fn bind_rows(mut query: Statement, candidate: &Candidate, nth: &mut i64) -> Statement {
    let batch = &candidate.batch;
    for (i, entry) in batch.entries.iter().enumerate() {
        *nth += 1;
        let last = i + 1 == batch.entries.len();
        query = query
            .bind(*nth)
            .bind(candidate.stream)
            .bind(candidate.name())
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

/// The digest of the last entry that a batch's stream must have.
fn before(batch: &Batch) -> Option<Vec<u8>> {
    (batch.expected > Seq::ZERO).then(|| batch.before.0.to_vec())
}

/// Whether a batch begins its stream.
pub(super) fn begins(batch: &Batch) -> bool {
    batch.expected == Seq::ZERO && batch.epoch == Epoch::default()
}

/// As SQLite keeps numbers. No sequence ever gets that long; one that claims to be matches nothing.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
