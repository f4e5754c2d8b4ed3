//! Lanes that are full: a few pieces wait for each, the others are left alone until there is room again.

use crate::connector::{Lane, LaneId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// At least so many pieces of a driver may wait for one lane, otherwise as many as it has places: enough that it never stands empty, and
/// few enough that other copies of the reactor find something to do.
const WAITING_MIN: usize = 16;

/// Pieces that are known to need a full lane; beyond that they are forgotten, and looked at anew.
const PIECES_MAX: usize = 10_000;

/// How many pieces wait for each lane. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parking(Arc<Mutex<HashMap<LaneId, usize>>>);

/// A piece that waits for a lane.
#[derive(Debug)]
pub(crate) struct Parked {
    parking: Parking,
    /// Kept, so that no other lane gets its id.
    lane: Lane,
}

impl Parking {
    /// Room to wait for a lane.
    pub(crate) fn enter(&self, lane: &Lane) -> Option<Parked> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.entry(lane.id()).or_default();
        (*waiting < most(lane)).then(|| {
            *waiting += 1;
            Parked {
                parking: self.clone(),
                lane: lane.clone(),
            }
        })
    }

    /// Whether more may wait for a lane, and soon will have to, lest it stands empty.
    fn has_room(&self, lane: &Lane) -> bool {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.get(&lane.id()).copied().unwrap_or_default();
        waiting <= most(lane) / 2
    }
}

fn most(lane: &Lane) -> usize {
    lane.places().max(WAITING_MIN)
}

impl Drop for Parked {
    fn drop(&mut self) {
        let mut waiting = self.parking.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut waiting) = waiting.entry(self.lane.id()) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }
}

/// Pieces that found no room to wait for their lanes.
#[derive(Debug)]
pub(crate) struct Crowd<P> {
    lanes: HashMap<LaneId, Lane>,
    pieces: HashMap<P, LaneId>,
}

impl<P: Eq + Hash> Crowd<P> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            pieces: HashMap::new(),
        }
    }

    pub(crate) fn join(&mut self, piece: P, lane: Lane) {
        if self.pieces.len() >= PIECES_MAX {
            self.pieces.clear();
        }
        self.pieces.insert(piece, lane.id());
        self.lanes.insert(lane.id(), lane);
    }

    /// Whether there is room for some of them by now.
    pub(crate) fn may_go_on(&self, parking: &Parking) -> bool {
        self.lanes.values().any(|lane| parking.has_room(lane))
    }

    /// Lets those go on that there is room for.
    pub(crate) fn go_on(&mut self, parking: &Parking) {
        self.lanes.retain(|_, lane| !parking.has_room(lane));
        self.pieces.retain(|_, lane| self.lanes.contains_key(lane));
    }

    pub(crate) fn has(&self, piece: &P) -> bool {
        self.pieces.contains_key(piece)
    }
}
