//! Verifies and corrects what the database has beside entries.

use super::PostgresStore;
use super::append::{bind_listed, key, label_keys, signed};
use super::read::get;
use crate::contract::{Hint, PageToken};
use crate::error::StoreError;
use crate::group::page;
use crate::listing::{Row, number, stream_page};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{RunId, StreamId};
use tape_core::status::Summary;
use tape_core::time::Timestamp;

const DOING: &str = "looks over its indexes";

const STREAMS: &str = "SELECT stream, name FROM tape_head WHERE stream > $1 ORDER BY stream LIMIT $2";
/// Which of the hints with queues $3, times $4 and items $5 there are of the stream with key $1 and name $2, by their numbers from 1.
const ARE_DUE: &str = "SELECT n.nth FROM unnest($3::smallint[], $4::bigint[], $5::text[]) WITH ORDINALITY AS n(queue, due, item, nth) \
         CROSS JOIN LATERAL (SELECT h.stream FROM tape_head h WHERE h.key = $1 AND h.name = $2) h \
         CROSS JOIN LATERAL (SELECT 1 FROM tape_agenda a WHERE a.queue = n.queue AND a.due = n.due AND a.stream = h.stream \
           AND a.item = n.item) a";
const LISTED: &str = "SELECT r.begun_at, r.stream, h.name, r.status, r.changed_at, r.labels, r.tenant, r.app, r.label_keys \
         FROM tape_head h JOIN tape_run r ON r.stream = h.stream WHERE h.key = $1 AND h.name = $2";
/// Corrects the indexes if the stream with key $1 and name $2 ends at $3 in epoch $4 with digest $5, and returns the stream then. The head
/// is locked, as by a commit.
const CORRECT: &str = "WITH h AS MATERIALIZED ( \
       SELECT stream FROM tape_head WHERE key = $1 AND name = $2 AND seq = $3 AND epoch = $4 AND digest = $5 FOR UPDATE), \
     gone AS ( \
       DELETE FROM tape_agenda a USING unnest($6::smallint[], $7::bigint[], $8::text[]) AS g(queue, due, item), h \
         WHERE a.queue = g.queue AND a.due = g.due AND a.stream = h.stream AND a.item = g.item), \
     new AS ( \
       INSERT INTO tape_agenda(queue, due, stream, item) SELECT n.queue, n.due, h.stream, n.item \
         FROM unnest($9::smallint[], $10::bigint[], $11::text[]) AS n(queue, due, item), h ON CONFLICT DO NOTHING), \
     listed AS ( \
       INSERT INTO tape_run(stream, begun_at, changed_at, tenant, app, status, labels, label_keys) \
         SELECT h.stream, r.* FROM unnest($12::bigint[], $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[]) \
           AS r(begun_at, changed_at, tenant, app, status, labels, label_keys), h \
         ON CONFLICT (stream) DO UPDATE SET begun_at = excluded.begun_at, changed_at = excluded.changed_at, \
           tenant = excluded.tenant, app = excluded.app, status = excluded.status, labels = excluded.labels, label_keys = excluded.label_keys) \
     SELECT stream FROM h";
// The version stands in the index that it is about, as an item of a queue that does not exist.
const VERSION: &str = "SELECT coalesce(max(due), 0) FROM tape_agenda WHERE queue = 0";
const SET_VERSION: &str =
    "INSERT INTO tape_agenda(queue, due, stream, item) VALUES (0, $1, 0, 'version') ON CONFLICT DO NOTHING";

/// Hints in columns.
#[derive(Default)]
struct Columns {
    queues: Vec<i16>,
    times: Vec<i64>,
    items: Vec<String>,
}

impl Columns {
    fn of<'h>(hints: impl Iterator<Item = (Queue, &'h Item, Timestamp)>) -> Self {
        let mut columns = Self::default();
        for (queue, item, due) in hints {
            columns.queues.push(i16::from(queue.number()));
            columns.times.push(due.as_micros());
            columns.items.push(item.to_string());
        }
        columns
    }
}

#[async_trait]
impl Upkeep for PostgresStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        let (from, limit) = (number(from)?, page(limit));
        let query = || sqlx::query(STREAMS).bind(from).bind(i64::from(limit));
        let rows = self.reads.query(DOING, query).await?;
        let named = |row: &PgRow| Ok((get(row, 0)?, get(row, 1)?));
        let rows = rows.iter().map(named).collect::<Result<_, StoreError>>()?;
        Ok(stream_page(rows, limit))
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        let name = stream.to_string();
        let columns = Columns::of(hints.iter().map(|hint| (hint.queue, &hint.item, hint.due)));
        let query = || {
            sqlx::query(ARE_DUE)
                .bind(key(&name))
                .bind(name.clone())
                .bind(columns.queues.clone())
                .bind(columns.times.clone())
                .bind(columns.items.clone())
        };
        let mut due = vec![false; hints.len()];
        for row in self.reads.query(DOING, query).await? {
            let nth = usize::try_from(get::<i64>(&row, 0)?).unwrap_or_default();
            if let Some(due) = nth.checked_sub(1).and_then(|nth| due.get_mut(nth)) {
                *due = true;
            }
        }
        let query = || sqlx::query(LISTED).bind(key(&name)).bind(name.clone());
        let rows = self.reads.query(DOING, query).await?;
        let summary = rows.first().map(|row| listed(stream, row)).transpose()?;
        Ok(Indexed {
            due,
            summary: summary.flatten(),
            // The database keeps the index of names.
            named: true,
        })
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        let name = stream.to_string();
        let changes = || correction.agenda.iter();
        let gone = changes().filter_map(|change| Some((change.queue, &change.item, change.was?)));
        let new = changes().filter_map(|change| Some((change.queue, &change.item, change.due?)));
        let (gone, new) = (Columns::of(gone), Columns::of(new));
        let listed = stream.as_run().zip(correction.summary.as_ref());
        let query = || {
            let query = sqlx::query(CORRECT)
                .bind(key(&name))
                .bind(name.clone())
                .bind(signed(end.seq.0))
                .bind(signed(end.epoch.0))
                .bind(end.digest.0.to_vec());
            let query = [&gone, &new].into_iter().fold(query, |query, columns| {
                query
                    .bind(columns.queues.clone())
                    .bind(columns.times.clone())
                    .bind(columns.items.clone())
            });
            bind_listed(query, listed.as_slice())
        };
        Ok(!self.commits.query(DOING, query).await?.is_empty())
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        let rows = self.reads.query(DOING, || sqlx::query(VERSION)).await?;
        let version = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
        Ok(u32::try_from(version.unwrap_or_default()).unwrap_or(u32::MAX))
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        let set = || sqlx::query(SET_VERSION).bind(i64::from(version));
        self.commits.query(DOING, set).await.map(drop)
    }
}

/// What a run's row shows, if its columns are those that lists should find it by.
fn listed(stream: &StreamId, row: &PgRow) -> Result<Option<Summary>, StoreError> {
    let (tenant, app): (String, String) = (get(row, 6)?, get(row, 7)?);
    let keys: Vec<u8> = get(row, 8)?;
    let row = Row {
        begun_at: get(row, 0)?,
        stream: get(row, 1)?,
        name: get(row, 2)?,
        status: get(row, 3)?,
        changed_at: get(row, 4)?,
        labels: get(row, 5)?,
    };
    let is_of = |run: &RunId| (run.tenant.as_str(), run.app.as_str()) == (tenant.as_str(), app.as_str());
    let is_its_own = stream.as_run().is_some_and(is_of);
    Ok(row
        .summary()
        .ok()
        .filter(|summary| is_its_own && label_keys(summary) == keys))
}
