//! A consumer of the feed: it stores its cursors, loses its connection and crashes, by chance.

use crate::history::pick;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tape_environment::Environment;
use tape_store::contract::{Cursor, FeedEntry, JournalStore as _, Shard};
use tape_store::memory::MemoryStore;
use tape_wal::{Filter, LiveFeed, Page, SharedFeed, Start};
use tokio::sync::watch;

/// The longest that it takes for a page.
const TAKES_MAX: Duration = Duration::from_millis(300);

pub(crate) struct Consumer {
    filter: Filter,
    store: Arc<MemoryStore>,
    environment: Arc<dyn Environment>,
    /// What it has done, with each event once.
    done: Vec<(StreamId, Seq)>,
    stored: Stored,
    now: Stored,
}

/// What it stores: where it is, and the last event of each stream.
#[derive(Clone, Default)]
struct Stored {
    cursors: BTreeMap<Shard, Cursor>,
    last: BTreeMap<StreamId, Seq>,
}

impl Consumer {
    pub(crate) fn new(filter: Filter, store: &Arc<MemoryStore>, environment: &Arc<dyn Environment>) -> Self {
        Self {
            filter,
            store: Arc::clone(store),
            environment: Arc::clone(environment),
            done: Vec::new(),
            stored: Stored::default(),
            now: Stored::default(),
        }
    }

    /// Consumes until it has all that there is in the end. A connection ends with its server, by chance, or when the consumer crashes.
    pub(crate) async fn consume(
        mut self,
        mut server: watch::Receiver<SharedFeed>,
        mut end: watch::Receiver<Option<Vec<FeedEntry>>>,
    ) -> Self {
        loop {
            let feed = server.borrow_and_update().clone();
            let cursors = self.now.cursors.clone().into_iter().collect();
            let Ok(mut live) = feed.follow(self.filter.clone(), Start::Beginning, cursors).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            loop {
                if self.has_all(end.borrow_and_update().as_deref()) {
                    return self;
                }
                let page = tokio::select! {
                    biased;
                    _ = server.changed() => break,
                    _ = end.changed() => continue,
                    page = live.next() => page,
                };
                let Ok(page) = page else { continue };
                self.take(page).await;
                if self.goes_away(&live).await {
                    break;
                }
            }
        }
    }

    async fn take(&mut self, page: Page) {
        assert!(page.damaged.is_empty());
        for fed in page.entries {
            self.check_event(&fed).await;
            let (stream, seq) = (fed.stream, fed.entry.seq);
            let last = self.now.last.insert(stream.clone(), seq);
            assert!(
                last < Some(seq),
                "{stream}@{seq} comes after {last:?} on one connection"
            );
            if !self.done.contains(&(stream.clone(), seq)) {
                self.done.push((stream, seq));
            }
        }
        let before = self.now.cursors.insert(page.shard, page.after);
        assert!(
            before.unwrap_or_default() == page.before,
            "a page does not follow the last one"
        );
    }

    /// An event is durable before it is delivered, and is for this consumer.
    async fn check_event(&self, fed: &FeedEntry) {
        assert!(
            self.filter.chooses(fed).unwrap(),
            "{} is not for {:?}",
            fed.stream,
            self.filter
        );
        let before = Seq(fed.entry.seq.0 - 1);
        let stored = self.store.read(&fed.stream, before, 1).await.unwrap();
        assert_eq!(stored, std::slice::from_ref(&fed.entry), "it is not durable");
    }

    /// Takes its time, and then sometimes loses its connection, or what it has not stored.
    async fn goes_away(&mut self, live: &LiveFeed) -> bool {
        if pick(&self.environment, 3) == 0 {
            tokio::time::sleep(TAKES_MAX.mul_f64(self.environment.chance())).await;
        }
        match pick(&self.environment, 24) {
            0 => {
                // It continues from the places that the feed names; a shard without one begins with the first entry.
                let places = live.places().map(|(shard, cursor)| (shard, cursor.clone()));
                self.now.cursors = places.collect();
                true
            }
            1 => {
                self.now = self.stored.clone();
                true
            }
            2..8 => {
                self.stored = self.now.clone();
                false
            }
            _ => false,
        }
    }

    fn has_all(&self, all: Option<&[FeedEntry]>) -> bool {
        all.is_some_and(|all| self.expected(all).len() == self.done.len())
    }

    fn expected(&self, all: &[FeedEntry]) -> Vec<(StreamId, Seq)> {
        let chosen = all.iter().filter(|fed| self.filter.chooses(fed).unwrap());
        chosen.map(|fed| (fed.stream.clone(), fed.entry.seq)).collect()
    }

    /// Each event was consumed once, in the order of its stream. Returns the number of events.
    pub(crate) fn check(&self, all: &[FeedEntry]) -> usize {
        let by_stream = |events: &[(StreamId, Seq)]| {
            let mut streams: BTreeMap<StreamId, Vec<Seq>> = BTreeMap::new();
            for (stream, seq) in events {
                streams.entry(stream.clone()).or_default().push(*seq);
            }
            streams
        };
        assert_eq!(
            by_stream(&self.done),
            by_stream(&self.expected(all)),
            "{:?}",
            self.filter
        );
        self.done.len()
    }
}
