//! Due work.

use super::error::store_error;
use super::read::get;
use crate::contract::Hint;
use crate::error::StoreError;
use crate::unreadable::pass_over;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// At most ?6 hints of queue ?1 that are due until ?2, after the one due at ?3 with item ?5 of stream ?7, or else of that named ?4.
pub(super) const DUE: &str = "SELECT a.due, a.item, s.name, a.stream FROM agenda a LEFT JOIN stream s ON s.id = a.stream \
         WHERE a.queue = ?1 AND a.due <= ?2 \
           AND (a.due, a.stream, a.item) > (?3, coalesce(?7, (SELECT id FROM stream WHERE name = ?4), 0), ?5) \
         ORDER BY a.due, a.stream, a.item LIMIT ?6";

/// The row of a hint, whether it can be read or not.
struct Found {
    due: i64,
    item: String,
    name: Option<String>,
    stream: i64,
}

/// Due work of a queue, in the order of the due times. Unreadable rows do not count, so rows are read until there are enough.
pub(super) async fn due(
    readers: &SqlitePool,
    queue: Queue,
    until: Timestamp,
    after: Option<&Hint>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let limit = limit as usize;
    let (mut hints, mut last): (Vec<Hint>, Option<Found>) = (Vec::new(), None);
    loop {
        let wanted = limit - hints.len();
        let rows = page(readers, queue, until, (after, last.as_ref()), wanted).await?;
        let is_end = rows.len() < wanted;
        hints.extend(rows.iter().filter_map(|row| row.hint(queue)));
        last = rows.into_iter().next_back().or(last);
        if is_end || hints.len() == limit {
            return Ok(hints);
        }
    }
}

async fn page(
    readers: &SqlitePool,
    queue: Queue,
    until: Timestamp,
    (after, last): (Option<&Hint>, Option<&Found>),
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
    // Streams are numbered from 1: before the first hint is everything.
    let due = after.map_or(Timestamp::MIN, |after| after.due).as_micros();
    let item = after.map_or_else(String::new, |after| after.item.to_string());
    let (due, item) = last.map_or((due, item), |last| (last.due, last.item.clone()));
    let query = sqlx::query(DUE)
        .bind(i64::from(queue.number()))
        .bind(until.as_micros())
        .bind(due)
        .bind(after.map(|after| after.stream.to_string()))
        .bind(item)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(last.map(|last| last.stream));
    let rows = query
        .fetch_all(readers)
        .await
        .map_err(|error| store_error("looks for due work", error))?;
    rows.iter().map(Found::read).collect()
}

impl Found {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            due: get(row, 0)?,
            item: get(row, 1)?,
            name: get(row, 2)?,
            stream: get(row, 3)?,
        })
    }

    fn hint(&self, queue: Queue) -> Option<Hint> {
        let row = || format!("({queue}, {}, {}, {})", self.due, self.stream, self.item);
        let Some(stream) = self.name.as_deref().and_then(|name| name.parse().ok()) else {
            pass_over("agenda", &row(), format_args!("its stream is {:?}", self.name));
            return None;
        };
        let item = self
            .item
            .parse()
            .inspect_err(|error| pass_over("agenda", &row(), error));
        Some(Hint {
            queue,
            stream,
            item: item.ok()?,
            due: Timestamp::from_micros(self.due),
        })
    }
}
