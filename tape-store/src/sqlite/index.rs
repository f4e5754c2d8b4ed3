//! What a batch changes beside its entries: due work, the list of runs, snapshots.
//!
//! Due work and lists are changed by statements whose rows are JSON arrays, so that one prepared text does for any number of them.

use super::append::{Statement, signed};
use super::writer::Candidate;
use crate::contract::{Batch, SnapshotChange};
use crate::upkeep::Correction;
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;
use tape_core::agenda::AgendaChange;
use tape_core::id::{RunId, Seq, StreamId};
use tape_core::status::Summary;
use tape_core::time::Timestamp;

/// The number of the stream of a JSON row, which has the number, or the name of a stream that just began.
macro_rules! numbered {
    () => {
        "coalesce(j.value->>0, (SELECT id FROM stream WHERE stream.name = j.value->>1))"
    };
}

/// Rows are the stream's number, its name, queue, time and item.
pub(super) const GONE: &str = concat!(
    "DELETE FROM agenda WHERE (queue, due, stream, item) IN ",
    "(SELECT j.value->>2, j.value->>3, ",
    numbered!(),
    ", j.value->>4 FROM json_each(?) j)"
);
const NEW: &str = concat!(
    "INSERT OR IGNORE INTO agenda(queue, due, stream, item) SELECT j.value->>2, j.value->>3, ",
    numbered!(),
    ", j.value->>4 FROM json_each(?) j"
);
/// Rows are the stream's number, its name, tenant, app, status, both times and the labels. Apart from their status, the indexed columns of
/// runs hardly ever change, so their indexes are not rewritten.
const LIST: &str = concat!(
    "INSERT INTO run(stream, tenant, app, status, begun_at, changed_at, labels) SELECT ",
    numbered!(),
    ", j.value->>2, j.value->>3, j.value->>4, j.value->>5, j.value->>6, j.value->>7 FROM json_each(?) j WHERE true \
     ON CONFLICT DO UPDATE SET status = excluded.status, changed_at = excluded.changed_at"
);
pub(super) const RELIST: &str = concat!(
    "UPDATE run SET begun_at = l.begun_at, labels = l.labels FROM (SELECT ",
    numbered!(),
    " AS stream, j.value->>5 AS begun_at, j.value->>7 AS labels FROM json_each(?) j) l \
     WHERE run.stream = l.stream AND (run.begun_at, run.labels) <> (l.begun_at, l.labels)"
);

/// The rows by which its labels find the run with number ?1.
pub(super) const UNLABEL: &str = "DELETE FROM label WHERE (tenant, key, value, begun_at, stream) IN ( \
       SELECT r.tenant, j.key, j.value, r.begun_at, r.stream FROM run r, json_each(iif(json_valid(r.labels), r.labels, '{}')) j \
         WHERE r.stream = ?1)";
/// Those that it should have, by its tenant ?2, its time ?3 and its labels ?4.
pub(super) const UNLABEL_RIGHT: &str = "DELETE FROM label WHERE (tenant, key, value, begun_at, stream) IN ( \
       SELECT ?2, j.key, j.value, ?3, ?1 FROM json_each(?4) j)";
const UNLIST: &str = "DELETE FROM run WHERE stream = ?";

/// Changes of due work and lists.
#[derive(Default)]
pub(super) struct Changes {
    gone: Vec<AgendaRow>,
    new: Vec<AgendaRow>,
    listed: Vec<RunRow>,
}

type AgendaRow = (Option<i64>, Option<String>, u8, i64, String);
type RunRow = (
    Option<i64>,
    Option<String>,
    String,
    String,
    &'static str,
    i64,
    i64,
    String,
);

/// A stream, by its number or, where that is not known, by its name.
type Numbered<'s> = (Option<i64>, &'s StreamId);

impl Changes {
    /// The text that makes them: statements one after the other.
    pub(super) fn text() -> String {
        [GONE, NEW, LIST, RELIST].join("; ")
    }

    /// Those of batches.
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        let mut changes = Self::default();
        for Candidate { stream, batch, .. } in candidates {
            changes.add((*stream, &batch.stream), &batch.agenda, batch.summary.as_ref());
        }
        changes
    }

    fn add(&mut self, stream: Numbered<'_>, agenda: &[AgendaChange], summary: Option<&Summary>) {
        let row = |change: &AgendaChange, at: Timestamp| {
            let (number, name) = named(stream);
            (
                number,
                name,
                change.queue.number(),
                at.as_micros(),
                change.item.to_string(),
            )
        };
        let gone = agenda.iter().filter_map(|change| Some(row(change, change.was?)));
        self.gone.extend(gone);
        let new = agenda.iter().filter_map(|change| Some(row(change, change.due?)));
        self.new.extend(new);
        if let (Some(summary), Some(run)) = (summary, stream.1.as_run()) {
            let (number, name) = named(stream);
            self.listed.push((
                number,
                name,
                run.tenant.to_string(),
                run.app.to_string(),
                summary.status.as_str(),
                summary.begun_at.as_micros(),
                summary.changed_at.as_micros(),
                json(&summary.labels),
            ));
        }
    }

    /// Binds the rows of its statements.
    pub(super) fn bind(&self, query: Statement) -> Statement {
        let listed = json(&self.listed);
        query
            .bind(json(&self.gone))
            .bind(json(&self.new))
            .bind(listed.clone())
            .bind(listed)
    }
}

fn named((number, stream): Numbered<'_>) -> (Option<i64>, Option<String>) {
    (number, number.is_none().then(|| stream.to_string()))
}

fn json(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).expect("names, numbers and texts are JSON")
}

/// Whether the batch changes anything beside its entries.
pub(super) fn is_due(batch: &Batch) -> bool {
    !batch.agenda.is_empty() || batch.summary.is_some() || batch.snapshot != SnapshotChange::Keep
}

/// Makes a correction of a stream.
pub(super) async fn correct(
    connection: &mut SqliteConnection,
    number: i64,
    stream: &StreamId,
    correction: &Correction,
) -> Result<(), sqlx::Error> {
    if let (Some(run), Some(summary)) = (stream.as_run(), &correction.summary) {
        unlist(connection, number, run, summary).await?;
    }
    let mut changes = Changes::default();
    changes.add(
        (Some(number), stream),
        &correction.agenda,
        correction.summary.as_ref(),
    );
    let query = changes.bind(sqlx::query(sqlx::AssertSqlSafe(Changes::text())));
    connection.execute(query).await.map(drop)
}

/// Takes a run out of all lists, so that it is listed anew: a change of its row leaves some columns as they are, which may be wrong.
async fn unlist(
    connection: &mut SqliteConnection,
    number: i64,
    run: &RunId,
    summary: &Summary,
) -> Result<(), sqlx::Error> {
    let unlabel = sqlx::query(UNLABEL).bind(number);
    unlabel.execute(&mut *connection).await?;
    let unlabel = sqlx::query(UNLABEL_RIGHT)
        .bind(number)
        .bind(run.tenant.to_string())
        .bind(summary.begun_at.as_micros())
        .bind(json(&summary.labels));
    unlabel.execute(&mut *connection).await?;
    let unlist = sqlx::query(UNLIST).bind(number);
    unlist.execute(connection).await.map(drop)
}

/// Makes the changes of the snapshots of streams, which are there.
pub(super) async fn change_snapshots(
    connection: &mut SqliteConnection,
    candidates: &[Candidate],
) -> Result<(), sqlx::Error> {
    for Candidate { stream, batch, .. } in candidates {
        let name = batch.stream.to_string();
        let query = match &batch.snapshot {
            SnapshotChange::Keep => continue,
            SnapshotChange::Replace(bytes) => keep(*stream, name, batch.last(), bytes),
            SnapshotChange::Delete => sqlx::query(
                "DELETE FROM snapshot WHERE stream = coalesce(?, (SELECT id FROM stream WHERE name = ?))",
            )
            .bind(*stream)
            .bind(name),
        };
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn keep(stream: Option<i64>, name: String, seq: Seq, bytes: &bytes::Bytes) -> Statement {
    sqlx::query(
        "INSERT OR REPLACE INTO snapshot(stream, seq, bytes) \
         VALUES (coalesce(?, (SELECT id FROM stream WHERE name = ?)), ?, ?)",
    )
    .bind(stream)
    .bind(name)
    .bind(signed(seq.0))
    .bind(bytes.to_vec())
}
