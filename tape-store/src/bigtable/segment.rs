//! Segments: entries of a full stream row move to rows of their own, which change afterwards only where payloads are erased.
//!
//! 1. The stream's row records where the segment ends, so that all processes that make it make the same one.
//! 2. The segment's row is written if there is none, by a process that reserved it (`row_reservation.rs`) and then found the boundary
//!    unchanged. Otherwise a suspended process could write it again after it was dropped.
//! 3. Payloads that were erased in the stream's row are erased in the segment.
//! 4. The stream's row moves its boundary and drops its copies, if its boundary and its count of erased payloads are unchanged since the
//!    entries were read.
//!
//! After a crash between any two steps the next commit continues. All steps can be repeated, also late. Readers use the boundary.

use super::append::{BATCHES, ENTRIES, ERASED, PAYLOADS, erasure, qualifier};
use super::end::{self, End, Open};
use super::error::Failure;
use super::row_reservation::RowReservation;
use super::table::{self, Cell, Check, Mutation, Row, Rows};
use super::{TableContext, keys};
use crate::error::StoreError;
use tape_core::id::{Seq, StreamId};

/// Entries in a row after which they are moved.
const ENTRIES_MAX: u64 = 256;
/// Bytes of entries in a row after which they are moved.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Where entries could not be moved, a row takes further ones up to this many times the bounds above.
const OVERFULL: u64 = 8;
/// Most segments that are made before one commit.
const SEGMENTS_MAX: u64 = 2 * OVERFULL;

const DOING: &str = "moves entries to a segment";

/// Whether a row has enough entries for a segment.
pub(super) fn is_full(end: &End) -> bool {
    end.open_entries() >= ENTRIES_MAX || end.bytes >= BYTES_MAX
}

fn is_overfull(end: &End) -> bool {
    end.open_entries() >= ENTRIES_MAX * OVERFULL || end.bytes >= BYTES_MAX * OVERFULL
}

/// Moves entries of a full row to segments. Where that fails, the row may grow further, within bounds. Returns the end afterwards.
pub(super) async fn make_room(
    context: &TableContext,
    stream: &StreamId,
    end: End,
) -> Result<End, StoreError> {
    match seal(context, stream).await {
        Err(StoreError::Unavailable { source, .. }) if !is_overfull(&end) => {
            tracing::debug!(%stream, error = %source, "a full row was not emptied");
            Ok(end)
        }
        outcome => outcome,
    }
}

/// Makes segments until the row is not full and none is being made.
pub(super) async fn seal(context: &TableContext, stream: &StreamId) -> Result<End, StoreError> {
    for _ in 0..SEGMENTS_MAX {
        let (end, row) = read(context, stream).await?;
        if !is_full(&end) && end.open.sealing == Seq::ZERO {
            context.ends.note(stream, &end);
            return Ok(end);
        }
        step(context, stream, &end, &row)
            .await
            .map_err(|failure| failure.store_error(DOING))?;
    }
    Err(StoreError::unavailable(
        DOING,
        "others changed the stream's row again and again",
    ))
}

/// The row with all entries that are in no segment, and its end with the bytes of these entries.
async fn read(context: &TableContext, stream: &StreamId) -> Result<(End, Row), StoreError> {
    let families = [ENTRIES, PAYLOADS, ERASED, BATCHES].map(table::family);
    let cells = families.into_iter().chain([end::cells()]);
    let row = context.read_stream(DOING, stream, table::any_of(cells)).await?;
    let mut end = End::read(stream, &row)?;
    let of_entries = |cell: &&Cell| [ENTRIES, PAYLOADS].contains(&cell.family.as_str());
    end.bytes = row
        .cells
        .iter()
        .filter(of_entries)
        .map(|cell| cell.value.len() as u64)
        .sum();
    Ok((end, row))
}

/// Makes one segment from the row as it was read, or begins to.
async fn step(context: &TableContext, stream: &StreamId, end: &End, row: &Row) -> Result<(), Failure> {
    let mut open = end.open;
    if open.sealing == Seq::ZERO {
        open.sealing = boundary(end, row);
        if !change(context, stream, end.open, vec![open.cell()]).await? {
            return Ok(());
        }
    }
    let moved: Vec<&Cell> = row
        .cells
        .iter()
        .filter(|cell| is_of_entry(cell) && seq(cell) <= open.sealing)
        .collect();
    if !write(context, stream, open, &moved).await? {
        return Ok(());
    }
    let sealed = Open {
        sealed: open.sealing,
        sealing: Seq::ZERO,
        ..open
    };
    // Names of batches are for people who inspect a row; a segment has none.
    let names = row.family(BATCHES).filter(|cell| seq(cell) <= open.sealing);
    let dropped = moved.iter().copied().chain(names);
    let mut mutations: Vec<Mutation> = dropped
        .map(|cell| table::unset(&cell.family, cell.qualifier.clone()))
        .collect();
    mutations.push(sealed.cell());
    // Where this no longer holds, another process has made the segment, or a payload was erased meanwhile: the caller looks again.
    change(context, stream, open, mutations).await.map(drop)
}

/// The last entry of the next segment.
fn boundary(end: &End, row: &Row) -> Seq {
    let before = end.open.before();
    let (mut last, mut bytes) = (before, 0);
    let payload = |qualifier: &[u8]| row.cell(PAYLOADS, qualifier).map_or(0, |cell| cell.value.len());
    for cell in row.family(ENTRIES) {
        last = seq(cell);
        bytes += cell.value.len() + payload(&cell.qualifier);
        if last.0 - before.0 >= ENTRIES_MAX || bytes as u64 >= BYTES_MAX {
            break;
        }
    }
    last
}

/// Writes the segment's row, unless there is one, and makes sure that it has no payload that is marked as erased. Returns whether the
/// segment is still wanted.
async fn write(
    context: &TableContext,
    stream: &StreamId,
    open: Open,
    cells: &[&Cell],
) -> Result<bool, Failure> {
    let table = context.table.as_ref();
    let key = keys::segment(stream, open.sealing);
    let last = qualifier(open.sealing);
    let written = table::columns(ENTRIES, last.clone(), last);
    let name = context.environment.uuid();
    if let Some(reservation) = RowReservation::put(table, key.clone(), written.clone(), name).await? {
        if !has_boundary(context, stream, open).await? {
            reservation.withdraw(table).await;
            return Ok(false);
        }
        let copies = cells
            .iter()
            .map(|cell| table::set(&cell.family, cell.qualifier.clone(), cell.value.clone()));
        if reservation.write(table, copies.collect()).await? {
            return Ok(true);
        }
    }
    let erased = cells.iter().filter(|cell| cell.family == ERASED);
    let erase = erased.flat_map(|cell| erasure(seq(cell)));
    let erase: Vec<Mutation> = erase.collect();
    if erase.is_empty() {
        return Ok(true);
    }
    let check = Check {
        key,
        predicate: written,
        then: erase,
        otherwise: Vec::new(),
    };
    table.check_and_mutate(check).await
}

/// Whether the stream's row has this boundary.
async fn has_boundary(context: &TableContext, stream: &StreamId, open: Open) -> Result<bool, Failure> {
    let key = Rows::Keys(vec![keys::stream(stream)]);
    let found = context.table.read(key, open.predicate(), 1).await?;
    Ok(!found.is_empty())
}

/// Changes the stream's row if it has this boundary.
async fn change(
    context: &TableContext,
    stream: &StreamId,
    open: Open,
    mutations: Vec<Mutation>,
) -> Result<bool, Failure> {
    let check = Check {
        key: keys::stream(stream),
        predicate: open.predicate(),
        then: mutations,
        otherwise: Vec::new(),
    };
    context.ends.forget(stream);
    context.table.check_and_mutate(check).await
}

fn is_of_entry(cell: &Cell) -> bool {
    [ENTRIES, PAYLOADS, ERASED].contains(&cell.family.as_str())
}

fn seq(cell: &Cell) -> Seq {
    Seq(cell.qualifier.as_ref().try_into().map_or(0, u64::from_be_bytes))
}
