//! Erasures that are interrupted, or meet an obstacle.

use super::erasure::{
    SECRET, append, ask, by_olga, create, delta, engine, is_forgotten, is_recorded, said_by, session, text,
    verifies,
};
use crate::EngineError;
use crate::{Engine, EventsFrom};
use async_trait::async_trait;
use std::sync::Arc;
use tape_core::agenda::{Item, Queue};
use tape_core::codec::{StoredEntry, decode};
use tape_core::command::{Rewind, ValueCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{Key, Seq, StreamId, Tenant, ValueName};
use tape_core::state::{Delta, Json};
use tape_core::time::Timestamp;
use tape_store::conformance::Fixture;
use tape_store::contract::{Head, JournalStore, Shard};
use tape_store::error::StoreError;
use tape_store::layer::{Fault, FaultyStore, Layer, Point};

/// The calls during which an erasure can be interrupted. Entries are read before, in between and after.
const STEPS: [Point; 6] = [
    Point::Head,
    Point::Read,
    Point::BeforeCommit,
    Point::AfterCommit,
    Point::BeforeErase,
    Point::AfterErase,
];

/// A store whose process dies during its `n`th call of a step: from then on every call fails as unavailable.
pub(super) fn dying_store(store: &Arc<dyn JournalStore>, point: Point, n: usize) -> Arc<FaultyStore> {
    let faulty = Arc::new(FaultyStore::new(Arc::clone(store)));
    for _ in 0..n {
        faulty.plan(point, Fault::None);
    }
    // It stays dead, and learns nothing of the answer that was lost.
    for _ in 0..1_000 {
        faulty.plan(point, Fault::Unavailable);
        if point == Point::AfterCommit {
            faulty.plan(Point::Resolve, Fault::Unavailable);
        }
    }
    faulty
}

/// An engine that dies during its `n`th call of a step and loses its cache.
pub(super) fn dying(store: &Arc<dyn JournalStore>, point: Point, n: usize) -> (Engine, Arc<FaultyStore>) {
    let faulty = dying_store(store, point, n);
    let store: Arc<dyn JournalStore> = Arc::<FaultyStore>::clone(&faulty);
    (engine(&store), faulty)
}

/// What the timers' reactor does.
async fn finish_what_is_due(store: &Arc<dyn JournalStore>) {
    let engine = engine(store);
    for shard in (0..store.capabilities().shards).map(Shard) {
        let due = store.due(Queue::Timers, shard, Timestamp::MAX, None, 100).await;
        for hint in due.expect("it can be read") {
            assert_eq!(hint.item, Item::Erasure, "{hint:?}");
            engine
                .finish_erasures(&hint.stream)
                .await
                .expect("it is finished");
        }
    }
}

/// At whatever step an erasure dies, another engine finishes it if it was recorded; if it was not recorded, nothing is erased.
pub(super) async fn an_erasure_that_dies_at_any_step_is_finished_by_the_next(fixture: Fixture) {
    let store = &fixture.store;
    let (mut recorded, mut died) = (0, 0);
    for (k, point) in STEPS.into_iter().enumerate() {
        for n in 0..8 {
            let a = session(&format!("s{k}-{n}"));
            let stream = StreamId::Session(a.clone());
            let living = engine(store);
            create(&living, &a).await;
            let secret = format!("\"{SECRET}\"");
            let said = append("e1", delta("app:phone", secret));
            let entry = living.session(&a, said).await.expect("it is appended").seq;
            let (one, faulty) = dying(store, point, n);
            let died_here = one.erase(&stream, by_olga(&[entry])).await.is_err();
            drop((one, faulty));
            died += usize::from(died_here);
            // Looking over the indexes keeps the unfinished erasure as due work.
            assert_eq!(super::upkeep::check(&living, true).await, []);
            let entries = tape_store::conformance::pen::all(store.as_ref(), &stream).await;
            let said_so = entries.iter().any(|stored| {
                let entry = decode(stored).expect("it decodes");
                matches!(entry.body, EntryBody::PayloadErased(_))
            });
            verifies(store, &stream).await;
            if !said_so {
                assert!(died_here && entries.iter().all(|stored| stored.payload.is_some()));
                living
                    .erase(&stream, by_olga(&[entry]))
                    .await
                    .expect("it is erased");
            } else if died_here {
                recorded += 1;
                // Changes by others meanwhile neither restore erased bytes nor block the erasure.
                said_by(&living, &a, append("e2", delta("mood", n.to_string()))).await;
                let rest = living
                    .session_events(&a, EventsFrom::END, entry, 10, usize::MAX)
                    .await
                    .expect("they can be read");
                assert_eq!(rest.events.len(), 1);
                living
                    .erase(&stream, by_olga(&[rest.events[0].seq]))
                    .await
                    .expect("it is erased");
            }
            finish_what_is_due(store).await;
            is_recorded(store, &stream, entry).await;
            is_forgotten(store).await;
            verifies(store, &stream).await;
            verifies(store, &"acme/shared/treasury".parse().expect("it is a name")).await;
        }
    }
    assert!(recorded >= 10 && died > recorded, "{recorded} of {died}");
}

/// An erasure is recorded, and its engine dies before the bytes are erased. Others change and delete the value meanwhile. Their changes do
/// not bring the old value back, and it is erased when they finish the erasure.
pub(super) async fn what_changes_amid_an_erasure_brings_nothing_back(fixture: Fixture) {
    let store = &fixture.store;
    let tenant = Tenant::new("acme").expect("it is a name");
    for (name, point) in [("a", Point::BeforeErase), ("b", Point::AfterErase)] {
        let name = ValueName::new(name).expect("it is a name");
        let stream = StreamId::Value {
            tenant: tenant.clone(),
            name: name.clone(),
        };
        let living = engine(store);
        let put = |value: &str| {
            let (value, expected) = (text(value), None);
            ask(ValueCommand::Put { value, expected })
        };
        living
            .value(&tenant, &name, put(SECRET))
            .await
            .expect("it is put");
        let (one, _) = dying(store, point, 0);
        let unknown = one.erase(&stream, by_olga(&[Seq(1)])).await;
        assert!(
            matches!(unknown, Err(EngineError::OutcomeUnknown { .. })),
            "{unknown:?}"
        );
        // Looking over the indexes keeps the unfinished erasure as due work.
        assert_eq!(super::upkeep::check(&living, true).await, []);
        let now = async |engine: &Engine| {
            let state = engine.value_state(&tenant, &name).await.expect("it can be read");
            state.and_then(|value| value.current())
        };
        for engine in [&living, &engine(store)] {
            assert_eq!(now(engine).await, None, "it is as if it had never been there");
        }
        let delete = ask(ValueCommand::Delete { expected: None });
        let _ = living.value(&tenant, &name, delete).await;
        living
            .value(&tenant, &name, put("none"))
            .await
            .expect("it is put");
        assert_eq!(now(&engine(store)).await, Some(text("none")));
        finish_what_is_due(store).await;
        assert_eq!(now(&living).await, Some(text("none")));
        is_forgotten(store).await;
        verifies(store, &stream).await;
    }
}

/// An event's change of shared state that no engine has carried over yet is erased too, at whatever step its engine died.
pub(super) async fn a_change_that_was_not_carried_over_is_erased(fixture: Fixture) {
    let store = &fixture.store;
    let (a, living) = (session("a"), engine(store));
    create(&living, &a).await;
    // Its first commit is the event.
    let (one, _) = dying(store, Point::BeforeCommit, 1);
    let said = append("e1", delta("app:phone", format!("\"{SECRET}\"")));
    let _ = one.session(&a, said).await;
    let stream = StreamId::Session(a.clone());
    let shared: StreamId = "acme/shared/treasury".parse().expect("it is a name");
    let entries = tape_store::conformance::pen::all(store.as_ref(), &stream).await;
    assert_eq!(entries.len(), 2, "the event is there");
    assert_eq!(
        tape_store::conformance::pen::all(store.as_ref(), &shared).await,
        Vec::new()
    );
    living
        .erase(&stream, by_olga(&[entries[1].seq]))
        .await
        .expect("it is erased");
    is_forgotten(store).await;
    for stream in [&stream, &shared] {
        verifies(store, stream).await;
    }
    let state = living.session_state(&a).await.expect("it can be read");
    assert!(state.expect("it is there").merged().is_empty());
}

/// The largest possible state, of long keys, is in the entry that remains of one that repeated the erased bytes.
pub(super) async fn what_a_full_state_repeats_is_erased(fixture: Fixture) {
    let (engine, a) = (engine(&fixture.store), session("full"));
    create(&engine, &a).await;
    let said = append("e1", delta("phone", format!("\"{SECRET}\"")));
    let secret = engine.session(&a, said).await.expect("it is appended").seq;
    said_by(&engine, &a, append("e2", delta("mood", "1".to_owned()))).await;
    said_by(&engine, &a, append("e3", delta("mood", "2".to_owned()))).await;
    let (to, expected) = (Seq(3), None);
    let back = engine.rewind_session(&a, ask(Rewind { to, expected })).await;
    back.expect("it is put back");
    // Each character of the value is one that is escaped in a string.
    let value = format!("\"{}\"", "\\\"".repeat(120));
    let (mut keys, mut full) = (0, false);
    while !full {
        let many = (0..512).map(|n| {
            let key = Key::new(format!("{:0>200}", keys + n)).expect("it is a key");
            (key, Some(Json::try_from(value.clone()).expect("it is JSON")))
        });
        let more = append(&format!("more {keys}"), Delta(many.collect()));
        full = engine.session(&a, more).await.is_err();
        keys += 512;
    }
    assert!(keys > 1_024, "{keys} keys are not many");
    let stream = StreamId::Session(a);
    let erased = engine.erase(&stream, by_olga(&[secret])).await;
    erased.expect("it is erased");
    verifies(&fixture.store, &stream).await;
}

/// A store with one damaged stream.
struct Damaged {
    inner: Arc<dyn JournalStore>,
    stream: StreamId,
}

impl Damaged {
    fn check(&self, stream: &StreamId) -> Result<(), StoreError> {
        if *stream == self.stream {
            return Err(StoreError::corrupt("a row", "it is damaged on purpose"));
        }
        Ok(())
    }
}

#[async_trait]
impl Layer for Damaged {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.check(stream)?;
        self.inner.head(stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.check(stream)?;
        self.inner.read(stream, after, limit).await
    }
}

/// The copies in damaged shared state stay until it is repaired; the session's own bytes are erased.
pub(super) async fn damaged_shared_state_keeps_no_bytes_of_a_session(fixture: Fixture) {
    let store = &fixture.store;
    let (living, a) = (engine(store), session("a"));
    create(&living, &a).await;
    let mut said = Vec::new();
    for (event, key) in [("e1", "app:phone"), ("e2", "phone")] {
        let said_so = append(event, delta(key, format!("\"{SECRET}\"")));
        said.push(living.session(&a, said_so).await.expect("it is appended").seq);
    }
    let stream = StreamId::Session(a);
    let beside_damage = engine(
        &(Arc::new(Damaged {
            inner: Arc::clone(store),
            stream: "acme/shared/treasury".parse().expect("it is a name"),
        }) as Arc<dyn JournalStore>),
    );
    for entry in &said {
        let erased = beside_damage.erase(&stream, by_olga(&[*entry])).await;
        assert!(
            matches!(
                erased,
                Err(EngineError::Damaged { .. } | EngineError::OutcomeUnknown { .. })
            ),
            "{erased:?}"
        );
    }
    let kept = tape_store::conformance::pen::all(store.as_ref(), &stream).await;
    let kept = kept
        .iter()
        .filter(|entry| said.contains(&entry.seq) && entry.payload.is_some());
    assert_eq!(kept.count(), 0, "the bytes of the session are gone");
    finish_what_is_due(store).await;
    is_forgotten(store).await;
    verifies(store, &stream).await;
}
