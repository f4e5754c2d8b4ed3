//! Durability beyond the process.

use super::Fixture;
use super::pen::{Pen, all};
use crate::contract::{Batch, CommitOutcome, Committed, RunFilter, Shard, SnapshotChange};
use bytes::Bytes;
use std::collections::BTreeMap;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::Tenant;
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// Another process that opens the store right after the acknowledgement sees everything, and takes over from there.
pub(super) async fn what_is_acknowledged_is_there_after_reopening(fixture: Fixture) {
    let reopen = fixture
        .reopen
        .as_ref()
        .expect("a durable store's fixture says how it is reopened");
    let mut pen = Pen::new("a");
    let due = Timestamp::from_micros(7);
    for n in 0..10_u8 {
        let store = if n % 2 == 0 {
            std::sync::Arc::clone(&fixture.store)
        } else {
            reopen().await
        };
        let change = AgendaChange {
            queue: Queue::Recovery,
            item: Item::Run,
            was: (n > 0).then_some(due),
            due: Some(due),
        };
        let (status, at) = (RunStatus::Running, Timestamp::from_micros(3));
        let summary = Summary {
            status,
            labels: BTreeMap::new(),
            begun_at: at,
            changed_at: at,
        };
        let snapshot = Bytes::from(format!("state {n}"));
        let batch = Batch {
            agenda: if n == 0 { vec![change] } else { Vec::new() },
            summary: Some(summary.clone()),
            snapshot: SnapshotChange::Replace(snapshot.clone()),
            ..pen.batch(&["x", "y"])
        };
        pen.put(store.as_ref(), batch.clone()).await;
        let again = reopen().await;
        let head = again
            .head(&pen.stream)
            .await
            .unwrap()
            .expect("the stream is there");
        assert_eq!((head.seq, head.digest), (pen.seq, pen.digest));
        assert_eq!(head.snapshot.expect("the snapshot is there").bytes, snapshot);
        assert_eq!(all(again.as_ref(), &pen.stream).await.len() as u64, pen.seq.0);
        let there = CommitOutcome::Committed(Committed { seq: pen.seq });
        assert_eq!(again.resolve(&batch).await.unwrap(), there);
        let shard = Shard::of(&pen.stream, again.capabilities().shards);
        assert_eq!(
            again
                .due(Queue::Recovery, shard, due, None, 10)
                .await
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            super::feed::read_everything(again.as_ref()).await.len() as u64,
            pen.seq.0
        );
        let listed = again
            .runs(&RunFilter::all(Tenant::new("t").unwrap()), None, 10)
            .await
            .unwrap();
        assert_eq!(listed.runs, [(pen.stream.as_run().unwrap().clone(), summary)]);
    }
}
