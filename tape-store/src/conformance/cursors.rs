//! Records of readers of the feed.

use super::Fixture;
use crate::cursors::{CursorStore, RECORD_BYTES_MAX, RECORD_NAME_BYTES_MAX, Record, Swap};
use crate::error::StoreError;
use bytes::Bytes;
use std::sync::Arc;

fn record(version: u64, text: &str) -> Record {
    Record {
        version,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn make(next: &Record) -> Swap {
    Swap::Make(next.clone())
}

fn replace(expected: u64, next: &Record) -> Swap {
    Swap::Replace {
        expected,
        next: next.clone(),
    }
}

async fn swap(cursors: &dyn CursorStore, name: &str, swap: Swap) -> bool {
    cursors
        .swap_record(name, &swap)
        .await
        .expect("the record is compared")
}

async fn found(cursors: &dyn CursorStore, name: &str) -> Option<Record> {
    cursors.record(name).await.expect("the record is read")
}

/// A record changes only where its version is the one that is expected.
pub(super) async fn a_record_changes_under_its_version_only(fixture: Fixture) {
    let cursors = fixture.store.cursors();
    let name = "acme/%2A fraud/0";
    let (one, two, late) = (record(7, "one"), record(9, "two\u{0}\u{ff}"), record(8, "late"));
    assert_eq!(found(cursors, name).await, None);
    assert!(
        !swap(cursors, name, replace(1, &one)).await,
        "there is none to replace"
    );
    assert!(
        !swap(cursors, name, Swap::Remove { expected: 1 }).await,
        "there is none to remove"
    );
    assert!(swap(cursors, name, make(&one)).await);
    assert!(!swap(cursors, name, make(&two)).await, "there is one already");
    assert_eq!(found(cursors, name).await, Some(one));
    assert!(swap(cursors, name, replace(7, &two)).await);
    assert!(!swap(cursors, name, replace(7, &late)).await, "it has moved on");
    assert!(
        !swap(cursors, name, Swap::Remove { expected: 7 }).await,
        "it has moved on"
    );
    assert_eq!(found(cursors, name).await, Some(two));
    assert_eq!(
        found(cursors, "acme/%2A fraud/1").await,
        None,
        "names are separate"
    );
    assert!(swap(cursors, name, Swap::Remove { expected: 9 }).await);
    assert_eq!(found(cursors, name).await, None);
    assert!(
        swap(cursors, name, make(&record(10, ""))).await,
        "it is made again"
    );
    assert_eq!(found(cursors, name).await, Some(record(10, "")));
}

/// Of processes that change the same version at once, one does.
pub(super) async fn racing_changes_of_a_record_have_one_winner(fixture: Fixture) {
    let name = "*/lake/3";
    let mut version = None;
    for round in 1..=20_u64 {
        let contenders = (0..8_u64).map(|contender| {
            let (store, next) = (Arc::clone(&fixture.store), record(round, &contender.to_string()));
            tokio::spawn(async move {
                let change = version.map_or_else(|| make(&next), |version| replace(version, &next));
                let won = swap(store.cursors(), name, change).await;
                won.then_some(next)
            })
        });
        let contenders: Vec<_> = contenders.collect();
        let mut winners = Vec::new();
        for contender in contenders {
            winners.extend(contender.await.expect("it does not panic"));
        }
        assert_eq!(winners.len(), 1, "one of them changes version {version:?}");
        assert_eq!(found(fixture.store.cursors(), name).await, winners.pop());
        version = Some(round);
    }
}

/// Records are listed by a prefix, in the order of their names, in pages that follow each other.
pub(super) async fn records_are_listed_by_their_names(fixture: Fixture) {
    let cursors = fixture.store.cursors();
    let names = [
        "a/x/0", "a/x/1", "a/x/10", "a/x0/0", "A/x/0", "a/ä/0", "a/~/0", "b/x/0", "*/x/0", "a",
    ];
    for name in names {
        assert!(swap(cursors, name, make(&record(1, name))).await);
    }
    for prefix in ["a/", "a/x/", "a/x", "", "c/", "*/"] {
        let mut expected: Vec<&str> = names
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        expected.sort_unstable();
        for limit in [1, 2, 100] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = cursors.records(prefix, after.as_deref(), limit).await;
                let page = page.expect("they are listed");
                assert!(
                    page.len() <= limit as usize,
                    "a page has at most what was asked for"
                );
                let is_last = page.len() < limit as usize;
                after = page.last().map(|(name, _)| name.clone()).or(after);
                listed.extend(page);
                if is_last {
                    break;
                }
                assert!(listed.len() <= names.len(), "the pages come to an end");
            }
            let contents = |(name, record): &(String, Record)| {
                assert_eq!(record.bytes, name.as_bytes(), "each comes with its contents");
                name.clone()
            };
            let listed: Vec<String> = listed.iter().map(contents).collect();
            assert_eq!(listed, expected, "of {prefix:?} in pages of {limit}");
        }
    }
}

/// A change that no store takes is refused, and changes nothing.
pub(super) async fn changes_that_no_store_takes_are_refused(fixture: Fixture) {
    let cursors = fixture.store.cursors();
    let name = "acme/fraud/0";
    assert!(swap(cursors, name, make(&record(5, "five"))).await);
    let largest = Record {
        version: 6,
        bytes: Bytes::from(vec![7; RECORD_BYTES_MAX]),
    };
    let larger = Record {
        bytes: Bytes::from(vec![7; RECORD_BYTES_MAX + 1]),
        ..largest.clone()
    };
    let long = "x".repeat(RECORD_NAME_BYTES_MAX + 1);
    let refused = [
        (name, replace(5, &record(5, "same version"))),
        (name, replace(5, &record(4, "older version"))),
        ("other", make(&record(0, "no version"))),
        (name, replace(5, &record(u64::MAX, "beyond signed numbers"))),
        (name, replace(5, &larger)),
        ("", make(&record(1, "no name"))),
        (&long, make(&record(1, "long name"))),
        ("acme/\u{0}/0", make(&record(1, "control character"))),
    ];
    for (name, change) in refused {
        let answer = cursors.swap_record(name, &change).await;
        assert!(
            matches!(answer, Err(StoreError::Invalid { .. })),
            "{name:?} {:?}",
            change.expected()
        );
    }
    assert_eq!(found(cursors, name).await, Some(record(5, "five")));
    assert!(swap(cursors, name, replace(5, &largest)).await);
    assert_eq!(found(cursors, name).await, Some(largest));
    assert!(swap(cursors, &long[1..], make(&record(1, "longest name"))).await);
}

/// A change that was acknowledged is there after the store was opened again.
pub(super) async fn records_are_there_after_reopening(fixture: Fixture) {
    assert!(swap(fixture.store.cursors(), "acme/fraud/0", make(&record(3, "kept"))).await);
    let reopen = fixture
        .reopen
        .clone()
        .expect("a durable store can be opened again");
    let again = reopen().await;
    assert_eq!(
        found(again.cursors(), "acme/fraud/0").await,
        Some(record(3, "kept"))
    );
    assert!(swap(again.cursors(), "acme/fraud/0", replace(3, &record(4, "moved"))).await);
    assert_eq!(
        found(fixture.store.cursors(), "acme/fraud/0").await,
        Some(record(4, "moved"))
    );
}
