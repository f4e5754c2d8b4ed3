//! How a group of batches becomes one transaction.
//!
//! Mostly every batch fits its stream, and the transaction is one text: each time SQLite's thread and this one wait for each other costs
//! more than a statement. Where a batch does not fit, nothing of the group is committed. Then the transaction is made again, for those that
//! fit, as long as no other process writes.

use super::append::{self, Statement};
use super::index::{self, Changes};
use super::writer::{Candidate, in_turn};
use crate::contract::SnapshotChange;
use crate::error::{CommitError, StoreError};
use crate::upkeep::End;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use std::collections::HashMap;
use std::time::Duration;
use tape_core::id::{Epoch, Seq};
use tape_core::payload::Digest;

const BEGIN: &str = "BEGIN IMMEDIATE; \
    INSERT INTO stream(name) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING; ";
const COMMIT: &str = "; SELECT name, id FROM stream WHERE name IN (SELECT value FROM json_each(?)); COMMIT";

/// Where the streams of a JSON array of numbers and names end, with their places in the array; null where a stream lost its head.
const ENDS: &str = "SELECT j.key, h.seq, h.epoch, e.digest FROM json_each(?) j \
    CROSS JOIN stream s ON s.id = coalesce(j.value->>0, (SELECT id FROM stream WHERE stream.name = j.value->>1)) \
    LEFT JOIN head h ON h.stream = s.id LEFT JOIN entry e ON e.pos = h.pos";

/// The numbers of the streams that began, by their names.
pub(super) type Numbers = HashMap<String, i64>;

/// What became of a group of which not every batch fitted.
pub(super) struct Sorted {
    pub(super) committed: Vec<Candidate>,
    /// The others, and why.
    pub(super) refused: Vec<(Candidate, CommitError)>,
    pub(super) numbers: Numbers,
}

/// Commits all batches, or none where one does not fit its stream ([`is_misfit`](super::error::is_misfit)). A transaction may then be open.
pub(super) async fn commit_all(
    connection: &mut SqliteConnection,
    busy_timeout: Duration,
    candidates: &[Candidate],
) -> Result<Numbers, sqlx::Error> {
    if append::rows(candidates) <= append::ROWS_MAX {
        let only_appends =
            |candidate: &Candidate| !append::begins(&candidate.batch) && !index::is_due(&candidate.batch);
        if candidates.iter().all(only_appends) {
            in_turn!(busy_timeout, plain(candidates).execute(&mut *connection))?;
            return Ok(Numbers::new());
        }
        if candidates.iter().all(keeps_its_snapshot) {
            let rows = in_turn!(busy_timeout, whole(candidates).fetch_all(&mut *connection))?;
            return numbers(&rows);
        }
    }
    in_turn!(busy_timeout, begin(candidates).execute(&mut *connection))?;
    in_parts(connection, candidates).await
}

/// Commits the batches that fit their streams.
pub(super) async fn commit_fitting(
    connection: &mut SqliteConnection,
    busy_timeout: Duration,
    candidates: Vec<Candidate>,
) -> Result<Sorted, sqlx::Error> {
    in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
    let mut ends = ends(connection, &candidates).await?;
    let (mut committed, mut refused) = (Vec::new(), Vec::new());
    for (i, candidate) in candidates.into_iter().enumerate() {
        let end = ends.remove(&i).unwrap_or_else(|| Some(End::default()));
        let headless = || CommitError::Store(StoreError::without_head(&candidate.batch.stream));
        match end
            .ok_or_else(headless)
            .and_then(|end| candidate.batch.check_end(end))
        {
            Ok(()) => committed.push(candidate),
            Err(error) => refused.push((candidate, error)),
        }
    }
    let numbers = if committed.is_empty() {
        connection.execute("ROLLBACK").await?;
        Numbers::new()
    } else {
        connection.execute(make_streams(&committed)).await?;
        in_parts(connection, &committed).await?
    };
    Ok(Sorted {
        committed,
        refused,
        numbers,
    })
}

/// Appends and changes everything within a transaction, a text each, and commits.
async fn in_parts(
    connection: &mut SqliteConnection,
    candidates: &[Candidate],
) -> Result<Numbers, sqlx::Error> {
    for chunk in chunks(candidates) {
        plain(chunk).execute(&mut *connection).await?;
    }
    index::change_snapshots(connection, candidates).await?;
    let text = Changes::text() + COMMIT;
    let query = Changes::of(candidates).bind(sqlx::query(AssertSqlSafe(text)));
    let rows = query.bind(begun(candidates)).fetch_all(connection).await?;
    numbers(&rows)
}

/// Appends to streams that are there: a transaction of its own where none is open.
fn plain(candidates: &[Candidate]) -> Statement {
    append::bind(sqlx::query(append::text(append::rows(candidates))), candidates)
}

/// The whole transaction, without changes of snapshots.
fn whole(candidates: &[Candidate]) -> Statement {
    let append = append::text(append::rows(candidates));
    let text = [BEGIN, append, "; ", &Changes::text(), COMMIT].concat();
    let begun = begun(candidates);
    let query = sqlx::query(AssertSqlSafe(text)).bind(begun.clone());
    let query = append::pad(append::bind(query, candidates), candidates);
    Changes::of(candidates).bind(query).bind(begun)
}

fn begin(candidates: &[Candidate]) -> Statement {
    sqlx::query(BEGIN).bind(begun(candidates))
}

fn make_streams(candidates: &[Candidate]) -> Statement {
    let (_, make) = BEGIN.split_once("; ").expect("the stream is made second");
    sqlx::query(make).bind(begun(candidates))
}

/// The names of the streams that begin, as a JSON array.
fn begun(candidates: &[Candidate]) -> String {
    let begin = candidates
        .iter()
        .filter(|candidate| append::begins(&candidate.batch));
    let names: Vec<_> = begin
        .map(|candidate| candidate.batch.stream.to_string())
        .collect();
    serde_json::to_string(&names).expect("names are JSON")
}

fn numbers(rows: &[SqliteRow]) -> Result<Numbers, sqlx::Error> {
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

const fn keeps_its_snapshot(candidate: &Candidate) -> bool {
    matches!(candidate.batch.snapshot, SnapshotChange::Keep)
}

/// Cuts the candidates into runs that fit one statement each.
fn chunks(candidates: &[Candidate]) -> impl Iterator<Item = &[Candidate]> {
    let mut rest = candidates;
    std::iter::from_fn(move || {
        let mut rows = 0;
        let fits = |candidate: &&Candidate| {
            rows += candidate.batch.entries.len();
            rows <= append::ROWS_MAX
        };
        let n = rest.iter().take_while(fits).count();
        let (chunk, later) = rest.split_at(n);
        rest = later;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Where the streams of candidates end, by the places of the candidates; none where a stream lost its head.
async fn ends(
    connection: &mut SqliteConnection,
    candidates: &[Candidate],
) -> Result<HashMap<usize, Option<End>>, sqlx::Error> {
    let asked: Vec<_> = candidates
        .iter()
        .map(|candidate| (candidate.stream, candidate.name()))
        .collect();
    let asked = serde_json::to_string(&asked).expect("names and numbers are JSON");
    let rows = sqlx::query(ENDS).bind(asked).fetch_all(connection).await?;
    let end = |row: &SqliteRow| {
        let (place, seq): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let epoch = row.try_get::<Option<i64>, _>(2)?.unwrap_or_default();
        let digest = row.try_get::<Option<Vec<u8>>, _>(3)?;
        let digest = digest.and_then(|digest| digest.try_into().ok());
        let end = seq.map(|seq| End {
            seq: Seq(seq.unsigned_abs()),
            epoch: Epoch(epoch.unsigned_abs()),
            digest: digest.map_or_else(Digest::default, Digest),
        });
        Ok((usize::try_from(place).unwrap_or(usize::MAX), end))
    };
    rows.iter().map(end).collect()
}
