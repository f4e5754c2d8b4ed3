//! Snapshots that cannot be used.

use crate::Engine;
use bytes::Bytes;
use std::sync::Arc;
use tape_core::chain::StreamTag;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{RequestId, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::time::Timestamp;
use tape_store::clock::SystemClock;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{Pen, commit};
use tape_store::contract::{Batch, SnapshotChange};

/// The engine folds the entries where the snapshot cannot be used.
pub(super) async fn a_snapshot_that_does_not_read_is_harmless(fixture: Fixture) {
    let engine = || Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("v").unwrap());
    let put = |n: u64| {
        let value = Payload::new("text/plain", n.to_string()).unwrap();
        Command::new(
            RequestId::new(Timestamp::from_micros(0), u128::from(n)),
            ValueCommand::Put {
                value,
                expected: None,
            },
        )
    };
    let first = engine();
    for n in 0..600 {
        first.value(&tenant, &name, put(n)).await.unwrap();
    }
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let head = fixture.store.head(&stream).await.unwrap().unwrap();
    assert!(head.snapshot.is_some(), "the engine has put a snapshot");
    let expected = first.value_state(&tenant, &name).await.unwrap().unwrap();
    // Garbage is written in its place, with an entry that the engine wrote in another stream.
    let last = fixture
        .store
        .read(&stream, Seq(head.seq.0 - 1), 1)
        .await
        .unwrap()
        .remove(0);
    let decoded = tape_core::codec::decode(&last).unwrap();
    let tape_core::entry::EntryBody::ValuePut(mut again) = decoded.body else {
        panic!("it is a put")
    };
    again.version += 1;
    let stamp = tape_core::codec::Stamp {
        at: decoded.at,
        request: decoded.request,
        principal: None,
        trace: None,
        command: None,
    };
    let (_, stored) = tape_core::codec::seal(
        &StreamTag::of(&stream),
        &head.digest,
        head.seq.next(),
        &stamp,
        again.into(),
    );
    let pen = Pen {
        seq: head.seq,
        epoch: head.epoch,
        digest: head.digest,
        ..Pen::on(stream.clone())
    };
    let garbage = Batch {
        snapshot: SnapshotChange::Replace(Bytes::from("[1, garbage")),
        ..pen.batch_of(vec![stored])
    };
    commit(fixture.store.as_ref(), garbage).await.unwrap();
    let folded = engine().value_state(&tenant, &name).await.unwrap().unwrap();
    assert_eq!(folded.version(), expected.version() + 1);
    assert_eq!(folded.current(), expected.current());
}
