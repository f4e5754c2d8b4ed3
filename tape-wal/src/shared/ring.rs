//! The newest pages of the feed, by shard, bounded in bytes for all shards together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tape_store::contract::{Cursor, DamagedEntry, FeedEntry, TailPage};
use tokio::time::Instant;

/// The most bytes of all pages, and the page that goes over: 32 MiB.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// A page is forgotten after this long: bytes that a store has erased must not stay here.
const AGE_MAX: Duration = Duration::from_secs(10);
/// What a page and each of its entries take in addition to their own bytes, roughly.
const OVERHEAD_BYTES: usize = 256;

/// What was read of a shard at once.
#[derive(Debug)]
pub(super) struct RingPage {
    /// All entries, in order.
    pub(super) entries: Vec<FeedEntry>,
    pub(super) damaged: Vec<DamagedEntry>,
    /// Where the shard was before it.
    pub(super) before: Cursor,
    /// Where a reader that has it continues.
    pub(super) after: Cursor,
    bytes: usize,
    read_at: Instant,
}

/// The pages of a shard. They are numbered in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    pages: VecDeque<Arc<RingPage>>,
    end: Cursor,
    /// The last round in which the shard was read and nothing new was there.
    ended_in: u64,
}

/// Where a reader with a cursor of its own stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// Before this page: the cursors are the same.
    Before(u64),
    /// Within a page, which has so many entries more.
    Within { left: usize },
    /// Unknown.
    Nowhere,
}

impl RingPage {
    fn new(before: Cursor, page: TailPage) -> Self {
        let entries: usize = page.entries.iter().map(|entry| entry.entry.size()).sum();
        let damaged: usize = page.damaged.iter().map(|damaged| damaged.problem.len()).sum();
        let count = 1 + page.entries.len() + page.damaged.len();
        Self {
            entries: page.entries,
            damaged: page.damaged,
            before,
            after: page.cursor,
            bytes: entries + damaged + OVERHEAD_BYTES * count,
            read_at: Instant::now(),
        }
    }
}

impl Ring {
    /// The number of the oldest page that is here.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next page that is read.
    pub(super) fn next(&self) -> u64 {
        self.first + self.pages.len() as u64
    }

    /// Where the shard was read to.
    pub(super) const fn end(&self) -> &Cursor {
        &self.end
    }

    /// The last round in which a read found nothing new: it passed all that was readable when that round began.
    pub(super) const fn ended_in(&self) -> u64 {
        self.ended_in
    }

    /// At most `most` pages from number `from` on, which must not have been forgotten.
    pub(super) fn pages(&self, from: u64, most: usize) -> Vec<Arc<RingPage>> {
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        self.pages.iter().skip(skipped).take(most).cloned().collect()
    }

    /// Finds the place of a reader by its cursor, or else by the last entry that it has.
    pub(super) fn locate(&self, cursor: &Cursor, last: Option<&(StreamId, Seq)>) -> Located {
        if *cursor == self.end {
            return Located::Before(self.next());
        }
        for (page, number) in self.pages.iter().rev().zip((self.first..self.next()).rev()) {
            if *cursor == page.after {
                return Located::Before(number + 1);
            }
            if *cursor == page.before {
                return Located::Before(number);
            }
            let is_last = |entry: &FeedEntry| {
                last.is_some_and(|(stream, seq)| entry.entry.seq == *seq && entry.stream == *stream)
            };
            if let Some(index) = page.entries.iter().rposition(is_last) {
                return match page.entries.len() - index - 1 {
                    0 => Located::Nowhere,
                    left => Located::Within { left },
                };
            }
        }
        Located::Nowhere
    }
}

/// The rings of all shards.
#[derive(Debug)]
pub(super) struct Rings {
    shards: Vec<Ring>,
    /// The shard of each page, in the order in which they were read.
    order: VecDeque<usize>,
    bytes: usize,
    bytes_max: usize,
}

impl Rings {
    pub(super) fn new(shards: u16) -> Self {
        let shards = usize::from(shards.max(1));
        Self {
            shards: std::iter::repeat_with(Ring::default).take(shards).collect(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max: BYTES_MAX,
        }
    }

    /// The same with other bytes.
    pub(super) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    pub(super) fn shard(&self, index: usize) -> &Ring {
        &self.shards[index]
    }

    /// Adds what was read from the end of a shard, and forgets the oldest pages beyond the most bytes.
    pub(super) fn push(&mut self, index: usize, page: TailPage) -> Arc<RingPage> {
        let ring = &mut self.shards[index];
        let before = std::mem::replace(&mut ring.end, page.cursor.clone());
        let page = Arc::new(RingPage::new(before, page));
        ring.pages.push_back(Arc::clone(&page));
        self.order.push_back(index);
        self.bytes += page.bytes;
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            self.forget_oldest();
        }
        page
    }

    /// Nothing is known before `end`: pages that follow begin there.
    pub(super) fn begin_at(&mut self, index: usize, end: Cursor) {
        let ring = &mut self.shards[index];
        (ring.end, ring.ended_in) = (end, 0);
    }

    /// The shard was read in a round, and nothing new was there.
    pub(super) fn ended(&mut self, index: usize, end: Cursor, round: u64) {
        let ring = &mut self.shards[index];
        (ring.end, ring.ended_in) = (end, round);
    }

    /// Forgets what is too old.
    pub(super) fn forget_old(&mut self) {
        let now = Instant::now();
        let is_old = |page: &Arc<RingPage>| now.duration_since(page.read_at) >= AGE_MAX;
        while let Some(index) = self.order.front() {
            if !self.shards[*index].pages.front().is_some_and(is_old) {
                break;
            }
            self.forget_oldest();
        }
    }

    /// Forgets all pages. Their numbers are not used again.
    pub(super) fn clear(&mut self) {
        while !self.order.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(index) = self.order.pop_front() else {
            return;
        };
        let ring = &mut self.shards[index];
        let page = ring.pages.pop_front().expect("each page is in the order once");
        ring.first += 1;
        self.bytes -= page.bytes;
    }
}
