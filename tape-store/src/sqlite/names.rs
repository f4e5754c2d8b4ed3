//! The numbers of streams. A stream keeps its number for ever, so a durable number can be cached for good.

use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use tape_core::id::StreamId;

/// Most numbers that are remembered.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not zero");

#[derive(Debug)]
pub(super) struct Names(Mutex<LruCache<StreamId, i64>>);

impl Names {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(NAMES_MAX)))
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<i64> {
        self.0
            .lock()
            .expect("no code panics while it holds the names")
            .get(stream)
            .copied()
    }

    pub(super) fn put(&self, stream: &StreamId, number: i64) {
        self.0
            .lock()
            .expect("no code panics while it holds the names")
            .put(stream.clone(), number);
    }
}
