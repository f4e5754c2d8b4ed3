//! Entries that a sink refuses for good.

use crate::world::{PAGE, SmallPages, Told, World, quick, relay, remembered, start};
use std::sync::Arc;
use tape_core::id::Holder;
use tape_relay::Settings;
use tape_relay::sink::SinkError;
use tape_store::memory::MemoryStore;

const SHARDS: u16 = 3;
const WINDOW: u64 = 32;
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_entry_is_on_record_and_its_neighbours_keep_their_order() {
    let world = World::new();
    let sink = Told::by(
        |event| match (event.stream().to_string().as_str(), event.seq().0) {
            ("acme/value/b", 7) => Err(SinkError::refused("400 Bad Request: no such currency")),
            _ => Ok(()),
        },
    );
    let running = start(&world, "acme/lake", &sink, "one");
    world.put_all("acme", &["a", "b", "c"], 20).await;
    let seen = sink.has(59 + 1).await;
    running.drain().await;
    let of = |stream: &str| -> Vec<u64> {
        let of = seen.iter().filter(|(seen, _)| seen.to_string() == stream);
        of.map(|(_, seq)| *seq).collect()
    };
    assert_eq!(
        of("acme/value/b"),
        (1..=20).filter(|seq| *seq != 7).collect::<Vec<_>>()
    );
    assert_eq!(of("acme/value/a"), (1..=20).collect::<Vec<_>>());
    // The record is an entry, and the relay delivers that, too.
    assert_eq!(of("acme/relay/own/lake"), [1]);
    let refusals = world.refusals("acme/relay/own/lake").await;
    let [refused] = refusals.as_slice() else {
        panic!("{refusals:?}")
    };
    assert_eq!(
        (refused.entry.stream.to_string().as_str(), refused.entry.seq.0),
        ("acme/value/b", 7)
    );
    assert_eq!(refused.reason, "400 Bad Request: no such currency");
    let entry = &world.entries("acme/value/b").await[6];
    assert_eq!(
        refused.entry.digest, entry.digest,
        "the record says which entry was meant"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_everything_makes_no_endless_records() {
    let world = World::new();
    let sink = Told::by(|_| Err(SinkError::refused("never")));
    let running = start(&world, "*/lake", &sink, "one");
    for tenant in ["acme", "beta"] {
        world.put_all(tenant, &["a", "b"], 3).await;
    }
    world.is_through("*/lake").await;
    running.drain().await;
    for tenant in ["acme", "beta"] {
        let refusals = world.refusals(&format!("{tenant}/relay/all/lake")).await;
        assert_eq!(refusals.len(), 6);
        assert!(
            refusals
                .iter()
                .all(|refused| refused.entry.stream.tenant().as_str() == tenant)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_for_a_while_loses_nothing_and_holds_little() {
    let world = World::over(Arc::new(SmallPages(MemoryStore::with_shards(SHARDS))));
    let sink = Told::by(|_| Err(SinkError::unavailable("503 Service Unavailable")));
    let settings = Settings {
        window_events: WINDOW,
        ..quick()
    };
    let running = relay("acme/lake", &sink, settings).start(world.journal(), Holder::new("one").unwrap());
    sink_is_tried(&world, &sink).await;
    let waiting = running.counts();
    assert!(
        waiting.events_waiting > 0 && waiting.oldest_waiting_us > 0,
        "{waiting:?}"
    );
    world.put_all("acme", &["a", "b", "c"], 300).await;
    // At most the window, and the pages that a part holds beside it.
    let held = u64::from(SHARDS) * (WINDOW + 5 * u64::from(PAGE));
    assert!(running.counts().entries_read <= held, "{:?}", running.counts());
    let failing = |part: &tape_api::relays::PartStatus| part.place.failing.is_some();
    while !world.places("acme/lake").await.iter().any(failing) {
        tokio::task::yield_now().await;
    }
    sink.now(|_| Ok(()));
    let seen = remembered(&sink.has(903).await);
    assert!(seen.values().all(|last| *last == 301), "{seen:?}");
    let parts = world.is_through("acme/lake").await;
    assert!(!parts.iter().any(failing), "it works again");
    assert_eq!(running.counts().events_waiting, 0);
    running.drain().await;
}

async fn sink_is_tried(world: &World, sink: &Told) {
    world.put_all("acme", &["a", "b", "c"], 1).await;
    sink.was_called(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fails_holds_up_its_stream_and_no_other_of_its_page() {
    let world = World::new();
    world.put_all("acme", &["a", "b", "c"], 4).await;
    let mut failures = 0;
    let sink = Told::by(move |event| match event.stream().to_string().as_str() {
        "acme/value/b" if failures < 5 => {
            failures += 1;
            Err(SinkError::unavailable("busy"))
        }
        _ => Ok(()),
    });
    let running = start(&world, "acme/lake", &sink, "one");
    let seen = sink.has(12).await;
    running.drain().await;
    assert_eq!(remembered(&seen).len(), 3);
    assert_eq!(sink.seen().len(), 12, "nothing was delivered twice");
}
