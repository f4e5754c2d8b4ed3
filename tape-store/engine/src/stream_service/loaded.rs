//! The folded state of a stream, with what is needed to extend it.

use super::EngineError;
use std::sync::Arc;
use tape_core::agenda::Agenda;
use tape_core::chain::{Chain, ChainError};
use tape_core::codec::{self, Stamp, StoredEntry};
use tape_core::decider::{self, Decider, ReplayError};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Seq, StreamId};
use tape_core::limits::{BATCH_BYTES_MAX, PAGE_ENTRIES_MAX};
use tape_core::payload::Digest;
use tape_core::status::Summary;
use tape_store::contract::{Batch, BatchId, Head, JournalStore, Snapshot, SnapshotChange};
use tape_store::error::{Source, StoreError};

/// A snapshot is taken after at least this many entries...
const SNAPSHOT_ENTRIES_MIN: u64 = 256;
/// ...that have at least this part of the bytes of the last one, so that snapshots of a growing state stay a small part
/// of what is written.
const SNAPSHOT_BYTES_PART: usize = 2;
/// What a cached state costs beside its bytes.
const WEIGHT_MIN: usize = 1024;

#[derive(Clone)]
pub(super) struct Loaded<S> {
    state: Arc<S>,
    /// Whether another process was found to have written to the stream at the last refresh.
    shared: bool,
    chain: Chain,
    agenda: Agenda,
    summary: Option<Summary>,
    snapshot_seq: Seq,
    snapshot_bytes: usize,
    bytes_since: usize,
}

impl<S: Decider> Loaded<S> {
    /// Reads a stream: its newest snapshot and the entries after it.
    pub(super) async fn load(
        store: &dyn JournalStore,
        stream: &StreamId,
        shared: bool,
    ) -> Result<Self, EngineError> {
        let head = store.head(stream).await?;
        let mut loaded = match head.as_ref().and_then(Self::restored) {
            Some((snapshot, state)) => Self::from_snapshot(store, stream, snapshot, state).await?,
            None => Self::empty(stream),
        };
        loaded.shared = shared;
        if let Some(head) = &head {
            loaded.catch_up(store, stream, head.seq).await?;
            loaded.check_head(stream, head)?;
            loaded.check_name(stream)?;
        }
        loaded.derive();
        Ok(loaded)
    }

    /// The state of a stream that is not there.
    pub(super) fn new(stream: &StreamId) -> Self {
        let mut loaded = Self::empty(stream);
        loaded.derive();
        loaded
    }

    /// Brings the state up to date with the store: folds the entries that any process has appended since. Where the store does not have the
    /// last folded entry, the stream is loaded anew. Then the state is of a history that was lost with a primary or by restoring a backup,
    /// or its entries were dropped.
    pub(super) async fn refresh(
        &mut self,
        store: &dyn JournalStore,
        stream: &StreamId,
    ) -> Result<(), EngineError> {
        let before = self.seq();
        if before == Seq::ZERO {
            self.catch_up(store, stream, Seq(u64::MAX)).await?;
        } else {
            // The page includes the last folded entry, so that the same read shows whether the store still has it.
            let page = store.read(stream, Seq(before.0 - 1), PAGE_ENTRIES_MAX).await?;
            let own = page.first().map(|own| (own.seq, own.digest));
            if own != Some((before, self.chain.digest())) {
                *self = Self::load(store, stream, true).await?;
                return Ok(());
            }
            self.fold_all(stream, &page[1..])?;
            if page.len() > 1 {
                self.catch_up(store, stream, Seq(u64::MAX)).await?;
            }
        }
        self.shared = self.seq() != before;
        if self.shared && before == Seq::ZERO && store.head(stream).await?.is_none() {
            return Err(damaged(stream, Arc::new(StoreError::without_head(stream))));
        }
        if self.shared {
            self.derive();
        }
        Ok(())
    }

    /// Whether another process was found to have written to the stream at the last refresh.
    pub(super) const fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn seq(&self) -> Seq {
        self.state.seq()
    }

    pub(super) const fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// About how many bytes of memory the state takes.
    pub(super) const fn weight(&self) -> usize {
        WEIGHT_MIN + self.snapshot_bytes + self.bytes_since
    }

    /// The state before the first entry.
    fn empty(stream: &StreamId) -> Self {
        Self {
            state: Arc::default(),
            shared: false,
            chain: Chain::new(stream),
            agenda: Agenda::default(),
            summary: None,
            snapshot_seq: Seq::ZERO,
            snapshot_bytes: 0,
            bytes_since: 0,
        }
    }

    /// The snapshot of a head and its state, where it can be read. A snapshot that cannot be read counts as none: the entries replace it.
    fn restored(head: &Head) -> Option<(&Snapshot, S)> {
        let snapshot = head
            .snapshot
            .as_ref()
            .filter(|snapshot| snapshot.seq <= head.seq)?;
        let state = decider::restore::<S>(&snapshot.bytes).filter(|state| state.seq() == snapshot.seq)?;
        Some((snapshot, state))
    }

    /// Begins with the state of a snapshot, where the entry that it was taken after names this snapshot; else before the first entry.
    async fn from_snapshot(
        store: &dyn JournalStore,
        stream: &StreamId,
        snapshot: &Snapshot,
        state: S,
    ) -> Result<Self, EngineError> {
        // The entry before it has the digest that its own is linked to.
        let before = Seq(snapshot.seq.0.saturating_sub(2));
        let page = store.read(stream, before, PAGE_ENTRIES_MAX).await?;
        let Some(chain) = bound(stream, &page, snapshot) else {
            return Ok(Self::empty(stream));
        };
        let mut loaded = Self {
            chain,
            state: Arc::new(state),
            snapshot_seq: snapshot.seq,
            snapshot_bytes: snapshot.bytes.len(),
            ..Self::empty(stream)
        };
        for stored in page.iter().filter(|stored| stored.seq > snapshot.seq) {
            loaded.fold(stored).map_err(|source| damaged(stream, source))?;
        }
        Ok(loaded)
    }

    /// Refuses a journal that was moved under another name: its effects would get other idempotency keys, and happen again.
    fn check_name(&self, stream: &StreamId) -> Result<(), EngineError> {
        match self.state.named() {
            Some(named) if named != *stream => {
                Err(damaged(stream, Arc::new(ReplayError::OtherStream { named })))
            }
            _ => Ok(()),
        }
    }

    async fn catch_up(
        &mut self,
        store: &dyn JournalStore,
        stream: &StreamId,
        until: Seq,
    ) -> Result<(), EngineError> {
        while self.seq() < until {
            let page = store.read(stream, self.seq(), PAGE_ENTRIES_MAX).await?;
            if page.is_empty() {
                break;
            }
            self.fold_all(stream, &page)?;
        }
        Ok(())
    }

    fn fold_all(&mut self, stream: &StreamId, page: &[StoredEntry]) -> Result<(), EngineError> {
        for stored in page {
            if self.is_overtaken_by(stored) {
                *self = Self {
                    shared: self.shared,
                    ..Self::empty(stream)
                };
            }
            self.fold(stored).map_err(|source| damaged(stream, source))?;
        }
        Ok(())
    }

    /// Whether an entry stands for all entries before it, of which some were dropped before they were read here.
    fn is_overtaken_by(&self, stored: &StoredEntry) -> bool {
        let retires = |entry: Entry| matches!(entry.body, EntryBody::RunRetired(_));
        stored.seq > self.seq().next() && codec::decode(stored).is_ok_and(retires)
    }

    fn fold(&mut self, stored: &StoredEntry) -> Result<(), Source> {
        let opened = self
            .chain
            .follow(stored)
            .map_err(|error| Arc::new(error) as Source)?;
        Arc::make_mut(&mut self.state)
            .apply(&opened.entry)
            .map_err(|error| Arc::new(error) as Source)?;
        self.bytes_since += stored.size();
        Ok(())
    }

    /// Detects entries missing from the end, or a head of other entries.
    fn check_head(&self, stream: &StreamId, head: &Head) -> Result<(), EngineError> {
        let (end, found) = (self.seq(), self.chain.digest());
        let error = if end < head.seq {
            ChainError::Truncated { end, head: head.seq }
        } else if end == head.seq && found != head.digest {
            ChainError::HeadMismatch {
                seq: end,
                found,
                published: head.digest,
            }
        } else {
            return Ok(());
        };
        Err(damaged(stream, Arc::new(error)))
    }

    fn derive(&mut self) {
        self.agenda = self.state.agenda();
        self.summary = self.state.summary();
    }
}

pub(crate) fn damaged(stream: &StreamId, source: Source) -> EngineError {
    EngineError::Damaged {
        stream: stream.clone(),
        source,
    }
}

/// The chain up to the entry that a snapshot was taken after, where that entry names this snapshot. The page begins with the entry before
/// it.
fn bound(stream: &StreamId, page: &[StoredEntry], snapshot: &Snapshot) -> Option<Chain> {
    let (mut chain, of) = match page {
        [of, ..] if of.seq == snapshot.seq => (Chain::new(stream), of),
        [before, of, ..] if of.seq == snapshot.seq => (Chain::after(stream, before).ok()?, of),
        _ => return None,
    };
    let says = chain.follow(of).ok()?.snapshot;
    if says == Some(Digest::of(&snapshot.bytes)) {
        return Some(chain);
    }
    let (stream, seq) = (stream.to_string(), snapshot.seq.0);
    if says.is_some() {
        tracing::warn!(
            stream,
            seq,
            "the snapshot is not the one that its entry names, and is not used"
        );
    } else {
        tracing::debug!(stream, seq, "no entry names the snapshot, and it is not used");
    }
    None
}

fn erases(entry: &Entry) -> bool {
    matches!(entry.body, EntryBody::PayloadErased(_))
}

/// New entries on top of a state, to be committed as one batch.
pub(super) struct Extension {
    expected: Seq,
    /// The chain digest before the first entry.
    before: Digest,
    /// The chain digest before the last entry.
    before_last: Digest,
    epoch: tape_core::id::Epoch,
    pub(super) entries: Vec<StoredEntry>,
    pub(super) bytes: usize,
    /// Whether one of them erases bytes that the last snapshot may have.
    pub(super) erases: bool,
}

/// The entries of one command, sealed but not yet folded.
pub(super) struct Sealed {
    entries: Vec<(Entry, StoredEntry)>,
}

impl Sealed {
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, stored)| stored.size()).sum()
    }

    pub(super) fn erases(&self) -> bool {
        self.entries.iter().any(|(entry, _)| erases(entry))
    }
}

impl<S: Decider> Loaded<S> {
    pub(super) fn extend(&self) -> Extension {
        Extension {
            expected: self.seq(),
            before: self.chain.digest(),
            before_last: self.chain.digest(),
            epoch: self.state.epoch(),
            entries: Vec::new(),
            bytes: 0,
            erases: false,
        }
    }

    /// Gives entries their places in the stream and their digests.
    pub(super) fn seal(&self, stamp: &Stamp, bodies: Vec<EntryBody>) -> Sealed {
        let mut chain = self.chain.clone();
        let seal = |body| chain.seal(stamp, body);
        Sealed {
            entries: bodies.into_iter().map(seal).collect(),
        }
    }

    /// Folds sealed entries into the state, which is ahead of the store until they are committed.
    pub(super) fn push(&mut self, extension: &mut Extension, sealed: Sealed) -> Result<(), Source> {
        let state = Arc::make_mut(&mut self.state);
        for (entry, stored) in sealed.entries {
            extension.before_last = self.chain.digest();
            self.chain
                .extend(&entry)
                .map_err(|error| Arc::new(error) as Source)?;
            state.apply(&entry).map_err(|error| Arc::new(error) as Source)?;
            extension.bytes += stored.size();
            extension.erases |= erases(&entry);
            extension.entries.push(stored);
        }
        Ok(())
    }

    /// The batch that commits an extension.
    pub(super) fn batch(&mut self, id: BatchId, stream: &StreamId, mut extension: Extension) -> Batch {
        let agenda = self.state.agenda();
        let changes = self.agenda.changes_to(&agenda);
        self.agenda = agenda;
        let summary = self
            .state
            .summary()
            .filter(|summary| self.summary.as_ref() != Some(summary));
        if summary.is_some() {
            self.summary.clone_from(&summary);
        }
        self.bytes_since += extension.bytes;
        let snapshot = self.snapshot_change(&mut extension);
        Batch {
            id,
            stream: stream.clone(),
            expected: extension.expected,
            before: extension.before,
            epoch: extension.epoch,
            next_epoch: self.state.epoch(),
            entries: extension.entries,
            agenda: changes,
            snapshot,
            summary,
        }
    }

    /// A batch that erases something never keeps the last snapshot.
    fn snapshot_change(&mut self, extension: &mut Extension) -> SnapshotChange {
        if !extension.erases && !self.snapshot_is_due() {
            return SnapshotChange::Keep;
        }
        match self.snapshot(extension) {
            Some(bytes) => SnapshotChange::Replace(bytes),
            None if extension.erases => {
                self.bytes_since += std::mem::take(&mut self.snapshot_bytes);
                self.snapshot_seq = Seq::ZERO;
                SnapshotChange::Delete
            }
            None => SnapshotChange::Keep,
        }
    }

    fn snapshot_is_due(&self) -> bool {
        self.seq().0 - self.snapshot_seq.0 >= SNAPSHOT_ENTRIES_MIN
            && self.bytes_since >= self.snapshot_bytes / SNAPSHOT_BYTES_PART
    }

    /// Takes a snapshot after the last entry, which is sealed anew to name it. None where there is no room for that.
    fn snapshot(&mut self, extension: &mut Extension) -> Option<bytes::Bytes> {
        let bytes = decider::snapshot(self.state.as_ref());
        let last = extension.entries.last_mut()?;
        let (chain, named) = self
            .chain
            .with_snapshot(&extension.before_last, last, &bytes)
            .expect("an entry that was just sealed can be read");
        if extension.bytes - last.size() + named.size() > BATCH_BYTES_MAX {
            return None;
        }
        *last = named;
        self.chain = chain;
        self.snapshot_seq = self.seq();
        self.snapshot_bytes = bytes.len();
        self.bytes_since = 0;
        Some(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::entry::value::Put;
    use tape_core::id::{RequestId, Tenant, ValueName};
    use tape_core::payload::Payload;
    use tape_core::time::Timestamp;
    use tape_core::value::Value;

    /// A batch of one entry, which erases something or not, with `bytes` bytes besides.
    fn batch(erases: bool, bytes: usize) -> SnapshotChange {
        let stream = StreamId::Value {
            tenant: Tenant::new("t").unwrap(),
            name: ValueName::new("v").unwrap(),
        };
        let stamp = Stamp {
            at: Timestamp::from_micros(1),
            request: RequestId::from_u128(1),
            principal: None,
            trace: None,
            command: None,
        };
        let put = Put {
            version: 1,
            value: Payload::new("text/plain", "x").unwrap(),
            previous: None,
        };
        let mut loaded = Loaded::<Value>::empty(&stream);
        let mut extension = loaded.extend();
        let sealed = loaded.seal(&stamp, vec![put.into()]);
        loaded.push(&mut extension, sealed).unwrap();
        extension.erases = erases;
        extension.bytes += bytes;
        loaded.batch(BatchId::random(1), &stream, extension).snapshot
    }

    #[test]
    fn what_erases_without_room_for_a_snapshot_deletes_the_last_one() {
        assert_eq!(batch(false, 0), SnapshotChange::Keep);
        assert!(matches!(batch(true, 0), SnapshotChange::Replace(_)));
        assert_eq!(batch(true, BATCH_BYTES_MAX), SnapshotChange::Delete);
    }
}
