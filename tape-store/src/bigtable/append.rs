//! The writes of a batch: first its hints, then the one change of its stream's row that commits it.

use super::end::{ABOUT, End, Listed, SNAPSHOT};
use super::table::{self, Change, Mutation, RowFilter};
use super::{TableContext, hint, keys, named};
use crate::contract::{Batch, Shard, SnapshotChange};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::sync::Arc;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_core::time::Timestamp;

/// The family of envelopes with their digests, by sequence number.
pub(super) const ENTRIES: &str = "e";
/// The family of payloads.
pub(super) const PAYLOADS: &str = "p";
/// The family of marks of erased payloads.
pub(super) const ERASED: &str = "x";
/// The family of the names of batches, by the sequence numbers of their last entries.
pub(super) const BATCHES: &str = "b";
/// The family of due work: each item and when it is due.
pub(super) const AGENDA: &str = "a";

/// The largest snapshot that is kept: a row should stay far below the service's limit. For a larger one the previous one is only deleted,
/// and the stream is folded from its entries.
const SNAPSHOT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A batch on its way, with the end that it is to be appended to.
pub(super) struct Candidate {
    /// Its place in the call.
    pub(super) place: usize,
    pub(super) batch: Batch,
    pub(super) end: Option<End>,
}

/// A batch that fits the end that its row was last seen with.
pub(super) struct Fitting {
    pub(super) place: usize,
    pub(super) batch: Batch,
    pub(super) end: End,
    shard: Shard,
    listed: Option<Arc<Listed>>,
}

impl Fitting {
    pub(super) fn new(context: &TableContext, place: usize, batch: Batch, end: End) -> Self {
        let listed = batch.summary.clone().filter(|_| batch.stream.as_run().is_some());
        let listed = listed.map(|summary| {
            let stored_at = end.listed.as_ref().map(|listed| listed.stored_at);
            let stored_at = stored_at.unwrap_or_else(|| context.next_moment());
            Arc::new(Listed { stored_at, summary })
        });
        Self {
            place,
            shard: context.shard_of(&batch.stream),
            batch,
            end,
            listed,
        }
    }

    /// The end once the batch is committed.
    pub(super) fn end_after(&self) -> End {
        self.end.after(&self.batch, self.listed.as_ref())
    }

    /// The hints that have to be there before the batch is committed, written `now` by this server's clock.
    pub(super) fn hints(&self, now: Timestamp) -> Vec<Change> {
        let due = self
            .batch
            .agenda
            .iter()
            .filter_map(|change| Some((change, change.due?)));
        let due = due.map(|(change, due)| self.due_key(change.queue, due, &change.item));
        let old = self.listings(self.end.listed.as_deref());
        let new = self.listings(self.listed.as_deref());
        let new = new.into_iter().filter(|key| !old.contains(key));
        let pending = keys::pending_stream(self.shard, &self.batch.stream);
        let named = named::hint_of(self.shard, &self.batch.stream).filter(|_| !self.end.is_begun());
        let keys = due.chain(new).chain([pending]).chain(named);
        keys.map(|key| hint::write(key, &self.end, now)).collect()
    }

    /// The changes that delete hints which the batch made obsolete.
    pub(super) fn obsolete(&self) -> Vec<Change> {
        let ordinal = self.end_after().ordinal();
        let moved = self.batch.agenda.iter().filter_map(|change| {
            let was = change.was.filter(|was| Some(*was) != change.due)?;
            Some(self.due_key(change.queue, was, &change.item))
        });
        let new = self.listings(self.listed.as_deref());
        let mut old = Vec::new();
        if self.listed.is_some() {
            old = self.listings(self.end.listed.as_deref());
            old.retain(|key| !new.contains(key));
        }
        moved.chain(old).map(|key| hint::forget(key, ordinal)).collect()
    }

    fn due_key(&self, queue: Queue, due: Timestamp, item: &Item) -> Bytes {
        keys::due(self.shard, queue, due, &self.batch.stream, item)
    }

    fn listings(&self, listed: Option<&Listed>) -> Vec<Bytes> {
        let run = self.batch.stream.as_run().zip(listed);
        run.map_or_else(Vec::new, |(run, listed)| keys::listings(self.shard, run, listed))
    }

    /// The changes of the commit in the stream's row.
    pub(super) fn mutations(&self) -> Vec<Mutation> {
        let batch = &self.batch;
        let mut mutations = self.end_after().cells();
        if self.end.is_absent() {
            // From then on only making segments and erasing change it.
            mutations.push(self.end.open.cell());
        }
        batch
            .entries
            .iter()
            .for_each(|entry| mutations.extend(entry_cells(entry)));
        let name = Bytes::copy_from_slice(batch.id.0.as_bytes());
        mutations.push(table::set(BATCHES, qualifier(batch.last()), name));
        mutations.extend(batch.agenda.iter().map(agenda_cell));
        mutations.extend(self.listed.as_ref().map(|listed| listed.cell()));
        match batch.snapshot.within(SNAPSHOT_BYTES_MAX) {
            SnapshotChange::Keep => {}
            SnapshotChange::Replace(bytes) => {
                let mut snapshot = BytesMut::with_capacity(8 + bytes.len());
                snapshot.put_u64(batch.last().0);
                snapshot.put_slice(bytes);
                mutations.push(table::set(ABOUT, SNAPSHOT, snapshot));
            }
            SnapshotChange::Delete => mutations.push(table::unset(ABOUT, SNAPSHOT)),
        }
        mutations
    }
}

/// The column of an entry in its families.
pub(super) fn qualifier(seq: Seq) -> Bytes {
    Bytes::copy_from_slice(&seq.0.to_be_bytes())
}

/// The cells of an entry: the digest before the envelope in one, the payload in another, so that it can be erased.
pub(super) fn entry_cells(entry: &StoredEntry) -> [Mutation; 2] {
    let mut envelope = BytesMut::with_capacity(32 + entry.envelope.len());
    envelope.put_slice(&entry.digest.0);
    envelope.put_slice(&entry.envelope);
    let payload = match &entry.payload {
        Some(payload) => table::set(PAYLOADS, qualifier(entry.seq), payload.clone()),
        None => erased_cell(entry.seq),
    };
    [table::set(ENTRIES, qualifier(entry.seq), envelope), payload]
}

/// The mark that a payload was erased.
fn erased_cell(seq: Seq) -> Mutation {
    table::set(ERASED, qualifier(seq), Bytes::from_static(b"1"))
}

/// The changes that erase the payload of an entry, in whatever row it is.
pub(super) fn erasure(seq: Seq) -> [Mutation; 2] {
    [erased_cell(seq), table::unset(PAYLOADS, qualifier(seq))]
}

/// The effect of a change of the agenda on the stream's row.
pub(super) fn agenda_cell(change: &AgendaChange) -> Mutation {
    let column = agenda_column(change.queue, &change.item);
    match change.due {
        Some(due) => table::set(AGENDA, column, due.as_micros().to_be_bytes().to_vec()),
        None => table::unset(AGENDA, column),
    }
}

/// The column of a piece of due work.
fn agenda_column(queue: Queue, item: &Item) -> Bytes {
    let mut column = vec![queue.number()];
    column.extend_from_slice(item.to_string().as_bytes());
    Bytes::from(column)
}

/// The due work of a queue.
pub(super) fn agenda_of(queue: Queue) -> RowFilter {
    let (from, to) = (queue.number(), queue.number() + 1);
    table::columns(AGENDA, vec![from], vec![to])
}

/// When an item is due by the stream's row.
pub(super) fn due_in(row: &table::Row, queue: Queue, item: &Item) -> Option<Timestamp> {
    let cell = row.cell(AGENDA, &agenda_column(queue, item))?;
    let micros = cell.value.as_ref().try_into().ok()?;
    Some(Timestamp::from_micros(i64::from_be_bytes(micros)))
}

impl Candidate {
    pub(super) fn stream(&self) -> &StreamId {
        &self.batch.stream
    }
}
