//! Reading streams, and erasing payloads.

use super::append::{ENTRIES, ERASED, PAYLOADS, erasure, qualifier};
use super::end::{self, ABOUT, End, SNAPSHOT};
use super::error::corrupt;
use super::table::{self, Check, Row, RowFilter, Rows};
use super::{TableContext, keys};
use crate::contract::{Head, Snapshot};
use crate::error::StoreError;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_core::payload::Digest;

const DOING: &str = "reads";
/// Bytes of entries after which a page takes no further one.
pub(super) const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most segments that are read at once: each may have some megabytes.
const SEGMENTS_MAX: usize = 4;
/// How often erasing is tried while others change the same row.
const ERASE_ATTEMPTS_MAX: u32 = 16;

/// Where a stream ends.
pub(super) async fn head(context: &TableContext, stream: &StreamId) -> Result<Option<Head>, StoreError> {
    let cells = table::any_of([end::cells_and_snapshot()]);
    let row = context.read_stream(DOING, stream, cells).await?;
    let end = End::read(stream, &row)?;
    context.ends.note(stream, &end);
    if !end.is_begun() {
        return Ok(None);
    }
    let snapshot = row
        .cell(ABOUT, SNAPSHOT)
        .map(|cell| snapshot(stream, &cell.value));
    Ok(Some(Head {
        seq: end.seq,
        epoch: end.epoch,
        digest: end.digest,
        snapshot: snapshot.transpose()?,
    }))
}

fn snapshot(stream: &StreamId, value: &Bytes) -> Result<Snapshot, StoreError> {
    let seq = value.first_chunk::<8>().map(|seq| u64::from_be_bytes(*seq));
    let damaged = || corrupt(stream, "its snapshot does not say of which entry it is");
    Ok(Snapshot {
        seq: Seq(seq.ok_or_else(damaged)?),
        bytes: value.slice(8..),
    })
}

/// The cells of entries `from` to `to`.
pub(super) fn cells_of_entries(from: Seq, to: Seq) -> [RowFilter; 3] {
    [ENTRIES, PAYLOADS, ERASED].map(|family| table::columns(family, qualifier(from), qualifier(to)))
}

/// Entries of a stream.
pub(super) async fn entries(
    context: &TableContext,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    if after.0 == u64::MAX {
        return Ok(Vec::new());
    }
    loop {
        let mut after = after;
        let (row, end) = loop {
            let (row, end) = read_open(context, stream, after, limit).await?;
            if end.open.dropped <= after {
                break (row, end);
            }
            // The stream begins later than the caller thought.
            after = end.open.dropped;
        };
        match page_of(context, stream, (&row, &end), after, limit).await {
            // A missing entry was dropped during the read, or is lost.
            Err(StoreError::Corrupt { .. }) if dropped(context, stream).await? > end.open.dropped => {}
            outcome => return outcome,
        }
    }
}

/// The last entry of a stream that was dropped.
async fn dropped(context: &TableContext, stream: &StreamId) -> Result<Seq, StoreError> {
    let ends = context.read_ends(DOING, std::slice::from_ref(stream)).await?;
    Ok(ends.first().map_or(Seq::ZERO, |end| end.open.dropped))
}

/// Entries after `after`, from segments and the stream's row as it was read.
async fn page_of(
    context: &TableContext,
    stream: &StreamId,
    (row, end): (&Row, &End),
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let mut page = Page::default();
    let last = Seq(after.0.saturating_add(u64::from(limit)));
    let (last, sealed) = (last.min(end.seq), last.min(end.open.sealed));
    let mut next = after.next();
    while next <= sealed && !page.is_full() {
        next = read_segments(context, stream, next, sealed, &mut page).await?;
    }
    if next > sealed {
        page.take(stream, row, next, last)?;
    }
    Ok(page.entries)
}

/// The stream's row with the entries after `after` that it has, and its end.
async fn read_open(
    context: &TableContext,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<(Row, End), StoreError> {
    let last = Seq(after.0.saturating_add(u64::from(limit)));
    let cells = cells_of_entries(after.next(), last)
        .into_iter()
        .chain([end::cells()]);
    let row = context.read_stream(DOING, stream, table::any_of(cells)).await?;
    let end = End::read(stream, &row)?;
    context.ends.note(stream, &end);
    Ok((row, end))
}

/// Reads entries `from` to `to`, or the first of them, from segments. Returns the entry to continue from.
async fn read_segments(
    context: &TableContext,
    stream: &StreamId,
    from: Seq,
    to: Seq,
    page: &mut Page,
) -> Result<Seq, StoreError> {
    let (begin, end) = keys::segments(stream, from);
    let cells = table::any_of(cells_of_entries(from, to));
    let read = context
        .table
        .read(Rows::Range(begin, end), cells, SEGMENTS_MAX)
        .await;
    let mut next = from;
    for row in read.map_err(|failure| failure.store_error(DOING))? {
        if page.is_full() || next > to {
            break;
        }
        let in_row = row.family(ENTRIES).last().and_then(seq_of).unwrap_or(Seq::ZERO);
        page.take(stream, &row, next, in_row.min(to))?;
        next = page.entries.last().map_or(next, |entry| entry.seq.next());
    }
    if next == from {
        let problem = format!("entry {from} is in no segment, and later ones are there");
        return Err(corrupt(stream, problem));
    }
    Ok(next)
}

fn seq_of(cell: &table::Cell) -> Option<Seq> {
    let seq = cell.qualifier.as_ref().try_into().ok()?;
    Some(Seq(u64::from_be_bytes(seq)))
}

/// Entries up to a number of bytes, and the one that goes over.
#[derive(Default)]
struct Page {
    entries: Vec<StoredEntry>,
    bytes: usize,
}

impl Page {
    const fn is_full(&self) -> bool {
        self.bytes >= PAGE_BYTES_MAX
    }

    /// Takes entries `from` to `to` from a row that has them.
    fn take(&mut self, stream: &StreamId, row: &Row, from: Seq, to: Seq) -> Result<(), StoreError> {
        let payloads: HashMap<Seq, &Bytes> = row
            .family(PAYLOADS)
            .filter_map(|cell| Some((seq_of(cell)?, &cell.value)))
            .collect();
        let erased: HashSet<Seq> = row.family(ERASED).filter_map(seq_of).collect();
        let mut envelopes = row
            .family(ENTRIES)
            .filter_map(|cell| Some((seq_of(cell)?, &cell.value)))
            .skip_while(|(seq, _)| *seq < from);
        let mut next = from;
        while next <= to && !self.is_full() {
            let envelope = envelopes.next().filter(|(seq, _)| *seq == next);
            let (_, envelope) =
                envelope.ok_or_else(|| corrupt(stream, format!("entry {next} is not there")))?;
            let payload = payloads.get(&next).map(|payload| (*payload).clone());
            if payload.is_none() && !erased.contains(&next) {
                let problem = format!("the payload of entry {next} is gone, and it was not erased");
                return Err(corrupt(stream, problem));
            }
            let damaged = || corrupt(stream, format!("entry {next} has no digest"));
            let digest = envelope.first_chunk::<32>().ok_or_else(damaged)?;
            let entry = StoredEntry {
                seq: next,
                digest: Digest(*digest),
                envelope: envelope.slice(32..),
                payload: payload.filter(|_| !erased.contains(&next)),
            };
            self.bytes += entry.size();
            self.entries.push(entry);
            next = next.next();
        }
        Ok(())
    }
}

/// Erases the payload of one entry, if there is such an entry.
pub(super) async fn erase(context: &TableContext, stream: &StreamId, seq: Seq) -> Result<(), StoreError> {
    const DOING: &str = "erases a payload";
    for _ in 0..ERASE_ATTEMPTS_MAX {
        let row = context
            .read_stream(DOING, stream, table::any_of([end::cells()]))
            .await?;
        let end = End::read(stream, &row)?;
        if seq <= end.open.dropped || seq > end.seq {
            return Ok(());
        }
        if seq <= end.open.sealed {
            match erase_in_segment(context, stream, seq).await {
                Err(StoreError::Corrupt { .. }) if dropped(context, stream).await? >= seq => return Ok(()),
                outcome => return outcome,
            }
        }
        // The count prevents the completion of a segment that was copied before.
        let mut counted = end.open;
        counted.erasures += 1;
        let mutations = erasure(seq).into_iter().chain([counted.cell()]);
        let check = Check {
            key: keys::stream(stream),
            predicate: end.open.predicate(),
            then: mutations.collect(),
            otherwise: Vec::new(),
        };
        let erased = context.table.check_and_mutate(check).await;
        context.ends.forget(stream);
        if erased.map_err(|failure| failure.store_error(DOING))? {
            return Ok(());
        }
    }
    Err(StoreError::unavailable(
        DOING,
        "others changed the stream's row again and again",
    ))
}

/// Only this changes a segment that the stream's row counts as finished.
async fn erase_in_segment(context: &TableContext, stream: &StreamId, seq: Seq) -> Result<(), StoreError> {
    const DOING: &str = "erases a payload";
    let (begin, end) = keys::segments(stream, seq);
    let entry = table::columns(ENTRIES, qualifier(seq), qualifier(seq));
    let cells = table::any_of([entry.clone()]);
    let found = context.table.read(Rows::Range(begin, end), cells, 1).await;
    let found = found.map_err(|failure| failure.store_error(DOING))?;
    let row = found
        .first()
        .ok_or_else(|| corrupt(stream, format!("entry {seq} is in no segment")))?;
    // Where the segment is dropped meanwhile, this must not bring anything of it back.
    let check = Check {
        key: row.key.clone(),
        predicate: entry,
        then: erasure(seq).to_vec(),
        otherwise: Vec::new(),
    };
    let erased = context.table.check_and_mutate(check).await;
    erased.map(drop).map_err(|failure| failure.store_error(DOING))
}
