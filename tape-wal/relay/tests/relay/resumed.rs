//! What is delivered, and from where.

use crate::world::{Told, World, quick, relay, remembered, start};
use tape_core::id::Holder;
use tape_relay::{Settings, Start};

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_delivered_in_its_order_and_the_place_moves_past_it() {
    let (world, sink) = (World::new(), Told::all());
    world.put_all("acme", &["a", "b", "c", "d"], 50).await;
    let running = start(&world, "acme/lake", &sink, "one");
    world.put_all("acme", &["a", "b", "c", "d"], 50).await;
    let seen = remembered(&sink.has(400).await);
    assert_eq!(seen.len(), 4);
    assert!(seen.values().all(|last| *last == 100));
    let parts = world.is_through("acme/lake").await;
    running.drain().await;
    assert_eq!(sink.seen().len(), 400, "nothing was delivered twice");
    assert_eq!(parts.iter().map(|part| part.place.delivered).sum::<u64>(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_where_it_stopped() {
    let (world, sink) = (World::new(), Told::all());
    for round in 1..=3 {
        let running = start(&world, "acme/lake", &sink, "one");
        world.put_all("acme", &["a", "b", "c"], 20).await;
        sink.has(60 * round).await;
        running.drain().await;
        world.put_all("acme", &[], 20).await;
    }
    assert_eq!(
        sink.seen().len(),
        180,
        "what was confirmed before a stop is not delivered again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_a_tenant_delivers_nothing_of_another() {
    let (world, own, all) = (World::new(), Told::all(), Told::all());
    let (one, two) = (
        start(&world, "acme/lake", &own, "one"),
        start(&world, "*/lake", &all, "two"),
    );
    for tenant in ["acme", "beta"] {
        world.put_all(tenant, &["a", "b", "c"], 10).await;
    }
    all.has(60).await;
    let seen = own.has(30).await;
    world.is_through("acme/lake").await;
    assert!(seen.iter().all(|(stream, _)| stream.tenant().as_str() == "acme"));
    assert_eq!(own.seen().len(), 30);
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_begins_now_keeps_its_beginning_whatever_becomes_of_its_process() {
    let (world, sink) = (World::new(), Told::all());
    world.put_all("acme", &["old", "older", "oldest"], 5).await;
    let from_now = Settings {
        start: Start::Now,
        ..quick()
    };
    let first = relay("acme/lake", &sink, from_now).start(world.journal(), Holder::new("one").unwrap());
    while world
        .places("acme/lake")
        .await
        .iter()
        .filter(|part| !part.place.cursors.is_empty())
        .count()
        < 3
    {
        tokio::task::yield_now().await;
    }
    // It dies before it has delivered anything, and what is written meanwhile is not skipped by the next one.
    drop(first);
    world.put_all("acme", &["a", "b", "c", "d"], 5).await;
    let second = relay("acme/lake", &sink, from_now).start(world.journal(), Holder::new("two").unwrap());
    let seen = remembered(&sink.has(20).await);
    assert!(
        seen.keys().all(|stream| !stream.to_string().contains("old")),
        "{seen:?}"
    );
    drop(second);
}
