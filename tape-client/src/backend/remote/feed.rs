//! The feed of a server, over as many connections as it takes.

use super::link::Link;
use super::message_bytes_max;
use crate::backend::{DamagedEntry, Failure, FeedPage, Tail};
use crate::retry::Backoff;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::collections::BTreeMap;
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_proto::failure::Failure as Wire;
use tape_proto::v1;
use tape_proto::v1::feed_client::FeedClient;
use tonic::Streaming;

struct Reader {
    link: Link,
    pattern: String,
    from_start: bool,
    /// Whether the feed ends once all is sent that is durable when it is opened.
    once: bool,
    /// Where to go on, by shard.
    cursors: BTreeMap<u32, v1::ShardCursor>,
    open: Option<Streaming<v1::TailResponse>>,
    backoff: Backoff,
    /// What to wait for before the next try, after a failure.
    pause: Option<Duration>,
}

pub(super) fn tail(link: Link, tail: &Tail) -> BoxStream<'static, Result<FeedPage, Failure>> {
    let reader = Reader {
        link,
        pattern: tail.pattern.to_string(),
        from_start: tail.from_start,
        once: !tail.follow,
        cursors: BTreeMap::new(),
        open: None,
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

impl Reader {
    /// The next page; none at the end. After a failure that may pass, it connects again.
    async fn next(&mut self) -> Result<Option<FeedPage>, Failure> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        let page = self.page().await;
        if let Err(Failure::Retryable(source)) = &page {
            tracing::debug!(error = %source, "the feed broke off; going on");
            self.open = None;
            self.pause = Some(self.backoff.next());
        }
        page
    }

    async fn page(&mut self) -> Result<Option<FeedPage>, Failure> {
        let message = match &mut self.open {
            Some(open) => open.message().await?,
            None => self.open().await?.message().await?,
        };
        let Some(message) = message else {
            let ended = Failure::Retryable("the server ended the feed".into());
            return if self.once { Ok(None) } else { Err(ended) };
        };
        self.backoff = Backoff::default();
        let entries = message.entries.into_iter().map(entry);
        let page = FeedPage {
            entries: entries.collect::<Result<_, Failure>>()?,
            damaged: message.damaged.into_iter().map(damaged).collect(),
        };
        if let Some(position) = message.position {
            self.cursors.insert(position.shard, position);
        }
        Ok(Some(page))
    }

    async fn open(&mut self) -> Result<&mut Streaming<v1::TailResponse>, Failure> {
        use v1::tail_request::From;
        let from = if self.from_start {
            From::Beginning
        } else {
            From::Now
        };
        let request = v1::TailRequest {
            pattern: self.pattern.clone(),
            from: from.into(),
            cursors: self.cursors.values().cloned().collect(),
            tenant: None,
            once: self.once,
        };
        let mut feed = FeedClient::new(self.link.channel()).max_decoding_message_size(message_bytes_max());
        let opened = feed.tail(request).await?.into_inner();
        Ok(self.open.insert(opened))
    }
}

fn damaged(damaged: v1::DamagedEntry) -> DamagedEntry {
    DamagedEntry {
        stream: damaged.stream.and_then(|stream| stream.parse().ok()),
        problem: damaged.problem,
    }
}

fn entry(entry: v1::FeedEntry) -> Result<(StreamId, StoredEntry), Failure> {
    let stream = entry
        .stream
        .parse()
        .map_err(|error: tape_core::id::InvalidName| Failure::Fatal(error.into()))?;
    let stored = entry
        .entry
        .ok_or_else(|| Failure::Fatal("the server's feed has an entry without contents".into()))?;
    Ok((stream, stored.try_into().map_err(Wire::from)?))
}
