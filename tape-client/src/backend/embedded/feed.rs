//! The feed of a store in this process.

use crate::backend::{DamagedEntry, Failure, FeedPage, Tail};
use crate::retry::Backoff;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tape_store::contract::JournalStore;
use tape_wal::{Feed, FeedError, Filter, Start};

pub(super) fn tail(
    store: Arc<dyn JournalStore>,
    tail: Tail,
) -> BoxStream<'static, Result<FeedPage, Failure>> {
    let reader = Reader {
        store,
        tail,
        feed: None,
        backoff: Backoff::default(),
        pause: None,
    };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(page)) => Some((Ok(page), Some(reader))),
            Ok(None) => None,
            Err(failure @ Failure::Retryable(_)) => Some((Err(failure), Some(reader))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

struct Reader {
    store: Arc<dyn JournalStore>,
    tail: Tail,
    /// None before it is opened.
    feed: Option<Feed>,
    backoff: Backoff,
    /// What to wait for before the next try, after a failure.
    pause: Option<Duration>,
}

impl Reader {
    /// The next page; none at the end. After a failure that may pass, the feed goes on where it was.
    async fn next(&mut self) -> Result<Option<FeedPage>, Failure> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        let page = self.page().await;
        match &page {
            Ok(_) => self.backoff = Backoff::default(),
            Err(_) => self.pause = Some(self.backoff.next()),
        }
        page
    }

    async fn page(&mut self) -> Result<Option<FeedPage>, Failure> {
        let follow = self.tail.follow;
        let feed = self.feed().await?;
        let page = if follow {
            Some(feed.next().await?)
        } else {
            feed.ready().await?
        };
        Ok(page.map(|page| FeedPage {
            entries: page
                .entries
                .into_iter()
                .map(|feed| (feed.stream, feed.entry))
                .collect(),
            damaged: page.damaged.into_iter().map(DamagedEntry::from).collect(),
        }))
    }

    async fn feed(&mut self) -> Result<&mut Feed, Failure> {
        let feed = match self.feed.take() {
            Some(feed) => feed,
            None => self.open().await?,
        };
        Ok(self.feed.insert(feed))
    }

    async fn open(&self) -> Result<Feed, Failure> {
        let filter = Filter {
            tenant: None,
            pattern: self.tail.pattern.clone(),
        };
        let start = if self.tail.from_start {
            Start::Beginning
        } else {
            Start::Now
        };
        Ok(Feed::open(self.store.clone(), filter, start, Vec::new()).await?)
    }
}

impl From<tape_store::contract::DamagedEntry> for DamagedEntry {
    fn from(damaged: tape_store::contract::DamagedEntry) -> Self {
        let tape_store::contract::DamagedEntry { stream, problem } = damaged;
        Self { stream, problem }
    }
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Store(error) => error.into(),
            other => Self::Fatal(Box::new(other)),
        }
    }
}
