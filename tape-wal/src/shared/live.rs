//! A follower of the shared feed.

use super::{Meeting, SharedFeed, Taken};
use crate::feed::{FeedError, PAGE_ENTRIES, Page, Start, number as shard, places_of, shards_of};
use crate::filter::Filter;
use crate::shared::registry::Place;
use crate::shared::ring::RingPage;
use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;
use tape_core::id::{Seq, StreamId};
use tape_store::contract::{Cursor, DamagedEntry, FeedEntry, Shard, TailPage};

/// A page takes no more pages of the ring once it has so many bytes: what waits for a client that takes nothing stays small.
const PAGE_BYTES: usize = 64 * 1024;
/// A follower that reads the store itself tells its reader after so many reads how far it went, though nothing was for it.
const QUIET_READS: u32 = 16;

/// A follower of the feed, as [`Feed`](crate::Feed) is a reader: every durable entry that the filter chooses is in some page, at least
/// once, and in order within its stream. It shares its reads with all others of its [`SharedFeed`].
///
/// A page without entries, by which only the cursor moves, comes rarely: see [`LiveFeed::next`].
pub struct LiveFeed {
    feed: SharedFeed,
    number: u64,
    filter: Arc<Filter>,
    shards: Box<[ShardPlace]>,
    /// The shards that it reads, and which of them is the next.
    read: Box<[usize]>,
    next: usize,
}

/// Where it is in a shard.
struct ShardPlace {
    cursor: Cursor,
    /// The cursor that its reader has.
    told: Cursor,
    behind: Behind,
}

/// How far it is behind the ring.
#[derive(Default)]
struct Behind {
    /// The last entry before its cursor, where that is known.
    last: Option<(StreamId, Seq)>,
    /// Whether its last read came to the end of the feed, or near.
    is_near: bool,
    /// The round in which the ring's reader read after it had its cursor.
    round: Option<u64>,
}

impl std::fmt::Debug for LiveFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveFeed")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl SharedFeed {
    /// A follower that continues after the cursors of an earlier one, and begins at `start` in shards without one.
    ///
    /// # Errors
    /// As [`Feed::open`](crate::Feed::open).
    pub async fn follow(
        &self,
        filter: Filter,
        start: Start,
        after: Vec<(Shard, Cursor)>,
    ) -> Result<LiveFeed, FeedError> {
        self.follow_only(filter, start, after, Vec::new()).await
    }

    /// The same for some shards only; for all where none is named.
    ///
    /// # Errors
    /// As [`Feed::open`](crate::Feed::open) and [`Feed::only`](crate::Feed::only).
    pub async fn follow_only(
        &self,
        filter: Filter,
        start: Start,
        after: Vec<(Shard, Cursor)>,
        only: Vec<Shard>,
    ) -> Result<LiveFeed, FeedError> {
        let places = places_of(self.0.shards, after)?;
        let read = shards_of(places.len(), only)?;
        let filter = Arc::new(filter);
        let number = {
            let mut state = self.state();
            let published = state.published;
            let filter = Arc::clone(&filter);
            state.followers.add(filter, places.len(), &read, published)
        };
        self.ensure_reader();
        let place = |cursor: &Option<Cursor>| {
            let cursor = cursor.clone().unwrap_or_default();
            ShardPlace {
                told: cursor.clone(),
                cursor,
                behind: Behind::default(),
            }
        };
        // From here on, dropping it removes it from the followers.
        let mut live = LiveFeed {
            feed: self.clone(),
            number,
            filter,
            shards: places.iter().map(place).collect(),
            read: read.into(),
            next: 0,
        };
        let new = live.read.iter().copied().filter(|index| places[*index].is_none());
        let new: Vec<usize> = new.collect();
        if start == Start::Now && !new.is_empty() {
            let round = self.round().await?;
            for index in new {
                live.begin_now(index, round).await?;
            }
        }
        Ok(live)
    }
}

impl LiveFeed {
    /// The number of shards of the feed.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The cursor of each shard that is read: a reader that stores these continues from here.
    pub fn places(&self) -> impl Iterator<Item = (Shard, &Cursor)> {
        let read = self.read.iter();
        read.map(|index| (shard(*index), &self.shards[*index].told))
    }

    /// The next page; waits for one. Dropping the future loses nothing.
    ///
    /// A page without entries says how far the feed went while nothing was for this follower: about twice a minute while it waits, and
    /// after sixteen reads of the store while it is behind. So it tells little of what others do, and a follower that resumes repeats
    /// little.
    ///
    /// # Errors
    /// [`FeedError`]; after [`FeedError::Store`] the feed continues where it was.
    pub async fn next(&mut self) -> Result<Page, FeedError> {
        loop {
            if let Some(page) = self.ready().await? {
                return Ok(page);
            }
            self.woken().await;
        }
    }

    /// Waits until [`LiveFeed::ready`] may return a page or an error. Needs no memory meanwhile, and asks the store nothing. Dropping the
    /// future loses nothing.
    pub async fn woken(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.feed.state();
            if state.followers.has_news(self.number, cx.waker()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The next page, or none where all durable entries were read. Shards take turns, so a busy one does not starve the others.
    ///
    /// # Errors
    /// As [`LiveFeed::next`].
    pub async fn ready(&mut self) -> Result<Option<Page>, FeedError> {
        if let Some(error) = self.feed.state().followers.take_failure(self.number) {
            return Err(error.into());
        }
        for _ in 0..self.read.len() {
            let turn = self.next;
            self.next = (turn + 1) % self.read.len();
            if let Some(page) = self.look(self.read[turn]).await? {
                return Ok(Some(page));
            }
        }
        let mut state = self.feed.state();
        let published = state.published;
        state.followers.told(self.number, published);
        Ok(None)
    }

    /// Begins a shard after all that was durable before a round.
    async fn begin_now(&mut self, index: usize, round: u64) -> Result<(), FeedError> {
        let end = {
            let mut state = self.feed.state();
            let ring = state.rings.shard(index);
            let (page, end, ended_in) = (ring.next(), ring.end().clone(), ring.ended_in());
            let passed = state.is_open && ended_in >= round;
            if passed {
                state
                    .followers
                    .put(self.number, index, Place::At(page, end.clone()));
            }
            passed.then_some(end)
        };
        let end = match end {
            Some(end) => end,
            // The ring's reader has more to read, and may not have passed yet what was durable.
            None => self.feed.0.store.tail_end(shard(index)).await?,
        };
        let place = &mut self.shards[index];
        (place.cursor, place.told) = (end.clone(), end);
        Ok(())
    }

    async fn look(&mut self, index: usize) -> Result<Option<Page>, FeedError> {
        loop {
            let taken = self.feed.state().take(self.number, index);
            match taken {
                Taken::Behind(from) => {
                    if let Some(from) = from {
                        self.shards[index].cursor = from;
                        self.shards[index].behind = Behind::default();
                    }
                    let page = self.catch_up(index).await?;
                    if page.is_some() {
                        return Ok(page);
                    }
                }
                Taken::Pages(number, before, pages) => {
                    self.shards[index].cursor = before;
                    if let Some(page) = self.sift(index, number, &pages) {
                        return Ok(Some(page));
                    }
                    // Others run in between, however many pages are not for this follower.
                    tokio::task::yield_now().await;
                }
                Taken::Nothing { end, is_due } => {
                    let place = &mut self.shards[index];
                    place.cursor = end;
                    let moved = is_due && place.cursor != place.told;
                    return Ok(moved.then(|| self.page(index, Vec::new(), Vec::new())));
                }
            }
        }
    }

    /// Takes what is for this follower from pages of the ring, the first of which has the number `number`.
    fn sift(&mut self, index: usize, number: u64, pages: &[Arc<RingPage>]) -> Option<Page> {
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        let (mut bytes, mut next) = (0, number);
        for page in pages {
            let before = entries.len();
            let read = page.entries.iter().map(Cow::Borrowed);
            self.filter.sift(read, &mut entries, &mut damaged);
            damaged.extend(
                page.damaged
                    .iter()
                    .filter(|damaged| self.concerns(damaged))
                    .cloned(),
            );
            bytes += entries[before..]
                .iter()
                .map(|entry: &FeedEntry| entry.entry.size())
                .sum::<usize>();
            self.shards[index].cursor = page.after.clone();
            next += 1;
            if bytes >= PAGE_BYTES || entries.len() >= PAGE_ENTRIES as usize {
                break;
            }
        }
        let place = Place::At(next, self.shards[index].cursor.clone());
        self.feed.state().followers.put(self.number, index, place);
        let chosen = !entries.is_empty() || !damaged.is_empty();
        chosen.then(|| self.page(index, entries, damaged))
    }

    /// Reads the store until there is something for this follower, or until it has met the ring; then none.
    async fn catch_up(&mut self, index: usize) -> Result<Option<Page>, FeedError> {
        let mut quiet = 0;
        loop {
            let place = &self.shards[index];
            // The ring has the last entry only once it was read after this follower had it.
            let last = place
                .behind
                .last
                .as_ref()
                .filter(|_| place.behind.round.is_some());
            let meeting = self.feed.state().meet(self.number, index, &place.cursor, last);
            let (limit, next) = match meeting {
                Meeting::Joined => {
                    self.shards[index].behind = Behind::default();
                    return Ok(None);
                }
                Meeting::Apart { limit, next } => (limit, next),
            };
            if place.behind.is_near && place.behind.round.is_none() {
                self.shards[index].behind.round = Some(self.feed.round().await?);
                continue;
            }
            let page = self.feed.0.store.tail(shard(index), &place.cursor, limit).await?;
            if page.is_end() {
                let place = &mut self.shards[index];
                place.cursor = page.cursor;
                let passed = place.behind.round.is_some_and(|round| next.ended_in >= round);
                if passed && self.feed.state().join(self.number, index, next, &place.cursor) {
                    place.behind = Behind::default();
                    return Ok(None);
                }
                (place.behind.is_near, place.behind.round) = (true, None);
                continue;
            }
            quiet += 1;
            let (entries, damaged) = self.own(index, page, limit);
            if !entries.is_empty() || !damaged.is_empty() || quiet == QUIET_READS {
                return Ok(Some(self.page(index, entries, damaged)));
            }
        }
    }

    /// What is for this follower of a page that it read itself.
    fn own(&mut self, index: usize, page: TailPage, limit: u32) -> (Vec<FeedEntry>, Vec<DamagedEntry>) {
        let read = page.entries.len() + page.damaged.len();
        let last = page.entries.last();
        let place = &mut self.shards[index];
        place.cursor = page.cursor;
        place.behind = Behind {
            last: last.map(|last| (last.stream.clone(), last.entry.seq)),
            is_near: read < PAGE_ENTRIES as usize || limit < PAGE_ENTRIES,
            round: None,
        };
        let (mut entries, mut damaged) = (Vec::new(), page.damaged);
        let read = page.entries.into_iter().map(Cow::Owned);
        self.filter.sift(read, &mut entries, &mut damaged);
        damaged.retain(|damaged| self.concerns(damaged));
        (entries, damaged)
    }

    fn concerns(&self, damaged: &DamagedEntry) -> bool {
        self.filter.concerns(damaged.stream.as_ref())
    }

    /// A page up to the present cursor.
    fn page(&mut self, index: usize, entries: Vec<FeedEntry>, damaged: Vec<DamagedEntry>) -> Page {
        let place = &mut self.shards[index];
        Page {
            shard: shard(index),
            entries,
            damaged,
            before: std::mem::replace(&mut place.told, place.cursor.clone()),
            after: place.cursor.clone(),
        }
    }
}

impl Drop for LiveFeed {
    fn drop(&mut self) {
        self.feed.state().followers.remove(self.number);
    }
}
