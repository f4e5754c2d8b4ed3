//! Due work.

use super::append::StreamKey;
use super::link::{Link, Question};
use super::read::get;
use crate::contract::{Hint, Shard};
use crate::error::StoreError;
use crate::unreadable::pass_over;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// The row of a hint, whether it can be read or not.
struct Found {
    due: i64,
    id: Vec<u8>,
    item: String,
    name: String,
}

/// Due work of a queue, in the order of the due times: the first rows of one range of keys. Unreadable rows do not count, so rows are read
/// until there are enough.
pub(super) async fn due(
    link: &Link,
    queue: Queue,
    shard: Shard,
    until: Timestamp,
    after: Option<(&Hint, StreamKey)>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let limit = limit as usize;
    if after.as_ref().is_some_and(|(after, _)| after.due > until) {
        return Ok(Vec::new());
    }
    let mut last = after.map(|(after, stream)| Found {
        due: after.due.as_micros(),
        id: stream.id,
        item: after.item.to_string(),
        name: stream.name,
    });
    let mut hints: Vec<Hint> = Vec::new();
    loop {
        let wanted = limit - hints.len();
        let rows = page(link, queue, shard, until, last.as_ref(), wanted).await?;
        let is_end = rows.len() < wanted;
        hints.extend(rows.iter().filter_map(|row| row.hint(queue)));
        last = rows.into_iter().next_back().or(last);
        if is_end || hints.len() == limit {
            return Ok(hints);
        }
    }
}

async fn page(
    link: &Link,
    queue: Queue,
    shard: Shard,
    until: Timestamp,
    last: Option<&Found>,
    limit: usize,
) -> Result<Vec<Found>, StoreError> {
    let (number, shard) = (i64::from(queue.number()), i64::from(shard.0));
    let end = key![number, shard, until.as_micros()];
    let range = match last {
        None => KeyRange::closed_closed(key![number, shard], end),
        Some(last) => KeyRange::open_closed(key![number, shard, last.due, last.id, last.item], end),
    };
    let request = ReadRequest::builder("tape_agenda", ["due", "id", "item", "name"])
        .with_keys(KeySet::builder().add_range(range).build())
        .set_limit(i64::try_from(limit).unwrap_or(i64::MAX));
    let question = Question::Keys(request.build());
    link.ask("looks for due work", question, Found::read).await
}

impl Found {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            due: get(row, 0)?,
            id: get(row, 1)?,
            item: get(row, 2)?,
            name: get(row, 3)?,
        })
    }

    fn hint(&self, queue: Queue) -> Option<Hint> {
        let row = || format!("({queue}, {}, {}, {})", self.due, self.name, self.item);
        let told = |error: &_| pass_over("tape_agenda", &row(), error);
        let stream = self.name.parse().inspect_err(told).ok()?;
        let item = self.item.parse().inspect_err(told).ok()?;
        Some(Hint {
            queue,
            stream,
            item,
            due: Timestamp::from_micros(self.due),
        })
    }
}
