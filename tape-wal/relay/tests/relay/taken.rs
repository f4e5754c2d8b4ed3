//! Several processes of one relay.

use crate::world::{Told, World, remembered, start};
use std::sync::Arc;
use std::time::Duration;
use tape_api::Relays as _;
use tape_api::relays::{ClaimAnswer, MoveAnswer};
use tape_core::id::Holder;
use tape_core::relay::{NotMoved, Progress};

#[tokio::test(flavor = "multi_thread")]
async fn one_process_carries_a_part_and_another_takes_over_without_loss() {
    let (world, sink) = (World::new(), Told::all());
    let mut processes = vec![
        start(&world, "acme/lake", &sink, "0"),
        start(&world, "acme/lake", &sink, "1"),
    ];
    for round in 1..=6_usize {
        world.put_all("acme", &["a", "b", "c", "d"], 50).await;
        sink.has(200 * round - 60).await;
        // One of the two dies in the midst of it.
        drop(processes.swap_remove(0));
        processes.push(start(&world, "acme/lake", &sink, &(round + 1).to_string()));
    }
    world.is_through("acme/lake").await;
    let seen = remembered(&sink.seen());
    assert!(seen.values().all(|last| *last == 300), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_away_moves_nothing() {
    let (world, sink) = (World::new(), Told::all());
    let running = start(&world, "acme/lake", &sink, "one");
    world.put_all("acme", &["a", "b", "c"], 5).await;
    sink.has(15).await;
    let before = world.is_through("acme/lake").await;
    running.drain().await;
    let part = before[0].part.clone();
    let lease = Duration::from_secs(60);
    let claim = world
        .engine
        .claim(&part, &Holder::new("two").unwrap(), lease)
        .await
        .unwrap();
    let ClaimAnswer::Claimed { epoch, place } = claim else {
        panic!("{claim:?}")
    };
    let late = Progress {
        cursors: place
            .cursors
            .keys()
            .map(|shard| (*shard, Default::default()))
            .collect(),
        ..Progress::default()
    };
    let old = before[0].place.epoch;
    let answer = world.engine.advance(&part, old, late, lease).await.unwrap();
    let MoveAnswer::NotMoved(NotMoved::Fenced { given, current }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((given, current), (old, epoch));
    let place = &world.places("acme/lake").await[0].place;
    assert_eq!(place.cursors, before[0].place.cursors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_put_back_sends_everything_again() {
    let (world, sink) = (World::new(), Told::all());
    let running = start(&world, "acme/lake", &sink, "one");
    world.put_all("acme", &["a", "b", "c"], 5).await;
    sink.has(15).await;
    world.is_through("acme/lake").await;
    let relay = "acme/lake".parse().unwrap();
    let parts = world
        .engine
        .control(&relay, &tape_api::relays::Control::ToBeginning)
        .await
        .unwrap();
    assert_eq!(parts.parts, 3);
    // The process notices, claims its parts anew, and begins there.
    let seen = sink.has(30).await;
    assert_eq!(seen[15..].len(), 15);
    remembered(&seen[15..]);
    running.drain().await;
    let _ = Arc::strong_count(&sink);
}
