//! Workers that messages of Pub/Sub wake, and nothing else: neither the journal nor a sweep. What each scenario proves stands where it is
//! written.

use crate::upstream::Upstream;
use crate::world::{World, spec};
use crate::{answers, gates, killed, observed, race, recovered, undone, undone_once};
use tape_core::effect::{Semantics, Status};
use tape_environment::machine;
use tape_reactors::{PubsubWake, Wake};
use tokio_util::sync::CancellationToken;

macro_rules! woken {
    ($($name:ident: $scenario:path,)+) => {$(
        #[tokio::test]
        async fn $name() {
            if let Some(world) = World::woken().await {
                $scenario(&world).await;
            }
        }
    )+};
}

woken! {
    effects_of_killed_workers_are_done_once: killed::done_once,
    what_is_in_doubt_does_not_fail: killed::refused_in_doubt,
    answers_of_all_kinds: answers::each,
    observations_of_all_kinds: observed::each,
    what_is_unwanted_is_not_brought_about: observed::unwanted,
    gates_are_answered_once: gates::each,
    undos_are_done_in_order: undone::each,
    undos_are_done_once: undone_once::each,
    many_workers_do_each_thing_once: race::race,
    runs_are_driven_again_once: recovered::driven_once,
}

/// What a message says is not read: one of a later build wakes, too.
#[tokio::test]
async fn any_message_wakes() {
    let Some(world) = World::woken().await else {
        return;
    };
    let upstream = Upstream::start(world.dir.path(), true);
    let _worker = world.worker(&upstream);
    let run = world.run("heard").await;
    let hints = world.hints.as_ref().unwrap();
    hints.stop();
    for call in 0..5 {
        let name = format!("act-{call}");
        run.begin(call, spec(Semantics::NonIdempotent, &name)).await;
        hints.publish(&[("ce-type", "of-a-later-build"), ("tenant", "another")]);
        run.until_effect(call, Status::Confirmed).await;
        assert_eq!(upstream.acts(&name), 1);
    }
}

/// For a while there is no server, then one without the subscription.
#[tokio::test]
async fn a_worker_comes_through_an_outage_of_its_subscription() {
    let Some(mut world) = World::woken().await else {
        return;
    };
    let upstream = Upstream::start(world.dir.path(), true);
    let _worker = world.worker(&upstream);
    let run = world.run("outage").await;
    run.begin(0, spec(Semantics::NonIdempotent, "before")).await;
    run.until_effect(0, Status::Confirmed).await;
    let hints = world.hints.as_mut().unwrap();
    hints.stop();
    hints.start_again().await;
    run.begin(1, spec(Semantics::NonIdempotent, "after")).await;
    hints.publish(&[("ce-id", "1")]);
    run.until_effect(1, Status::Confirmed).await;
    assert_eq!(upstream.acts("after"), 1);
}

/// A message that is not acknowledged would come again and again.
#[tokio::test]
async fn a_message_is_acknowledged_when_it_has_woken() {
    let Some(world) = World::woken().await else {
        return;
    };
    let hints = world.hints.as_ref().unwrap();
    let (subscription, emulator) = hints.subscription();
    let pull = PubsubWake::new(&subscription, Some(&emulator), machine());
    let (pull, wake, stop) = (pull.await.unwrap(), Wake::new(), CancellationToken::new());
    let hinted = wake.hinted();
    hints.publish(&[("ce-id", "1")]);
    let pulling = tokio::spawn(pull.run(wake, stop.clone()));
    hinted.await;
    stop.cancel();
    pulling.await.unwrap();
    assert!(!hints.has_message(&subscription));
}
