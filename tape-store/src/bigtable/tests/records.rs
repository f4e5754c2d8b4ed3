//! Records of readers of the feed: what they cost, and changes whose answers are lost.

use super::wire::{Counts, Order, Wire};
use super::{NEVER, rows_of, store, table};
use crate::bigtable::end::ABOUT;
use crate::bigtable::table::{self, Table};
use crate::bigtable::{BigtableStore, keys};
use crate::cursors::{CursorStore, Record, Swap};
use crate::error::StoreError;
use std::sync::Arc;

fn record(version: u64, text: &'static str) -> Record {
    Record {
        version,
        bytes: text.into(),
    }
}

fn replace(expected: u64, next: &Record) -> Swap {
    Swap::Replace {
        expected,
        next: next.clone(),
    }
}

fn over(wire: &Arc<Wire>) -> BigtableStore {
    let table: Arc<dyn Table> = Arc::clone(wire) as _;
    store(&table, NEVER)
}

#[track_caller]
fn assert_is_unknown(answer: &Result<bool, StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::Unavailable { .. })),
        "{answer:?}"
    );
}

/// A change reads nothing, whether it is made or not. A list reads the records that it returns.
#[tokio::test]
async fn a_change_of_a_record_is_one_call() {
    let Some(table) = table().await else { return };
    let wire = Arc::new(Wire::new(&table));
    let store = over(&wire);
    let changes = [
        (Swap::Make(record(1, "one")), true),
        (Swap::Make(record(1, "again")), false),
        (replace(1, &record(2, "two")), true),
        (replace(1, &record(3, "late")), false),
        (Swap::Remove { expected: 1 }, false),
        (Swap::Remove { expected: 2 }, true),
    ];
    for (n, (change, is_made)) in (1..).zip(changes) {
        assert_eq!(store.swap_record("t/a/0", &change).await.unwrap(), is_made);
        let expected = Counts {
            checks: n,
            ..Counts::default()
        };
        assert_eq!(wire.counts(), expected);
    }
    for n in 0..20 {
        for name in [format!("t/a/{n}"), format!("t/b/{n}")] {
            let make = Swap::Make(record(1, "made"));
            assert!(store.swap_record(&name, &make).await.unwrap());
        }
    }
    assert_eq!(store.records("t/a/1", None, 1_000).await.unwrap().len(), 11);
    assert_eq!((wire.counts().reads, wire.counts().rows_read), (1, 11));
}

/// The first change is made and its answer is lost. That is an error, and the change is sent once.
#[tokio::test]
async fn a_change_of_a_record_whose_answer_is_lost_is_not_sent_again() {
    let Some(table) = table().await else { return };
    let wire = Arc::new(Wire::dying_after(&table, 1, Order::Given));
    let answer = over(&wire)
        .swap_record("t/a/0", &Swap::Make(record(1, "one")))
        .await;
    assert_is_unknown(&answer);
    assert_eq!(wire.counts().checks, 1);
    let next = store(&table, NEVER);
    assert_eq!(next.record("t/a/0").await.unwrap(), Some(record(1, "one")));
}

/// A change that its sender has given up is made once it arrives, if nothing else has changed the record.
#[tokio::test]
async fn a_change_that_comes_late_is_made_under_its_version_only() {
    let Some(table) = table().await else { return };
    let in_time = store(&table, NEVER);
    let name = "t/a/0";
    let make = Swap::Make(record(1, "one"));
    assert!(in_time.swap_record(name, &make).await.unwrap());
    let wire = Arc::new(Wire::holding(&table));
    let late = [
        replace(1, &record(2, "late")),
        Swap::Remove { expected: 1 },
        Swap::Make(record(1, "late")),
    ];
    for change in &late {
        assert_is_unknown(&over(&wire).swap_record(name, change).await);
    }
    let three = record(3, "in time");
    assert!(in_time.swap_record(name, &replace(1, &three)).await.unwrap());
    // Only the change that makes a record is conditional on a record that is missing.
    assert_eq!(wire.deliver().await, [false, false, true]);
    assert_eq!(in_time.record(name).await.unwrap(), Some(three));
}

/// Nothing has to be deleted of a record that changes often, and no other cells lie in its row.
#[tokio::test]
async fn a_record_that_changes_leaves_no_older_cells() {
    let Some(table) = table().await else { return };
    let store = store(&table, NEVER);
    let make = Swap::Make(record(1, "one"));
    assert!(store.swap_record("t/a/0", &make).await.unwrap());
    for version in 2..5 {
        let change = replace(version - 1, &record(version, "more"));
        assert!(store.swap_record("t/a/0", &change).await.unwrap());
    }
    let rows = rows_of(table.as_ref(), b'c', table::family(ABOUT)).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].key, keys::record("t/a/0"));
    assert_eq!(rows[0].cells.len(), 2, "{rows:?}");
}
