//! The feed of a store in this process.

use crate::backend::{Failure, Tail};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_store::contract::JournalStore;
use tape_wal::{Feed, FeedError, Filter, Start};

type Page = Vec<(StreamId, StoredEntry)>;

pub(super) fn tail(store: Arc<dyn JournalStore>, tail: Tail) -> BoxStream<'static, Result<Page, Failure>> {
    stream::unfold(Some(Reader::New { store, tail }), |reader| async move {
        match reader?.next().await {
            Ok(Some((page, reader))) => Some((Ok(page), Some(reader))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

enum Reader {
    New {
        store: Arc<dyn JournalStore>,
        tail: Tail,
    },
    Open {
        feed: Feed,
        follow: bool,
    },
}

impl Reader {
    /// The next page that is not empty, and the reader after it; none at the end.
    async fn next(self) -> Result<Option<(Page, Self)>, Failure> {
        let (mut feed, follow) = match self {
            Self::New { store, tail } => {
                let filter = Filter {
                    tenant: None,
                    pattern: tail.pattern,
                };
                let start = if tail.from_start {
                    Start::Beginning
                } else {
                    Start::Now
                };
                (Feed::open(store, filter, start, Vec::new()).await?, tail.follow)
            }
            Self::Open { feed, follow } => (feed, follow),
        };
        loop {
            let page = if follow {
                Some(feed.next().await?)
            } else {
                feed.ready().await?
            };
            let Some(page) = page else { return Ok(None) };
            if !page.entries.is_empty() {
                let entries = page
                    .entries
                    .into_iter()
                    .map(|feed| (feed.stream, feed.entry))
                    .collect();
                return Ok(Some((entries, Self::Open { feed, follow })));
            }
        }
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
