//! The feed while writers pause in the middle of a commit.

use super::pen::Pen;
use super::wire::{Gate, Wire};
use super::{AT_ONCE, NEVER, SHARDS, store, table};
use crate::bigtable::table::Table;
use crate::contract::{Cursor, JournalStore, Shard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tokio::sync::watch;

const WRITERS: usize = 16;
const BATCHES: usize = 25;
/// Another process replaces a reader after this many reads.
const LOOKS_OF_A_READER: u64 = 12;

/// A reader whose position outlives its process.
struct FeedReader {
    cursors: Vec<Cursor>,
    seen: HashMap<StreamId, Seq>,
    restarts: u64,
}

impl FeedReader {
    fn new() -> Self {
        Self {
            cursors: vec![Cursor::default(); SHARDS.into()],
            seen: HashMap::new(),
            restarts: 0,
        }
    }

    /// Reads every shard until the writers are done and nothing more comes. Others do the same and make rows of the same log.
    async fn follow(
        &mut self,
        table: &Arc<dyn Table>,
        given_up_after: Duration,
        writing: &AtomicUsize,
        steps: &watch::Sender<u64>,
    ) {
        let mut reader = store(table, given_up_after);
        let mut looks = 0_u64;
        loop {
            let over = writing.load(Ordering::SeqCst) == 0;
            let mut found = false;
            for shard in (0..SHARDS).map(Shard) {
                found |= self.look(&reader, shard).await;
            }
            steps.send_modify(|step| *step += 1);
            if over && !found {
                return;
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS_OF_A_READER) {
                reader = store(table, given_up_after);
                self.restarts += 1;
            }
        }
    }

    async fn look(&mut self, reader: &dyn JournalStore, shard: Shard) -> bool {
        let cursor = &mut self.cursors[usize::from(shard.0)];
        // A cursor may travel as bytes.
        let page = reader
            .tail(shard, &Cursor(cursor.0.to_vec().into()), 50)
            .await
            .unwrap();
        let found = !page.entries.is_empty();
        for fed in page.entries {
            let last = self.seen.entry(fed.stream.clone()).or_default();
            assert!(
                fed.entry.seq <= last.next(),
                "{} comes after {last} of {}",
                fed.entry.seq,
                fed.stream
            );
            *last = fed.entry.seq.max(*last);
        }
        *cursor = page.cursor;
        found
    }
}

/// Writers that each pause before their hints or before their commit, while the reader does some reads.
async fn writers_that_pause(given_up_after: Duration) {
    let Some(table) = table().await else { return };
    let (steps, _) = watch::channel(0);
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let writer = |n: usize| {
        let gate = Gate {
            steps: steps.subscribe(),
            every: 2 + n as u64 % 4,
            wait_for: 1 + n as u64 % 5,
        };
        let wire: Arc<dyn Table> = Arc::new(Wire::gated(&table, gate));
        let writing = Arc::clone(&writing);
        tokio::spawn(async move {
            let (store, mut pen) = (store(&wire, NEVER), Pen::new(&format!("run-{n}")));
            for batch in 0..BATCHES {
                pen.put(&store, "x", 1 + batch % 3).await;
            }
            writing.fetch_sub(1, Ordering::SeqCst);
            pen
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let mut readers = [FeedReader::new(), FeedReader::new()];
    let follow = readers
        .iter_mut()
        .map(|reader| reader.follow(&table, given_up_after, &writing, &steps));
    futures::future::join_all(follow).await;
    for pen in futures::future::join_all(writers).await {
        let pen = pen.unwrap();
        for reader in &readers {
            let seen = reader.seen.get(&pen.stream);
            assert_eq!(seen, Some(&pen.seq), "the reader has all of {}", pen.stream);
        }
    }
    let restarted = readers.iter().all(|reader| reader.restarts > 0);
    assert!(restarted, "the readers were restarted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_skips_nothing_while_writers_pause() {
    writers_that_pause(NEVER).await;
}

/// Impatient readers take pausing writers for dead: these retry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_skips_nothing_while_writers_are_given_up() {
    writers_that_pause(AT_ONCE).await;
}
