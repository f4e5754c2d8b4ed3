//! Entries: read in pages, followed, and in the feed.

use super::agent::{Driven, run_id, text};
use crate::query::{Tail, Until};
use crate::{Journal, Pages};
use futures::StreamExt as _;
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::command::DriverCommand;
use tape_core::id::{Key, Seq, StreamId};

async fn checkpoint(run: &Driven) {
    let (label, state) = (Key::new("k").unwrap(), text("here"));
    run.drive(DriverCommand::Checkpoint { label, state }).await;
}

async fn all(mut pages: Pages) -> Vec<StoredEntry> {
    let mut entries = Vec::new();
    while let Some(page) = pages.next().await {
        entries.extend(page.unwrap());
    }
    entries
}

pub(super) async fn all_ways_to_read_a_run_agree(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    for _ in 0..5 {
        checkpoint(&run).await;
    }
    let entries = all(journal.entries(&run.run, Seq::ZERO, Until::End)).await;
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all(journal.stream_entries(&run.stream())).await, entries);
    let mut paged: Vec<StoredEntry> = Vec::new();
    loop {
        let after = paged.last().map_or(Seq::ZERO, |entry| entry.seq);
        let page = journal.read(&run.run, after, 2).await.unwrap();
        assert!(page.len() <= 2, "a page has at most what was asked for");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, entries);
    assert_eq!(
        all(journal.entries(&run.run, Seq(4), Until::End)).await,
        entries[4..]
    );
    let last = entries.last().unwrap();
    let head = journal.head(&run.run).await.unwrap();
    assert_eq!(head, Some((last.seq, last.digest)));
    let end = journal.stream_end(&run.stream()).await.unwrap().unwrap();
    assert_eq!((end.seq, end.digest), (last.seq, last.digest));
}

pub(super) async fn what_is_not_there_reads_as_nothing(journal: Arc<dyn Journal>) {
    let run = run_id("t", "nothing");
    let stream = StreamId::Run(run.clone());
    assert_eq!(journal.head(&run).await.unwrap(), None);
    assert_eq!(journal.driver(&run).await.unwrap(), None);
    assert_eq!(journal.stream_end(&stream).await.unwrap(), None);
    assert_eq!(journal.read(&run, Seq::ZERO, 10).await.unwrap(), []);
    assert_eq!(all(journal.entries(&run, Seq::ZERO, Until::End)).await, []);
    assert_eq!(all(journal.stream_entries(&stream)).await, []);
    let session = run.session();
    assert_eq!(journal.session_view(&session, 10).await.unwrap(), None);
}

pub(super) async fn a_reader_that_stays_is_given_what_comes(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    let mut pages = journal.entries(&run.run, Seq::ZERO, Until::Forever);
    let mut seen = Seq::ZERO;
    for n in 2..=5 {
        while seen < Seq(n) {
            for entry in pages.next().await.unwrap().unwrap() {
                assert_eq!(entry.seq, seen.next());
                seen = entry.seq;
            }
        }
        checkpoint(&run).await;
    }
}

pub(super) async fn the_feed_has_what_matches_in_order(journal: Arc<dyn Journal>) {
    let mine = Driven::begin(&journal, run_id("t", "i"), "x").await;
    let other = Driven::begin(&journal, run_id("u", "i"), "x").await;
    for _ in 0..3 {
        checkpoint(&mine).await;
        checkpoint(&other).await;
    }
    let tail = |follow| Tail {
        from_start: true,
        follow,
        ..Tail::new("t.>".parse().unwrap())
    };
    let mut feed = journal.tail(&tail(false));
    let mut seen = Vec::new();
    while let Some(page) = feed.next().await {
        let page = page.unwrap();
        assert_eq!(page.damaged, []);
        seen.extend(page.entries);
    }
    assert!(seen.iter().all(|(stream, _)| *stream == mine.stream()));
    let seqs: Vec<u64> = seen.iter().map(|(_, entry)| entry.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    let mut feed = journal.tail(&tail(true));
    let mut seen = 0;
    while seen < 5 {
        seen += feed.next().await.unwrap().unwrap().entries.len();
    }
    checkpoint(&other).await;
    checkpoint(&mine).await;
    while seen < 6 {
        seen += feed.next().await.unwrap().unwrap().entries.len();
    }
}
