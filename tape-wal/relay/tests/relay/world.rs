//! A journal, writers, and a sink that does as it is told.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_api::relays::{Lag, PartStatus, PlaceQuery};
use tape_api::{Journal, Relays as _};
use tape_core::codec::{StoredEntry, decode};
use tape_core::command::{Command, ValueCommand};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Holder, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_environment::{Environment, Seeded};
use tape_relay::event::Event;
use tape_relay::event_format::EventFormat;
use tape_relay::filter::Filter;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::{Relay, Running, Settings, Start};
use tape_store::contract::{Cursor, JournalStore, Shard, TailPage};
use tape_store::error::StoreError;
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;
use tokio::sync::watch;

/// An event, as a consumer remembers it.
pub(crate) type Seen = (StreamId, u64);

/// What a sink answers to an event.
pub(crate) type Plan = Box<dyn FnMut(&Event) -> Result<(), SinkError> + Send>;

/// A sink in memory, which keeps what it takes.
pub(crate) struct Told {
    plan: Mutex<Plan>,
    seen: watch::Sender<Vec<Seen>>,
    calls: watch::Sender<u64>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Told {
    /// Takes everything.
    pub(crate) fn all() -> Arc<Self> {
        Self::by(|_| Ok(()))
    }

    /// Answers by a plan.
    pub(crate) fn by(plan: impl FnMut(&Event) -> Result<(), SinkError> + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::new(Box::new(plan)),
            seen: watch::Sender::new(Vec::new()),
            calls: watch::Sender::new(0),
        })
    }

    /// Answers by another plan from now on.
    pub(crate) fn now(&self, plan: impl FnMut(&Event) -> Result<(), SinkError> + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// Waits until it has taken so many events.
    pub(crate) async fn has(&self, events: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let seen = seen.wait_for(|seen| seen.len() >= events).await.unwrap();
        seen.clone()
    }

    /// Waits until it was called so often.
    pub(crate) async fn was_called(&self, calls: u64) {
        self.calls
            .subscribe()
            .wait_for(|made| *made >= calls)
            .await
            .unwrap();
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> u64 {
        *self.calls.borrow()
    }

    /// What it has taken.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

#[async_trait]
impl Sink for Told {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        let mut blocked = Vec::new();
        let mut answers = Vec::new();
        for event in events {
            if blocked.contains(event.stream()) {
                answers.push(Err(SinkError::Behind));
                continue;
            }
            let answer = (self.plan.lock().unwrap())(event);
            match &answer {
                Ok(()) => {
                    let seen = (event.stream().clone(), event.seq().0);
                    self.seen.send_modify(|all| all.push(seen));
                }
                Err(SinkError::Refused { .. }) => {}
                Err(_) => blocked.push(event.stream().clone()),
            }
            answers.push(answer);
        }
        self.calls.send_modify(|calls| *calls += 1);
        answers
    }
}

/// Entries in a page of [`SmallPages`].
pub(crate) const PAGE: u32 = 8;

/// A store whose feed comes in small pages.
pub(crate) struct SmallPages(pub(crate) MemoryStore);

#[async_trait]
impl Layer for SmallPages {
    fn inner(&self) -> &dyn JournalStore {
        &self.0
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.0.tail(shard, cursor, limit.min(PAGE)).await
    }
}

/// A journal over a store in memory.
pub(crate) struct World {
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::with_shards(3)))
    }

    pub(crate) fn over(store: Arc<dyn JournalStore>) -> Self {
        Self {
            engine: Engine::start(store),
        }
    }

    /// A journal whose time is that of the paused clock of a test.
    pub(crate) fn paused(shards: u16) -> Self {
        let environment: Arc<dyn Environment> = Arc::new(Seeded::new(1));
        let store = MemoryStore::with_shards(shards).environment(Arc::clone(&environment));
        Self {
            engine: Engine::start_in(Arc::new(SmallPages(store)), environment),
        }
    }

    pub(crate) fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.engine.clone())
    }

    /// Writes an entry to a value's stream.
    pub(crate) async fn put(&self, tenant: &str, name: &str) {
        let command = ValueCommand::Put {
            value: Payload::json(&serde_json::json!({ "of": name })),
            expected: None,
        };
        let command = Command::new(self.engine.request_id(), command);
        let (tenant, name) = (Tenant::new(tenant).unwrap(), ValueName::new(name).unwrap());
        self.engine.value(&tenant, &name, command).await.unwrap();
    }

    /// Writes `each` entries to each of some values' streams, in turn.
    pub(crate) async fn put_all(&self, tenant: &str, names: &[&str], each: usize) {
        for _ in 0..each {
            for name in names {
                self.put(tenant, name).await;
            }
        }
    }

    pub(crate) async fn entries(&self, stream: &str) -> Vec<Entry> {
        let stream: StreamId = stream.parse().unwrap();
        let read = self.engine.store().read(&stream, Seq::ZERO, 1_000).await.unwrap();
        read.iter()
            .map(|stored: &StoredEntry| decode(stored).unwrap())
            .collect()
    }

    pub(crate) async fn refusals(&self, stream: &str) -> Vec<tape_core::entry::relay::Refused> {
        let bodies = self.entries(stream).await.into_iter().map(|entry| entry.body);
        bodies
            .filter_map(|body| match body {
                EntryBody::RelayRefused(refused) => Some(refused),
                _ => None,
            })
            .collect()
    }

    pub(crate) async fn places(&self, relay: &str) -> Vec<PartStatus> {
        let query = PlaceQuery::Relay(relay.parse().unwrap());
        self.engine.places(&query, None, 64).await.unwrap().parts
    }

    /// Waits until all parts of a relay have passed everything.
    pub(crate) async fn is_through(&self, relay: &str) -> Vec<PartStatus> {
        loop {
            let parts = self.places(relay).await;
            // Of a part that has not begun, nothing lies behind.
            let is_through =
                |part: &PartStatus| !part.place.cursors.is_empty() && part.lag == Ok(Lag::default());
            if !parts.is_empty() && parts.iter().all(is_through) {
                return parts;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Lets the paused clock of a test go on until something holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn quick() -> Settings {
    Settings {
        start: Start::Beginning,
        lease: Duration::from_millis(600),
        move_every: Duration::from_millis(5),
        pass_every: Duration::from_millis(5),
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..Settings::default()
    }
}

pub(crate) fn relay(id: &str, sink: &Arc<Told>, settings: Settings) -> Relay {
    Relay {
        id: id.parse().unwrap(),
        filter: Filter::all(),
        format: EventFormat::default(),
        sink: Arc::clone(sink) as Arc<dyn Sink>,
        settings,
    }
}

pub(crate) fn start(world: &World, id: &str, sink: &Arc<Told>, holder: &str) -> Running {
    relay(id, sink, quick()).start(world.journal(), Holder::new(holder).unwrap())
}

/// What a consumer that remembers has seen, by stream.
///
/// # Panics
/// Where an event that it had not seen came out of its order.
pub(crate) fn remembered(seen: &[Seen]) -> BTreeMap<StreamId, u64> {
    let mut last: BTreeMap<StreamId, u64> = BTreeMap::new();
    for (stream, seq) in seen {
        let last = last.entry(stream.clone()).or_default();
        assert!(*seq <= *last + 1, "{stream} went from {last} to {seq}");
        *last = (*last).max(*seq);
    }
    last
}
