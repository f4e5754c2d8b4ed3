//! All that a store has by the end.

use crate::system::SHARDS;
use std::sync::Arc;
use tape_core::codec::{self, StoredEntry};
use tape_core::id::{Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::status::RunStatus;
use tape_store::contract::{Cursor, JournalStore, RunFilter, Shard};

/// Streams are read in pages of this size.
const PAGE: u32 = 256;

/// Every entry of every stream as it is stored, and the order of the feed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transcript {
    streams: Vec<(StreamId, Vec<StoredEntry>)>,
    feed: Vec<(StreamId, Seq, Digest)>,
    statuses: Vec<RunStatus>,
}

impl Transcript {
    pub(crate) async fn of(store: Arc<dyn JournalStore>) -> Self {
        let mut all = Self {
            streams: Vec::new(),
            feed: feed(store.as_ref()).await,
            statuses: statuses(store.as_ref()).await,
        };
        let page = store.upkeep().streams(None, PAGE).await.unwrap();
        assert!(page.next.is_none(), "a page has all streams");
        for stream in page.streams {
            let entries = entries(store.as_ref(), &stream).await;
            all.streams.push((stream, entries));
        }
        all
    }

    /// Says where the first difference is.
    pub(crate) fn assert_is_the_same_as(&self, other: &Self, seed: u64) {
        let both = self.feed.iter().zip(&other.feed);
        for (place, (own, its)) in both.enumerate() {
            assert!(
                own == its,
                "seed {seed}: entry {place} of the feed, of {}:\n{}\n{}",
                self.feed.len(),
                self.entry(own),
                other.entry(its),
            );
        }
        assert!(
            self == other,
            "seed {seed}: the feeds are alike, and the streams are not"
        );
    }

    fn entry(&self, (stream, seq, _): &(StreamId, Seq, Digest)) -> String {
        let (_, entries) = self.streams.iter().find(|(id, _)| id == stream).unwrap();
        let entry = entries.iter().find(|entry| entry.seq == *seq).unwrap();
        let envelope = String::from_utf8_lossy(&entry.envelope);
        format!("{stream} {seq} {envelope} {:?}", entry.payload)
    }

    /// The chain digests of all entries, in the order of the feed.
    pub(crate) fn digests(&self) -> String {
        let digests = self.feed.iter().map(|(_, _, digest)| digest.to_string());
        digests.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn entries_of(&self, kind: &str) -> usize {
        let entries = self.streams.iter().flat_map(|(_, entries)| entries);
        let kinds = entries.map(|entry| codec::decode(entry).unwrap().body.kind());
        kinds.filter(|of| *of == kind).count()
    }

    pub(crate) fn runs(&self) -> usize {
        self.statuses.len()
    }

    pub(crate) fn ended(&self, status: RunStatus) -> usize {
        self.statuses.iter().filter(|own| **own == status).count()
    }
}

async fn entries(store: &dyn JournalStore, stream: &StreamId) -> Vec<StoredEntry> {
    let mut entries: Vec<StoredEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(Seq::ZERO, |last| last.seq);
        let page = store.read(stream, after, PAGE).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

/// The feed of each shard, one after the other.
async fn feed(store: &dyn JournalStore) -> Vec<(StreamId, Seq, Digest)> {
    let mut feed = Vec::new();
    for shard in (0..SHARDS).map(Shard) {
        let mut cursor = Cursor::default();
        loop {
            let page = store.tail(shard, &cursor, PAGE).await.unwrap();
            if page.entries.is_empty() {
                break;
            }
            let places = page.entries.into_iter();
            feed.extend(places.map(|fed| (fed.stream, fed.entry.seq, fed.entry.digest)));
            cursor = page.cursor;
        }
    }
    feed
}

async fn statuses(store: &dyn JournalStore) -> Vec<RunStatus> {
    let all = RunFilter::all("acme".parse().unwrap());
    let page = store.runs(&all, None, PAGE).await.unwrap();
    page.runs.into_iter().map(|(_, summary)| summary.status).collect()
}
