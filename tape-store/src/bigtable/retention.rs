//! Drops the first entries of streams.
//!
//! 1. The stream's row moves its boundary, and drops its entries before it. From then on all readers begin after it.
//! 2. Segments lose the entries before the boundary; a segment without others is deleted.
//! 3. The run is removed from the lists, with a new generation, so that no pending commit relies on its places there.
//!
//! After a crash between any two steps the stream is still listed, and dropping again continues.

use super::append::{BATCHES, ENTRIES, ERASED, PAYLOADS, qualifier};
use super::end::{ABOUT, End, LISTED, SNAPSHOT};
use super::row_reservation::RESERVATIONS;
use super::table::{self, Change, Check, Mutation, Rows};
use super::{TableContext, hint, keys, read, segment};
use crate::error::StoreError;
use futures::StreamExt as _;
use tape_core::id::{Seq, StreamId};

const DOING: &str = "drops entries";
/// How often a step is tried while others change the same row.
const ATTEMPTS_MAX: u32 = 16;
/// Streams that are dropped at the same time.
const UNDER_WAY_MAX: usize = 8;
/// Segments that are looked at together.
const SEGMENTS_MAX: usize = 64;

/// Drops the entries of streams before a sequence number each.
pub(super) async fn drop_before(context: &TableContext, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
    let drops = drops.iter().cloned();
    let dropped = drops.map(|(stream, first)| drop_one(context, stream, first));
    let mut dropped = futures::stream::iter(dropped).buffer_unordered(UNDER_WAY_MAX);
    let mut outcome = Ok(());
    // A stream that fails does not block the others.
    while let Some(one) = dropped.next().await {
        outcome = outcome.and(one);
    }
    outcome
}

async fn drop_one(context: &TableContext, stream: StreamId, first: Seq) -> Result<(), StoreError> {
    let Some(dropped) = move_boundary(context, &stream, first).await? else {
        return Ok(());
    };
    empty_segments(context, &stream, dropped).await?;
    unlist(context, &stream).await
}

fn busy() -> StoreError {
    StoreError::unavailable(DOING, "others changed the stream's row again and again")
}

/// The last entry that is dropped; none where there is no stream.
async fn move_boundary(
    context: &TableContext,
    stream: &StreamId,
    first: Seq,
) -> Result<Option<Seq>, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let before = Seq(first.0.saturating_sub(1));
        let entries = read::cells_of_entries(Seq::ZERO, before)
            .into_iter()
            .chain([table::columns(BATCHES, qualifier(Seq::ZERO), qualifier(before))]);
        let cells = entries.chain([super::end::cells()]);
        let row = context.read_stream(DOING, stream, table::any_of(cells)).await?;
        let end = End::read(stream, &row)?;
        if !end.is_begun() {
            return Ok(None);
        }
        if end.open.sealing != Seq::ZERO {
            // A copy under way must not appear after its entries were dropped.
            segment::seal(context, stream).await?;
            continue;
        }
        let mut open = end.open;
        open.dropped = open.dropped.max(before.min(Seq(end.seq.0 - 1)));
        let gone = row.cells.iter().filter(|cell| {
            let of_entry = [ENTRIES, PAYLOADS, ERASED, BATCHES].contains(&cell.family.as_str());
            of_entry && cell.qualifier <= qualifier(open.dropped)
        });
        let gone = gone.map(|cell| table::unset(&cell.family, cell.qualifier.clone()));
        let mutations: Vec<Mutation> = gone.chain([table::unset(ABOUT, SNAPSHOT), open.cell()]).collect();
        let check = Check {
            key: keys::stream(stream),
            predicate: end.open.predicate(),
            then: mutations,
            otherwise: Vec::new(),
        };
        context.ends.forget(stream);
        let moved = context.table.check_and_mutate(check).await;
        if moved.map_err(|failure| failure.store_error(DOING))? {
            return Ok(Some(open.dropped));
        }
    }
    Err(busy())
}

/// Deletes the entries of segments up to the boundary.
async fn empty_segments(context: &TableContext, stream: &StreamId, dropped: Seq) -> Result<(), StoreError> {
    let (mut begin, end) = keys::segments(stream, Seq::ZERO);
    let kept = keys::segment(stream, dropped.next());
    let dropped = read::cells_of_entries(Seq::ZERO, dropped);
    let cells = dropped.into_iter().chain([table::family(RESERVATIONS)]);
    let cells = table::without_values(table::any_of(cells));
    loop {
        let range = Rows::Range(begin, end.clone());
        let rows = context.table.read(range, cells.clone(), SEGMENTS_MAX).await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        let changes = rows.iter().filter_map(|row| {
            let of_entries = row.cells.iter().filter(|cell| cell.family != RESERVATIONS);
            let mutations: Vec<Mutation> = if row.key < kept {
                vec![table::unset_row()]
            } else {
                of_entries
                    .map(|cell| table::unset(&cell.family, cell.qualifier.clone()))
                    .collect()
            };
            (!mutations.is_empty()).then(|| Change {
                key: row.key.clone(),
                mutations,
            })
        });
        context.change_all(DOING, changes.collect()).await?;
        match rows.last() {
            Some(last) if rows.len() == SEGMENTS_MAX => begin = keys::right_after(&last.key),
            _ => return Ok(()),
        }
    }
}

/// Removes a run from the lists.
async fn unlist(context: &TableContext, stream: &StreamId) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let ends = context.read_ends(DOING, std::slice::from_ref(stream)).await?;
        let [end] = ends.as_slice() else { return Ok(()) };
        let Some((run, listed)) = stream.as_run().zip(end.listed.as_deref()) else {
            return Ok(());
        };
        let raised = end.raised();
        let mutations = vec![raised.head_cell(), table::unset(ABOUT, LISTED)];
        let unlisted = end
            .check(keys::stream(stream), mutations)
            .make(context.table.as_ref());
        context.ends.forget(stream);
        if unlisted.await.map_err(|failure| failure.store_error(DOING))? {
            let places = keys::listings(context.shard_of(stream), run, listed);
            let places = places.into_iter().map(|key| hint::forget(key, raised.ordinal()));
            // Its row does not confirm the places that remain.
            context.deferred_deletes.add(places);
            return Ok(());
        }
    }
    Err(busy())
}
