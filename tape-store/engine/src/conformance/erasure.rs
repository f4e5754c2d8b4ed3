//! Erasing on request, through engines over the store.

use super::tampered::{Damage, Tampered};
use crate::EngineError;
use crate::{Engine, Retirement};
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::agenda::{Item, Queue};
use tape_core::agent_version;
use tape_core::codec::decode;
use tape_core::command::{
    Begin, Command, Create, DriverCommand, Rewind, RunCommand, SessionCommand, ValueCommand,
};
use tape_core::entry::EntryBody;
use tape_core::erasure::Erasure;
use tape_core::id::{
    Epoch, EventId, Holder, Key, Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant, ValueName,
};
use tape_core::payload::Payload;
use tape_core::reply::Rejection;
use tape_core::state::{Delta, Json};
use tape_core::time::Timestamp;
use tape_core::verify::Audit;
use tape_environment::{Environment as _, Machine};
use tape_store::clock::SystemClock;
use tape_store::conformance::Fixture;
use tape_store::contract::{Cursor, JournalStore, RunFilter, Shard};
use tape_store::layer::Point;

pub(super) const SECRET: &str = "a secret";

pub(super) fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).expect("a test's payloads are small")
}

fn request() -> RequestId {
    let now = tape_store::clock::Clock::read(&SystemClock).at();
    RequestId::new(now, Machine.random())
}

pub(super) fn ask<B>(body: B) -> Command<B> {
    Command::new(request(), body)
}

pub(super) fn by_olga(entries: &[Seq]) -> Command<Erasure> {
    let body = Erasure {
        entries: entries.to_vec(),
        reason: "asked for".to_owned(),
    };
    Command {
        principal: Some(Principal::new("olga").expect("it is a name")),
        ..ask(body)
    }
}

pub(super) fn engine(store: &Arc<dyn JournalStore>) -> Engine {
    Engine::new(Arc::clone(store), Arc::new(SystemClock))
}

pub(super) fn session(name: &str) -> SessionId {
    let run = RunId::new("acme", "treasury", "ann", name, "i").expect("it is a name");
    run.session()
}

pub(super) fn delta(key: &str, json: String) -> Delta {
    let json = Json::try_from(json).expect("it is JSON");
    Delta(BTreeMap::from([(
        Key::new(key).expect("it is a key"),
        Some(json),
    )]))
}

pub(super) fn append(event: &str, delta: Delta) -> Command<SessionCommand> {
    ask(SessionCommand::Append {
        event: EventId::new(event).expect("it is a name"),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta,
        content: text(SECRET),
    })
}

pub(super) async fn create(engine: &Engine, session: &SessionId) {
    let create = SessionCommand::Create {
        session: session.clone(),
        state: Delta::default(),
    };
    engine.session(session, ask(create)).await.expect("it is created");
}

/// No call of the store returns the secret.
pub(super) async fn is_forgotten(store: &Arc<dyn JournalStore>) {
    let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(SECRET);
    let mut streams = Vec::new();
    for shard in (0..store.capabilities().shards).map(Shard) {
        let mut cursor = Cursor::default();
        loop {
            let page = store
                .tail(shard, &cursor, 1_000)
                .await
                .expect("the feed can be read");
            if page.entries.is_empty() {
                break;
            }
            cursor = page.cursor;
            for found in page.entries {
                let (stream, entry) = (found.stream, found.entry);
                let payload = entry.payload.as_deref().is_some_and(has);
                assert!(
                    !payload && !has(&entry.envelope),
                    "{stream} {} in the feed",
                    entry.seq
                );
                streams.push(stream);
            }
        }
        let due = store.due(Queue::Timers, shard, Timestamp::MAX, None, 10).await;
        let due = due.expect("it can be read");
        assert!(due.iter().all(|hint| hint.item != Item::Erasure), "{due:?}");
    }
    streams.sort();
    streams.dedup();
    for stream in streams {
        let head = store
            .head(&stream)
            .await
            .expect("it can be read")
            .expect("it is there");
        let snapshot = head.snapshot.is_some_and(|snapshot| has(&snapshot.bytes));
        assert!(!snapshot, "the snapshot of {stream}");
        for entry in store
            .read(&stream, Seq::ZERO, 1_000)
            .await
            .expect("it can be read")
        {
            assert!(
                !entry.payload.as_deref().is_some_and(has),
                "{stream} {}",
                entry.seq
            );
        }
    }
}

/// The stream records the principal, the time and the reason of the erasure.
pub(super) async fn is_recorded(store: &Arc<dyn JournalStore>, stream: &StreamId, entry: Seq) {
    let page = store
        .read(stream, Seq::ZERO, 1_000)
        .await
        .expect("it can be read");
    let entries = page.iter().map(|stored| decode(stored).expect("it decodes"));
    let said = entries.into_iter().find_map(|found| match found.body {
        EntryBody::PayloadErased(erased) if erased.entries.contains(&entry) => {
            Some((found.principal, erased.reason))
        }
        _ => None,
    });
    let (who, why) = said.expect("an entry says what was erased");
    assert_eq!(
        (who.expect("it says by whom").to_string(), why.as_str()),
        ("olga".to_owned(), "asked for")
    );
}

/// Two engines have folded the bytes; after an erasure through one of them, neither returns the bytes or writes them again.
pub(super) async fn an_erased_value_is_gone_on_every_engine(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let (one, two) = (engine(&store), engine(&store));
    let tenant = Tenant::new("acme").expect("it is a name");
    let name = ValueName::new("phone").expect("it is a name");
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let put = |value: &str| {
        ask(ValueCommand::Put {
            value: text(value),
            expected: None,
        })
    };
    one.value(&tenant, &name, put(SECRET)).await.expect("it is put");
    let there = two
        .value_state(&tenant, &name)
        .await
        .expect("it can be read")
        .expect("it is there");
    assert_eq!(there.current(), Some(text(SECRET)));
    let again = by_olga(&[Seq(1)]);
    let erased = one.erase(&stream, again.clone()).await.expect("it is erased");
    assert_eq!(
        one.erase(&stream, again).await.expect("it is the first outcome"),
        erased
    );
    for engine in [&one, &two] {
        let now = engine.value_state(&tenant, &name).await.expect("it can be read");
        assert_eq!(now.expect("it is there").current(), None);
    }
    two.value(&tenant, &name, put("none")).await.expect("it is put");
    is_recorded(&store, &stream, Seq(1)).await;
    is_forgotten(&store).await;
    let missing = one.erase(&stream, by_olga(&[Seq(99)])).await;
    assert!(
        matches!(missing, Err(EngineError::Rejected(Rejection::NotFound { .. }))),
        "{missing:?}"
    );
}

/// Erasing a session's event erases the state that it set, a rewind that repeats it, snapshots, and its changes of shared state.
pub(super) async fn an_erased_event_takes_its_state_along(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let (one, two) = (engine(&store), engine(&store));
    let (a, b) = (session("a"), session("b"));
    let stream = StreamId::Session(a.clone());
    for session in [&a, &b] {
        create(&one, session).await;
    }
    let secret = || format!("\"{SECRET}\"");
    let mut said = Vec::new();
    for (event, key) in [("e1", "phone"), ("e2", "app:phone"), ("e3", "user:phone")] {
        let reply = one.session(&a, append(event, delta(key, secret()))).await;
        said.push(reply.expect("it is appended").seq);
    }
    let end = *said.last().expect("there are some");
    // Enough entries for a snapshot, which has the state.
    for n in 0..300 {
        let said = append(&format!("n{n}"), delta("mood", n.to_string()));
        said_by(&two, &a, said).await;
    }
    two.rewind_session(
        &a,
        ask(Rewind {
            to: end,
            expected: None,
        }),
    )
    .await
    .expect("it is put back");
    let before = two
        .session_state(&b)
        .await
        .expect("it can be read")
        .expect("it is there")
        .merged();
    assert_eq!(before["app:phone"].as_str(), secret());
    let head = store
        .head(&stream)
        .await
        .expect("it can be read")
        .expect("it is there");
    let snapshot =
        String::from_utf8_lossy(&head.snapshot.expect("there are enough entries").bytes).into_owned();
    assert!(snapshot.contains(SECRET), "the snapshot has what is erased next");
    // The content of the other events holds the same bytes, and is erased separately.
    let page = store
        .read(&stream, Seq::ZERO, 1_000)
        .await
        .expect("it can be read");
    let events = page.iter().map(|entry| decode(entry).expect("it decodes"));
    let events: Vec<Seq> = events
        .filter(|entry| matches!(entry.body, EntryBody::SessionEventAppended(_)))
        .map(|entry| entry.seq)
        .collect();
    // Through the engine that took the snapshot, so that no other snapshot is due.
    for entries in events.chunks(256) {
        two.erase(&stream, by_olga(entries)).await.expect("it is erased");
    }
    is_forgotten(&store).await;
    is_recorded(&store, &stream, said[0]).await;
    for engine in [&one, &two, &engine(&store)] {
        for session in [&a, &b] {
            let state = engine.session_state(session).await.expect("it can be read");
            let state = state.expect("it is there").merged();
            assert!(state.keys().all(|key| !key.contains("phone")), "{state:?}");
        }
    }
}

pub(super) async fn said_by(engine: &Engine, session: &SessionId, said: Command<SessionCommand>) {
    engine.session(session, said).await.expect("it is appended");
}

/// Labels leave the list, and stay away also after the run was retired.
pub(super) async fn erased_labels_leave_the_list(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let engine = engine(&store);
    let run = RunId::new("acme", "treasury", "ann", "s", "i").expect("it is a name");
    let stream = StreamId::Run(run.clone());
    let labels = [(Key::new("who").expect("it is a key"), SECRET.to_owned())];
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: labels.into(),
            input: text(SECRET),
            forked_from: None,
        }),
        holder: Holder::new("a").expect("it is a name"),
        lease_ms: 30_000,
        adopt: None,
        recovery: false,
    };
    engine
        .run(&run, ask(RunCommand::Begin(begin)))
        .await
        .expect("it begins");
    let epoch = engine
        .run_state(&run)
        .await
        .expect("it can be read")
        .expect("it is there");
    let epoch = tape_core::decider::Decider::epoch(epoch.as_ref());
    let fail = DriverCommand::Fail {
        error: SECRET.to_owned(),
    };
    let end = engine
        .run(&run, ask(RunCommand::Drive(epoch, fail)))
        .await
        .expect("it ends")
        .seq;
    engine
        .erase(&stream, by_olga(&[Seq(1), end]))
        .await
        .expect("it is erased, though it has ended");
    let filter = RunFilter::all(run.tenant.clone());
    let listed = store.runs(&filter, None, 10).await.expect("it can be read").runs;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(agent_version::is_erased(&listed[0].1.labels), "{listed:?}");
    is_recorded(&store, &stream, end).await;
    is_forgotten(&store).await;
    engine
        .run(
            &run,
            ask(RunCommand::External(
                tape_core::command::ExternalCommand::Retire {
                    reason: "old".to_owned(),
                    last: None,
                    ended: None,
                },
            )),
        )
        .await
        .expect("it is retired");
    is_forgotten(&store).await;
}

/// A run that was retired and dropped is in no list, also once its labels are erased.
pub(super) async fn a_retired_run_whose_labels_are_erased_stays_out_of_the_list(fixture: Fixture) {
    let store = Arc::clone(&fixture.store);
    let engine = engine(&store);
    let run = RunId::new("acme", "treasury", "ann", "s", "i").expect("it is a name");
    let stream = StreamId::Run(run.clone());
    let labels = [(Key::new("who").expect("it is a key"), SECRET.to_owned())];
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: labels.into(),
            input: text("input"),
            forked_from: None,
        }),
        holder: Holder::new("a").expect("it is a name"),
        lease_ms: 30_000,
        adopt: None,
        recovery: false,
    };
    let begun = engine.run(&run, ask(RunCommand::Begin(begin))).await;
    begun.expect("it begins");
    let error = "no".to_owned();
    let fail = RunCommand::Drive(Epoch(1), DriverCommand::Fail { error });
    engine.run(&run, ask(fail)).await.expect("it ends");
    let retirement = Retirement {
        tenant: run.tenant.clone(),
        ended_before: Timestamp::MAX,
        principal: None,
        reason: "old".to_owned(),
        dry_run: false,
    };
    let retired = super::retention::retire_all(&engine, &retirement, 10).await;
    assert_eq!(retired.expect("it is retired").runs, 1);
    let listed = async || {
        let filter = RunFilter::all(run.tenant.clone());
        store.runs(&filter, None, 10).await.expect("it can be read").runs
    };
    assert_eq!(listed().await, Vec::new());
    let kept = tape_store::conformance::pen::all(store.as_ref(), &stream).await;
    engine
        .erase(&stream, by_olga(&[kept[0].seq]))
        .await
        .expect("it is erased, though it is retired");
    assert_eq!(listed().await, Vec::new());
    is_forgotten(&store).await;
    verifies(&store, &stream).await;
}

/// Every missing payload is covered by an entry that erased it.
pub(super) async fn verifies(store: &Arc<dyn JournalStore>, stream: &StreamId) {
    let head = store.head(stream).await.expect("it can be read");
    let snapshot = head.and_then(|head| head.snapshot);
    let snapshot = snapshot.map(|snapshot| (snapshot.seq, snapshot.bytes));
    let mut audit = Audit::new(stream, [], snapshot);
    for stored in tape_store::conformance::pen::all(store.as_ref(), stream).await {
        audit.check(&stored).expect("it verifies");
    }
    audit.finish().expect("nothing was destroyed");
}

/// An entry that was tampered with keeps its bytes: erasing them would destroy the proof.
pub(super) async fn what_was_changed_is_not_erased(fixture: Fixture) {
    let tampered = Tampered::new(&fixture.store);
    let store: Arc<dyn JournalStore> = Arc::<Tampered>::clone(&tampered);
    let (tenant, name) = (
        Tenant::new("acme").expect("it is a name"),
        ValueName::new("phone").expect("it is a name"),
    );
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let one = engine(&store);
    for value in ["a", "b", SECRET, "d"] {
        let put = ValueCommand::Put {
            value: text(value),
            expected: None,
        };
        one.value(&tenant, &name, ask(put)).await.expect("it is put");
    }
    let erase = async || one.erase(&stream, by_olga(&[Seq(1), Seq(3)])).await;
    let before = tape_store::conformance::pen::all(fixture.store.as_ref(), &stream).await;
    tampered.damage(&stream, Seq(3), Damage::Payload);
    let refused = erase().await;
    assert!(matches!(refused, Err(EngineError::Damaged { .. })), "{refused:?}");
    let now = tape_store::conformance::pen::all(fixture.store.as_ref(), &stream).await;
    assert_eq!(now, before, "nothing was written, and nothing is gone");
    // It is changed after the erasure was recorded, and before the bytes went.
    tampered.mend();
    let (dying, _) = super::broken_off::dying(&fixture.store, Point::BeforeErase, 0);
    let broken_off = dying.erase(&stream, by_olga(&[Seq(3)])).await;
    broken_off.expect_err("the bytes are still there");
    tampered.damage(&stream, Seq(3), Damage::Payload);
    let refused = one.finish_erasures(&stream).await;
    assert!(matches!(refused, Err(EngineError::Damaged { .. })), "{refused:?}");
    tampered.mend();
    let now = tape_store::conformance::pen::all(fixture.store.as_ref(), &stream).await;
    assert!(now[2].payload.is_some(), "what proves the change is there");
    one.finish_erasures(&stream).await.expect("it is whole again");
    is_forgotten(&fixture.store).await;
    verifies(&fixture.store, &stream).await;
}
