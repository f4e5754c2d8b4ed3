//! The journal service over the memory store: one batch for all waiting callers, stale caches, dropped callers, snapshots.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tape_core::command::{Command, CommandBody};
use tape_core::decider::{Decider, ReplayError};
use tape_core::entry::{Entry, EntryBody, value};
use tape_core::id::{RequestId, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::reply::{Decided, Rejection, Reply, ReplyResult, Versioned};
use tape_core::time::{Now, Timestamp};
use tape_engine::committer::Committer;
use tape_engine::{EngineError, StreamService};
use tape_store::clock::SystemClock;
use tape_store::contract::JournalStore;
use tape_store::layer::{Counts, MeteredStore};
use tape_store::memory::MemoryStore;

/// Counts up: a minimal decider.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Tally {
    seq: Seq,
    total: u64,
}

#[derive(Clone, Serialize)]
enum Ask {
    Add(u64),
    /// Adds only where the total is as expected.
    From(u64, u64),
    /// Adds, as the first of its stream.
    First(u64),
}

impl Tally {
    fn refuse(&self, expected: u64) -> Result<Decided, Rejection> {
        Err(Rejection::VersionConflict {
            what: Versioned::Value,
            expected,
            current: self.total,
        })
    }
}

impl CommandBody for Ask {
    fn is_idempotent(&self) -> bool {
        false
    }
}

impl Decider for Tally {
    type Command = Ask;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Value { .. })
    }

    fn begins(command: &Ask) -> bool {
        matches!(command, Ask::First(_))
    }

    fn decide(&self, command: &Command<Ask>, _now: impl Into<Now>) -> Result<Decided, Rejection> {
        let n = match command.body {
            Ask::Add(n) => n,
            Ask::First(0) => return self.refuse(0),
            Ask::First(n) if self.seq == Seq::ZERO => n,
            Ask::First(_) => return self.refuse(0),
            Ask::From(expected, n) if expected == self.total => n,
            Ask::From(expected, _) => return self.refuse(expected),
        };
        let value = Payload::new("text/plain", Bytes::from(n.to_string())).unwrap();
        let reply = Reply {
            seq: self.seq.next(),
            result: ReplyResult::Version {
                version: self.total + n,
            },
        };
        let put = value::Put {
            version: n,
            value,
            previous: None,
        };
        Ok(Decided {
            entries: if n == 0 { vec![] } else { vec![put.into()] },
            reply,
        })
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let EntryBody::ValuePut(put) = &entry.body else {
            unreachable!()
        };
        (self.seq, self.total) = (entry.seq, self.total + put.version);
        Ok(())
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}

fn stream(name: &str) -> StreamId {
    StreamId::Value {
        tenant: Tenant::new("t").unwrap(),
        name: ValueName::new(name).unwrap(),
    }
}

fn journal(store: &Arc<dyn JournalStore>) -> StreamService<Tally> {
    StreamService::new(
        Arc::clone(store),
        Committer::start(Arc::clone(store)),
        Arc::new(SystemClock),
        1 << 20,
    )
}

fn ask(n: u128, body: Ask) -> Command<Ask> {
    Command::new(RequestId::new(Timestamp::from_micros(0), n), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_many_callers_are_all_taken_once() {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let journal = journal(&store);
    let ask_one = |n: u128| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.command(&stream("a"), ask(n, Ask::Add(1))).await })
    };
    let asked: Vec<_> = (0..1_000).map(ask_one).collect();
    let mut seqs: Vec<u64> = Vec::new();
    for reply in futures::future::join_all(asked).await {
        seqs.push(reply.unwrap().unwrap().seq.0);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(journal.state(&stream("a")).await.unwrap().unwrap().total, 1_000);
    assert!(
        store
            .head(&stream("a"))
            .await
            .unwrap()
            .unwrap()
            .snapshot
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_with_an_old_state_answers_by_the_new_one() {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let (one, two) = (journal(&store), journal(&store));
    one.command(&stream("a"), ask(1, Ask::Add(1))).await.unwrap();
    two.command(&stream("a"), ask(2, Ask::Add(1))).await.unwrap();
    // The first still has the total 1 in its cache.
    let refused = one.command(&stream("a"), ask(3, Ask::From(1, 1))).await;
    let current = |rejection: &Rejection| matches!(rejection, Rejection::VersionConflict { current: 2, .. });
    assert!(
        matches!(&refused, Err(EngineError::Rejected(rejection)) if current(rejection)),
        "{refused:?}"
    );
    let taken = two.command(&stream("a"), ask(4, Ask::From(2, 5))).await.unwrap();
    assert_eq!(taken.seq, Seq(3));
    let taken = one.command(&stream("a"), ask(5, Ask::From(7, 1))).await.unwrap();
    assert_eq!(taken.seq, Seq(4));
    let repeat = one.command(&stream("a"), ask(6, Ask::Add(0))).await.unwrap();
    assert_eq!(repeat.result, ReplyResult::Version { version: 8 });
    assert_eq!(two.state(&stream("a")).await.unwrap().unwrap().total, 8);
}

#[tokio::test]
async fn a_stream_is_begun_without_a_look_and_only_once() {
    let metered = Arc::new(MeteredStore::new(Arc::new(MemoryStore::new())));
    let store: Arc<dyn JournalStore> = Arc::clone(&metered) as Arc<dyn JournalStore>;
    let (one, two) = (journal(&store), journal(&store));
    let begun = one.command(&stream("a"), ask(1, Ask::First(5))).await.unwrap();
    assert_eq!(begun.seq, Seq(1));
    let looks = |counts: Counts| (counts.heads, counts.reads, counts.conflicts);
    assert_eq!(looks(metered.counts()), (0, 0, 0));
    // Another process takes the stream not to be there; the commit is refused, and the rules decide on what is there.
    let current = |refused: &Result<Reply, EngineError>| match refused {
        Err(EngineError::Rejected(Rejection::VersionConflict { current, .. })) => Some(*current),
        _ => None,
    };
    let refused = two.command(&stream("a"), ask(2, Ask::First(7))).await;
    assert_eq!(current(&refused), Some(5), "{refused:?}");
    assert_eq!(metered.counts().conflicts, 1);
    // A refusal is never given on the ground of a stream that was only taken not to be there.
    let three = journal(&store);
    let refused = three.command(&stream("a"), ask(3, Ask::First(0))).await;
    assert_eq!(current(&refused), Some(5), "{refused:?}");
    assert_eq!(three.state(&stream("a")).await.unwrap().unwrap().seq, Seq(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_take_nothing_with_them() {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let journal = journal(&store);
    let mut kept = Vec::new();
    for n in 0..200_u128 {
        let journal = journal.clone();
        let caller = tokio::spawn(async move { journal.command(&stream("a"), ask(n, Ask::Add(1))).await });
        if n % 2 == 0 {
            caller.abort()
        } else {
            kept.push(caller)
        }
    }
    for caller in kept {
        caller.await.unwrap().unwrap();
    }
    let total = journal.state(&stream("a")).await.unwrap().unwrap().total;
    assert!((100..=200).contains(&total), "{total}");
}

#[tokio::test]
async fn a_stream_without_entries_has_no_state() {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let journal = journal(&store);
    assert!(journal.state(&stream("a")).await.unwrap().is_none());
    let refused = journal.command(&stream("a"), ask(3, Ask::From(1, 1))).await;
    assert!(matches!(refused, Err(EngineError::Rejected(_))));
    assert!(store.head(&stream("a")).await.unwrap().is_none());
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Fragile(Tally);

impl Decider for Fragile {
    type Command = Ask;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        Tally::accepts(stream)
    }

    fn decide(&self, command: &Command<Ask>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        assert!(!matches!(command.body, Ask::From(..)), "a bug");
        self.0.decide(command, now)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        self.0.apply(entry)
    }

    fn seq(&self) -> Seq {
        self.0.seq
    }
}

#[tokio::test]
async fn a_panicking_decider_does_not_stop_the_stream() {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let committer = Committer::start(Arc::clone(&store));
    let journal = StreamService::<Fragile>::new(store, committer, Arc::new(SystemClock), 1 << 20);
    let lost = journal.command(&stream("a"), ask(1, Ask::From(0, 1))).await;
    assert!(matches!(lost, Err(EngineError::OutcomeUnknown { .. })));
    journal.command(&stream("a"), ask(2, Ask::Add(1))).await.unwrap();
}
