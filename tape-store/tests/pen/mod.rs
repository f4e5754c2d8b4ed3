//! The writer of one stream, which knows where it ends.

use tape_core::chain::StreamTag;
use tape_core::codec::{self, Stamp, StoredEntry};
use tape_core::entry::run::Checkpoint;
use tape_core::id::{Epoch, Key, RequestId, RunId, Scope, Seq, StreamId};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_environment::{Environment as _, Machine};
use tape_store::contract::{Batch, BatchId, JournalStore, SnapshotChange};

#[derive(Clone, Debug)]
pub(crate) struct Pen {
    pub(crate) stream: StreamId,
    pub(crate) seq: Seq,
    pub(crate) digest: Digest,
}

impl Pen {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            stream: StreamId::Run(RunId::new("t", "app", "user", "session", name).unwrap()),
            seq: Seq::ZERO,
            digest: Digest::default(),
        }
    }

    /// A batch of `entries` entries with a text.
    pub(crate) fn batch(&self, text: &str, entries: usize) -> Batch {
        let (mut seq, mut digest) = (self.seq, self.digest);
        let seal = |_| {
            seq = seq.next();
            let state = Payload::new("text/plain", text.to_owned()).unwrap();
            let label = Key::new("k").unwrap();
            let stamp = Stamp {
                at: Timestamp::from_micros(1),
                request: RequestId::from_u128(u128::from(seq.0)),
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
        Batch {
            id: BatchId(Machine.uuid()),
            stream: self.stream.clone(),
            expected: self.seq,
            before: self.digest,
            epoch: Epoch::default(),
            next_epoch: Epoch::default(),
            entries: (0..entries).map(seal).collect(),
            agenda: Vec::new(),
            snapshot: SnapshotChange::Keep,
            summary: None,
        }
    }

    pub(crate) fn advance(&mut self, batch: &Batch) {
        (self.seq, self.digest) = (batch.last(), batch.entries.last().unwrap().digest);
    }

    /// Commits a batch that must succeed.
    pub(crate) async fn put(&mut self, store: &dyn JournalStore, text: &str, entries: usize) {
        let batch = self.batch(text, entries);
        let answer = store.commit(vec![batch.clone()]).await.remove(0);
        assert!(answer.is_ok(), "{answer:?}");
        self.advance(&batch);
    }
}

/// All entries of a stream.
#[allow(dead_code, reason = "each test file needs some of it")]
pub(crate) async fn all(store: &dyn JournalStore, stream: &StreamId) -> Vec<StoredEntry> {
    let mut entries: Vec<StoredEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
        let page = store.read(stream, after, 1_000).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}
