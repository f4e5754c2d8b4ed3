//! Shortens the log of the feed: rows that only name dropped entries are deleted.
//!
//! The last row of a log stays. So readers at its end find it, and a process that makes the next row knows its number. Other readers skip
//! deleted rows (`tail.rs`). A number is never used again: a process that makes a row reserves it first (`row_reservation.rs`).
//!
//! The entries of a row are looked up in the rows of their streams, so a piece of the work is bounded by the number of these streams. A
//! process remembers its position; a new process begins at the start. Any process may repeat the deletion of a row.

use super::end::{self, ABOUT, End};
use super::row_reservation::RESERVATIONS;
use super::table::{self, Change, Row, Rows};
use super::tail::{self, PARTS, Part};
use super::{TableContext, keys};
use crate::contract::Shard;
use crate::error::StoreError;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tape_core::id::{Seq, StreamId};

const DOING: &str = "shortens the log of the feed";
/// Most rows of the log that are read together.
const ROWS_MAX: usize = 256;
/// Most parts of streams in these rows.
const PARTS_MAX: usize = 1_024;

/// Where the work continues: in which shard, at which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    shard: u16,
    row: u64,
}

impl Place {
    const BEGINNING: Self = Self { shard: 0, row: 1 };
}

/// The position of this process.
pub(super) struct Swept(Mutex<Place>);

impl Default for Swept {
    fn default() -> Self {
        Self(Mutex::new(Place::BEGINNING))
    }
}

impl Swept {
    fn get(&self) -> Place {
        *self.0.lock().expect("no code panics while it holds the place")
    }

    fn set(&self, place: Place) {
        *self.0.lock().expect("no code panics while it holds the place") = place;
    }
}

/// Does a piece of the work. Returns whether there is more before the end of the last log.
pub(super) async fn reclaim(context: &TableContext) -> Result<bool, StoreError> {
    let mut place = context.swept.get();
    while place.shard < context.shards {
        let next = shorten(context, Shard(place.shard), place.row).await?;
        if let Some(row) = next {
            context.swept.set(Place { row, ..place });
            return Ok(true);
        }
        place = Place {
            shard: place.shard + 1,
            ..Place::BEGINNING
        };
    }
    context.swept.set(Place::BEGINNING);
    Ok(false)
}

/// Shortens the log at some rows from `from` on. Returns the row to continue with; none where these were the last.
async fn shorten(context: &TableContext, shard: Shard, from: u64) -> Result<Option<u64>, StoreError> {
    let (begin, end) = keys::log_from(shard, from);
    let cells = table::any_of([table::columns(ABOUT, PARTS, PARTS), table::family(RESERVATIONS)]);
    let read = context.table.read(Rows::Range(begin, end), cells, ROWS_MAX).await;
    let rows = read.map_err(|failure| failure.store_error(DOING))?;
    let Some(last) = rows.iter().rposition(is_made) else {
        return Ok(None);
    };
    let mut looked_at: Vec<(&Row, Vec<Part>)> = Vec::with_capacity(last);
    let mut parts = 0;
    for row in &rows[..last] {
        let named = if is_made(row) {
            tail::parse(shard, row)?.1
        } else {
            Vec::new()
        };
        parts += named.len();
        if parts > PARTS_MAX && !looked_at.is_empty() {
            break;
        }
        looked_at.push((row, named));
    }
    take_away(context, &looked_at).await?;
    let whole = looked_at.len() == last && (rows.len() < ROWS_MAX || last == 0);
    let next = &rows[looked_at.len()];
    Ok((!whole).then(|| keys::read_log(&next.key)).flatten())
}

fn is_made(row: &Row) -> bool {
    row.cell(ABOUT, PARTS).is_some()
}

/// Deletes rows that name no kept entry, and reservations where there is no row.
///
/// A scan is not atomic: a row that it saw as only reserved may have been made before it saw the later ones. Then the row has no
/// reservations any more, and loses nothing. A process that is about to make the row loses its reservation, and looks again.
async fn take_away(context: &TableContext, rows: &[(&Row, Vec<Part>)]) -> Result<(), StoreError> {
    let streams = rows.iter().flat_map(|(_, parts)| parts).map(|part| &part.stream);
    let cells = table::any_of([end::cells()]);
    let mut dropped: BTreeMap<StreamId, Seq> = BTreeMap::new();
    for (stream, row) in context.read_streams(DOING, streams, cells).await? {
        let end = End::read(&stream, &row)?;
        dropped.insert(stream, end.open.dropped);
    }
    let is_gone = |part: &Part| part.to <= dropped[&part.stream];
    let gone = rows.iter().filter(|(_, parts)| parts.iter().all(is_gone));
    let changes: Vec<Change> = gone
        .map(|(row, _)| Change {
            key: row.key.clone(),
            mutations: vec![if is_made(row) {
                table::unset_row()
            } else {
                table::unset_family(RESERVATIONS)
            }],
        })
        .collect();
    context.change_all(DOING, changes).await
}
