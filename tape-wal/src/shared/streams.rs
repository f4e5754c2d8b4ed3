//! Readers of single streams: each is woken after a commit to its stream.

use super::SharedFeed;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::id::StreamId;
use tape_store::contract::StreamKey;
use tokio::sync::Notify;

/// The streams that are watched.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<StreamKey, Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// Commits so far, roughly.
    changes: u64,
    watches: usize,
    changed: Arc<Notify>,
}

/// Watches one stream, until dropped. It costs the store nothing.
#[derive(Debug)]
pub struct StreamWatch {
    feed: SharedFeed,
    stream: StreamKey,
    seen: u64,
    changed: Arc<Notify>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn wake(&mut self, stream: StreamKey) {
        if let Some(watched) = self.0.get_mut(&stream) {
            watched.wake();
        }
    }

    pub(super) fn wake_all(&mut self) {
        self.0.values_mut().for_each(Watched::wake);
    }
}

impl Watched {
    fn wake(&mut self) {
        self.changes += 1;
        self.changed.notify_waiters();
    }
}

impl SharedFeed {
    /// Watches a stream: [`StreamWatch::changed`] reports each commit after this call has returned.
    pub async fn watch(&self, stream: &StreamId) -> StreamWatch {
        let stream = StreamKey::of(stream);
        let watch = {
            let mut state = self.state();
            let watched = state.streams.0.entry(stream).or_default();
            watched.watches += 1;
            StreamWatch {
                feed: self.clone(),
                stream,
                seen: watched.changes,
                changed: Arc::clone(&watched.changed),
            }
        };
        self.ensure_reader();
        self.until(|state| state.is_open || state.is_announced).await;
        watch
    }
}

impl StreamWatch {
    /// Waits for a commit to the stream since the last call, or since it is watched. May wake spuriously. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            // This counts from here on, so that no commit is missed between the look and the wait.
            let changed = self.changed.notified();
            let changes = self
                .feed
                .state()
                .streams
                .0
                .get(&self.stream)
                .map_or(0, |watched| watched.changes);
            if changes != self.seen {
                self.seen = changes;
                return;
            }
            changed.await;
        }
    }
}

impl Drop for StreamWatch {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        if let Some(watched) = state.streams.0.get_mut(&self.stream) {
            watched.watches -= 1;
            if watched.watches == 0 {
                state.streams.0.remove(&self.stream);
            }
        }
    }
}
