//! Full limits: a few pieces wait for each, the others are set aside until there is room again.

use crate::connector::{ConcurrencyLimit, LimitId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many pieces of a runner may wait for one limit at least; more where the limit has more places. That is enough to keep its places in
/// use, and few enough to leave work for other copies of the reactor.
const WAITING_MIN: usize = 16;

/// Most pieces that are remembered to need a full limit. Others are forgotten, and found again.
const PIECES_MAX: usize = 10_000;

/// How many pieces wait for each limit. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitSlots(Arc<Mutex<HashMap<LimitId, usize>>>);

/// A piece that waits for a limit.
#[derive(Debug)]
pub(crate) struct WaitSlot {
    slots: WaitSlots,
    /// Kept, so that no other limit gets its id.
    limit: ConcurrencyLimit,
}

impl WaitSlots {
    /// A slot to wait for a limit; none where enough pieces wait.
    pub(crate) fn enter(&self, limit: &ConcurrencyLimit) -> Option<WaitSlot> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.entry(limit.id()).or_default();
        (*waiting < most(limit)).then(|| {
            *waiting += 1;
            WaitSlot {
                slots: self.clone(),
                limit: limit.clone(),
            }
        })
    }

    /// Whether more pieces may wait for a limit, and must soon, to keep its places in use.
    fn has_room(&self, limit: &ConcurrencyLimit) -> bool {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.get(&limit.id()).copied().unwrap_or_default();
        waiting <= most(limit) / 2
    }
}

fn most(limit: &ConcurrencyLimit) -> usize {
    limit.places().max(WAITING_MIN)
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        let mut waiting = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut waiting) = waiting.entry(self.limit.id()) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }
}

/// Pieces that found no slot to wait for their limits.
#[derive(Debug)]
pub(crate) struct Backlog<P> {
    limits: HashMap<LimitId, ConcurrencyLimit>,
    pieces: HashMap<P, LimitId>,
}

impl<P: Eq + Hash> Backlog<P> {
    pub(crate) fn new() -> Self {
        Self {
            limits: HashMap::new(),
            pieces: HashMap::new(),
        }
    }

    pub(crate) fn join(&mut self, piece: P, limit: ConcurrencyLimit) {
        if self.pieces.len() >= PIECES_MAX {
            self.pieces.clear();
        }
        self.pieces.insert(piece, limit.id());
        self.limits.insert(limit.id(), limit);
    }

    /// Whether there is now room for some of them.
    pub(crate) fn may_go_on(&self, slots: &WaitSlots) -> bool {
        self.limits.values().any(|limit| slots.has_room(limit))
    }

    /// Releases the pieces that there is room for.
    pub(crate) fn go_on(&mut self, slots: &WaitSlots) {
        self.limits.retain(|_, limit| !slots.has_room(limit));
        self.pieces.retain(|_, limit| self.limits.contains_key(limit));
    }

    pub(crate) fn has(&self, piece: &P) -> bool {
        self.pieces.contains_key(piece)
    }
}
