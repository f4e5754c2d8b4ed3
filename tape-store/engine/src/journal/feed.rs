//! The feed of a store in this process.

use super::failure;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::backoff::Backoff;
use tape_api::query::{DamagedEntry, FeedPage, Tail};
use tape_environment::Environment;
use tape_store::contract::{Cursor, JournalStore, Shard};
use tape_wal::{Feed, FeedError, Filter, Start};

/// The first wait after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub(super) fn tail(
    store: Arc<dyn JournalStore>,
    environment: Arc<dyn Environment>,
    tail: Tail,
) -> BoxStream<'static, Result<FeedPage, JournalError>> {
    let reader = Reader {
        store,
        environment,
        tail,
        feed: None,
        begun: VecDeque::new(),
        backoff: backoff(),
        pause: None,
    };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(page)) => Some((Ok(page), Some(reader))),
            Ok(None) => None,
            Err(failure @ JournalError::Unavailable(_)) => Some((Err(failure), Some(reader))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

struct Reader {
    store: Arc<dyn JournalStore>,
    environment: Arc<dyn Environment>,
    tail: Tail,
    /// None before it is opened.
    feed: Option<Feed>,
    /// Pages of a feed that was just opened, without entries: where its shards begin.
    begun: VecDeque<FeedPage>,
    backoff: Backoff,
    /// The pause before the next attempt, after a failure.
    pause: Option<Duration>,
}

impl Reader {
    /// The next page; none at the end. After a transient failure, the feed continues where it was.
    async fn next(&mut self) -> Result<Option<FeedPage>, JournalError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        let page = self.page().await;
        match &page {
            Ok(_) => self.backoff = backoff(),
            Err(_) => self.pause = Some(self.backoff.next(self.environment.chance())),
        }
        page
    }

    async fn page(&mut self) -> Result<Option<FeedPage>, JournalError> {
        let follow = self.tail.follow;
        let feed = self.feed().await?;
        let shards = u16::try_from(feed.shards()).unwrap_or(u16::MAX);
        // A reader that follows the feed gets its places before the first entry, so that it misses nothing if it breaks off then.
        if follow && let Some(place) = self.begun.pop_front() {
            return Ok(Some(place));
        }
        let feed = self.feed().await?;
        let page = if follow {
            Some(feed.next().await.map_err(feed_failure)?)
        } else {
            feed.ready().await.map_err(feed_failure)?
        };
        Ok(page.map(|page| FeedPage {
            entries: page
                .entries
                .into_iter()
                .map(|feed| (feed.stream, feed.entry))
                .collect(),
            damaged: page.damaged.into_iter().map(damaged).collect(),
            shard: page.shard.0,
            cursor: page.after.0,
            shards,
        }))
    }

    async fn feed(&mut self) -> Result<&mut Feed, JournalError> {
        let feed = match self.feed.take() {
            Some(feed) => feed,
            None => self.open().await?,
        };
        Ok(self.feed.insert(feed))
    }

    async fn open(&mut self) -> Result<Feed, JournalError> {
        let filter = Filter {
            tenant: self.tail.tenant.clone(),
            pattern: self.tail.pattern.clone(),
        };
        let start = if self.tail.from_start {
            Start::Beginning
        } else {
            Start::Now
        };
        let after = self.tail.cursors.iter();
        let after = after.map(|(shard, cursor)| (Shard(*shard), Cursor(cursor.clone())));
        let of = self.tail.shards.iter().copied().map(Shard).collect();
        let feed = Feed::open(self.store.clone(), filter, start, after.collect()).await;
        let feed = feed.and_then(|feed| feed.only(of)).map_err(feed_failure)?;
        self.begun = places(&feed);
        Ok(feed)
    }
}

fn places(feed: &Feed) -> VecDeque<FeedPage> {
    let shards = u16::try_from(feed.shards()).unwrap_or(u16::MAX);
    let place = |(shard, cursor): (Shard, &Cursor)| FeedPage {
        shard: shard.0,
        cursor: cursor.0.clone(),
        shards,
        ..FeedPage::default()
    };
    feed.places().map(place).collect()
}

fn backoff() -> Backoff {
    Backoff::new(PAUSE_MIN, PAUSE_MAX)
}

fn damaged(entry: tape_store::contract::DamagedEntry) -> DamagedEntry {
    let tape_store::contract::DamagedEntry { stream, problem } = entry;
    DamagedEntry { stream, problem }
}

fn feed_failure(error: FeedError) -> JournalError {
    match error {
        FeedError::Store(error) => failure::of_store(error),
        FeedError::ForeignCursor { .. } => JournalError::Invalid(format!("cursors: {error}")),
        FeedError::NoShard { .. } => JournalError::Invalid(format!("shards: {error}")),
        other => JournalError::damaged(other),
    }
}
