//! The other side of a connection, for the layers above.

use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const CUT: u8 = 2;

/// The other side of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    places: Places,
    fate: AtomicU8,
    has_asked: AtomicBool,
    waker: AtomicWaker,
}

/// The places of a port. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    taken: Mutex<Taken>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Connections that were cut to make room have not ended yet.
    ForNow,
    /// All connections have made a request.
    OfUsed,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    accepted: u64,
    /// Connections without a request so far, the oldest first.
    silent: BTreeMap<u64, Peer>,
}

impl Peer {
    /// Records that the peer has made a request: it speaks the protocol.
    pub fn asked(&self) {
        if !self.0.has_asked.swap(true, Ordering::AcqRel) {
            self.0.places.taken().silent.remove(&self.0.number);
        }
    }

    /// Whether the peer closed the connection, or its system did for it. Silence, however long, does not count as closing.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.0.fate.load(Ordering::Acquire) == CLOSED
    }

    /// Whether this side closed the connection: the peer missed a deadline, or was cut to make room for another.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.0.fate.load(Ordering::Acquire) == CUT
    }

    pub(crate) fn has_asked(&self) -> bool {
        self.0.has_asked.load(Ordering::Acquire)
    }

    pub(crate) fn note_closed(&self) {
        self.end(CLOSED);
    }

    pub(crate) fn cut(&self) {
        self.end(CUT);
        self.0.waker.wake();
    }

    /// The first end counts.
    fn end(&self, fate: u8) {
        let _ = self
            .0
            .fate
            .compare_exchange(OPEN, fate, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Wakes the task of the connection when it is cut.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    /// Gives its place back.
    pub(crate) fn leave(&self) {
        let mut taken = self.0.places.taken();
        taken.count -= 1;
        taken.silent.remove(&self.0.number);
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max: max.max(1),
            taken: Mutex::default(),
        }))
    }

    pub(crate) fn max(&self) -> usize {
        self.0.max
    }

    /// A place for a new connection; where all are taken, that of the oldest connection without a request.
    pub(crate) fn take(&self) -> Result<Peer, Full> {
        let mut taken = self.taken();
        if taken.count >= self.0.max {
            let leaving = taken.count - self.0.max;
            if leaving > self.0.max / 8 {
                return Err(Full::ForNow);
            }
            taken.silent.pop_first().ok_or(Full::OfUsed)?.1.cut();
        }
        taken.count += 1;
        taken.accepted += 1;
        let number = taken.accepted;
        let peer = Peer(Arc::new(Inner {
            number,
            places: self.clone(),
            fate: AtomicU8::new(OPEN),
            has_asked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }));
        taken.silent.insert(number, peer.clone());
        Ok(peer)
    }

    /// Cuts the oldest connection without a request.
    pub(crate) fn make_room(&self) {
        if let Some((_, peer)) = self.taken().silent.pop_first() {
            peer.cut();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0
            .taken
            .lock()
            .expect("nothing panics while it holds the places")
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Places};

    #[test]
    fn the_oldest_that_has_not_asked_makes_room() {
        let places = Places::new(2);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        first.asked();
        let third = places.take().unwrap();
        assert!(second.was_cut() && !first.was_cut() && !third.was_cut());
        assert_eq!(
            places.take().err(),
            Some(Full::ForNow),
            "the second has not left yet"
        );
        second.leave();
        third.asked();
        assert_eq!(
            places.take().err(),
            Some(Full::OfUsed),
            "both have asked for something"
        );
        first.leave();
        assert!(places.take().is_ok());
    }

    #[test]
    fn the_first_end_of_a_connection_counts() {
        let places = Places::new(2);
        let (closed, cut) = (places.take().unwrap(), places.take().unwrap());
        closed.note_closed();
        closed.cut();
        cut.cut();
        cut.note_closed();
        assert!(closed.has_closed() && !closed.was_cut());
        assert!(cut.was_cut() && !cut.has_closed());
    }
}
