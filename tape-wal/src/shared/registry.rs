//! The readers that a shared feed serves, and where each of them stands.

use super::interest::{Interest, ReaderId};
use super::ring::RingPage;
use crate::filter::Filter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use tape_store::contract::Cursor;
use tape_store::error::StoreError;

/// Each reader is told once in so many ticks how far the feed went without an entry for it.
const SPOKES: u64 = 30;

/// Where a reader stands in a shard.
#[derive(Debug)]
pub(super) enum Place {
    /// It reads the store itself, from this cursor on where one is set, else from its own.
    Behind(Option<Cursor>),
    /// It reads the ring, from this page on; the cursor is where the page begins.
    At(u64, Cursor),
    /// It has all that concerns it in the ring.
    Waiting,
    /// It does not read the shard.
    Unread,
}

/// A reader.
#[derive(Debug)]
pub(super) struct Slot {
    filter: Arc<Filter>,
    places: Box<[Place]>,
    /// How many shards it reads.
    read: usize,
    /// Shards in which it waits; it is in the index of interest while there are any.
    waiting: u16,
    waker: Option<Waker>,
    failure: Option<StoreError>,
    /// Whether it is to be told how far the feed went.
    is_due: bool,
    /// The pages that had been read when it was last told.
    told: u64,
}

/// All readers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: BTreeMap<ReaderId, Slot>,
    interest: Interest,
    next: ReaderId,
    ticks: u64,
}

impl Registry {
    /// Adds a reader, which is behind in each shard of `shards` that it reads.
    pub(super) fn add(&mut self, filter: Arc<Filter>, shards: usize, read: &[usize], told: u64) -> ReaderId {
        let reader = self.next;
        self.next += 1;
        let mut places: Box<[Place]> = std::iter::repeat_with(|| Place::Unread).take(shards).collect();
        for shard in read {
            places[*shard] = Place::Behind(None);
        }
        let slot = Slot {
            filter,
            places,
            read: read.len(),
            waiting: 0,
            waker: None,
            failure: None,
            is_due: false,
            told,
        };
        self.slots.insert(reader, slot);
        reader
    }

    pub(super) fn remove(&mut self, reader: ReaderId) {
        if let Some(slot) = self.slots.remove(&reader)
            && slot.waiting > 0
        {
            self.interest.remove(&slot.filter, reader);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn place(&self, reader: ReaderId, shard: usize) -> &Place {
        &self.slot(reader).places[shard]
    }

    pub(super) fn put(&mut self, reader: ReaderId, shard: usize, place: Place) {
        let slot = self
            .slots
            .get_mut(&reader)
            .expect("it is here until it is dropped");
        let waits = matches!(place, Place::Waiting);
        let waited = matches!(slot.places[shard], Place::Waiting);
        slot.places[shard] = place;
        match (waited, waits) {
            (false, true) => {
                if slot.waiting == 0 {
                    self.interest.add(&slot.filter, reader);
                }
                slot.waiting += 1;
            }
            (true, false) => {
                slot.waiting -= 1;
                if slot.waiting == 0 {
                    self.interest.remove(&slot.filter, reader);
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    /// A page was read: whom it concerns, and who waits, goes on from it. Collects those to wake.
    pub(super) fn concern(&mut self, shard: usize, number: u64, page: &RingPage, woken: &mut Vec<Waker>) {
        for entry in &page.entries {
            if self.interest.is_empty() {
                return;
            }
            for reader in self.interest.of(entry) {
                self.go_on(reader, shard, number, page, woken);
            }
        }
        for damaged in &page.damaged {
            let concerned = self.slots.iter();
            let concerned = concerned.filter(|(_, slot)| slot.filter.concerns(damaged.stream.as_ref()));
            for reader in concerned.map(|(reader, _)| *reader).collect::<Vec<_>>() {
                self.go_on(reader, shard, number, page, woken);
            }
        }
    }

    fn go_on(
        &mut self,
        reader: ReaderId,
        shard: usize,
        number: u64,
        page: &RingPage,
        woken: &mut Vec<Waker>,
    ) {
        if matches!(self.place(reader, shard), Place::Waiting) {
            self.put(reader, shard, Place::At(number, page.before.clone()));
            woken.extend(self.slot_mut(reader).waker.take());
        }
    }

    /// The feed cannot be read: tells all.
    pub(super) fn fail(&mut self, error: &StoreError, woken: &mut Vec<Waker>) {
        for slot in self.slots.values_mut() {
            slot.failure = Some(error.clone());
            woken.extend(slot.waker.take());
        }
    }

    /// Nothing of the ring counts any more: each reader reads the store itself, from where it was. `ends` has where each shard ended.
    pub(super) fn send_back(&mut self, ends: &[Cursor]) {
        let readers: Vec<ReaderId> = self.slots.keys().copied().collect();
        for reader in readers {
            for (shard, end) in ends.iter().enumerate() {
                let from = match self.place(reader, shard) {
                    Place::Behind(from) => from.clone(),
                    Place::At(_, before) => Some(before.clone()),
                    Place::Waiting => Some(end.clone()),
                    Place::Unread => continue,
                };
                self.put(reader, shard, Place::Behind(from));
            }
        }
    }

    /// Wakes the readers whose turn it is to be told how far the feed went, if it went on; `published` counts the pages.
    pub(super) fn tick(&mut self, published: u64, woken: &mut Vec<Waker>) {
        self.ticks += 1;
        let spoke = self.ticks % SPOKES;
        for (reader, slot) in &mut self.slots {
            if reader % SPOKES == spoke && slot.told != published {
                slot.is_due = true;
                woken.extend(slot.waker.take());
            }
        }
    }

    pub(super) fn is_due(&self, reader: ReaderId) -> bool {
        self.slot(reader).is_due
    }

    /// The reader was told all.
    pub(super) fn told(&mut self, reader: ReaderId, published: u64) {
        let slot = self.slot_mut(reader);
        (slot.is_due, slot.told) = (false, published);
    }

    pub(super) fn take_failure(&mut self, reader: ReaderId) -> Option<StoreError> {
        self.slot_mut(reader).failure.take()
    }

    /// Whether there is something for the reader to do; else it is woken once there is.
    pub(super) fn has_news(&mut self, reader: ReaderId, waker: &Waker) -> bool {
        let slot = self.slot_mut(reader);
        let waits = usize::from(slot.waiting) == slot.read;
        if slot.failure.is_some() || slot.is_due || !waits {
            return true;
        }
        match &mut slot.waker {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }

    fn slot(&self, reader: ReaderId) -> &Slot {
        self.slots.get(&reader).expect("it is here until it is dropped")
    }

    fn slot_mut(&mut self, reader: ReaderId) -> &mut Slot {
        self.slots
            .get_mut(&reader)
            .expect("it is here until it is dropped")
    }
}
