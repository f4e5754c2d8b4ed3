//! The feed over a memory store: filtered, resumed, woken.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::sync::Arc;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_store::clock::SystemClock;
use tape_store::contract::{Cursor, Shard};
use tape_store::memory::MemoryStore;
use tape_wal::{Feed, FeedError, Filter, Page, Start};

fn engine() -> Engine {
    Engine::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock))
}

async fn put(engine: &Engine, tenant: &str, name: &str) {
    let command = ValueCommand::Put {
        value: Payload::json(&serde_json_number()),
        expected: None,
    };
    let request = engine.request_id();
    let (tenant, name) = (Tenant::new(tenant).unwrap(), ValueName::new(name).unwrap());
    engine
        .value(&tenant, &name, Command::new(request, command))
        .await
        .unwrap();
}

fn serde_json_number() -> serde_json::Value {
    serde_json::Value::from(1)
}

async fn open(engine: &Engine, pattern: &str, start: Start, after: Vec<(Shard, Cursor)>) -> Feed {
    let filter = Filter {
        tenant: None,
        pattern: pattern.parse().unwrap(),
    };
    Feed::open(engine.store().clone(), filter, start, after)
        .await
        .unwrap()
}

/// Reads all present entries; stores the cursors as a reader would.
async fn drain(feed: &mut Feed) -> (Vec<String>, Vec<(Shard, Cursor)>) {
    let (mut seen, mut cursors) = (Vec::new(), Vec::new());
    while let Some(Page {
        shard,
        entries,
        after,
        ..
    }) = feed.ready().await.unwrap()
    {
        seen.extend(
            entries
                .iter()
                .map(|feed| format!("{}@{}", feed.stream, feed.entry.seq)),
        );
        cursors.retain(|(of, _)| *of != shard);
        cursors.push((shard, after));
    }
    (seen, cursors)
}

#[tokio::test]
async fn a_reader_gets_what_its_pattern_chooses_and_goes_on_from_its_cursors() {
    let engine = engine();
    put(&engine, "acme", "rate").await;
    put(&engine, "other", "rate").await;
    put(&engine, "acme", "rate").await;
    let (seen, cursors) = drain(&mut open(&engine, "acme.value.>", Start::Beginning, Vec::new()).await).await;
    assert_eq!(seen, ["acme/value/rate@1", "acme/value/rate@2"]);
    put(&engine, "acme", "limit").await;
    let mut resumed = open(&engine, "acme.value.*.value.put", Start::Beginning, cursors).await;
    assert_eq!(drain(&mut resumed).await.0, ["acme/value/limit@1"]);
    let mut other = open(&engine, "acme.*.*.value.deleted", Start::Beginning, Vec::new()).await;
    assert_eq!(drain(&mut other).await.0, Vec::<String>::new());
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_others() {
    let engine = engine();
    put(&engine, "other", "rate").await;
    let filter = Filter {
        tenant: Some(Tenant::new("acme").unwrap()),
        ..Filter::all()
    };
    let mut feed = Feed::open(engine.store().clone(), filter, Start::Beginning, Vec::new())
        .await
        .unwrap();
    assert_eq!(drain(&mut feed).await.0, Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_a_write() {
    let engine = engine();
    put(&engine, "acme", "before").await;
    let mut feed = open(&engine, ">", Start::Now, Vec::new()).await;
    let reader = tokio::spawn(async move { feed.next().await.unwrap() });
    put(&engine, "acme", "after").await;
    let page = reader.await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].stream.to_string(), "acme/value/after");
}

#[tokio::test]
async fn a_cursor_of_another_store_is_refused() {
    let engine = engine();
    let after = vec![(Shard(60_000), Cursor::default())];
    let refused = Feed::open(engine.store().clone(), Filter::all(), Start::Now, after).await;
    assert!(matches!(
        refused,
        Err(FeedError::ForeignCursor { shard: 60_000, .. })
    ));
}
