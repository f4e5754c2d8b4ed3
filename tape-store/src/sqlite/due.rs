//! Due work.

use super::error::{corrupt, store_error};
use super::read::get;
use crate::contract::Hint;
use crate::error::StoreError;
use sqlx::sqlite::SqlitePool;
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// At most ?6 hints of queue ?1 that are due until ?2, after the one due at ?3 of the stream named ?4 with item ?5.
pub(super) const DUE: &str = "SELECT a.due, a.item, s.name FROM agenda a LEFT JOIN stream s ON s.id = a.stream \
         WHERE a.queue = ?1 AND a.due <= ?2 \
           AND (a.due, a.stream, a.item) > (?3, coalesce((SELECT id FROM stream WHERE name = ?4), 0), ?5) \
         ORDER BY a.due, a.stream, a.item LIMIT ?6";

/// Work of a queue that is due, in the order of the times.
pub(super) async fn due(
    readers: &SqlitePool,
    queue: Queue,
    until: Timestamp,
    after: Option<&Hint>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let query = sqlx::query(DUE);
    let query = query
        .bind(i64::from(queue.number()))
        .bind(until.as_micros())
        // Streams are numbered from 1: before the first hint is everything.
        .bind(after.map_or(Timestamp::MIN, |after| after.due).as_micros())
        .bind(after.map(|after| after.stream.to_string()))
        .bind(after.map_or_else(String::new, |after| after.item.to_string()))
        .bind(i64::from(limit));
    let rows = query
        .fetch_all(readers)
        .await
        .map_err(|error| store_error("looks for due work", error))?;
    let hint = |row| {
        let (due, item): (i64, String) = (get(row, 0)?, get(row, 1)?);
        let name: Option<String> = get(row, 2)?;
        let bad = || {
            corrupt(
                "agenda",
                format!("({queue}, {due}, {item})"),
                format!("its stream is {name:?}"),
            )
        };
        let stream = name
            .as_deref()
            .and_then(|name| name.parse().ok())
            .ok_or_else(bad)?;
        let item = item
            .parse()
            .map_err(|error| StoreError::corrupt(format!("the agenda of {stream}"), error))?;
        Ok(Hint {
            queue,
            stream,
            item,
            due: Timestamp::from_micros(due),
        })
    };
    rows.iter().map(hint).collect()
}
