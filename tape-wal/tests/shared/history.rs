//! A history from a seed: writers, servers that restart, and consumers.

use crate::consumer::Consumer;
use crate::store::Adverse;
use std::sync::Arc;
use std::time::Duration;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_environment::{Environment, Seeded};
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;
use tape_wal::{Feed, Filter, SharedFeed, Start};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) const TENANTS: [&str; 2] = ["acme", "other"];
const NAMES: [&str; 4] = ["rate", "limit", "price", "book"];
const PATTERNS: [&str; 7] = [
    ">",
    ">",
    "acme.>",
    "*.value.rate.>",
    "acme.value.*.value.put",
    "*.*.*.value.deleted",
    "other.value.price.>",
];
const WRITERS: usize = 5;
const WRITES: usize = 12;
const CONSUMERS: u64 = 5;
/// The longest pause between two writes of a writer.
const BETWEEN_WRITES_MAX: Duration = Duration::from_millis(60);
/// By then everything is consumed, whatever happened.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What is left of a history.
pub(crate) struct History {
    store: Arc<MemoryStore>,
    consumers: Vec<Consumer>,
}

impl History {
    pub(crate) async fn of(seed: u64) -> Self {
        let environment: Arc<dyn Environment> = Arc::new(Seeded::new(seed));
        let shards = 1 + u16::try_from(environment.random_u64() % 3).unwrap();
        let memory = Arc::new(MemoryStore::with_shards(shards));
        let store = Arc::new(Adverse::new(Arc::clone(&memory), Arc::clone(&environment)));
        let engine = Engine::start_in(Arc::<Adverse>::clone(&store), Arc::clone(&environment));
        let (serve, served) = watch::channel(server(&store, &environment));
        let (end, ended) = watch::channel(None);
        let mut consuming = JoinSet::new();
        for _ in 0..CONSUMERS {
            let pattern = PATTERNS[pick(&environment, PATTERNS.len())].parse().unwrap();
            let tenant = [None, None, Some(TENANTS[0]), Some(TENANTS[1])][pick(&environment, 4)];
            let tenant = tenant.map(|name| name.parse().unwrap());
            let consumer = Consumer::new(Filter { tenant, pattern }, &memory, &environment);
            consuming.spawn(consumer.consume(served.clone(), ended.clone()));
        }
        let mut background = JoinSet::new();
        background.spawn(trouble(serve, Arc::clone(&store), Arc::clone(&environment)));
        let mut writing = JoinSet::new();
        for _ in 0..WRITERS {
            writing.spawn(write(engine.clone(), Arc::clone(&environment)));
        }
        writing.join_all().await;
        end.send_replace(Some(every_entry(&memory).await));
        let consumed = tokio::time::timeout(PATIENCE, consuming.join_all()).await;
        let consumers = consumed.expect("an event is lost: a consumer still waits for one");
        Self {
            store: memory,
            consumers,
        }
    }

    /// Compares what was consumed with what was written. Returns the number of events.
    pub(crate) async fn check(self) -> usize {
        let all = every_entry(&self.store).await;
        self.consumers.iter().map(|consumer| consumer.check(&all)).sum()
    }
}

pub(crate) fn pick(environment: &Arc<dyn Environment>, of: usize) -> usize {
    usize::try_from(environment.random_u64() % of as u64).unwrap()
}

/// A server: its followers lag behind a ring of a few entries, of some, or of all.
fn server(store: &Arc<Adverse>, environment: &Arc<dyn Environment>) -> SharedFeed {
    let bytes = [1, 4_000, 20_000, 32 << 20][pick(environment, 4)];
    SharedFeed::with_ring(Arc::<Adverse>::clone(store), bytes)
}

/// All entries, as a reader without a shared feed has them.
async fn every_entry(store: &Arc<MemoryStore>) -> Vec<tape_store::contract::FeedEntry> {
    let store: Arc<dyn JournalStore> = Arc::<MemoryStore>::clone(store);
    let mut feed = Feed::open(store, Filter::all(), Start::Beginning, Vec::new())
        .await
        .unwrap();
    let mut entries = Vec::new();
    while let Some(page) = feed.ready().await.unwrap() {
        entries.extend(page.entries);
    }
    entries
}

/// Restarts servers, and holds up what is committed.
async fn trouble(serve: watch::Sender<SharedFeed>, store: Arc<Adverse>, environment: Arc<dyn Environment>) {
    loop {
        tokio::time::sleep(Duration::from_millis(400).mul_f64(environment.chance())).await;
        if environment.chance() < 0.2 {
            serve.send_replace(server(&store, &environment));
        } else {
            store.hold_up().await;
        }
    }
}

async fn write(engine: Engine, environment: Arc<dyn Environment>) {
    for n in 0..WRITES {
        tokio::time::sleep(BETWEEN_WRITES_MAX.mul_f64(environment.chance().powi(3))).await;
        let tenant = Tenant::new(TENANTS[pick(&environment, TENANTS.len())]).unwrap();
        let name = ValueName::new(NAMES[pick(&environment, NAMES.len())]).unwrap();
        let expected = None;
        let body = if pick(&environment, 5) == 0 {
            ValueCommand::Delete { expected }
        } else {
            let value = Payload::json(&serde_json::json!(n));
            ValueCommand::Put { value, expected }
        };
        let command = Command::new(engine.request_id(), body);
        // A command that fails is repeated, as a client does; one that deletes nothing is refused.
        while let Err(error) = engine.value(&tenant, &name, command.clone()).await {
            if matches!(error, tape_engine::EngineError::Rejected(_)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
