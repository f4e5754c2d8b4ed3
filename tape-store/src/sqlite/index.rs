//! What a batch changes beside its entries: due work, the list of runs, snapshots.

use super::append::signed;
use super::writer::Candidate;
use crate::contract::{Batch, SnapshotChange};
use crate::upkeep::Correction;
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;
use tape_core::agenda::AgendaChange;
use tape_core::id::{RunId, Seq, StreamId};
use tape_core::status::Summary;
use tape_core::time::Timestamp;

const AGENDA_COLUMNS: usize = 4;
/// Most rows of the agenda in one statement.
const ROWS_MAX: usize = 1024;

/// What stands before and after the rows of a statement.
type Around = (&'static str, &'static str);
pub(super) const GONE: Around = (
    "DELETE FROM agenda WHERE (queue, due, stream, item) IN (VALUES ",
    ")",
);
const NEW: Around = (
    "INSERT OR IGNORE INTO agenda SELECT * FROM (VALUES ",
    ") WHERE column1 IS NOT NULL",
);

pub(super) fn agenda_statement((before, after): Around, rows: usize) -> String {
    format!("{before}{}{after}", vec!["(?,?,?,?)"; rows].join(","))
}

/// Whether the batch changes anything beside its entries.
pub(super) fn is_due(batch: &Batch) -> bool {
    !batch.agenda.is_empty() || batch.summary.is_some() || batch.snapshot != SnapshotChange::Keep
}

/// Makes the changes of the committed batches.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    committed: impl Iterator<Item = &Candidate> + Clone,
) -> Result<(), sqlx::Error> {
    let changes = || {
        committed
            .clone()
            .flat_map(|won| won.batch.agenda.iter().map(|change| (won.stream, change)))
    };
    let gone: Vec<_> = changes()
        .filter_map(|(stream, change)| Some((stream, change, change.was?)))
        .collect();
    let new: Vec<_> = changes()
        .filter_map(|(stream, change)| Some((stream, change, change.due?)))
        .collect();
    change_agenda(connection, &gone, &new).await?;
    for won in committed {
        if let (Some(summary), Some(run)) = (&won.batch.summary, won.batch.stream.as_run()) {
            list(connection, won.stream, run, summary).await?;
        }
        match &won.batch.snapshot {
            SnapshotChange::Keep => {}
            SnapshotChange::Replace(bytes) => keep(connection, won.stream, won.batch.last(), bytes).await?,
            SnapshotChange::Delete => {
                let query = sqlx::query("DELETE FROM snapshot WHERE stream = ?").bind(won.stream);
                query.execute(&mut *connection).await?;
            }
        }
    }
    Ok(())
}

/// Makes a correction of a stream.
pub(super) async fn correct(
    connection: &mut SqliteConnection,
    number: i64,
    stream: &StreamId,
    correction: &Correction,
) -> Result<(), sqlx::Error> {
    let changes = || correction.agenda.iter();
    let gone: Vec<_> = changes()
        .filter_map(|change| Some((number, change, change.was?)))
        .collect();
    let new: Vec<_> = changes()
        .filter_map(|change| Some((number, change, change.due?)))
        .collect();
    change_agenda(connection, &gone, &new).await?;
    if let (Some(summary), Some(run)) = (&correction.summary, stream.as_run()) {
        list(connection, number, run, summary).await?;
    }
    Ok(())
}

/// A change of the agenda of a stream, and the time that is removed or added.
type Changed<'c> = (i64, &'c AgendaChange, Timestamp);

async fn change_agenda(
    connection: &mut SqliteConnection,
    gone: &[Changed<'_>],
    new: &[Changed<'_>],
) -> Result<(), sqlx::Error> {
    for rows in gone.chunks(ROWS_MAX) {
        agenda(connection, GONE, rows).await?;
    }
    for rows in new.chunks(ROWS_MAX) {
        agenda(connection, NEW, rows).await?;
    }
    Ok(())
}

/// Runs a statement over rows, padded with nulls to a power of two so that few statements need to stay prepared.
async fn agenda(
    connection: &mut SqliteConnection,
    statement: Around,
    rows: &[Changed<'_>],
) -> Result<(), sqlx::Error> {
    let padded = rows.len().next_power_of_two();
    let mut query = sqlx::query(sqlx::AssertSqlSafe(agenda_statement(statement, padded)));
    for (stream, change, due) in rows {
        let queue = i64::from(change.queue.number());
        query = query
            .bind(queue)
            .bind(due.as_micros())
            .bind(*stream)
            .bind(change.item.to_string());
    }
    for _ in rows.len() * AGENDA_COLUMNS..padded * AGENDA_COLUMNS {
        query = query.bind(None::<i64>);
    }
    query.execute(connection).await.map(drop)
}

/// Lists a run. Apart from its status, the indexed columns hardly ever change, so their indexes are not rewritten.
async fn list(
    connection: &mut SqliteConnection,
    stream: i64,
    run: &RunId,
    summary: &Summary,
) -> Result<(), sqlx::Error> {
    let labels =
        serde_json::to_string(&summary.labels).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let query = sqlx::query(
        "INSERT INTO run(stream, tenant, app, status, begun_at, changed_at, labels) VALUES (?, ?, ?, ?, ?, ?, ?) \
           ON CONFLICT DO UPDATE SET status = excluded.status, changed_at = excluded.changed_at; \
         UPDATE run SET begun_at = ?, labels = ? WHERE stream = ? AND (begun_at, labels) <> (?, ?)",
    );
    let begun_at = summary.begun_at.as_micros();
    let query = query
        .bind(stream)
        .bind(run.tenant.as_str().to_owned())
        .bind(run.app.as_str().to_owned())
        .bind(summary.status.as_str())
        .bind(begun_at)
        .bind(summary.changed_at.as_micros())
        .bind(labels.clone())
        .bind(begun_at)
        .bind(labels.clone())
        .bind(stream)
        .bind(begun_at)
        .bind(labels);
    connection.execute(query).await.map(drop)
}

async fn keep(
    connection: &mut SqliteConnection,
    stream: i64,
    seq: Seq,
    bytes: &bytes::Bytes,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT OR REPLACE INTO snapshot(stream, seq, bytes) VALUES (?, ?, ?)");
    query
        .bind(stream)
        .bind(signed(seq.0))
        .bind(bytes.to_vec())
        .execute(connection)
        .await
        .map(drop)
}
