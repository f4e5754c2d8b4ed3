//! Due work.

use super::append::Stream;
use super::link::{Link, Question};
use super::read::get;
use crate::contract::{Hint, Shard};
use crate::error::StoreError;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;

/// Work of a queue that is due, in the order of the times: the first rows of one range of keys.
pub(super) async fn due(
    link: &Link,
    queue: Queue,
    shard: Shard,
    until: Timestamp,
    after: Option<(&Hint, Stream)>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let (number, shard) = (i64::from(queue.number()), i64::from(shard.0));
    let last = key![number, shard, until.as_micros()];
    let range = match after {
        None => KeyRange::closed_closed(key![number, shard], last),
        Some((after, _)) if after.due > until => return Ok(Vec::new()),
        Some((after, stream)) => {
            let passed = key![
                number,
                shard,
                after.due.as_micros(),
                stream.id,
                after.item.to_string()
            ];
            KeyRange::open_closed(passed, last)
        }
    };
    let request = ReadRequest::builder("tape_agenda", ["due", "item", "name"])
        .with_keys(KeySet::builder().add_range(range).build())
        .set_limit(limit.into());
    link.ask("looks for due work", Question::Keys(request.build()), |row| {
        hint(queue, row)
    })
    .await
}

fn hint(queue: Queue, row: &Row) -> Result<Hint, StoreError> {
    let (due, item, name): (i64, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let damaged = |error| StoreError::corrupt(format!("the agenda of {name}"), error);
    Ok(Hint {
        queue,
        stream: name.parse().map_err(damaged)?,
        item: item.parse().map_err(damaged)?,
        due: Timestamp::from_micros(due),
    })
}
