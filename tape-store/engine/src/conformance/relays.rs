//! What relays report, through engines over the store.

use super::erasure::{SECRET, ask, by_olga, engine, is_forgotten, is_recorded};
use crate::EngineError;
use std::sync::Arc;
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::id::{RelayStream, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::reply::{Field, Missing, Rejection};
use tape_core::verify::{Audit, SnapshotFinding};
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::all;

fn relay(text: &str) -> RelayStream {
    match text.parse().unwrap() {
        StreamId::Relay(relay) => relay,
        other => panic!("{other} is not that of a relay"),
    }
}

fn refuse(stream: &str, seq: u64) -> Command<RelayCommand> {
    ask(RelayCommand::Refuse {
        entry: SentEntry {
            stream: stream.parse().unwrap(),
            seq: Seq(seq),
            digest: Digest::of(&seq.to_be_bytes()),
        },
        attempts: 5,
        reason: SECRET.to_owned(),
    })
}

fn receipt(stream: &str, seq: u64) -> Command<RelayCommand> {
    ask(RelayCommand::Receipt {
        subscriber: "lake".parse().unwrap(),
        erasure: RecordedErasure {
            stream: stream.parse().unwrap(),
            seq: Seq(seq),
        },
    })
}

fn redelivered(refusal: u64) -> Command<RelayCommand> {
    let refusal = Seq(refusal);
    ask(RelayCommand::Redelivered { refusal })
}

/// Each engine stands for a process of a relay that died before its place moved.
pub(super) async fn what_a_relay_reports_again_is_on_record_once(fixture: Fixture) {
    let lake = relay("acme/relay/own/lake");
    for seq in 1..=3 {
        for _ in 0..2 {
            let again = refuse("acme/value/rate", seq);
            let reply = engine(&fixture.store).record(&lake, again).await.unwrap();
            assert_eq!(reply.seq, Seq(seq), "it is the first");
        }
    }
    for _ in 0..2 {
        let again = receipt("acme/value/rate", 2);
        let reply = engine(&fixture.store).record(&lake, again).await.unwrap();
        assert_eq!(reply.seq, Seq(4));
    }
    let again = redelivered(2);
    let first = engine(&fixture.store).record(&lake, again.clone()).await.unwrap();
    let repeated = engine(&fixture.store).record(&lake, again).await.unwrap();
    assert_eq!((first.seq, &repeated), (Seq(5), &first));
    let (refusal, seq) = (Seq(2), Seq(5));
    match engine(&fixture.store).record(&lake, redelivered(2)).await {
        Err(EngineError::Rejected(found)) => assert_eq!(found, Rejection::Redelivered { refusal, seq }),
        other => panic!("{other:?}"),
    }
    match engine(&fixture.store).record(&lake, redelivered(4)).await {
        Err(EngineError::Rejected(Rejection::NotFound { what, .. })) => assert_eq!(what, Missing::Refusal),
        other => panic!("{other:?}"),
    }
    let record = engine(&fixture.store).relay_record(&lake).await.unwrap().unwrap();
    assert_eq!(record.open().collect::<Vec<_>>(), [Seq(1), Seq(3)]);
    assert_eq!(all(fixture.store.as_ref(), &StreamId::Relay(lake)).await.len(), 5);
}

/// A relay of all tenants reports in each. A mistake of it writes nothing of one tenant into the stream of another.
pub(super) async fn what_a_relay_reports_stays_in_the_tenant_that_it_is_about(fixture: Fixture) {
    let engine = engine(&fixture.store);
    let streams = [
        "acme/relay/all/lake",
        "beta/relay/all/lake",
        "acme/relay/own/lake",
    ];
    let about = ["acme/value/rate", "beta/value/rate", "acme/relay/own/lake"];
    for (stream, name) in streams.map(|name| (relay(name), name)) {
        for about in about {
            for command in [refuse(about, 1), receipt(about, 1)] {
                let found = engine.record(&stream, command).await;
                let is_own = about.split('/').next() == name.split('/').next();
                match found {
                    Ok(_) => assert!(is_own && !about.contains("relay"), "{about} in {name}"),
                    Err(EngineError::Rejected(Rejection::Invalid { field, .. })) => {
                        assert!(!is_own || about.contains("relay"), "{about} in {name}");
                        assert_eq!(field, Field::Stream);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    }
    for stream in streams.map(relay) {
        let entries = all(fixture.store.as_ref(), &StreamId::Relay(stream)).await;
        assert_eq!(entries.len(), 2, "a refusal and a receipt");
    }
}

/// Two engines know the stream. An erasure through one of them leaves the refusal on record and its reason nowhere.
pub(super) async fn the_reason_of_a_refusal_is_erased(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let (one, two) = (engine(&store), engine(&store));
    let lake = relay("acme/relay/own/lake");
    let stream = StreamId::Relay(lake.clone());
    one.record(&lake, refuse("acme/value/rate", 1)).await.unwrap();
    two.record(&lake, redelivered(1)).await.unwrap();
    let again = by_olga(&[Seq(1)]);
    let erased = one.erase(&stream, again.clone()).await.unwrap();
    assert_eq!(
        one.erase(&stream, again).await.unwrap(),
        erased,
        "the first outcome"
    );
    two.finish_erasures(&stream).await.unwrap();
    is_recorded(&store, &stream, Seq(1)).await;
    is_forgotten(&store).await;
    two.record(&lake, refuse("acme/value/rate", 2)).await.unwrap();
    let page = two.check_index(None, 100, false).await.unwrap();
    assert!(page.findings.is_empty(), "{:?}", page.findings);
}

/// Enough for a snapshot. It agrees with the entries, and an engine that begins with it answers as the one that made it.
pub(super) async fn a_long_record_of_a_relay_verifies_and_is_remembered(fixture: Fixture) {
    let lake = relay("acme/relay/all/lake");
    let stream = StreamId::Relay(lake.clone());
    let first = engine(&fixture.store);
    for seq in 1..=400 {
        first.record(&lake, refuse("acme/value/rate", seq)).await.unwrap();
    }
    let head = fixture.store.head(&stream).await.unwrap().unwrap();
    let snapshot = head.snapshot.expect("the engine has put a snapshot");
    let mut audit = Audit::new(
        &stream,
        [(head.seq, head.digest)],
        Some((snapshot.seq, snapshot.bytes)),
    );
    for stored in all(fixture.store.as_ref(), &stream).await {
        audit.check(&stored).unwrap();
    }
    let verified = audit.finish().unwrap();
    assert_eq!(
        (verified.head.0, verified.snapshot),
        (Seq(400), SnapshotFinding::Verified)
    );
    let again = engine(&fixture.store)
        .record(&lake, refuse("acme/value/rate", 7))
        .await;
    assert_eq!(again.unwrap().seq, Seq(7));
}
