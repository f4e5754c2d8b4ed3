//! The feed of a store in this process.

use crate::backend::{Failure, Tail};
use crate::retry::Backoff;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_store::contract::JournalStore;
use tape_wal::{Feed, FeedError, Filter, Start};

type Page = Vec<(StreamId, StoredEntry)>;

pub(super) fn tail(store: Arc<dyn JournalStore>, tail: Tail) -> BoxStream<'static, Result<Page, Failure>> {
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
    async fn next(&mut self) -> Result<Option<Page>, Failure> {
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

    async fn page(&mut self) -> Result<Option<Page>, Failure> {
        let follow = self.tail.follow;
        let feed = self.feed().await?;
        let page = if follow {
            Some(feed.next().await?)
        } else {
            feed.ready().await?
        };
        let entries = page.map(|page| page.entries.into_iter());
        Ok(entries.map(|entries| entries.map(|feed| (feed.stream, feed.entry)).collect()))
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

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Store(error) => error.into(),
            other => Self::Fatal(Box::new(other)),
        }
    }
}
