//! The feed of a server, over as many connections as it takes.

use super::answer::{Messages, Silence};
use super::failure::failed;
use super::link::Link;
use super::message_bytes_max;
use crate::retry::backoff;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::query::{DamagedEntry, FeedPage, Tail};
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_environment::Environment;
use tape_proto::convert::{InvalidField, Tenants, shard_cursors};
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;

struct Reader {
    link: Link,
    environment: Arc<dyn Environment>,
    /// What is read, with the cursors where to continue.
    tail: Tail,
    open: Option<Messages<v1::TailResponse>>,
    backoff: tape_api::backoff::Backoff,
    /// What to wait for before the next try, after a failure.
    pause: Option<Duration>,
}

pub(super) fn tail(
    link: Link,
    environment: Arc<dyn Environment>,
    tail: &Tail,
) -> BoxStream<'static, Result<FeedPage, JournalError>> {
    let reader = Reader {
        link,
        environment,
        tail: tail.clone(),
        open: None,
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

impl Reader {
    /// The next page; none at the end. After a failure that may pass, it connects again.
    async fn next(&mut self) -> Result<Option<FeedPage>, JournalError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        let page = self.page().await;
        if let Err(JournalError::Unavailable(source)) = &page {
            tracing::debug!(error = %source, "the feed broke off; going on");
            self.open = None;
            self.pause = Some(self.backoff.next(self.environment.chance()));
        }
        page
    }

    async fn page(&mut self) -> Result<Option<FeedPage>, JournalError> {
        let silence = if self.tail.follow {
            Silence::NoNews
        } else {
            Silence::Hangs
        };
        let message = match &mut self.open {
            Some(open) => open.next(silence).await?,
            None => self.open().await?.next(silence).await?,
        };
        let Some(message) = message else {
            let ended = JournalError::Unavailable("the server ended the feed".into());
            return if self.tail.follow { Err(ended) } else { Ok(None) };
        };
        self.backoff = backoff();
        let page = page(message)?;
        self.tail.cursors.insert(page.shard, page.cursor.clone());
        Ok(Some(page))
    }

    async fn open(&mut self) -> Result<&mut Messages<v1::TailResponse>, JournalError> {
        use v1::tail_request::Start;
        let Tail {
            tenant,
            pattern,
            cursors,
            shards,
            from_start,
            follow,
        } = self.tail.clone();
        let start = if from_start { Start::Beginning } else { Start::Now };
        let request = v1::TailRequest {
            pattern: pattern.to_string(),
            start: start.into(),
            cursors: shard_cursors(cursors),
            tenants: Some(Tenants(tenant).into()),
            once: !follow,
            shards: shards.into_iter().map(u32::from).collect(),
        };
        let tail = |channel| async move {
            let mut feed = FeedServiceClient::new(channel).max_decoding_message_size(message_bytes_max());
            feed.tail(request).await
        };
        Ok(self.open.insert(Messages::open(&self.link, tail).await?))
    }
}

/// The page of a message. An entry that this build cannot read, such as one of a stream kind of a newer server, is reported as damaged.
fn page(message: v1::TailResponse) -> Result<FeedPage, JournalError> {
    let position = message.position;
    let position = position.ok_or_else(|| failed(InvalidField::missing("position")))?;
    let number = |field: &'static str, number: u32| {
        u16::try_from(number).map_err(|_| failed(InvalidField::new(field, "is over 65535")))
    };
    let mut page = FeedPage {
        damaged: message.damaged.into_iter().map(told).collect(),
        shard: number("position.shard", position.shard)?,
        cursor: position.cursor,
        shards: number("shards", message.shards)?,
        ..FeedPage::default()
    };
    for fed in message.entries {
        match entry(fed) {
            Ok(entry) => page.entries.push(entry),
            Err(unreadable) => page.damaged.push(unreadable),
        }
    }
    Ok(page)
}

fn told(damaged: v1::DamagedEntry) -> DamagedEntry {
    DamagedEntry {
        stream: damaged.stream.and_then(|stream| stream.try_into().ok()),
        problem: damaged.problem,
    }
}

fn entry(entry: v1::FeedEntry) -> Result<(StreamId, StoredEntry), DamagedEntry> {
    let v1::FeedEntry { stream, entry } = entry;
    let seq = entry.as_ref().map_or(0, |entry| entry.seq);
    let stream = stream.map(StreamId::try_from);
    let stream = match stream.unwrap_or_else(|| Err(InvalidField::missing("stream"))) {
        Ok(stream) => stream,
        Err(problem) => return Err(unreadable(seq, None, &problem.within("stream").to_string())),
    };
    match entry.map(StoredEntry::try_from) {
        Some(Ok(stored)) => Ok((stream, stored)),
        Some(Err(field)) => Err(unreadable(seq, Some(stream), &field.to_string())),
        None => Err(unreadable(seq, Some(stream), "it has no contents")),
    }
}

fn unreadable(seq: u64, stream: Option<StreamId>, problem: &str) -> DamagedEntry {
    let of = stream.as_ref().map(|stream| format!(" of '{stream}'"));
    let of = of.unwrap_or_default();
    DamagedEntry {
        stream,
        problem: format!("entry {seq}{of} cannot be read by this build: {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{StreamId, page, v1};

    #[test]
    fn what_a_build_cannot_read_is_told_in_its_place_and_the_rest_is_read() {
        let run: StreamId = "acme/run/treasury/ann/s1/i1".parse().unwrap();
        let entry = |stream: Option<&StreamId>, entry: Option<v1::Entry>| v1::FeedEntry {
            // A kind of stream that this build does not know is a message without a kind.
            stream: Some(stream.map_or_else(v1::StreamId::default, |stream| stream.clone().into())),
            entry,
        };
        let run = Some(&run);
        let readable = v1::Entry {
            seq: 7,
            digest: vec![0; 32].into(),
            ..v1::Entry::default()
        };
        let read = page(v1::TailResponse {
            position: Some(v1::ShardCursor {
                shard: 3,
                cursor: "here".into(),
            }),
            entries: vec![
                entry(None, Some(readable.clone())),
                entry(run, None),
                entry(run, Some(v1::Entry::default())),
                entry(run, Some(readable)),
            ],
            shards: 4,
            damaged: Vec::new(),
        });
        let read = read.unwrap();
        assert_eq!((read.shard, &read.cursor[..], read.shards), (3, &b"here"[..], 4));
        let seqs: Vec<_> = read.entries.iter().map(|(_, entry)| entry.seq.0).collect();
        assert_eq!(seqs, [7]);
        let told: Vec<_> = read
            .damaged
            .iter()
            .map(|damaged| damaged.problem.as_str())
            .collect();
        expect_test::expect![[r#"
            [
                "entry 7 cannot be read by this build: stream.kind: is missing",
                "entry 0 of 'acme/run/treasury/ann/s1/i1' cannot be read by this build: it has no contents",
                "entry 0 of 'acme/run/treasury/ann/s1/i1' cannot be read by this build: digest: has 0 bytes, a digest has 32",
            ]
        "#]].assert_debug_eq(&told);
        let streams = read.damaged.iter().map(|damaged| damaged.stream.is_some());
        assert_eq!(streams.collect::<Vec<_>>(), [false, true, true]);
    }
}
