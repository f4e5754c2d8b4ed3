//! The one task that reads the feed.

use super::SharedFeed;
use crate::feed::PAGE_ENTRIES;
use futures::future::{BoxFuture, join_all};
use std::time::Duration;
use tape_core::causes::Causes;
use tape_core::outage::Outage;
use tape_store::announce::{Announcement, Announcements};
use tape_store::contract::{Cursor, Shard};
use tape_store::error::StoreError;
use tokio::time::Instant;

/// The pause before the next read after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How often the log repeats that the store cannot be read.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How often old pages are forgotten, and some of the idle followers are told how far the feed went.
const TICK: Duration = Duration::from_secs(1);

/// Reads the feed while it has followers.
pub(super) async fn read(feed: SharedFeed) {
    let mut outage = Outage::new(SAID_AGAIN);
    while let Err(error) = feed.read_until_alone(&mut outage).await {
        let causes = Causes(&error).to_string();
        if let Some(spell) = outage.lost(Instant::now().into_std(), &causes) {
            tracing::warn!(error = causes, %spell, "followers of the feed wait for the store");
        }
        feed.failed(error);
        if feed.stop_if_alone() {
            return;
        }
        tokio::time::sleep(AFTER_ERROR).await;
    }
}

impl SharedFeed {
    async fn read_until_alone(&self, outage: &mut Outage) -> Result<(), StoreError> {
        let Some(announcements) = self.0.store.announcements() else {
            return self.read_feed(outage).await;
        };
        self.change(|state, _| state.is_announced = true);
        let reading = self.read_feed(outage);
        let mut reading = std::pin::pin!(reading);
        tokio::select! {
            biased;
            read = &mut reading => read,
            () = self.hear(announcements) => reading.await,
        }
    }

    /// Wakes watches of streams as commits are announced; ends with the store.
    async fn hear(&self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            let streams = &mut self.state().streams;
            match announcement {
                Announcement::Streams(keys) => keys.iter().for_each(|stream| streams.wake(*stream)),
                Announcement::Any => streams.wake_all(),
            }
        }
    }

    async fn read_feed(&self, outage: &mut Outage) -> Result<(), StoreError> {
        self.open().await?;
        let mut tick = Instant::now() + TICK;
        loop {
            // This is requested before the reads, so that an entry written in between is not missed.
            let changed = self.0.store.changed();
            let is_more = self.read_each_shard().await?;
            outage.back(Instant::now().into_std());
            if self.stop_if_alone() {
                return Ok(());
            }
            if is_more {
                // Others run in between, however fast the store answers.
                tokio::task::yield_now().await;
                self.tick_from(&mut tick);
            } else {
                self.rest(changed, &mut tick).await;
            }
        }
    }

    /// Waits until there may be more to read.
    async fn rest(&self, mut changed: BoxFuture<'static, ()>, tick: &mut Instant) {
        loop {
            tokio::select! {
                // A commit takes precedence over what can wait.
                biased;
                () = &mut changed => return,
                () = self.0.kick.notified() => return,
                () = tokio::time::sleep_until(*tick) => self.tick_from(tick),
            }
        }
    }

    /// Makes the ends of the rings places of the feed, where they are none.
    async fn open(&self) -> Result<(), StoreError> {
        let ends = if self.state().is_open {
            Vec::new()
        } else {
            let ends = (0..self.0.shards).map(|shard| self.0.store.tail_end(Shard(shard)));
            join_all(ends).await.into_iter().collect::<Result<_, _>>()?
        };
        self.change(|state, _| {
            for (shard, end) in ends.into_iter().enumerate() {
                state.rings.begin_at(shard, end);
            }
            state.is_open = true;
            // Commits before the present place, or that were announced during an outage, concern only watches that were there already.
            state.streams.wake_all();
        });
        Ok(())
    }

    /// Reads one page of each shard. Returns whether one of them had any entries.
    async fn read_each_shard(&self) -> Result<bool, StoreError> {
        let ends: Vec<Cursor> = {
            let mut state = self.state();
            state.begun += 1;
            (0..usize::from(self.0.shards))
                .map(|shard| state.rings.shard(shard).end().clone())
                .collect()
        };
        let reads = (0..).map(Shard).zip(&ends);
        let reads = reads.map(|(shard, end)| self.0.store.tail(shard, end, PAGE_ENTRIES));
        let pages = join_all(reads).await;
        self.change(|state, woken| {
            let (mut is_more, mut failed) = (false, None);
            for (shard, page) in pages.into_iter().enumerate() {
                match page {
                    Ok(page) => {
                        is_more |= !page.is_end();
                        state.publish(shard, page, woken);
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            (state.done, state.error) = (state.begun, None);
            Ok(is_more)
        })
    }

    /// The feed cannot be read. All followers are told; where a cursor is refused, the history is another one, and none of the pages counts.
    fn failed(&self, error: StoreError) {
        self.change(|state, woken| {
            if matches!(error, StoreError::Invalid { .. }) {
                state.reset(self.0.shards);
            }
            state.followers.fail(&error, woken);
            state.failures += 1;
            state.error = Some(error);
            // Announcements are heard again with the next read.
            state.is_announced = false;
        });
    }

    /// Does what is due at a time, and sets the next one.
    fn tick_from(&self, at: &mut Instant) {
        if Instant::now() < *at {
            return;
        }
        *at = Instant::now() + TICK;
        self.change(|state, woken| {
            state.rings.forget_old();
            let published = state.published;
            state.followers.tick(published, woken);
        });
    }

    fn stop_if_alone(&self) -> bool {
        let mut state = self.state();
        let alone = state.is_alone();
        if alone {
            state.reset(self.0.shards);
            state.has_reader = false;
            state.is_announced = false;
            state.error = None;
        }
        alone
    }
}
