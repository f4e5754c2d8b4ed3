//! The state that sessions share, through engines over the store.

use super::broken_off::dying;
use super::erasure::{append, ask, create, delta, engine, said_by, session};
use crate::EngineError;
use crate::EventsFrom;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::SessionCommand;
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, StreamId};
use tape_core::reply::Rejection;
use tape_store::conformance::Fixture;
use tape_store::layer::Point;

/// A change that does not fit into shared state is refused before it is recorded, and the session continues.
pub(super) async fn a_change_that_shared_state_cannot_take_is_refused(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let engine = engine(&store);
    let (a, b) = (session("a"), session("b"));
    for session in [&a, &b] {
        create(&engine, session).await;
    }
    let large = || format!("\"{}\"", "x".repeat(600 * 1024));
    let first = append("e1", delta("app:one", large()));
    engine.session(&a, first.clone()).await.expect("it fits");
    let refused = engine.session(&b, append("e1", delta("app:two", large()))).await;
    let limit = matches!(
        refused,
        Err(EngineError::Rejected(Rejection::LimitExceeded { .. }))
    );
    assert!(limit, "{refused:?}");
    engine.session(&a, first).await.expect("it is the first outcome");
    said_by(&engine, &b, append("e2", delta("mood", "1".to_owned()))).await;
    let state = engine
        .session_state(&b)
        .await
        .expect("it can be read")
        .expect("it is there");
    assert_eq!(state.merged()["mood"].as_str(), "1");
    let events = engine
        .session_events(&b, EventsFrom::END, Seq::ZERO, 10, usize::MAX)
        .await;
    assert_eq!(events.expect("they can be read").events.len(), 1);
    engine
        .session(&b, ask(SessionCommand::Delete))
        .await
        .expect("it can be deleted");
}

/// Two changes had room when they were recorded, and only one has when they are carried over: the other is recorded as refused, and its
/// session continues.
pub(super) async fn a_change_that_lost_its_room_is_recorded_as_refused(fixture: Fixture) {
    let store = &fixture.store;
    let living = engine(store);
    let large = || format!("\"{}\"", "x".repeat(600 * 1024));
    let (a, b) = (session("a"), session("b"));
    for (session, key) in [(&a, "app:one"), (&b, "app:two")] {
        create(&living, session).await;
        // Its first commit is the event; it dies before it carries the change over.
        let (one, _) = dying(store, Point::BeforeCommit, 1);
        let _ = one.session(session, append("e1", delta(key, large()))).await;
    }
    for session in [&a, &b] {
        living.merge_session(session).await.expect("it is carried over");
    }
    let entries = tape_store::conformance::pen::all(store.as_ref(), &StreamId::Session(b.clone())).await;
    let refused = entries
        .iter()
        .find_map(|stored| match decode(stored).expect("it decodes").body {
            EntryBody::SessionMerged(merged) => Some(merged.refused),
            _ => None,
        });
    let refused = refused.expect("what became of it is recorded");
    assert_eq!((refused.len(), refused[0].source), (1, Seq(2)), "{refused:?}");
    said_by(&living, &b, append("e2", delta("app:two", "2".to_owned()))).await;
    let state = living.session_state(&a).await.expect("it can be read");
    let state = state.expect("it is there").merged();
    assert_eq!(state["app:two"].as_str(), "2");
    assert_eq!(state["app:one"].as_str(), large());
}
