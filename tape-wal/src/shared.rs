//! One reader of the feed for a process, and its followers.
//!
//! While there are followers, one task reads the end of each shard and keeps the newest pages in a ring, bounded in bytes. A follower that has
//! all pages so far waits without a task, a query or a copy of its own: an entry wakes those whose filters it fits. A follower with an
//! older cursor, or one that falls behind the ring, reads the store itself until it meets the ring.
//!
//! # How a follower meets the ring
//!
//! Cursors are opaque, and two readers of one feed cut it into different pages. There are two proofs that a follower with a cursor of its
//! own may continue with page `n` of the ring:
//!
//! 1. *Its cursor is the cursor before page `n`.* The store answered page `n` and what follows to a reader that continued from this very
//!    cursor, so they are a right answer to the follower, too. Where the follower's last entry is found within a page of the ring, a read
//!    of as many entries as are left of that page leads to the cursor after it.
//! 2. *Neither has anything more to read.* In this order: the follower has its cursor; a read of the ring's reader begins and finds nothing
//!    new, so the ring has passed all that the follower passed; `n` is noted as the number of the ring's next page; the follower reads
//!    from its cursor and finds nothing, so it has passed all that the ring had passed. Both have passed the same, and what comes after
//!    comes in page `n` or later.
//!
//! Everything else (a short page, an entry that is found in a page) decides only what is tried next. While neither proof succeeds, the
//! follower goes on with its own reads, which are right by themselves.

mod interest;
mod live;
mod reader;
mod registry;
mod ring;
mod streams;

pub use live::LiveFeed;
pub use streams::StreamWatch;

use registry::{Place, Registry};
use ring::{Located, RingPage, Rings};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use streams::Streams;
use tape_core::id::{Seq, StreamId};
use tape_store::contract::{Cursor, JournalStore, StreamKey, TailPage};
use tape_store::error::StoreError;
use tokio::sync::Notify;

/// Pages of the ring that a follower looks at at once.
const LOOKED_AT_PAGES: usize = 64;

/// The feed of a store, read once for all followers. Cheap to clone.
#[derive(Clone)]
pub struct SharedFeed(Arc<Inner>);

struct Inner {
    store: Arc<dyn JournalStore>,
    shards: u16,
    state: Mutex<State>,
    /// Makes the reader read now.
    kick: Notify,
    /// Tells that the state of the reader changed.
    progress: Notify,
}

#[derive(Debug)]
struct State {
    rings: Rings,
    followers: Registry,
    streams: Streams,
    has_reader: bool,
    /// Whether the ends of the rings are places of the feed.
    is_open: bool,
    /// Whether commits are announced to watches of streams.
    is_announced: bool,
    /// Changes where pages of the rings no longer follow each other.
    generation: u64,
    /// Rounds of reads that began, and that are done.
    begun: u64,
    done: u64,
    /// Pages so far.
    published: u64,
    /// Failures so far, and the last one unless a round was done since.
    failures: u64,
    error: Option<StoreError>,
}

/// What a follower that reads the store itself does next.
enum Meeting {
    /// It reads the ring from now on.
    Joined,
    /// It reads this many entries; `next` is the next page of the ring, which it may join where it then finds nothing.
    Apart { limit: u32, next: Next },
}

/// A page of the ring that was not read yet.
#[derive(Clone, Copy)]
struct Next {
    generation: u64,
    page: u64,
    /// The last round in which the ring's reader found nothing more before this page.
    ended_in: u64,
}

/// What the ring has for a follower.
enum Taken {
    /// It has to read the store itself, from this cursor on where one is given.
    Behind(Option<Cursor>),
    /// Pages from a number on, and the cursor before the first.
    Pages(u64, Cursor, Vec<Arc<RingPage>>),
    /// Nothing for now. The shard was read to this cursor, which the follower is to tell its reader where `is_due`.
    Nothing { end: Cursor, is_due: bool },
}

impl std::fmt::Debug for SharedFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedFeed").finish_non_exhaustive()
    }
}

impl SharedFeed {
    /// The feed of `store`, which is not read while there are no followers.
    #[must_use]
    pub fn new(store: Arc<dyn JournalStore>) -> Self {
        let shards = store.capabilities().shards.max(1);
        Self::over(store, shards, Rings::new(shards))
    }

    /// The same with a ring of about `bytes` bytes, so that a test can make followers fall behind it.
    #[must_use]
    pub fn with_ring(store: Arc<dyn JournalStore>, bytes: usize) -> Self {
        let shards = store.capabilities().shards.max(1);
        Self::over(store, shards, Rings::new(shards).with_bytes_max(bytes))
    }

    fn over(store: Arc<dyn JournalStore>, shards: u16, rings: Rings) -> Self {
        let state = State {
            rings,
            followers: Registry::default(),
            streams: Streams::default(),
            has_reader: false,
            is_open: false,
            is_announced: false,
            generation: 0,
            begun: 0,
            done: 0,
            published: 0,
            failures: 0,
            error: None,
        };
        Self(Arc::new(Inner {
            store,
            shards,
            state: Mutex::new(state),
            kick: Notify::new(),
            progress: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("nothing panics while it holds the state")
    }

    fn ensure_reader(&self) {
        let mut state = self.state();
        if !state.has_reader {
            state.has_reader = true;
            tokio::spawn(reader::read(self.clone()));
        }
    }

    /// Changes the state and tells those who wait for it.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let changed = change(&mut self.state(), &mut woken);
        self.0.progress.notify_waiters();
        woken.into_iter().for_each(Waker::wake);
        changed
    }

    /// Waits until the state is as wanted.
    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        loop {
            let progress = self.0.progress.notified();
            if wanted(&self.state()) {
                return;
            }
            progress.await;
        }
    }

    /// Waits until the reader has read each shard once more, in a read that began after this call. Returns the number of that round.
    async fn round(&self) -> Result<u64, StoreError> {
        let (round, failures) = {
            let state = self.state();
            (state.begun + 1, state.failures)
        };
        self.0.kick.notify_one();
        self.until(|state| state.done >= round || state.failures > failures)
            .await;
        let state = self.state();
        match &state.error {
            Some(error) if state.done < round => Err(error.clone()),
            _ => Ok(round),
        }
    }
}

impl State {
    /// Takes over what was read of a shard in a round.
    fn publish(&mut self, shard: usize, page: TailPage, woken: &mut Vec<Waker>) {
        if page.is_end() {
            return self.rings.ended(shard, page.cursor, self.begun);
        }
        let number = self.rings.shard(shard).next();
        let page = self.rings.push(shard, page);
        self.published += 1;
        self.followers.concern(shard, number, &page, woken);
        if !self.streams.is_empty() {
            let damaged = page.damaged.iter().filter_map(|damaged| damaged.stream.as_ref());
            for stream in page.entries.iter().map(|entry| &entry.stream).chain(damaged) {
                self.streams.wake(StreamKey::of(stream));
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.followers.is_empty() && self.streams.is_empty()
    }

    /// Forgets the rings: what is read next does not follow what they have.
    fn reset(&mut self, shards: u16) {
        let ends = (0..usize::from(shards)).map(|shard| self.rings.shard(shard).end().clone());
        let ends: Vec<Cursor> = ends.collect();
        self.followers.send_back(&ends);
        self.rings.clear();
        self.is_open = false;
        self.generation += 1;
    }

    /// Lets a follower with a cursor of its own meet the ring. Its last entry is given where the ring is likely to have it.
    fn meet(
        &mut self,
        follower: u64,
        shard: usize,
        cursor: &Cursor,
        last: Option<&(StreamId, Seq)>,
    ) -> Meeting {
        let ring = self.rings.shard(shard);
        let next = Next {
            generation: self.generation,
            page: ring.next(),
            // Before the ring is open, its next page may begin anywhere.
            ended_in: if self.is_open { ring.ended_in() } else { 0 },
        };
        let limit = match ring.locate(cursor, last) {
            // A follower of a feed that cannot be read would take it for a silent one.
            _ if !self.is_open || self.error.is_some() => None,
            Located::Before(page) => {
                self.followers
                    .put(follower, shard, Place::At(page, cursor.clone()));
                return Meeting::Joined;
            }
            Located::Within { left } => u32::try_from(left).ok(),
            Located::Nowhere => None,
        };
        let limit = limit.unwrap_or(crate::feed::PAGE_ENTRIES);
        Meeting::Apart { limit, next }
    }

    /// Lets a follower that has passed all pages before `next`, and nothing else, continue with it. Returns whether that is possible.
    fn join(&mut self, follower: u64, shard: usize, next: Next, cursor: &Cursor) -> bool {
        let joins = self.is_open && self.generation == next.generation;
        if joins {
            let place = Place::At(next.page, cursor.clone());
            self.followers.put(follower, shard, place);
        }
        joins
    }

    fn take(&mut self, follower: u64, shard: usize) -> Taken {
        let ring = self.rings.shard(shard);
        match self.followers.place(follower, shard) {
            Place::Behind(from) => {
                let from = from.clone();
                self.followers.put(follower, shard, Place::Behind(None));
                return Taken::Behind(from);
            }
            Place::At(page, before) if *page < ring.first() => {
                let before = before.clone();
                self.followers.put(follower, shard, Place::Behind(None));
                return Taken::Behind(Some(before));
            }
            Place::At(page, before) if *page < ring.next() => {
                return Taken::Pages(*page, before.clone(), ring.pages(*page, LOOKED_AT_PAGES));
            }
            Place::At(..) | Place::Waiting | Place::Unread => {}
        }
        let end = ring.end().clone();
        self.followers.put(follower, shard, Place::Waiting);
        let is_due = self.followers.is_due(follower);
        Taken::Nothing { end, is_due }
    }
}
