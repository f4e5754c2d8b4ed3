//! How long it takes from a durable entry, or the call to publish, to a subscriber.

use crate::STREAMS;
use crate::pubsub_emulator::Emulator;
use crate::pubsub_inbox::{Inbox, place};
use crate::throughput::{message, publisher};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tape_client::Tape;
use tape_core::id::{Holder, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_relay::conformance::pen::Pen;
use tape_relay::event_format::EventFormat;
use tape_relay::filter::Filter;
use tape_relay::sinks::pubsub::{PubSub, Settings};
use tape_relay::{Relay, Start};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// What is written.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Entries a second.
    pub(crate) rate: u32,
    /// Entries in all.
    pub(crate) entries: u32,
}

/// Latencies, in milliseconds.
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A stream and the number of its entry.
type Place = (String, u64);

/// From the call to publish, by the client library alone.
pub(crate) async fn client(emulator: &Emulator, plan: Plan) -> Latency {
    let topic = emulator.create_topic("client-latency");
    let subscription = emulator.create_subscription("client-latency", &topic);
    let receiving = tokio::spawn(receive(emulator.endpoint(), subscription, plan.entries));
    let publisher = publisher(emulator, &topic).await;
    let mut pens: Vec<Pen> = (0..STREAMS)
        .map(|n| Pen::new(&format!("acme/value/v{n}")))
        .collect();
    let mut ticks = ticks(plan);
    let mut begun = BTreeMap::new();
    let mut under_way = JoinSet::new();
    for n in 0..plan.entries {
        ticks.tick().await;
        let pen = &mut pens[n as usize % STREAMS];
        let event = pen.event(&json!({ "n": n, "text": "x".repeat(400) }));
        begun.insert((event.stream().to_string(), event.seq().0), Instant::now());
        under_way.spawn(publisher.publish(message(&event)));
    }
    under_way.join_all().await;
    latency(&begun, &receiving.await.expect("the subscriber does not fail"))
}

/// From the answer of the journal that an entry is durable, by a relay over SQLite.
pub(crate) async fn relay(emulator: &Emulator, plan: Plan) -> Latency {
    let topic = emulator.create_topic("relay-latency");
    let subscription = emulator.create_subscription("relay-latency", &topic);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite:{}", folder.path().join("bench.db").display());
    let store = tape_store::open::open(&url).await.expect("the store opens");
    let engine = Engine::start(store);
    let running =
        relay_to(emulator, &topic).start(Arc::new(engine.clone()), Holder::new("bench").expect("a name"));
    let receiving = tokio::spawn(receive(emulator.endpoint(), subscription, plan.entries));
    let written = write(&engine, plan).await;
    let received = receiving.await.expect("the subscriber does not fail");
    running.drain().await;
    latency(&written, &received)
}

fn relay_to(emulator: &Emulator, topic: &str) -> Relay {
    let mut settings = Settings::new(topic.parse().expect("it is the name of a topic"));
    settings.emulator = Some(emulator.address());
    Relay {
        id: "acme/bench".parse().expect("it is the name of a relay"),
        filter: Filter::new("acme.>".parse().expect("a pattern"), None),
        format: EventFormat::default(),
        sink: Arc::new(PubSub::new(settings)),
        settings: tape_relay::Settings {
            start: Start::Beginning,
            ..tape_relay::Settings::default()
        },
    }
}

/// Puts values at an even rate. Returns when each was durable.
async fn write(engine: &Engine, plan: Plan) -> BTreeMap<Place, Instant> {
    let tape = Tape::over(engine.clone())
        .connect()
        .await
        .expect("the engine is there");
    let tenant = Tenant::new("acme").expect("a name");
    let (done, mut durable) = mpsc::unbounded_channel();
    let mut ticks = ticks(plan);
    for n in 0..plan.entries {
        ticks.tick().await;
        let name = ValueName::new(format!("v{}", n as usize % STREAMS)).expect("a name");
        let value = tape.value(tenant.clone(), name.clone());
        let payload = Payload::json(&json!({ "n": n, "text": "x".repeat(400) }));
        let done = done.clone();
        tokio::spawn(async move {
            let version = value.put(payload).await.expect("the engine takes it");
            // A value that is only put has its entries' numbers as its versions.
            let _ = done.send(((format!("acme/value/{name}"), version), Instant::now()));
        });
    }
    drop(done);
    let mut written = BTreeMap::new();
    while let Some((place, at)) = durable.recv().await {
        written.insert(place, at);
    }
    written
}

/// Takes so many different entries. Returns when each came.
async fn receive(emulator: String, subscription: String, entries: u32) -> BTreeMap<Place, Instant> {
    let mut inbox = Inbox::open(&emulator, &subscription).await;
    let mut received = BTreeMap::new();
    while received.len() < entries as usize {
        let message = inbox.next().await;
        received.entry(place(&message)).or_insert_with(Instant::now);
    }
    received
}

fn ticks(plan: Plan) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

fn latency(begun: &BTreeMap<Place, Instant>, received: &BTreeMap<Place, Instant>) -> Latency {
    let each = begun
        .iter()
        .map(|(place, at)| received[place].saturating_duration_since(*at));
    let mut each: Vec<Duration> = each.collect();
    each.sort();
    let percentile = |percent: usize| each[(each.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    Latency {
        p50_ms: percentile(50),
        p99_ms: percentile(99),
    }
}
