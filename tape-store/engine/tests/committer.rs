//! How batches share commits, by how many commits the store wants under way at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use tape_core::chain::StreamTag;
use tape_core::codec::{self, Stamp};
use tape_core::entry::run::Checkpoint;
use tape_core::id::{Epoch, Key, RequestId, RunId, Scope, Seq, StreamId};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_engine::committer::Committer;
use tape_environment::{Environment as _, Machine};
use tape_store::contract::{Batch, BatchId, Capabilities, Committed, JournalStore, SnapshotChange};
use tape_store::error::CommitError;
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

type Answer = Result<Committed, CommitError>;
/// The streams of a group that reached the store, and the sender that releases its commit.
type Arrived = (Vec<String>, oneshot::Sender<()>);

/// A store whose commits wait until they are released.
struct Doors {
    inner: MemoryStore,
    at_once: u16,
    arrived: mpsc::UnboundedSender<Arrived>,
}

#[async_trait]
impl Layer for Doors {
    fn inner(&self) -> &dyn JournalStore {
        &self.inner
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Answer> {
        let streams = batches.iter().map(|batch| invocation(&batch.stream)).collect();
        let (open, opened) = oneshot::channel();
        self.arrived.send((streams, open)).unwrap();
        opened.await.unwrap();
        self.inner.commit(batches).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            commits_at_once: self.at_once,
            ..self.inner.capabilities()
        }
    }
}

fn invocation(stream: &StreamId) -> String {
    stream.as_run().unwrap().invocation.to_string()
}

/// A batch of one entry for the run of that name, after `after` earlier entries.
fn batch(run: &str, after: u64) -> Batch {
    let stamp = Stamp {
        at: Timestamp::from_micros(0),
        request: RequestId::from_u128(1),
        principal: None,
        trace: None,
        command: None,
    };
    let body = Checkpoint {
        label: Key::new("c").unwrap(),
        state: Payload::empty(),
        scope: Scope::root(),
    };
    let stream = StreamId::Run(RunId::new("t", "a", "u", "s", run).unwrap());
    let (mut before, tag) = (Digest::default(), StreamTag::of(&stream));
    let seal = |before: &Digest, seq| codec::seal(&tag, before, Seq(seq), &stamp, body.clone().into()).1;
    for seq in 1..=after {
        before = seal(&before, seq).digest;
    }
    let stored = seal(&before, after + 1);
    Batch {
        id: BatchId(Machine.uuid()),
        stream,
        expected: Seq(after),
        before,
        epoch: Epoch::default(),
        next_epoch: Epoch::default(),
        entries: vec![stored],
        agenda: Vec::new(),
        snapshot: SnapshotChange::Keep,
        summary: None,
    }
}

struct World {
    committer: Committer,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
    held: VecDeque<oneshot::Sender<()>>,
}

impl World {
    fn new(at_once: u16) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let inner = MemoryStore::new();
        Self {
            committer: Committer::start(Arc::new(Doors {
                inner,
                at_once,
                arrived,
            })),
            arrivals,
            held: VecDeque::new(),
        }
    }

    /// Sends batches, and lets the committer see all of them.
    async fn send(&self, batches: impl IntoIterator<Item = Batch>) -> Vec<JoinHandle<Answer>> {
        let send = |batch| {
            let committer = self.committer.clone();
            tokio::spawn(async move { committer.commit(batch).await })
        };
        let sent = batches.into_iter().map(send).collect();
        // One thread runs everything: after some turns, every task that can run has run.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        sent
    }

    /// The groups that reached the store since the last call, and wait there.
    fn arrived(&mut self) -> Vec<Vec<String>> {
        let mut groups = Vec::new();
        while let Ok((streams, open)) = self.arrivals.try_recv() {
            groups.push(streams);
            self.held.push_back(open);
        }
        groups
    }

    /// Releases the first group.
    async fn let_one_go(&mut self) {
        self.held.pop_front().unwrap().send(()).unwrap();
        self.send([]).await;
    }
}

fn first_of(runs: &[&str]) -> Vec<Batch> {
    runs.iter().map(|run| batch(run, 0)).collect()
}

#[tokio::test]
async fn one_at_once_takes_everything_that_waits() {
    let mut world = World::new(1);
    world.send(first_of(&["a"])).await;
    assert_eq!(world.arrived(), [["a"]]);
    world.send(first_of(&["b", "c", "d"])).await;
    assert!(world.arrived().is_empty());
    world.let_one_go().await;
    assert_eq!(world.arrived(), [["b", "c", "d"]]);
}

#[tokio::test]
async fn two_at_once_take_half_each() {
    let mut world = World::new(2);
    world.send(first_of(&["a", "b", "c", "d"])).await;
    assert_eq!(world.arrived(), [["a", "b"], ["c", "d"]]);
    world.send(first_of(&["e"])).await;
    world.let_one_go().await;
    assert!(world.arrived().is_empty(), "one is less than half of three");
    world.send(first_of(&["f"])).await;
    assert_eq!(world.arrived(), [["e", "f"]]);
}

#[tokio::test]
async fn many_at_once_let_nobody_wait_for_others() {
    let mut world = World::new(8);
    for run in ["a", "b", "c"] {
        world.send(first_of(&[run])).await;
        assert_eq!(world.arrived(), [[run]]);
    }
}

#[tokio::test]
async fn a_later_batch_of_a_stream_waits_for_the_one_before() {
    let mut world = World::new(8);
    let sent = world
        .send([batch("a", 0), batch("a", 1), batch("b", 0), batch("a", 2)])
        .await;
    assert_eq!(world.arrived().concat(), ["a", "b"]);
    while let Some(open) = world.held.pop_front() {
        open.send(()).unwrap();
        world.send([]).await;
        world.arrived();
    }
    for answer in sent {
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_was_queued_is_committed_when_everybody_has_gone() {
    let mut world = World::new(2);
    for sent in world.send(first_of(&["a", "b", "c"])).await {
        sent.abort();
    }
    let (other, _) = mpsc::unbounded_channel();
    let unused = Doors {
        inner: MemoryStore::new(),
        at_once: 1,
        arrived: other,
    };
    world.committer = Committer::start(Arc::new(unused));
    let mut committed = Vec::new();
    while committed.len() < 3 {
        let (streams, open) = world.arrivals.recv().await.unwrap();
        committed.extend(streams);
        open.send(()).unwrap();
    }
    committed.sort();
    assert_eq!(committed, ["a", "b", "c"]);
}
