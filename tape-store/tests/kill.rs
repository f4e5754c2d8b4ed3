//! A writer that is killed with SIGKILL, again and again, while it commits to one SQLite file: acknowledged batches are there, no batch is
//! there in part, and every chain verifies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use process::{Child, role};
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use tape_core::chain::{StreamTag, Verifier};
use tape_core::codec::{self, Stamp};
use tape_core::entry::run::Checkpoint;
use tape_core::id::{Key, RequestId, RunId, Scope, Seq, StreamId};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_engine::committer::Committer;
use tape_environment::{Environment as _, Machine};
use tape_store::contract::{Batch, BatchId, JournalStore, SnapshotChange};
use tape_store::sqlite::SqliteStore;

const KILLS: usize = 200;
const STREAMS: usize = 6;

fn stream(n: usize) -> StreamId {
    StreamId::Run(RunId::new("t", "a", "u", "s", &format!("run-{n}")).unwrap())
}

/// The process that is killed: writes batches of one to five entries to every stream at once, until it is killed. Each entry says how many
/// entries its batch has and its place among them. Each acknowledgement is a line on standard output, written after it.
#[test]
fn writer() {
    let Some(path) = role("writer") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store: Arc<dyn JournalStore> = Arc::new(SqliteStore::open(Path::new(&path)).await.unwrap());
        let committer = Committer::start(Arc::clone(&store));
        let writers = (0..STREAMS).map(|n| tokio::spawn(write(Arc::clone(&store), committer.clone(), n)));
        futures::future::join_all(writers.collect::<Vec<_>>()).await;
    });
}

async fn write(store: Arc<dyn JournalStore>, committer: Committer, n: usize) {
    let stream = stream(n);
    let head = store.head(&stream).await.unwrap();
    let (mut seq, mut digest): (Seq, Digest) =
        head.map_or_else(Default::default, |head| (head.seq, head.digest));
    loop {
        let (expected, before) = (seq, digest);
        let size = 1 + (usize::try_from(seq.0).unwrap() + n) % 5;
        let mut entries = Vec::new();
        for place in 1..=size {
            seq = seq.next();
            let state = Payload::new("text/plain", format!("{place}/{size} {}", "x".repeat(300))).unwrap();
            let body = Checkpoint {
                label: Key::new("k").unwrap(),
                state,
                scope: Scope::root(),
            };
            let request = RequestId::from_u128(u128::from(seq.0));
            let stamp = Stamp {
                at: Timestamp::from_micros(1),
                request,
                principal: None,
                trace: None,
                command: None,
            };
            let (_, stored) = codec::seal(&StreamTag::of(&stream), &digest, seq, &stamp, body.into());
            digest = stored.digest;
            entries.push(stored);
        }
        let batch = Batch {
            id: BatchId(Machine.uuid()),
            stream: stream.clone(),
            expected,
            before,
            epoch: Default::default(),
            next_epoch: Default::default(),
            entries,
            agenda: Vec::new(),
            snapshot: if seq.0 % 50 < 5 {
                SnapshotChange::Replace(bytes::Bytes::from(seq.to_string()))
            } else {
                SnapshotChange::Keep
            },
            summary: None,
        };
        committer.commit(batch).await.unwrap();
        process::say(&format!("{n} {seq} {digest}"));
    }
}

/// The last entry that was acknowledged of each stream.
type Acknowledged = BTreeMap<usize, (Seq, Digest)>;

#[test]
fn what_a_killed_writer_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let mut acknowledged = Acknowledged::new();
    for kill in 0..KILLS {
        // The kill comes between before the file is open and some dozens of commits later.
        let lines = (kill * 7919) % 40;
        let before = total(&acknowledged);
        collect(Child::start("writer", &path), lines, kill, &mut acknowledged);
        assert!(
            total(&acknowledged) >= before + lines as u64,
            "the writer goes on after a kill"
        );
        if kill % 20 == 19 {
            check(&path, &acknowledged);
        }
    }
    assert!(total(&acknowledged) > 1_000);
    check(&path, &acknowledged);
}

fn total(acknowledged: &Acknowledged) -> u64 {
    acknowledged.values().map(|(seq, _)| seq.0).sum()
}

/// Reads `lines` acknowledgements, kills the process, and reads the rest of its output.
fn collect(mut child: Child, lines: usize, kill: usize, acknowledged: &mut Acknowledged) {
    let mut output = child.output();
    let mut line = String::new();
    let mut seen = 0;
    while seen < lines {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the writer ended by itself"
        );
        seen += usize::from(note(&line, acknowledged));
    }
    // A moment that differs from kill to kill, measured in work and not in time.
    for _ in 0..(kill * 104_729) % 60_000 {
        std::hint::spin_loop();
    }
    child.kill();
    loop {
        line.clear();
        // The last line may be cut off; then it is no acknowledgement.
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            return;
        }
        note(&line, acknowledged);
    }
}

/// Whether the line is an acknowledgement.
fn note(line: &str, acknowledged: &mut Acknowledged) -> bool {
    let Some(said) = process::said(line) else {
        return false;
    };
    let mut words = said.split(' ');
    let n = words.next().unwrap().parse().unwrap();
    let seq = Seq(words.next().unwrap().parse().unwrap());
    let digest = words.next().unwrap().parse().unwrap();
    let known = acknowledged.entry(n).or_default();
    assert!(seq > known.0, "stream {n} goes back from {} to {seq}", known.0);
    *known = (seq, digest);
    true
}

/// Opens the file as the next process would, and compares.
fn check(path: &Path, acknowledged: &Acknowledged) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        for (n, head) in acknowledged {
            let mut verifier = Verifier::new(&stream(*n), Some(*head));
            let (mut after, mut expected_place) = (Seq::ZERO, 1);
            loop {
                let page = store.read(&stream(*n), after, 1_000).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.seq;
                for entry in &page {
                    verifier.check(entry).unwrap();
                    expected_place = next_place(entry.payload.as_ref().unwrap(), expected_place);
                }
            }
            assert_eq!(expected_place, 1, "stream {n} ends amid a batch");
            let (end, digest) = verifier.finish().expect("what was acknowledged is there");
            let stored = store.head(&stream(*n)).await.unwrap().unwrap();
            assert_eq!((stored.seq, stored.digest), (end, digest));
            if let Some(snapshot) = stored.snapshot {
                assert_eq!(
                    snapshot.bytes,
                    snapshot.seq.to_string().as_bytes(),
                    "a snapshot comes with its batch"
                );
            }
        }
        integrity(path).await;
    });
}

/// Checks the place of an entry in its batch, and says which comes next.
fn next_place(payload: &[u8], expected: usize) -> usize {
    let text = std::str::from_utf8(payload).unwrap();
    let (place, size) = text.split(' ').next().unwrap().split_once('/').unwrap();
    let (place, size): (usize, usize) = (place.parse().unwrap(), size.parse().unwrap());
    assert_eq!(place, expected, "half a batch");
    if place == size { 1 } else { place + 1 }
}

async fn integrity(path: &Path) {
    use sqlx::ConnectOptions as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    let found: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(found, "ok");
}
