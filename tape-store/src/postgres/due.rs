//! Due work.

use super::append::key;
use super::links::Links;
use super::read::get;
use crate::contract::Hint;
use crate::error::StoreError;
use sqlx::postgres::PgRow;
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// At most $6 hints of queue $1 that are due until $2, after the one due at $3 of the stream with key $4 and with item $5.
pub(super) const DUE: &str = "SELECT a.due, a.item, h.name FROM ( \
           SELECT due, stream, item FROM tape_agenda WHERE queue = $1 AND due <= $2 \
             AND (due, stream, item) > ($3, coalesce((SELECT stream FROM tape_head WHERE key = $4), 0), $5) \
             ORDER BY due, stream, item LIMIT $6) a \
         JOIN tape_head h USING (stream) ORDER BY a.due, a.stream, a.item";

/// Work of a queue that is due, in the order of the times.
pub(super) async fn due(
    links: &Links,
    queue: Queue,
    until: Timestamp,
    after: Option<&Hint>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    // Streams are numbered from 1: before the first hint is everything.
    let (due, item) = after.map_or_else(
        || (Timestamp::MIN, String::new()),
        |after| (after.due, after.item.to_string()),
    );
    let stream = after.map(|after| key(&after.stream.to_string()));
    let query = || {
        sqlx::query(DUE)
            .bind(i16::from(queue.number()))
            .bind(until.as_micros())
            .bind(due.as_micros())
            .bind(stream.clone())
            .bind(item.clone())
            .bind(i64::from(limit))
    };
    let rows = links.query("looks for due work", query).await?;
    rows.iter().map(|row| hint(queue, row)).collect()
}

fn hint(queue: Queue, row: &PgRow) -> Result<Hint, StoreError> {
    let (due, item, name): (i64, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let damaged = |error| StoreError::corrupt(format!("the agenda of {name}"), error);
    Ok(Hint {
        queue,
        stream: name.parse().map_err(damaged)?,
        item: item.parse().map_err(damaged)?,
        due: Timestamp::from_micros(due),
    })
}
