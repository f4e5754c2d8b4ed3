//! Lists of names: after a writer that died, and of streams from before there were such lists.

use super::heads::change;
use super::pen::Pen;
use super::{NEVER, store, table};
use crate::bigtable::end::End;
use crate::bigtable::{BigtableStore, hint, keys, table};
use crate::contract::JournalStore as _;
use crate::upkeep::{self, Correction, Upkeep as _};
use tape_core::id::{StreamId, StreamPrefix, Tenant};
use tape_core::time::Timestamp;

fn value(name: &str) -> StreamId {
    format!("t/value/{name}").parse().unwrap()
}

async fn listed(store: &BigtableStore) -> Vec<StreamId> {
    let values = StreamPrefix::values(&Tenant::new("t").unwrap(), None);
    store.named(&values, None, 2).await.unwrap().streams
}

#[tokio::test]
async fn a_stream_that_was_never_made_is_not_listed() {
    let Some(table) = table().await else { return };
    let store = store(&table, NEVER);
    // More than a page of them, before the stream that is there.
    for name in ["a", "b", "c"] {
        let key = keys::named(store.context.shard_of(&value(name)), &value(name));
        let hint = hint::write(key, &End::default(), Timestamp::from_micros(1));
        change(table.as_ref(), hint.key, hint.mutations).await;
    }
    assert_eq!(listed(&store).await, []);
    for name in ["d", "b"] {
        let mut pen = Pen::new("pen");
        pen.stream = value(name);
        pen.put(&store, "one", 1).await;
    }
    assert_eq!(listed(&store).await, [value("b"), value("d")]);
}

#[tokio::test]
async fn a_stream_of_an_earlier_build_is_listed_once_that_is_corrected() {
    let Some(table) = table().await else { return };
    let store = store(&table, NEVER);
    let mut pen = Pen::new("pen");
    pen.stream = value("v");
    pen.put(&store, "one", 1).await;
    let key = keys::named(store.context.shard_of(&pen.stream), &pen.stream);
    change(table.as_ref(), key, vec![table::unset_row()]).await;
    assert_eq!(listed(&store).await, []);
    let named = async || store.indexed(&pen.stream, &[]).await.unwrap().named;
    assert!(!named().await);
    let end = upkeep::End {
        seq: pen.seq,
        digest: pen.digest,
        ..upkeep::End::default()
    };
    let correction = Correction {
        named: true,
        ..Correction::default()
    };
    assert!(!correction.is_empty());
    assert!(store.reindex(&pen.stream, end, &correction).await.unwrap());
    assert!(named().await);
    assert_eq!(listed(&store).await, [pen.stream]);
}
