//! Entries: read in pages, followed, and in the feed.

use super::agent::{Driven, TENANTS, run_id, tenant, text};
use crate::query::{FeedPage, Tail, Until};
use crate::{Journal, JournalError, Pages};
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::BTreeMap;
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

/// Everything, from the beginning to the end.
fn everything() -> Tail {
    Tail {
        from_start: true,
        follow: false,
        ..Tail::new(">".parse().unwrap())
    }
}

async fn pages(journal: &Arc<dyn Journal>, tail: &Tail) -> Vec<FeedPage> {
    let pages = journal.tail(tail);
    pages.map(|page| page.unwrap()).collect().await
}

/// The entries of pages by stream and place.
fn named(pages: &[FeedPage]) -> Vec<(String, u64)> {
    let entries = pages.iter().flat_map(|page| &page.entries);
    let mut names: Vec<_> = entries
        .map(|(stream, entry)| (stream.to_string(), entry.seq.0))
        .collect();
    names.sort();
    names
}

fn cursors(pages: &[FeedPage]) -> BTreeMap<u16, Bytes> {
    let cursors = pages.iter().map(|page| (page.shard, page.cursor.clone()));
    cursors.collect()
}

/// Runs in as many shards as there may be.
async fn begin_many(journal: &Arc<dyn Journal>, tenant: &str, of: &str) {
    for n in 0..8 {
        Driven::begin(journal, run_id(tenant, &format!("{of}-{n}")), "x").await;
    }
}

pub(super) async fn a_tail_goes_on_at_the_cursors_of_an_earlier_one(journal: Arc<dyn Journal>) {
    begin_many(&journal, "t", "first").await;
    let all = named(&pages(&journal, &everything()).await);
    // The reader is gone after the first page of all.
    let first = [journal.tail(&everything()).next().await.unwrap().unwrap()];
    let rest = Tail {
        cursors: cursors(&first),
        ..everything()
    };
    let rest = pages(&journal, &rest).await;
    let mut seen = [named(&first), named(&rest)].concat();
    seen.sort();
    assert_eq!(seen, all);
    // One that follows is told where it begins before anything comes.
    let follows = Tail::new(">".parse().unwrap());
    let mut feed = journal.tail(&follows);
    let mut begun = vec![feed.next().await.unwrap().unwrap()];
    for _ in 1..begun[0].shards {
        begun.push(feed.next().await.unwrap().unwrap());
    }
    drop(feed);
    assert_eq!(cursors(&begun).len(), usize::from(begun[0].shards));
    assert_eq!(named(&begun), []);
    begin_many(&journal, "t", "second").await;
    let later = Tail {
        cursors: cursors(&begun),
        follow: false,
        ..follows
    };
    let mut expected = named(&pages(&journal, &everything()).await);
    expected.retain(|name| !all.contains(name));
    assert_eq!(expected.len(), all.len());
    assert_eq!(named(&pages(&journal, &later).await), expected);
}

pub(super) async fn a_tail_may_be_of_some_shards_alone(journal: Arc<dyn Journal>) {
    begin_many(&journal, "t", "run").await;
    let all = pages(&journal, &everything()).await;
    let shards = all[0].shards;
    let mut seen = Vec::new();
    for shard in 0..shards {
        let tail = Tail {
            shards: [shard].into(),
            ..everything()
        };
        let of_shard = pages(&journal, &tail).await;
        assert!(
            of_shard
                .iter()
                .all(|page| (page.shard, page.shards) == (shard, shards))
        );
        seen.extend(named(&of_shard));
        // One that follows is told the place of its shard alone.
        let follows = Tail {
            follow: true,
            ..tail.clone()
        };
        let mut feed = journal.tail(&follows);
        let first = feed.next().await.unwrap().unwrap();
        assert_eq!((first.shard, first.entries.len()), (shard, 0));
        if !of_shard.is_empty() {
            let next = feed.next().await.unwrap().unwrap();
            assert_eq!((next.shard, next.entries.is_empty()), (shard, false));
        }
    }
    seen.sort();
    assert_eq!(seen, named(&all));
}

pub(super) async fn a_tail_of_a_tenant_has_nothing_of_others(journal: Arc<dyn Journal>) {
    for tenant in TENANTS {
        Driven::begin(&journal, run_id(tenant, "i"), "x").await;
    }
    let of = |name: Option<&str>, pattern: &str| Tail {
        tenant: name.map(tenant),
        ..Tail {
            from_start: true,
            follow: false,
            ..Tail::new(pattern.parse().unwrap())
        }
    };
    for name in TENANTS {
        let own = named(&pages(&journal, &of(Some(name), ">")).await);
        let stream = StreamId::Run(run_id(name, "i")).to_string();
        assert_eq!(own, [(stream.clone(), 1), (stream, 2)]);
    }
    // The tenant holds beside the pattern.
    assert_eq!(named(&pages(&journal, &of(Some("a"), "ab.>")).await), []);
    let all = named(&pages(&journal, &of(None, ">")).await);
    assert_eq!(all.len(), 2 * TENANTS.len());
}

pub(super) async fn cursors_and_shards_that_are_not_of_the_journal_are_refused(journal: Arc<dyn Journal>) {
    begin_many(&journal, "t", "run").await;
    let shards = pages(&journal, &everything()).await[0].shards;
    let refused = async |tail: Tail| {
        let mut feed = journal.tail(&tail);
        // One that follows may be told the places of its shards first.
        let refusal = loop {
            match feed.next().await.unwrap() {
                Ok(page) => assert_eq!(page.entries.len(), 0),
                Err(refusal) => break refusal,
            }
        };
        assert!(feed.next().await.is_none(), "it is the last");
        match refusal {
            JournalError::Invalid(problem) => problem,
            other => panic!("it is not refused as invalid: {other:?}"),
        }
    };
    for follow in [false, true] {
        let cursor = |shard, cursor: &'static str| Tail {
            cursors: [(shard, Bytes::from(cursor))].into(),
            follow,
            ..everything()
        };
        assert_eq!(
            refused(cursor(shards, "")).await,
            format!("cursors: there is no shard {shards} in this store of {shards}")
        );
        let garbled = Tail {
            shards: [0].into(),
            ..cursor(0, "garbled")
        };
        let garbled = refused(garbled).await;
        assert!(garbled.starts_with("cursor: "), "{garbled}");
        let of = Tail {
            shards: [0, shards].into(),
            follow,
            ..everything()
        };
        assert_eq!(
            refused(of).await,
            format!("shards: shard {shards} is to be read of a store of {shards}")
        );
    }
}
