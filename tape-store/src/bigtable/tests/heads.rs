//! Head cells: of a lost history, and in the form of the first version of the table.

use super::pen::{Pen, all};
use super::{NEVER, bigtable_emulator, rows_of, shared, store, table};
use crate::bigtable::end::{ABOUT, HEAD, LAST};
use crate::bigtable::links::{Access, Links};
use crate::bigtable::migrate::COLUMN;
use crate::bigtable::table::{self, Change, Mutation, Table};
use crate::bigtable::{BigtableStore, Target, keys, migrate};
use crate::contract::{CommitOutcome, JournalStore};
use crate::error::{CommitError, StoreError};
use crate::migrated::Migrated;
use bytes::Bytes;
use tape_core::id::Seq;

pub(super) async fn change(table: &dyn Table, key: Bytes, mutations: Vec<Mutation>) {
    let changed = table.mutate(vec![Change { key, mutations }]).await;
    assert!(changed.iter().all(Result::is_ok));
}

/// A server has cached an end that the table no longer has, though number, epoch and generation are the same.
#[tokio::test]
async fn an_end_that_was_lost_is_not_written_on() {
    let Some(table) = table().await else { return };
    let remembers = shared(&table);
    let mut pen = Pen::new("a");
    pen.put(remembers.as_ref(), "one", 1).await;
    let mut other = pen.clone();
    pen.put(remembers.as_ref(), "lost", 1).await;
    let first = all(remembers.as_ref(), &pen.stream).await;
    change(
        table.as_ref(),
        keys::stream(&pen.stream),
        vec![table::unset_row()],
    )
    .await;
    let (after, mut begun) = (shared(&table), Pen::new("a").batch("one", 1));
    begun.entries = vec![first[0].clone()];
    let answer = after.commit(vec![begun]).await.remove(0);
    assert!(answer.is_ok(), "{answer:?}");
    other.put(after.as_ref(), "instead", 1).await;
    let batch = pen.batch("on what was lost", 1);
    let answer = remembers.commit(vec![batch.clone()]).await.remove(0);
    assert!(matches!(answer, Err(CommitError::Conflict { .. })), "{answer:?}");
    assert_eq!(
        remembers.resolve(&batch).await.unwrap(),
        CommitOutcome::NotCommitted
    );
    other.put(remembers.as_ref(), "on what there is", 1).await;
    assert_eq!(all(after.as_ref(), &pen.stream).await.len(), 3);
}

/// Rows of the first version, whose digest is in another cell, are read, tested and given the present form.
#[tokio::test]
async fn heads_of_the_version_before_are_read_and_replaced() {
    let Some(table) = table().await else { return };
    let writer = store(&table, NEVER);
    let mut pen = Pen::new("a");
    pen.put(&writer, "one", 2).await;
    let head = async || {
        let rows = rows_of(table.as_ref(), b's', table::any_of([table::family(ABOUT)])).await;
        let cell = |qualifier| rows[0].cell(ABOUT, qualifier).unwrap().value.clone();
        (cell(HEAD), cell(LAST))
    };
    let (now, bytes) = head().await;
    assert!(now.ends_with(&pen.digest.0));
    let before = [&pen.digest.0[..], &bytes[..]].concat();
    let mutations = vec![
        table::set(ABOUT, HEAD, now.slice(..24)),
        table::set(ABOUT, LAST, before),
    ];
    change(table.as_ref(), keys::stream(&pen.stream), mutations).await;
    let reader = store(&table, NEVER);
    let found = reader.head(&pen.stream).await.unwrap().unwrap();
    assert_eq!((found.seq, found.digest), (pen.seq, pen.digest));
    let mut lost = pen.clone();
    lost.digest.0[0] ^= 1;
    let answer = reader.commit(vec![lost.batch("lost", 1)]).await.remove(0);
    assert!(matches!(answer, Err(CommitError::Conflict { .. })), "{answer:?}");
    pen.put(&reader, "two", 1).await;
    assert!(head().await.0.ends_with(&pen.digest.0));
    assert_eq!(all(&writer, &pen.stream).await.len() as u64, Seq(3).0);
}

/// Servers of the previous version would take such rows for damaged, so the version row of the table excludes them.
#[tokio::test]
async fn a_table_of_the_version_before_is_migrated() {
    let Some(emulated) = bigtable_emulator::Table::new() else {
        return;
    };
    let target: Target = emulated.url().parse().unwrap();
    migrate(&target, false).await.unwrap();
    let access = Access::new(&target).unwrap();
    let links = Links::new(&target, &access).unwrap();
    let version = table::set(
        ABOUT,
        COLUMN,
        &br#"{"version":1,"compatible_from":1,"shards":3}"#[..],
    );
    change(&links, Bytes::from_static(keys::META), vec![version]).await;
    let mut never = target.clone();
    never.settings.migrate = false;
    let refused = BigtableStore::open(&never).await;
    assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    let raised = Migrated { from: 1, to: 2 };
    assert_eq!(migrate(&target, false).await.unwrap(), raised);
    let same = Migrated { from: 2, to: 2 };
    assert_eq!(migrate(&target, true).await.unwrap(), same);
    assert_eq!(
        BigtableStore::open(&never).await.unwrap().capabilities().shards,
        3
    );
}
