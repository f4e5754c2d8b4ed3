//! Reading the feed: all shards of a store, each from its own cursor.

use crate::filter::Filter;
use futures::future::BoxFuture;
use std::borrow::Cow;
use std::sync::Arc;
use tape_store::contract::{Cursor, DamagedEntry, FeedEntry, JournalStore, Shard};
use tape_store::error::StoreError;

/// Entries in one read of a shard.
pub(crate) const PAGE_ENTRIES: u32 = 1_024;

/// Where a reader of the feed begins in shards without a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first entry of the feed.
    Beginning,
    /// With entries written from now on.
    Now,
}

/// Why the feed cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The store could not be read; the call can be repeated and misses nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cursor names a shard that the store does not have: it is of another store.
    #[error("there is no shard {shard} in this store of {shards}")]
    ForeignCursor {
        /// The cursor's shard.
        shard: u16,
        /// The number of shards of the store.
        shards: u16,
    },
    /// The store does not have a shard that is to be read.
    #[error("shard {shard} is to be read of a store of {shards}")]
    NoShard {
        /// The shard.
        shard: u16,
        /// The number of shards of the store.
        shards: u16,
    },
}

/// A reader of the feed. Every durable entry that the filter chooses is in some page, at least once, and in order within its
/// stream, as the store promises for its tail. An entry that cannot be read is reported in its page and does not block others.
pub struct Feed {
    store: Arc<dyn JournalStore>,
    filter: Filter,
    cursors: Vec<Cursor>,
    /// The shards that are read, and which of them is the next.
    read: Vec<usize>,
    next: usize,
}

/// Part of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its shard.
    pub shard: Shard,
    /// The chosen entries, in order; empty where the filter chose none of the entries that the cursor passed.
    pub entries: Vec<FeedEntry>,
    /// Entries that cannot be read, of the filter's tenant where it names one; which of the filter's entries they are is not known.
    pub damaged: Vec<DamagedEntry>,
    /// Where the shard was before the page.
    pub before: Cursor,
    /// Where the shard is after the page: a reader that stores this once it is done with the entries continues from there.
    pub after: Cursor,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Feed {
    /// A reader of `store` that continues after the cursors of an earlier one, and begins at `start` in shards without one.
    ///
    /// # Errors
    /// [`FeedError::ForeignCursor`] where a cursor is of another store; [`FeedError::Store`] where the end of the feed
    /// cannot be read.
    pub async fn open(
        store: Arc<dyn JournalStore>,
        filter: Filter,
        start: Start,
        after: Vec<(Shard, Cursor)>,
    ) -> Result<Self, FeedError> {
        let shards = store.capabilities().shards.max(1);
        let places = places_of(shards, after)?;
        let mut cursors = Vec::with_capacity(places.len());
        for (shard, place) in (0..shards).zip(places) {
            cursors.push(match (place, start) {
                (Some(cursor), _) => cursor,
                (None, Start::Beginning) => Cursor::default(),
                (None, Start::Now) => store.tail_end(Shard(shard)).await?,
            });
        }
        Ok(Self {
            store,
            filter,
            read: (0..cursors.len()).collect(),
            cursors,
            next: 0,
        })
    }

    /// The same for some shards only; for all where none is named.
    ///
    /// # Errors
    /// [`FeedError::NoShard`].
    pub fn only(self, shards: Vec<Shard>) -> Result<Self, FeedError> {
        let read = shards_of(self.cursors.len(), shards)?;
        Ok(Self { read, ..self })
    }

    /// The number of shards of the feed.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.cursors.len()
    }

    /// The cursor of each shard that is read: a reader that stores these continues from here.
    pub fn places(&self) -> impl Iterator<Item = (Shard, &Cursor)> {
        self.read
            .iter()
            .map(|shard| (number(*shard), &self.cursors[*shard]))
    }

    /// The next page; waits for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`FeedError`]; after [`FeedError::Store`] the feed continues where it was.
    pub async fn next(&mut self) -> Result<Page, FeedError> {
        loop {
            // This is requested before the read, so that an entry written in between is not missed.
            let changed: BoxFuture<'static, ()> = self.store.changed();
            if let Some(page) = self.ready().await? {
                return Ok(page);
            }
            changed.await;
        }
    }

    /// The next page, or none where all durable entries were read. Shards take turns, so a busy one does not starve the others.
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub async fn ready(&mut self) -> Result<Option<Page>, FeedError> {
        for _ in 0..self.read.len() {
            let index = self.next;
            self.next = (index + 1) % self.read.len();
            if let Some(page) = self.look(self.read[index]).await? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    async fn look(&mut self, index: usize) -> Result<Option<Page>, FeedError> {
        let shard = number(index);
        let before = self.cursors[index].clone();
        let page = self.store.tail(shard, &before, PAGE_ENTRIES).await?;
        let quiet = page.is_end();
        let (mut entries, mut damaged) = (Vec::new(), page.damaged);
        let read = page.entries.into_iter().map(Cow::Owned);
        self.filter.sift(read, &mut entries, &mut damaged);
        damaged.retain(|damaged| self.filter.concerns(damaged.stream.as_ref()));
        self.cursors[index] = page.cursor.clone();
        Ok((!quiet).then_some(Page {
            shard,
            entries,
            damaged,
            before,
            after: page.cursor,
        }))
    }
}

/// The given cursor of each of `shards` shards, where there is one.
pub(crate) fn places_of(shards: u16, after: Vec<(Shard, Cursor)>) -> Result<Vec<Option<Cursor>>, FeedError> {
    let mut places: Vec<Option<Cursor>> = vec![None; usize::from(shards)];
    for (Shard(shard), cursor) in after {
        let place = places.get_mut(usize::from(shard));
        *place.ok_or(FeedError::ForeignCursor { shard, shards })? = Some(cursor);
    }
    Ok(places)
}

/// The shards to read of `shards`: those that are named, or all where none is.
pub(crate) fn shards_of(shards: usize, only: Vec<Shard>) -> Result<Vec<usize>, FeedError> {
    if only.is_empty() {
        return Ok((0..shards).collect());
    }
    let mut read: Vec<usize> = only.into_iter().map(|shard| shard.0.into()).collect();
    read.sort_unstable();
    read.dedup();
    match read.last() {
        Some(last) if *last >= shards => Err(FeedError::NoShard {
            shard: u16::try_from(*last).unwrap_or(u16::MAX),
            shards: u16::try_from(shards).unwrap_or(u16::MAX),
        }),
        _ => Ok(read),
    }
}

pub(crate) fn number(shard: usize) -> Shard {
    Shard(u16::try_from(shard).expect("a store has at most 65536 shards"))
}
