//! Changes of shared state that are carried over late, after shared state has forgotten others of their age.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::command::{Command, SessionCommand, SharedCommand};
use tape_core::id::{App, EventId, Key, RunId, SessionId, StreamId, Tenant};
use tape_core::limits::PENDING_MERGES_MAX;
use tape_core::payload::Payload;
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::state::{Delta, Json};
use tape_engine::Engine;
use tape_engine::StreamService;
use tape_engine::committer::Committer;
use tape_store::clock::{Clock as _, SystemClock};
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;

fn session(name: &str) -> SessionId {
    RunId::new("acme", "app", "ann", name, "i").unwrap().session()
}

fn append(event: &str, key: &str, value: &str) -> Command<SessionCommand> {
    let value = Json::try_from(value.to_owned()).unwrap();
    let append = SessionCommand::Append {
        event: EventId::new(event).unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta: Delta(BTreeMap::from([(Key::new(key).unwrap(), Some(value))])),
        content: Payload::empty(),
    };
    Command::new(SystemClock.request_id(), append)
}

/// An engine with two sessions, one of which has recorded a change that is not carried over yet, and its store.
async fn pending() -> (Engine, Arc<dyn JournalStore>) {
    let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
    let engine = Engine::new(Arc::clone(&store), Arc::new(SystemClock));
    for name in ["late", "busy"] {
        let create = SessionCommand::Create {
            session: session(name),
            state: Delta::default(),
        };
        let create = Command::new(engine.request_id(), create);
        engine.session(&session(name), create).await.unwrap();
    }
    // Its server commits the event and dies before it carries the change over.
    let stream = StreamId::Session(session("late"));
    let sessions: StreamService<Session> = journal(&store);
    sessions
        .command(&stream, append("e", "app:k", "\"late\""))
        .await
        .unwrap();
    (engine, store)
}

fn journal<S: tape_core::decider::Decider>(store: &Arc<dyn JournalStore>) -> StreamService<S> {
    StreamService::new(
        Arc::clone(store),
        Committer::start(Arc::clone(store)),
        Arc::new(SystemClock),
        1 << 20,
    )
}

/// More changes by the other session than shared state remembers.
async fn flood(engine: &Engine) {
    for n in 0..PENDING_MERGES_MAX + 8 {
        let busy = append(&format!("e{n}"), "app:other", "1");
        engine.session(&session("busy"), busy).await.unwrap();
    }
}

async fn k(engine: &Engine) -> Option<String> {
    let state = engine.session_state(&session("busy")).await.unwrap().unwrap();
    state.merged().get("app:k").map(|json| json.as_str().to_owned())
}

#[tokio::test]
async fn a_change_that_waited_long_is_carried_over() {
    let (engine, _store) = pending().await;
    flood(&engine).await;
    assert_eq!(k(&engine).await, None);
    engine.merge_session(&session("late")).await.unwrap();
    assert_eq!(k(&engine).await.as_deref(), Some("\"late\""));
    engine.merge_session(&session("late")).await.unwrap();
}

#[tokio::test]
async fn a_change_whose_server_died_before_it_said_so_is_not_carried_over_again() {
    let (engine, store) = pending().await;
    let sessions: StreamService<Session> = journal(&store);
    let stream = StreamId::Session(session("late"));
    let state = sessions.state(&stream).await.unwrap().unwrap();
    let change = state.pending().front().unwrap();
    let shared: StreamService<Shared> = journal(&store);
    let merge = SharedCommand::Merge {
        session: session("late"),
        source: change.source,
        recorded_at: change.at,
        delta: change.app.clone(),
        searched: tape_core::id::Seq::ZERO,
    };
    let app = StreamId::Shared {
        tenant: Tenant::new("acme").unwrap(),
        app: App::new("app").unwrap(),
        user: None,
    };
    let merge = Command::new(SystemClock.request_id(), merge);
    shared.command(&app, merge).await.unwrap();
    let newer = append("newer", "app:k", "\"newer\"");
    engine.session(&session("busy"), newer).await.unwrap();
    flood(&engine).await;
    engine.merge_session(&session("late")).await.unwrap();
    assert_eq!(k(&engine).await.as_deref(), Some("\"newer\""));
}
