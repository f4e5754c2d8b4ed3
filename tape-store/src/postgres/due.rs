//! Due work.

use super::append::key;
use super::links::Links;
use super::read::get;
use crate::contract::Hint;
use crate::error::StoreError;
use crate::unreadable::pass_over;
use sqlx::postgres::PgRow;
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// At most $6 hints of queue $1 that are due until $2, after the one due at $3 with item $5 of stream $7, or else of that with key $4.
pub(super) const DUE: &str = "SELECT a.due, a.item, h.name, a.stream FROM ( \
           SELECT due, stream, item FROM tape_agenda WHERE queue = $1 AND due <= $2 \
             AND (due, stream, item) > ($3, coalesce($7, (SELECT stream FROM tape_head WHERE key = $4), 0), $5) \
             ORDER BY due, stream, item LIMIT $6) a \
         LEFT JOIN tape_head h USING (stream) ORDER BY a.due, a.stream, a.item";

/// The row of a hint, whether it can be read or not.
struct Found {
    due: i64,
    item: String,
    name: Option<String>,
    stream: i64,
}

/// Due work of a queue, in the order of the due times. Unreadable rows do not count, so rows are read until there are enough.
pub(super) async fn due(
    links: &Links,
    queue: Queue,
    until: Timestamp,
    after: Option<&Hint>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let limit = limit as usize;
    let (mut hints, mut last): (Vec<Hint>, Option<Found>) = (Vec::new(), None);
    loop {
        let wanted = limit - hints.len();
        let rows = page(links, queue, until, (after, last.as_ref()), wanted).await?;
        let is_end = rows.len() < wanted;
        hints.extend(rows.iter().filter_map(|row| row.hint(queue)));
        last = rows.into_iter().next_back().or(last);
        if is_end || hints.len() == limit {
            return Ok(hints);
        }
    }
}

async fn page(
    links: &Links,
    queue: Queue,
    until: Timestamp,
    (after, last): (Option<&Hint>, Option<&Found>),
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
    // Streams are numbered from 1: before the first hint is everything.
    let (due, item) = after.map_or_else(
        || (Timestamp::MIN.as_micros(), String::new()),
        |after| (after.due.as_micros(), after.item.to_string()),
    );
    let (due, item) = last.map_or((due, item), |last| (last.due, last.item.clone()));
    let stream = after.map(|after| key(&after.stream.to_string()));
    let query = || {
        sqlx::query(DUE)
            .bind(i16::from(queue.number()))
            .bind(until.as_micros())
            .bind(due)
            .bind(stream.clone())
            .bind(item.clone())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(last.map(|last| last.stream))
    };
    let rows = links.query("looks for due work", query).await?;
    rows.iter().map(Found::read).collect()
}

impl Found {
    fn read(row: &PgRow) -> Result<Self, StoreError> {
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
            pass_over(
                "tape_agenda",
                &row(),
                format_args!("its stream is {:?}", self.name),
            );
            return None;
        };
        let item = self
            .item
            .parse()
            .inspect_err(|error| pass_over("tape_agenda", &row(), error));
        Some(Hint {
            queue,
            stream,
            item: item.ok()?,
            due: Timestamp::from_micros(self.due),
        })
    }
}
