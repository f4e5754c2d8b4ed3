//! What goes wrong in one place stays there.

use crate::meddled::Meddled;
use crate::world::{Told, World, quick, relay, remembered, start};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tape_core::id::Holder;
use tape_relay::event::Event;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::{Relay, Settings, Start};
use tape_store::memory::MemoryStore;

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

fn one_shard() -> World {
    World::over(Arc::new(MemoryStore::with_shards(1)))
}

fn is_of(event: &Event, stream: &str) -> bool {
    event.stream().to_string() == stream
}

/// Panics once, and then is another sink.
#[derive(Debug)]
struct PanicsOnce(AtomicBool, Arc<Told>);

#[async_trait]
impl Sink for PanicsOnce {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        assert!(self.0.swap(true, SeqCst), "a defect of the sink");
        self.1.deliver(events).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_does_not_end_the_relay() {
    let (world, told) = (World::new(), Told::all());
    let relay = Relay {
        sink: Arc::new(PanicsOnce(AtomicBool::new(false), Arc::clone(&told))),
        ..relay("acme/lake", &told, quick())
    };
    let running = relay.start(world.journal(), holder("one"));
    world.put_all("acme", &["a", "b", "c", "d"], 5).await;
    told.has(20).await;
    assert_eq!(running.counts().panics, 1);
    assert!(running.is_running());
    running.drain().await;
    assert!(!running.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_damaged_record_stops_no_other_tenant() {
    let world = World::new();
    let journal = Meddled::over(world.journal());
    journal.acme_is_damaged.store(true, SeqCst);
    let sink = Told::by(|event| {
        if is_of(event, "acme/value/poison") {
            return Err(SinkError::refused("422"));
        }
        Ok(())
    });
    let running = relay("*/lake", &sink, quick()).start(journal, holder("one"));
    world.put("acme", "poison").await;
    let names: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
    for name in &names {
        world.put("beta", name).await;
    }
    sink.has(20).await;
    world.is_through("*/lake").await;
    assert_eq!(running.counts().refusals_unrecorded, 1);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_newer_build_is_not_passed_by_an_older_one() {
    let world = one_shard();
    let (sink, journal) = (Told::all(), Meddled::over(world.journal()));
    world.put_all("acme", &["a", "new", "b"], 1).await;
    journal.is_older.store(true, SeqCst);
    let older = relay("acme/lake", &sink, quick()).start(journal, holder("older"));
    // It reads the page, and comes back to it.
    while older.counts().entries_read < 9 {
        tokio::task::yield_now().await;
    }
    older.drain().await;
    assert_eq!(sink.seen(), [], "the place stays before what it cannot read");
    let newer = start(&world, "acme/lake", &sink, "newer");
    assert_eq!(remembered(&sink.has(3).await).len(), 3);
    newer.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_relay_begins_now_is_recorded_before_anything_is_delivered() {
    let world = one_shard();
    let (sink, journal) = (Told::all(), Meddled::over(world.journal()));
    journal.no_moves.store(true, SeqCst);
    let settings = Settings {
        start: Start::Now,
        ..quick()
    };
    let running = relay("acme/lake", &sink, settings).start(Arc::clone(&journal) as _, holder("one"));
    while running.counts().parts == 0 {
        tokio::task::yield_now().await;
    }
    world.put_all("acme", &["a"], 3).await;
    // It has lost its lease, and begun again, without a move.
    while running.counts().parts == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sink.seen(), []);
    journal.no_moves.store(false, SeqCst);
    while world
        .places("acme/lake")
        .await
        .iter()
        .all(|part| part.place.cursors.is_empty())
    {
        tokio::task::yield_now().await;
    }
    world.put_all("acme", &["b"], 2).await;
    sink.has(2).await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_of_any_length_is_put_on_record() {
    for (reason, recorded) in [
        ("", "the sink gave no reason".len()),
        ("x", 1),
        (&"ä".repeat(9_000), 1_024),
    ] {
        let (world, owned) = (World::new(), reason.to_owned());
        let sink = Told::by(move |event| {
            if is_of(event, "acme/value/poison") {
                return Err(SinkError::Refused {
                    reason: owned.clone(),
                });
            }
            Ok(())
        });
        let running = start(&world, "acme/lake", &sink, "one");
        world.put_all("acme", &["poison"], 1).await;
        sink.was_called(1).await;
        running.drain().await;
        let refusals = world.refusals("acme/relay/own/lake").await;
        assert_eq!(
            refusals
                .iter()
                .map(|refused| refused.reason.len())
                .collect::<Vec<_>>(),
            [recorded]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_disables_without_a_reason_stops_the_whole_relay() {
    let world = World::new();
    let sink = Told::by(|_| {
        Err(SinkError::Disabled {
            reason: String::new(),
        })
    });
    let running = start(&world, "acme/lake", &sink, "one");
    while world.places("acme/lake").await.len() < 3 {
        tokio::task::yield_now().await;
    }
    world.put("acme", "a").await;
    loop {
        let parts = world.places("acme/lake").await;
        if parts.iter().all(|part| part.place.disabled.is_some()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let counts = running.counts();
    running.drain().await;
    assert_eq!((counts.takeovers, counts.events_waiting.min(0)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_sink_fails_here_is_left_to_others() {
    let (world, broken, works) = (
        one_shard(),
        Told::by(|_| Err(SinkError::unavailable("no route"))),
        Told::all(),
    );
    let settings = Settings {
        lease: Duration::from_millis(100),
        ..quick()
    };
    let one = relay("acme/lake", &broken, settings).start(world.journal(), holder("one"));
    world.put_all("acme", &["a", "b"], 3).await;
    broken.was_called(1).await;
    let two = relay("acme/lake", &works, settings).start(world.journal(), holder("two"));
    works.has(6).await;
    one.drain().await;
    two.drain().await;
    assert_eq!(
        (one.counts().events_waiting, one.counts().oldest_waiting_us),
        (0, 0)
    );
}
