//! Wakes followers of single streams.
//!
//! A store only says that something changed. With thousands of subscriptions, reading each stream after each commit would cost more than
//! the commits. So one task reads the feed while there are subscriptions, and wakes those of the changed streams; an idle subscription
//! costs a place in a map. Transactions on other data may hold up a feed. A store with such a feed announces commits as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tape_core::causes::Causes;
use tape_core::id::StreamId;
use tape_core::outage::Outage;
use tape_store::announce::{Announcement, Announcements};
use tape_store::contract::{Cursor, JournalStore, Shard, StreamKey};
use tape_store::error::StoreError;
use tokio::sync::watch;

/// Entries in one read of a shard.
const PAGE_ENTRIES: u32 = 1_024;
/// The pause before the next read after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How often the log repeats that the store cannot be read.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// The subscriptions by stream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ChangeNotifier(Arc<Inner>);

struct Inner {
    store: Arc<dyn JournalStore>,
    subscribed: Mutex<Followed>,
    /// Whether the reader runs: it sees each commit after this became true.
    reading: watch::Sender<bool>,
}

#[derive(Default)]
struct Followed {
    streams: HashMap<StreamKey, watch::Sender<()>>,
    /// Whether a reader exists, running or about to run.
    has_reader: bool,
}

/// Follows one stream, until dropped.
pub(crate) struct Subscription {
    notifier: ChangeNotifier,
    stream: StreamKey,
    changed: watch::Receiver<()>,
}

impl Followed {
    fn wake(&self, stream: StreamKey) {
        if let Some(sender) = self.streams.get(&stream) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        self.streams.values().for_each(|sender| sender.send_replace(()));
    }
}

impl ChangeNotifier {
    pub(crate) fn new(store: Arc<dyn JournalStore>) -> Self {
        let reading = watch::Sender::new(false);
        Self(Arc::new(Inner {
            store,
            subscribed: Mutex::default(),
            reading,
        }))
    }

    /// Subscribes to a stream: [`Subscription::changed`] reports each commit after this call has returned.
    pub(crate) async fn subscribe(&self, stream: &StreamId) -> Subscription {
        let mut reading = self.0.reading.subscribe();
        let stream = StreamKey::of(stream);
        let changed = self.join(stream);
        let subscription = Subscription {
            notifier: self.clone(),
            stream,
            changed,
        };
        // The sender lives as long as the notifier, so only the value ends the wait.
        let _ = reading.wait_for(|reading| *reading).await;
        subscription
    }

    fn join(&self, stream: StreamKey) -> watch::Receiver<()> {
        let mut subscribed = self.subscribed();
        let changed = match subscribed.streams.get(&stream) {
            Some(sender) => sender.subscribe(),
            None => {
                let sender = watch::Sender::new(());
                let changed = sender.subscribe();
                subscribed.streams.insert(stream, sender);
                changed
            }
        };
        if !subscribed.has_reader {
            subscribed.has_reader = true;
            tokio::spawn(self.clone().read());
        }
        changed
    }

    fn subscribed(&self) -> MutexGuard<'_, Followed> {
        self.0
            .subscribed
            .lock()
            .expect("nothing panics while it holds the subscriptions")
    }

    /// Reads the feed while there are subscriptions.
    async fn read(self) {
        let mut outage = Outage::new(SAID_AGAIN);
        while let Err(error) = self.read_until_alone().await {
            let error = Causes(&error).to_string();
            if let Some(spell) = outage.lost(std::time::Instant::now(), &error) {
                tracing::warn!(error, %spell, "subscriptions wait for the store");
            }
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }

    async fn read_until_alone(&self) -> Result<(), StoreError> {
        let Some(announcements) = self.0.store.announcements() else {
            return self.read_feed().await;
        };
        self.0.reading.send_replace(true);
        tokio::select! {
            biased;
            read = self.read_feed() => read,
            () = self.hear(announcements) => self.read_feed().await,
        }
    }

    /// Wakes subscriptions as commits are announced; ends with the store.
    async fn hear(&self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            let subscribed = self.subscribed();
            match announcement {
                Announcement::Streams(streams) => streams.iter().for_each(|stream| subscribed.wake(*stream)),
                Announcement::Any => subscribed.wake_all(),
            }
        }
    }

    async fn read_feed(&self) -> Result<(), StoreError> {
        let store = &self.0.store;
        let mut cursors = Vec::new();
        for shard in (0..store.capabilities().shards).map(Shard) {
            cursors.push((shard, store.tail_end(shard).await?));
        }
        self.0.reading.send_replace(true);
        // Commits before the reader's present place concern only existing subscriptions.
        self.subscribed().wake_all();
        loop {
            let changed = store.changed();
            for (shard, cursor) in &mut cursors {
                self.read_shard(*shard, cursor).await?;
            }
            if self.stop_if_alone() {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn read_shard(&self, shard: Shard, cursor: &mut Cursor) -> Result<(), StoreError> {
        loop {
            let page = self.0.store.tail(shard, cursor, PAGE_ENTRIES).await?;
            if page.is_end() {
                *cursor = page.cursor;
                return Ok(());
            }
            let subscribed = self.subscribed();
            let damaged = page.damaged.iter().filter_map(|damaged| damaged.stream.as_ref());
            for stream in page.entries.iter().map(|entry| &entry.stream).chain(damaged) {
                subscribed.wake(StreamKey::of(stream));
            }
            *cursor = page.cursor;
        }
    }

    fn stop_if_alone(&self) -> bool {
        let mut subscribed = self.subscribed();
        let alone = subscribed.streams.is_empty();
        if alone {
            subscribed.has_reader = false;
            self.0.reading.send_replace(false);
        }
        alone
    }
}

impl Subscription {
    /// Waits for a commit to the stream since the last call, or since it is subscribed. May wake spuriously.
    pub(crate) async fn changed(&mut self) {
        // The sender is in the map for as long as there is a subscription.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribed = self.notifier.subscribed();
        let last = subscribed
            .streams
            .get(&self.stream)
            .is_some_and(|sender| sender.receiver_count() == 1);
        if last {
            subscribed.streams.remove(&self.stream);
        }
    }
}
