//! The state of a stream's row beside its entries, and the cache of it in a server.
//!
//! The head cell has the sequence number, the epoch, the generation and the chain digest of the last entry: a commit's predicate tests
//! them. They are in one cell, since a filter cannot test two cells together. Sequence number plus generation is the row's *ordinal*: every
//! change of the head raises it, so it numbers the states of the row.
//!
//! Builds of the first version of the table kept the digest in another cell, which no predicate tested. Such a row is read and tested as it
//! is. Each change of its head gives it the present form.

use super::error::corrupt;
use super::table::{self, Check, Mutation, Row, RowFilter, Table};
use super::{TableContext, keys};
use crate::contract::Batch;
use crate::error::StoreError;
use bytes::{BufMut as _, Bytes, BytesMut};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::status::Summary;
use tape_core::time::Timestamp;

/// The family of what a row says about itself.
pub(super) const ABOUT: &str = "h";
/// The last entry of the stream in the log. Its cells carry the sequence number as ordinal, so that it never goes back.
pub(super) const LOGGED: &str = "f";
/// A column of [`ABOUT`]: the cell that commits are conditional on.
pub(super) const HEAD: &[u8] = b"e";
/// Bytes of the numbers in it; the digest follows them.
const HEAD_NUMBERS: usize = 24;
/// How many bytes the entries in no segment have, after the digest where the head cell lacks it.
pub(super) const LAST: &[u8] = b"l";
const OPEN: &[u8] = b"o";
pub(super) const LISTED: &[u8] = b"r";
pub(super) const SNAPSHOT: &[u8] = b"s";

/// How many streams a server remembers the ends of.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// The state of a stream's row beside its entries; all zero where there is no row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) generation: u64,
    pub(super) digest: Digest,
    /// Whether the head cell has the form of the first version of the table: without the digest.
    pub(super) undigested: bool,
    /// Bytes of the entries that are in no segment; an upper bound.
    pub(super) bytes: u64,
    pub(super) open: Open,
    pub(super) listed: Option<Arc<Listed>>,
}

/// Where the entries that are in no segment begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// The last entry in a segment.
    pub(super) sealed: Seq,
    /// How many payloads were erased in this row; a segment under way must not miss one.
    pub(super) erasures: u64,
    /// The last entry of the segment under way; zero where there is none.
    pub(super) sealing: Seq,
    /// The last entry that was dropped.
    pub(super) dropped: Seq,
}

/// The row of a run in lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// When it was first listed, by the clock of the server that listed it. It orders runs that began at the same time.
    pub(super) stored_at: Timestamp,
    pub(super) summary: Summary,
}

impl Open {
    pub(super) fn cell(self) -> Mutation {
        table::set(ABOUT, OPEN, self.bytes())
    }

    /// The predicate that the row still has this value. The first commit sets it in a new row.
    pub(super) fn predicate(self) -> RowFilter {
        table::exactly(ABOUT, OPEN, self.bytes())
    }

    fn bytes(self) -> Bytes {
        numbers([self.sealed.0, self.erasures, self.sealing.0, self.dropped.0])
    }

    /// The last entry that the stream's row does not have.
    pub(super) fn before(self) -> Seq {
        self.sealed.max(self.dropped)
    }
}

impl End {
    /// Reads the cells of the filter [`cells`].
    pub(super) fn read(stream: &StreamId, row: &Row) -> Result<Self, StoreError> {
        let cell = |qualifier: &[u8]| row.cell(ABOUT, qualifier).map(|cell| &cell.value);
        let Some(head) = cell(HEAD) else {
            return Ok(Self::default());
        };
        let damaged = |what: &str| corrupt(stream, format!("{what} has an unknown form"));
        let (numbers, digest) = head
            .split_at_checked(HEAD_NUMBERS)
            .ok_or_else(|| damaged("its head"))?;
        let [seq, epoch, generation] = read_numbers(numbers).ok_or_else(|| damaged("its head"))?;
        let mut end = Self {
            seq: Seq(seq),
            epoch: Epoch(epoch),
            generation,
            undigested: digest.is_empty(),
            ..Self::default()
        };
        if let Some(open) = cell(OPEN) {
            let [sealed, erasures, sealing, dropped] =
                read_numbers(open).ok_or_else(|| damaged("its boundary of segments"))?;
            end.open = Open {
                sealed: Seq(sealed),
                erasures,
                sealing: Seq(sealing),
                dropped: Seq(dropped),
            };
        }
        if end.is_begun() {
            let last = cell(LAST).and_then(|last| last.split_last_chunk::<8>());
            let (undigested, bytes) = last.ok_or_else(|| damaged("its count of bytes"))?;
            let digest = if end.undigested { undigested } else { digest };
            end.digest = Digest(digest.try_into().map_err(|_| damaged("its last digest"))?);
            end.bytes = u64::from_be_bytes(*bytes);
        }
        if let Some(listed) = cell(LISTED) {
            end.listed = Some(Arc::new(
                Listed::read(listed).ok_or_else(|| damaged("its summary"))?,
            ));
        }
        Ok(end)
    }

    /// Whether the stream exists. The row of a stream that never began has at most a generation.
    pub(super) const fn is_begun(&self) -> bool {
        self.seq.0 > 0
    }

    pub(super) const fn ordinal(&self) -> u64 {
        self.seq.0.saturating_add(self.generation)
    }

    /// How many entries are in no segment.
    pub(super) fn open_entries(&self) -> u64 {
        self.seq.0.saturating_sub(self.open.before().0)
    }

    /// The end after a batch that is committed on this one.
    pub(super) fn after(&self, batch: &Batch, listed: Option<&Arc<Listed>>) -> Self {
        let bytes: usize = batch.entries.iter().map(|entry| entry.size()).sum();
        Self {
            seq: batch.last(),
            epoch: batch.next_epoch,
            digest: batch.entries.last().map_or(self.digest, |entry| entry.digest),
            undigested: false,
            bytes: self.bytes.saturating_add(bytes as u64),
            listed: listed.cloned().or_else(|| self.listed.clone()),
            ..*self
        }
    }

    /// The cells that a commit with this end sets.
    pub(super) fn cells(&self) -> Vec<Mutation> {
        vec![self.head_cell(), table::set(ABOUT, LAST, numbers([self.bytes]))]
    }

    pub(super) fn head_cell(&self) -> Mutation {
        table::set(ABOUT, HEAD, self.head())
    }

    fn head(&self) -> Bytes {
        let mut head = BytesMut::from(&numbers([self.seq.0, self.epoch.0, self.generation])[..]);
        if !self.undigested {
            head.put_slice(&self.digest.0);
        }
        head.freeze()
    }

    /// The end in the form of batches and corrections.
    pub(super) const fn stated(&self) -> crate::upkeep::End {
        crate::upkeep::End {
            seq: self.seq,
            epoch: self.epoch,
            digest: self.digest,
        }
    }

    /// Whether there is no row.
    pub(super) fn is_absent(&self) -> bool {
        !self.is_begun() && self.generation == 0
    }

    /// A change that is made only if the row still ends here.
    pub(super) fn check(&self, key: Bytes, mutations: Vec<Mutation>) -> Condition {
        let absent = self.is_absent();
        let (predicate, then, otherwise) = if absent {
            (table::columns(ABOUT, HEAD, HEAD), Vec::new(), mutations)
        } else {
            (table::exactly(ABOUT, HEAD, self.head()), mutations, Vec::new())
        };
        let check = Check {
            key,
            predicate,
            then,
            otherwise,
        };
        Condition {
            check,
            holds_if: !absent,
        }
    }

    /// The same end one generation later.
    pub(super) fn raised(&self) -> Self {
        Self {
            generation: self.generation + 1,
            undigested: false,
            ..self.clone()
        }
    }
}

/// A change that depends on where the row ends.
pub(super) struct Condition {
    check: Check,
    holds_if: bool,
}

impl Condition {
    /// Whether the row ended there, and so was changed.
    pub(super) async fn make(self, table: &dyn Table) -> Result<bool, super::error::Failure> {
        Ok(table.check_and_mutate(self.check).await? == self.holds_if)
    }
}

impl Listed {
    pub(super) fn cell(&self) -> Mutation {
        let mut value = BytesMut::from(&self.stored_at.as_micros().to_be_bytes()[..]);
        let summary = serde_json::to_vec(&self.summary).expect("every summary has a JSON form");
        value.put_slice(&summary);
        table::set(ABOUT, LISTED, value)
    }

    fn read(value: &[u8]) -> Option<Self> {
        let (stored_at, summary) = value.split_first_chunk::<8>()?;
        Some(Self {
            stored_at: Timestamp::from_micros(i64::from_be_bytes(*stored_at)),
            summary: serde_json::from_slice(summary).ok()?,
        })
    }
}

/// The cells that an [`End`] is read from.
pub(super) fn cells() -> RowFilter {
    table::columns(ABOUT, HEAD, LISTED)
}

/// The cell that every stream has.
pub(super) fn head_cells() -> RowFilter {
    table::columns(ABOUT, HEAD, HEAD)
}

/// The same and the snapshot.
pub(super) fn cells_and_snapshot() -> RowFilter {
    table::columns(ABOUT, HEAD, SNAPSHOT)
}

fn numbers<const N: usize>(numbers: [u64; N]) -> Bytes {
    Bytes::from(numbers.map(u64::to_be_bytes).concat())
}

fn read_numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (numbers, []) = bytes.as_chunks::<8>() else {
        return None;
    };
    let numbers: Vec<u64> = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
    numbers.try_into().ok()
}

/// The ends of streams as they were last seen here. A wrong end costs a commit more calls, and nothing else.
pub(super) struct Ends(Mutex<LruCache<StreamId, End>>);

impl Default for Ends {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }
}

impl Ends {
    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<StreamId, End>> {
        self.0.lock().expect("no code panics while it holds the ends")
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<End> {
        self.lock().get(stream).cloned()
    }

    /// Caches an end, unless a later one is known.
    pub(super) fn note(&self, stream: &StreamId, end: &End) {
        let mut ends = self.lock();
        if ends
            .peek(stream)
            .is_none_or(|known| known.ordinal() <= end.ordinal())
        {
            ends.put(stream.clone(), end.clone());
        }
    }

    pub(super) fn forget(&self, stream: &StreamId) {
        self.lock().pop(stream);
    }
}

/// Whether a change of a row moves its head: only rows of streams have one.
pub(super) fn moves_head(mutation: &Mutation) -> bool {
    table::sets(mutation, ABOUT, HEAD)
}

/// Raises the generation, which makes every pending commit on this end fail: its predicate no longer holds. Returns whether the row still
/// ended here.
pub(super) async fn raise_generation(
    context: &TableContext,
    stream: &StreamId,
    end: &End,
) -> Result<bool, StoreError> {
    let raised = end.raised();
    let mut cells = vec![raised.head_cell()];
    if end.is_absent() {
        cells.push(raised.open.cell());
    }
    let condition = end.check(keys::stream(stream), cells);
    let held = condition.make(context.table.as_ref()).await;
    let held = held.map_err(|failure| failure.store_error("fences a stream"))?;
    if held {
        context.ends.note(stream, &raised);
    } else {
        context.ends.forget(stream);
    }
    Ok(held)
}
