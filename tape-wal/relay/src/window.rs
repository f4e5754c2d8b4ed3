//! The pages of the feed that a part has taken up and not passed yet.
//!
//! The place of a shard moves past a page once each event of it is confirmed or refused, and so are all pages before it. An event that is
//! held up keeps the place where it is; later pages are taken up meanwhile, as far as there is room.

use crate::counts::Waiting;
use crate::event::Event;
use crate::offer::counted;
use crate::reader::Batch;
use crate::settings::Settings;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use tape_core::id::{Seq, StreamId};
use tape_core::time::Timestamp;

/// Most bytes of events that wait. A page is taken up as long as they are below, so there may be those of one page more.
pub(crate) const WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A page that was taken up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageId {
    shard: u16,
    number: u64,
}

/// An event that the part is done with: confirmed, or refused and on record.
#[derive(Debug)]
pub(crate) struct Done {
    stream: StreamId,
    seq: Seq,
    bytes: usize,
}

impl Done {
    pub(crate) fn of(event: &Event) -> Self {
        Self {
            stream: event.stream().clone(),
            seq: event.seq(),
            bytes: counted(event),
        }
    }
}

/// Where the place of a shard can move.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) shard: u16,
    pub(crate) cursor: Bytes,
    pub(crate) reached: Option<Timestamp>,
}

#[derive(Debug)]
struct Page {
    events: usize,
    left: usize,
    waiting: Waiting,
    oldest: Option<Timestamp>,
    passed: Passed,
}

/// The pages of one shard, from the first that is not passed.
#[derive(Debug, Default)]
struct Shard {
    first: u64,
    pages: VecDeque<Page>,
}

#[derive(Debug, Default)]
pub(crate) struct Window {
    shards: BTreeMap<u16, Shard>,
    /// How many events its pages have, delivered or not. A page counts as one at least.
    events: u64,
    bytes: usize,
    /// How far streams are done with, beyond the place.
    done: BTreeMap<StreamId, Seq>,
}

impl Window {
    /// Whether another page is taken up.
    pub(crate) const fn has_room(&self, settings: &Settings) -> bool {
        self.events < settings.window_events && self.bytes < WINDOW_BYTES_MAX
    }

    /// Takes a page up. Returns its events, of which each is to be [done](Self::done) with.
    pub(crate) fn add(&mut self, batch: Batch) -> (PageId, Vec<Event>) {
        self.events += weight(batch.events.len());
        self.bytes += batch.events.iter().map(counted).sum::<usize>();
        let shard = self.shards.entry(batch.shard).or_default();
        let number = shard.first + shard.pages.len() as u64;
        shard.pages.push_back(Page {
            events: batch.events.len(),
            left: batch.events.len(),
            waiting: batch.waiting,
            oldest: batch.oldest,
            passed: Passed {
                shard: batch.shard,
                cursor: batch.cursor,
                reached: batch.reached,
            },
        });
        let id = PageId {
            shard: batch.shard,
            number,
        };
        (id, batch.events)
    }

    /// Notes that an event is done with. Events of one stream come in their order.
    ///
    /// # Panics
    /// Where its page has no event left, which is a defect.
    pub(crate) fn done(&mut self, page: PageId, done: Done) {
        let shard = self.shards.get_mut(&page.shard);
        let page = shard.and_then(|shard| {
            let n = page.number.checked_sub(shard.first)?;
            shard.pages.get_mut(usize::try_from(n).ok()?)
        });
        let page = page.expect("a page with an event that is left is not passed");
        page.left = page.left.checked_sub(1).expect("each event is done with once");
        page.waiting.one_less();
        self.bytes -= done.bytes;
        self.done.insert(done.stream, done.seq);
    }

    /// Takes out the first pages of each shard that are done with. Of a shard, the last of them says where its place can move.
    pub(crate) fn pass(&mut self) -> Vec<Passed> {
        let mut passed = Vec::new();
        for shard in self.shards.values_mut() {
            while let Some(page) = shard.pages.pop_front_if(|page| page.left == 0) {
                shard.first += 1;
                self.events -= weight(page.events);
                passed.push(page.passed);
            }
        }
        if self.events == 0 {
            self.done.clear();
        }
        passed
    }

    /// When the oldest event was written of which a page is not passed; none where none waits.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let fronts = self.shards.values().filter_map(|shard| shard.pages.front());
        fronts.filter_map(|page| page.oldest).min()
    }

    /// How far streams are done with beyond the place: of each, the last event.
    pub(crate) const fn beyond(&self) -> &BTreeMap<StreamId, Seq> {
        &self.done
    }
}

fn weight(events: usize) -> u64 {
    events.max(1) as u64
}
