//! How fast a relay reads the feed, beside a reader of the feed that does nothing else, and how soon an event reaches a subscriber in this
//! process. The relay has three sinks: one that reads nothing of events, one that makes JSON of them, and a file of JSON lines.
//!
//! `cargo bench -p tape-relay --bench relay -- [ENTRIES] [SECONDS]`

#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails stops")]

use async_trait::async_trait;
use futures::StreamExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_api::Journal;
use tape_api::query::Tail;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Holder, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::subject::Pattern;
use tape_engine::Engine;
use tape_environment::machine;
use tape_relay::event::Event;
use tape_relay::event_format::EventFormat;
use tape_relay::filter::Filter;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::sinks::broadcast::Broadcast;
use tape_relay::sinks::json_lines::{DEFAULT_AGE_MAX, DEFAULT_FILE_BYTES_MAX, JsonLines, JsonLinesSettings};
use tape_relay::sinks::null::Null;
use tape_relay::{Relay, Settings, Start};
use tape_store::sqlite::SqliteStore;
use tokio::time::Instant;

/// Writers at once while the journal is filled.
const WRITERS: usize = 64;
/// Entries a second while latency is measured.
const RATE: u32 = 500;
/// How often the relays and the plain reader take turns.
const ROUNDS: usize = 5;
/// The sinks of the relays.
const SINKS: [&str; 3] = ["null", "json", "lines"];

fn main() {
    // Cargo passes `--bench` to every benchmark.
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let entries = numbers.first().copied().unwrap_or(50_000);
    let seconds = numbers.get(1).copied().unwrap_or(10);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(entries, seconds));
}

async fn measure(entries: usize, seconds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("tape.db")).await.unwrap();
    let engine = Engine::start(Arc::new(store));
    fill(&engine, entries).await;
    let mut all: Vec<[f64; SINKS.len()]> = Vec::new();
    for round in 0..ROUNDS {
        let plain = read(&engine).await;
        let mut ratios = [0.0; SINKS.len()];
        print!("tail {plain:.0} entries/s");
        for (name, ratio) in SINKS.iter().zip(&mut ratios) {
            let sink = sink(name, &folder.path().join(format!("lines{round}")));
            let relayed = relay(&engine, &format!("acme/{name}{round}"), sink, entries).await;
            *ratio = relayed / plain;
            print!(", {name} {relayed:.0}, ratio {ratio:.2}");
        }
        println!();
        all.push(ratios);
    }
    for (n, name) in SINKS.iter().enumerate() {
        let mut ratios: Vec<f64> = all.iter().map(|ratios| ratios[n]).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "relay to {name}, of the tail, median of {ROUNDS}: {:.2}",
            ratios[ROUNDS / 2]
        );
    }
    latency(&engine, seconds).await;
}

fn sink(name: &str, path: &Path) -> Arc<dyn Sink> {
    match name {
        "null" => Arc::new(Null),
        "json" => Arc::new(Json),
        _ => {
            let settings = JsonLinesSettings::new(path, DEFAULT_FILE_BYTES_MAX, DEFAULT_AGE_MAX);
            Arc::new(JsonLines::new(settings.unwrap(), machine()))
        }
    }
}

/// Makes JSON of events, and throws it away.
#[derive(Debug)]
struct Json;

#[async_trait]
impl Sink for Json {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        let made = events.iter().map(|event| {
            std::hint::black_box(event.to_json());
            Ok(())
        });
        made.collect()
    }
}

fn put(engine: &Engine) -> Command<ValueCommand> {
    let value = Payload::json(
        &serde_json::json!({ "amount": 1_250_000, "currency": "EUR", "to": "DE02 1203 0000 0000 2020 51" }),
    );
    Command::new(
        engine.request_id(),
        ValueCommand::Put {
            value,
            expected: None,
        },
    )
}

async fn fill(engine: &Engine, entries: usize) {
    let tenant = Tenant::new("acme").unwrap();
    let write = |writer: usize| {
        let (engine, tenant) = (engine.clone(), tenant.clone());
        async move {
            let name = ValueName::new(format!("w{writer}")).unwrap();
            for _ in 0..entries / WRITERS {
                engine.value(&tenant, &name, put(&engine)).await.unwrap();
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(write)).await;
}

/// Entries a second of a reader of the feed that throws them away.
async fn read(engine: &Engine) -> f64 {
    let begun = Instant::now();
    let tail = Tail {
        from_start: true,
        follow: false,
        ..Tail::new(Pattern::all())
    };
    let mut pages = Journal::tail(engine, &tail);
    let mut entries = 0;
    while let Some(page) = pages.next().await {
        entries += page.unwrap().entries.len();
    }
    rate(entries, begun)
}

/// Entries a second of a relay to a sink, to its last event.
async fn relay(engine: &Engine, id: &str, sink: Arc<dyn Sink>, entries: usize) -> f64 {
    let entries = (entries / WRITERS * WRITERS) as u64;
    let begun = Instant::now();
    let running = start(engine, id, sink, Start::Beginning);
    while running.counts().events_delivered < entries {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = rate(usize::try_from(entries).unwrap(), begun);
    running.drain().await;
    rate
}

fn start(engine: &Engine, id: &str, sink: Arc<dyn Sink>, start: Start) -> tape_relay::Running {
    let relay = Relay {
        id: id.parse().unwrap(),
        filter: Filter::all(),
        format: EventFormat::default(),
        sink,
        settings: Settings {
            start,
            ..Settings::default()
        },
    };
    relay.start(Arc::new(engine.clone()), Holder::new("bench").unwrap())
}

/// From the acknowledged commit to the subscriber's callback.
async fn latency(engine: &Engine, seconds: usize) {
    let sink = Broadcast::new(4_096).unwrap();
    let mut subscription = sink.subscribe();
    let running = start(engine, "acme/latency", Arc::new(sink), Start::Now);
    while running.counts().moves == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (tenant, name) = (Tenant::new("acme").unwrap(), ValueName::new("latency").unwrap());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let count = seconds * RATE as usize;
    let (to, mut committed) = tokio::sync::mpsc::unbounded_channel();
    let writer = tokio::spawn({
        let engine = engine.clone();
        async move {
            for _ in 0..count {
                ticks.tick().await;
                let command = put(&engine);
                engine.value(&tenant, &name, command).await.unwrap();
                to.send(Instant::now()).unwrap();
            }
        }
    });
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        subscription.next().await.unwrap();
        let seen = Instant::now();
        // The event may be here before the writer has its answer.
        let at = committed.recv().await.unwrap();
        waits.push(seen.saturating_duration_since(at));
    }
    writer.await.unwrap();
    waits.sort_unstable();
    let at = |share: usize| waits[waits.len() * share / 1_000];
    println!(
        "commit to callback in process at {RATE} entries/s: p50 {:?}, p99 {:?}, p99.9 {:?} of {count}",
        at(500),
        at(990),
        at(999)
    );
}

fn rate(entries: usize, begun: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    let entries = entries as f64;
    entries / begun.elapsed().as_secs_f64()
}
