//! Makes streams, entries and batches for tests.

#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use crate::contract::{Batch, BatchId, Committed, JournalStore, SnapshotChange};
use crate::error::CommitError;
use bytes::Bytes;
use tape_core::chain::StreamTag;
use tape_core::codec::{self, Stamp, StoredEntry};
use tape_core::entry::run::Checkpoint;
use tape_core::id::{Epoch, Key, RequestId, RunId, Scope, Seq, StreamId};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_environment::{Environment as _, Machine};

/// The writer of one stream. It knows where the stream ends.
#[derive(Clone, Debug)]
pub struct Pen {
    /// The stream.
    pub stream: StreamId,
    /// Its last entry.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// The chain digest of its last entry.
    pub digest: Digest,
}

/// A run of tenant `t`.
pub fn run(name: &str) -> RunId {
    RunId::new("t", "app", "user", "session", name).expect("a test's names are short")
}

impl Pen {
    /// A writer of a new run of tenant `t`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::on(StreamId::Run(run(name)))
    }

    /// A writer of a new stream.
    #[must_use]
    pub const fn on(stream: StreamId) -> Self {
        Self {
            stream,
            seq: Seq::ZERO,
            epoch: Epoch(0),
            digest: Digest([0; 32]),
        }
    }

    /// Entries after the end, one for each text.
    #[must_use]
    pub fn entries(&self, texts: &[&str]) -> Vec<StoredEntry> {
        let payloads = texts.iter().map(|text| Bytes::from((*text).to_owned()));
        self.entries_of(payloads)
    }

    /// The same from any bytes.
    #[must_use]
    pub fn entries_of(&self, payloads: impl Iterator<Item = Bytes>) -> Vec<StoredEntry> {
        let (mut seq, mut digest) = (self.seq, self.digest);
        let seal = |payload: Bytes| {
            seq = seq.next();
            let state = Payload::new("text/plain", payload).expect("a test's payloads are small");
            let label = Key::new("test").expect("it is a name");
            let request = RequestId::from_u128(u128::from(seq.0));
            let stamp = Stamp {
                at: Timestamp::from_micros(1),
                request,
                principal: None,
                trace: None,
                command: None,
            };
            let scope = Scope::root();
            let body = Checkpoint { label, state, scope };
            let (_, stored) = codec::seal(&StreamTag::of(&self.stream), &digest, seq, &stamp, body.into());
            digest = stored.digest;
            stored
        };
        payloads.map(seal).collect()
    }

    /// A batch that appends one entry for each text.
    #[must_use]
    pub fn batch(&self, texts: &[&str]) -> Batch {
        self.batch_of(self.entries(texts))
    }

    /// A batch that appends these entries.
    #[must_use]
    pub fn batch_of(&self, entries: Vec<StoredEntry>) -> Batch {
        Batch {
            id: BatchId(Machine.uuid()),
            stream: self.stream.clone(),
            expected: self.seq,
            before: if self.seq == Seq::ZERO {
                Digest::default()
            } else {
                self.digest
            },
            epoch: self.epoch,
            next_epoch: self.epoch,
            entries,
            agenda: Vec::new(),
            snapshot: SnapshotChange::Keep,
            summary: None,
        }
    }

    /// Moves the end to the end of the batch.
    pub fn advance(&mut self, batch: &Batch) {
        self.seq = batch.last();
        self.epoch = batch.next_epoch;
        self.digest = batch.entries.last().expect("a batch has entries").digest;
    }

    /// Commits a batch that must be taken.
    pub async fn put(&mut self, store: &dyn JournalStore, batch: Batch) {
        let advanced = batch.clone();
        assert_eq!(
            commit(store, batch).await.expect("the batch fits its stream"),
            Committed { seq: advanced.last() }
        );
        self.advance(&advanced);
    }

    /// Appends one entry for each text.
    pub async fn write(&mut self, store: &dyn JournalStore, texts: &[&str]) {
        self.put(store, self.batch(texts)).await;
    }
}

/// Commits one batch.
///
/// # Errors
/// Those of the store.
pub async fn commit(store: &dyn JournalStore, batch: Batch) -> Result<Committed, CommitError> {
    let mut answers = store.commit(vec![batch]).await;
    assert_eq!(answers.len(), 1, "a commit of one batch has one answer");
    answers.remove(0)
}

/// All entries of a stream, page by page.
pub async fn all(store: &dyn JournalStore, stream: &StreamId) -> Vec<StoredEntry> {
    let mut entries: Vec<StoredEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
        let page = store.read(stream, after, 100).await.expect("the stream reads");
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

/// The text that an entry was made from.
pub fn text(entry: &StoredEntry) -> String {
    let payload = entry.payload.as_ref().expect("the payload is not erased");
    String::from_utf8(payload.to_vec()).expect("a test's payloads are text")
}

/// Pseudorandom numbers, the same in every run.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64, by Sebastiano Vigna, in the public domain.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
