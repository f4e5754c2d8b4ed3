//! Leases: renewed in the background, and lost to another driver.

use crate::world::{LEASE, World, begin};
use serde_json::json;
use std::time::Duration;
use tape_client::{Error, Run};

#[tokio::test(start_paused = true)]
async fn every_late_write_of_a_driver_that_was_overtaken_is_refused_in_memory() {
    late_writes_are_refused(World::new()).await;
}

#[tokio::test]
async fn every_late_write_of_a_driver_that_was_overtaken_is_refused_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    late_writes_are_refused(World::on_disk(dir.path()).await).await;
}

async fn late_writes_are_refused(world: World) {
    let one = world.process("one", world.store.clone()).await;
    let paused = begin(&one).await.unwrap();
    let decision = paused.decide(&json!("a"), || world.model("a")).await.unwrap();
    world.clock.advance(2 * LEASE);
    let two = world.process("two", world.store.clone()).await;
    let busy = two
        .run(crate::world::id())
        .begin()
        .await
        .unwrap()
        .driving()
        .unwrap();
    let before = world.journal().await.len();
    let lost =
        |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::LostLease { .. })), "{outcome:?}");
    let act = async |run: &Run| {
        let effect = run.effect(&decision, "bank", "transfer");
        effect
            .run(async |call| world.act(call).await)
            .await
            .map(|_: crate::world::Receipt| ())
    };
    lost(act(&paused).await);
    lost(paused.decide(&json!("b"), || world.model("b")).await.map(drop));
    lost(paused.now().await.map(drop));
    lost(paused.gate("g").wait().await.map(drop));
    lost(paused.sleep("t", Duration::from_secs(1)).await);
    lost(paused.checkpoint("c", &()).await);
    lost(paused.complete(&()).await.map(drop));
    lost(paused.fail("no").await.map(drop));
    lost(paused.release(Duration::ZERO).await);
    assert_eq!(world.journal().await.len(), before, "nothing of it was written");
    assert_eq!(world.acts().len(), 0);
    assert_eq!(
        world.asked().get("b"),
        None,
        "a driver that knows it is lost does not ask the model"
    );
    busy.decide(&json!("a"), || world.model("a")).await.unwrap();
    assert_eq!(world.wrongs(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_live_lease_keeps_others_away() {
    let world = World::new();
    let one = world.process("one", world.store.clone()).await;
    let _run = begin(&one).await.unwrap();
    let two = world.process("two", world.store.clone()).await;
    let second = begin(&two).await;
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn the_lease_outlives_a_tool_call_of_an_hour() {
    let world = World::new();
    let one = world.patient_process("one").await;
    let run = begin(&one).await.unwrap();
    let decision = run.decide(&json!("a"), || world.model("a")).await.unwrap();
    let slow = run.effect(&decision, "bank", "transfer").run(async |call| {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        world.act(call).await
    });
    let two = world.patient_process("two").await;
    let others = async {
        for _ in 0..3500 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let second = two.run(crate::world::id()).begin().await;
            assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
        }
    };
    let (receipt, ()) = tokio::join!(slow, others);
    let _: crate::world::Receipt = receipt.unwrap();
    run.complete(&()).await.unwrap();
    let renewals = world
        .journal()
        .await
        .iter()
        .filter(|entry| entry.body.kind() == "lease.renewed")
        .count();
    assert!(
        (300..=420).contains(&renewals),
        "{renewals} renewals in an hour at a third of 30 s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_is_no_longer_kept() {
    let world = World::new();
    let one = world.patient_process("one").await;
    drop(begin(&one).await.unwrap());
    let two = world.patient_process("two").await;
    assert!(matches!(begin(&two).await, Err(Error::Busy { .. })));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    begin(&two).await.unwrap();
}
