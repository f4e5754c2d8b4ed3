//! Due work.

use super::append::{agenda_of, due_in};
use super::end::{self, End};
use super::hint::{self, Seen};
use super::table::{self, Row, Rows};
use super::{TableContext, keys};
use crate::contract::{Hint, Shard};
use crate::error::StoreError;
use crate::unreadable::pass_over;
use std::collections::BTreeMap;
use tape_core::agenda::Queue;
use tape_core::id::StreamId;
use tape_core::time::Timestamp;

const DOING: &str = "looks for due work";
/// Hints that are read at once, at least.
const PAGE_MIN: usize = 64;
/// The same, at most.
const PAGE_MAX: usize = 512;

/// The hints that the rows of their streams confirm, in the order of their times.
pub(super) async fn due(
    context: &TableContext,
    queue: Queue,
    shard: Shard,
    until: Timestamp,
    after: Option<&Hint>,
    limit: u32,
) -> Result<Vec<Hint>, StoreError> {
    let limit = limit as usize;
    let (mut from, before) = keys::due_until(shard, queue, until);
    if let Some(Hint {
        stream, item, due, ..
    }) = after
    {
        from = keys::right_after(&keys::due(shard, queue, *due, stream, item));
        if from >= before {
            return Ok(Vec::new());
        }
    }
    let mut due: Vec<Hint> = Vec::new();
    loop {
        let page = limit.saturating_sub(due.len()).clamp(PAGE_MIN, PAGE_MAX);
        let range = Rows::Range(from, before.clone());
        let rows = context
            .table
            .read(range, table::any_of([hint::cells()]), page)
            .await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        let hints: Vec<(Seen, Hint)> = rows.iter().filter_map(|row| read(queue, row)).collect();
        let (held, stale) = verify(context, queue, hints).await?;
        due.extend(held);
        hint::clean(context, stale).await;
        match rows.last() {
            Some(last) if rows.len() == page && due.len() < limit => from = keys::right_after(&last.key),
            _ => break,
        }
    }
    due.truncate(limit);
    Ok(due)
}

fn read(queue: Queue, row: &Row) -> Option<(Seen, Hint)> {
    let seen = Seen::read(row)?;
    let Some((due, stream, item)) = keys::read_due(&row.key) else {
        // Only a newer build writes items that this one does not know.
        pass_over("agenda", &row.key.escape_ascii().to_string(), "it is no hint");
        return None;
    };
    let hint = Hint {
        queue,
        stream,
        item,
        due,
    };
    Some((seen, hint))
}

type Stale = Vec<(Seen, StreamId, End)>;

/// Which hints the rows of their streams confirm, and which they do not.
async fn verify(
    context: &TableContext,
    queue: Queue,
    hints: Vec<(Seen, Hint)>,
) -> Result<(Vec<Hint>, Stale), StoreError> {
    let cells = table::any_of([end::cells(), agenda_of(queue)]);
    let streams = hints.iter().map(|(_, hint)| &hint.stream);
    let rows: BTreeMap<StreamId, Row> = context.read_streams(DOING, streams, cells).await?;
    let (mut held, mut stale) = (Vec::with_capacity(hints.len()), Vec::new());
    for (seen, hint) in hints {
        let row = &rows[&hint.stream];
        if due_in(row, queue, &hint.item) == Some(hint.due) {
            held.push(hint);
        } else {
            let end = End::read(&hint.stream, row)?;
            stale.push((seen, hint.stream, end));
        }
    }
    Ok((held, stale))
}
