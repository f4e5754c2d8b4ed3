//! The folded state of a stream, with what is needed to extend it.

use super::JournalError;
use crate::contract::{Batch, BatchId, Head, JournalStore, Snapshot};
use crate::error::Source;
use std::sync::Arc;
use tape_core::agenda::Agenda;
use tape_core::chain;
use tape_core::codec::{self, Stamp, StoredEntry};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::payload::Digest;
use tape_core::stream::{self, ReplayError, Stream, Summary};

/// A snapshot is taken after at least so many entries...
const SNAPSHOT_ENTRIES_MIN: u64 = 256;
/// ...that have at least this part of the bytes of the last one, so that snapshots of a growing state stay a small part
/// of what is written.
const SNAPSHOT_BYTES_PART: usize = 2;
/// What a cached state weighs beside its bytes.
const WEIGHT_MIN: usize = 1024;

#[derive(Clone)]
pub(super) struct Loaded<S> {
    state: Arc<S>,
    /// Whether another process was seen to write to the stream lately.
    shared: bool,
    /// The chain digest of the last entry; none right after a snapshot that newer entries are to be folded onto.
    digest: Option<Digest>,
    agenda: Agenda,
    summary: Option<Summary>,
    snapshot_seq: Seq,
    snapshot_bytes: usize,
    bytes_since: usize,
}

impl<S: Stream> Loaded<S> {
    /// Reads a stream: its newest snapshot and the entries after it.
    pub(super) async fn load(
        store: &dyn JournalStore,
        stream: &StreamId,
        shared: bool,
    ) -> Result<Self, JournalError> {
        let head = store.head(stream).await?;
        let mut loaded = Self::from_snapshot(head.as_ref());
        loaded.shared = shared;
        if let Some(head) = &head {
            loaded.catch_up(store, stream, head.seq).await?;
            loaded.check_head(stream, head)?;
            loaded.check_name(stream)?;
        }
        loaded.derive();
        Ok(loaded)
    }

    /// Folds what was appended since, by whomever. Whether there was anything.
    pub(super) async fn refresh(
        &mut self,
        store: &dyn JournalStore,
        stream: &StreamId,
    ) -> Result<bool, JournalError> {
        let before = self.seq();
        self.catch_up(store, stream, Seq(u64::MAX)).await?;
        self.shared = self.seq() != before;
        if self.shared {
            self.derive();
        }
        Ok(self.shared)
    }

    /// Whether another process was seen to write to the stream when it was last looked at.
    pub(super) const fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn seq(&self) -> Seq {
        self.state.seq()
    }

    pub(super) const fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// About how many bytes of memory it takes.
    pub(super) const fn weight(&self) -> usize {
        WEIGHT_MIN + self.snapshot_bytes + self.bytes_since
    }

    fn from_snapshot(head: Option<&Head>) -> Self {
        // A snapshot that cannot be read is as good as none: the entries are there.
        let usable = |snapshot: &&Snapshot| head.is_some_and(|head| snapshot.seq <= head.seq);
        let snapshot = head.and_then(|head| head.snapshot.as_ref()).filter(usable);
        let restored = snapshot.and_then(|snapshot| {
            let state = stream::restore::<S>(&snapshot.bytes).filter(|state| state.seq() == snapshot.seq)?;
            Some((state, snapshot.bytes.len()))
        });
        let (state, snapshot_bytes) = restored.unwrap_or_default();
        let at_head = head
            .filter(|head| head.seq == state.seq())
            .map(|head| head.digest);
        Self {
            digest: if state.seq() == Seq::ZERO {
                Some(Digest::default())
            } else {
                at_head
            },
            shared: false,
            snapshot_seq: state.seq(),
            snapshot_bytes,
            bytes_since: 0,
            agenda: Agenda::default(),
            summary: None,
            state: Arc::new(state),
        }
    }

    /// Refuses a journal that was moved under another name: its effects would get other keys, and happen again.
    fn check_name(&self, stream: &StreamId) -> Result<(), JournalError> {
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
    ) -> Result<(), JournalError> {
        while self.seq() < until {
            let page = store.read(stream, self.seq(), PAGE_ENTRIES_MAX).await?;
            if page.is_empty() {
                break;
            }
            for stored in &page {
                self.fold(stored).map_err(|source| damaged(stream, source))?;
            }
        }
        Ok(())
    }

    fn fold(&mut self, stored: &StoredEntry) -> Result<(), Source> {
        let entry = codec::decode(stored).map_err(|error| Arc::new(error) as Source)?;
        if let Some(previous) = self.end_before(&entry) {
            let computed = chain::link(&previous, &stored.envelope);
            if computed != stored.digest {
                let (seq, recorded) = (stored.seq, stored.digest);
                return Err(Arc::new(chain::ChainError::Changed {
                    seq,
                    recorded,
                    computed,
                }));
            }
            chain::check_retirement(&entry, &previous).map_err(|error| Arc::new(error) as Source)?;
        }
        Arc::make_mut(&mut self.state)
            .apply(&entry)
            .map_err(|error| Arc::new(error) as Source)?;
        self.digest = Some(stored.digest);
        self.bytes_since += stored.size();
        Ok(())
    }

    /// The digest that an entry is to be linked to, where it is known: where the entries before were dropped, the first one names it.
    fn end_before(&self, entry: &Entry) -> Option<Digest> {
        match &entry.body {
            EntryBody::RunRetired(retired) if entry.seq != self.seq().next() => Some(retired.previous),
            _ => self.digest,
        }
    }

    /// Entries that vanished from the end, or a head of other entries, show here.
    fn check_head(&self, stream: &StreamId, head: &Head) -> Result<(), JournalError> {
        let end = self.seq();
        let error = if end < head.seq {
            chain::ChainError::Truncated { end, head: head.seq }
        } else if end == head.seq && self.digest.is_some_and(|digest| digest != head.digest) {
            let found = self.digest.unwrap_or_default();
            chain::ChainError::HeadMismatch {
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

pub(crate) fn damaged(stream: &StreamId, source: Source) -> JournalError {
    JournalError::Damaged {
        stream: stream.clone(),
        source,
    }
}

/// New entries on top of a state, to be committed as one batch.
pub(super) struct Extension {
    expected: Seq,
    epoch: tape_core::id::Epoch,
    pub(super) entries: Vec<StoredEntry>,
    pub(super) bytes: usize,
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
}

impl<S: Stream> Loaded<S> {
    pub(super) fn extend(&self) -> Extension {
        Extension {
            expected: self.seq(),
            epoch: self.state.epoch(),
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Gives entries their places in the stream and their digests.
    pub(super) fn seal(&self, stamp: &Stamp, bodies: Vec<EntryBody>) -> Sealed {
        let mut digest = self
            .digest
            .expect("a loaded stream is folded up to its head, which has the digest");
        let mut seq = self.seq();
        let seal = |body| {
            seq = seq.next();
            let (entry, stored) = codec::seal(&digest, seq, stamp, body);
            digest = stored.digest;
            (entry, stored)
        };
        Sealed {
            entries: bodies.into_iter().map(seal).collect(),
        }
    }

    /// Folds sealed entries into the state, which is ahead of the store until they are committed.
    pub(super) fn push(&mut self, extension: &mut Extension, sealed: Sealed) -> Result<(), Source> {
        let state = Arc::make_mut(&mut self.state);
        for (entry, stored) in sealed.entries {
            if let Some(previous) = &self.digest {
                chain::check_retirement(&entry, previous).map_err(|error| Arc::new(error) as Source)?;
            }
            state.apply(&entry).map_err(|error| Arc::new(error) as Source)?;
            self.digest = Some(stored.digest);
            extension.bytes += stored.size();
            extension.entries.push(stored);
        }
        Ok(())
    }

    /// The batch that commits an extension.
    pub(super) fn batch(&mut self, stream: &StreamId, extension: Extension) -> Batch {
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
        let snapshot = self.snapshot_is_due().then(|| self.snapshot());
        Batch {
            id: BatchId::fresh(),
            stream: stream.clone(),
            expected: extension.expected,
            epoch: extension.epoch,
            next_epoch: self.state.epoch(),
            entries: extension.entries,
            agenda: changes,
            snapshot,
            summary,
        }
    }

    fn snapshot_is_due(&self) -> bool {
        self.seq().0 - self.snapshot_seq.0 >= SNAPSHOT_ENTRIES_MIN
            && self.bytes_since >= self.snapshot_bytes / SNAPSHOT_BYTES_PART
    }

    fn snapshot(&mut self) -> bytes::Bytes {
        let bytes = stream::snapshot(self.state.as_ref());
        self.snapshot_seq = self.seq();
        self.snapshot_bytes = bytes.len();
        self.bytes_since = 0;
        bytes.into()
    }
}
