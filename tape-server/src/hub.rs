//! Wakes those who follow single streams.
//!
//! A store only says that something changed somewhere. With thousands of followers, each looking at its stream after each commit
//! would cost more than the commits. So one task reads the feed while there are followers at all, and wakes whom it concerns;
//! an idle follower costs a place in a map. A feed may be held up by transactions that have nothing to do with a stream, so a store
//! whose feed may announces commits besides.

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

/// Entries in one look at a shard.
const PAGE_ENTRIES: u32 = 1_024;
/// After an error of the store, the next look waits so long.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// While the store cannot be read, the log says so this often.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Who follows which stream. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    store: Arc<dyn JournalStore>,
    followed: Mutex<Followed>,
    /// Whether the reader is at its work: it sees each commit that comes after this turned true.
    reading: watch::Sender<bool>,
}

#[derive(Default)]
struct Followed {
    streams: HashMap<StreamKey, watch::Sender<()>>,
    /// Whether a reader exists, at work already or about to be.
    has_reader: bool,
}

/// Follows one stream, until dropped.
pub(crate) struct Follower {
    hub: Hub,
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

impl Hub {
    pub(crate) fn new(store: Arc<dyn JournalStore>) -> Self {
        let reading = watch::Sender::new(false);
        Self(Arc::new(Inner {
            store,
            followed: Mutex::default(),
            reading,
        }))
    }

    /// Follows a stream: [`Follower::changed`] tells of each commit after this call has returned.
    pub(crate) async fn follow(&self, stream: &StreamId) -> Follower {
        let mut reading = self.0.reading.subscribe();
        let stream = StreamKey::of(stream);
        let changed = self.join(stream);
        let follower = Follower {
            hub: self.clone(),
            stream,
            changed,
        };
        // The sender lives as long as the hub, so the wait ends by the value alone.
        let _ = reading.wait_for(|reading| *reading).await;
        follower
    }

    fn join(&self, stream: StreamKey) -> watch::Receiver<()> {
        let mut followed = self.followed();
        let changed = match followed.streams.get(&stream) {
            Some(sender) => sender.subscribe(),
            None => {
                let sender = watch::Sender::new(());
                let changed = sender.subscribe();
                followed.streams.insert(stream, sender);
                changed
            }
        };
        if !followed.has_reader {
            followed.has_reader = true;
            tokio::spawn(self.clone().read());
        }
        changed
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.0
            .followed
            .lock()
            .expect("nothing panics while it holds the followers")
    }

    /// Reads the feed while anybody follows anything.
    async fn read(self) {
        let mut outage = Outage::new(SAID_AGAIN);
        while let Err(error) = self.read_until_alone().await {
            let error = Causes(&error).to_string();
            if let Some(spell) = outage.lost(std::time::Instant::now(), &error) {
                tracing::warn!(error, %spell, "followers wait for the store");
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

    /// Wakes followers as commits are announced; ends with the store.
    async fn hear(&self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            let followed = self.followed();
            match announcement {
                Announcement::Streams(streams) => streams.iter().for_each(|stream| followed.wake(*stream)),
                Announcement::Any => followed.wake_all(),
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
        // What was committed before the reader was where it is now is nobody's news but those who followed already.
        self.followed().wake_all();
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
            let followed = self.followed();
            let damaged = page.damaged.iter().filter_map(|damaged| damaged.stream.as_ref());
            for stream in page.entries.iter().map(|entry| &entry.stream).chain(damaged) {
                followed.wake(StreamKey::of(stream));
            }
            *cursor = page.cursor;
        }
    }

    fn stop_if_alone(&self) -> bool {
        let mut followed = self.followed();
        let alone = followed.streams.is_empty();
        if alone {
            followed.has_reader = false;
            self.0.reading.send_replace(false);
        }
        alone
    }
}

impl Follower {
    /// Waits for a commit to the stream since the last call, or since it is followed. May return without reason.
    pub(crate) async fn changed(&mut self) {
        // The sender is in the map for as long as there is a follower.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.hub.followed();
        let last = followed
            .streams
            .get(&self.stream)
            .is_some_and(|sender| sender.receiver_count() == 1);
        if last {
            followed.streams.remove(&self.stream);
        }
    }
}
