//! The states of recently used streams, bounded by bytes.

use super::loaded::Loaded;
use lru::LruCache;
use tape_core::decider::Decider;
use tape_core::id::StreamId;

pub(super) struct Cache<S> {
    states: LruCache<StreamId, Loaded<S>>,
    bytes: usize,
    bytes_max: usize,
}

impl<S: Decider> Cache<S> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            states: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn take(&mut self, stream: &StreamId) -> Option<Loaded<S>> {
        let loaded = self.states.pop(stream)?;
        self.bytes -= loaded.weight();
        Some(loaded)
    }

    /// Caches a state, and returns the evicted states, least recently used first.
    pub(super) fn put(&mut self, stream: StreamId, loaded: Loaded<S>) -> Vec<Loaded<S>> {
        self.bytes += loaded.weight();
        let mut gone: Vec<_> = self.states.put(stream, loaded).into_iter().collect();
        self.bytes -= gone.iter().map(Loaded::weight).sum::<usize>();
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.states.pop_lru()
        {
            self.bytes -= oldest.weight();
            gone.push(oldest);
        }
        gone
    }
}
