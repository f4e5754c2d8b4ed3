//! Workers that messages of Pub/Sub wake, and nothing else: neither the journal nor a sweep. Real relays publish the messages, and are killed
//! meanwhile. What each scenario proves stands where it is written.

#[cfg(feature = "cloud-tasks")]
use crate::alarmed;
#[cfg(feature = "cloud-tasks")]
use crate::cloud_tasks::Call;
use crate::upstream::Upstream;
use crate::world::{World, spec};
use crate::{answers, commanded, gates, killed, observed, race, recovered, served, undone, undone_once};
use tape_core::effect::{Semantics, Status};
use tape_environment::machine;
use tape_reactors::{PubsubWake, Wake};
use tokio_util::sync::CancellationToken;

/// Each scenario twice: with messages that workers pull, and with messages that are pushed, beside tasks that wake timers.
macro_rules! woken {
    ($($name:ident: $scenario:path,)+) => {
        mod by_pulling {
            use super::*;
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(world) = World::woken().await {
                        $scenario(&world).await;
                    }
                }
            )+
        }

        #[cfg(feature = "cloud-tasks")]
        mod by_pushing_and_tasks {
            use super::*;
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(world) = World::pushed().await {
                        $scenario(&world).await;
                    }
                }
            )+
        }
    };
}

woken! {
    effects_of_killed_workers_are_done_once: killed::done_once,
    what_is_in_doubt_does_not_fail: killed::refused_in_doubt,
    idempotent_effects_are_sent_again_under_their_key: killed::sent_again,
    answers_of_all_kinds: answers::each,
    observations_of_all_kinds: observed::each,
    what_is_unwanted_is_not_brought_about: observed::unwanted,
    gates_are_answered_once: gates::each,
    undos_are_done_in_order: undone::each,
    undos_are_done_once: undone_once::each,
    many_workers_do_each_thing_once: race::race,
    runs_are_driven_again_once: recovered::driven_once,
    an_agent_that_hangs_holds_up_no_other: recovered::beside_one_that_hangs,
    a_run_that_no_agent_adopts_is_driven_again: recovered::let_go,
    a_program_drives_its_run: commanded::to_its_end,
}

/// The workers reach the journal through a server that is killed, too.
#[tokio::test]
async fn workers_behind_a_server_do_the_same() {
    if let Some(world) = World::woken().await {
        served::all_behind_a_server(world).await;
    }
}

/// Nothing but a message wakes a worker: what was recorded while no relay ran is taken up once one does.
#[tokio::test]
async fn what_was_recorded_while_no_relay_ran_wakes_once_one_does() {
    let Some(world) = World::woken().await else {
        return;
    };
    let upstream = Upstream::start(world.dir.path(), true);
    let _worker = world.worker(&upstream);
    let run = world.run("missed").await;
    let hints = world.hints.as_ref().unwrap();
    run.begin(0, spec(Semantics::NonIdempotent, "before")).await;
    run.until_effect(0, Status::Confirmed).await;
    hints.stop().await;
    run.begin(1, spec(Semantics::NonIdempotent, "missed")).await;
    hints.go_on().await;
    run.until_effect(1, Status::Confirmed).await;
    assert_eq!(upstream.acts("missed"), 1);
}

/// The relay that has the next message to publish is killed each time.
#[tokio::test]
async fn no_message_is_lost_with_the_relay_that_had_to_publish_it() {
    let Some(world) = World::woken().await else {
        return;
    };
    let upstream = Upstream::start(world.dir.path(), true);
    let _worker = world.worker(&upstream);
    let run = world.run("relayed").await;
    let hints = world.hints.as_ref().unwrap();
    for call in 0..10 {
        let name = format!("act-{call}");
        run.begin(call, spec(Semantics::NonIdempotent, &name)).await;
        hints.kill_the_relay(&world.engine).await;
        run.until_effect(call, Status::Confirmed).await;
        assert_eq!(upstream.acts(&name), 1);
    }
}

/// No look sees these timers ahead: their tasks wake. Workers and relays are killed meanwhile, and the queue delivers each task twice.
#[cfg(feature = "cloud-tasks")]
#[tokio::test]
async fn timers_that_no_look_sees_are_fired_once_by_their_tasks() {
    const TIMERS: u64 = 6;
    let Some(world) = World::pushed().await else {
        return;
    };
    let upstream = Upstream::start(world.dir.path(), true);
    let hints = world.hints.as_ref().unwrap();
    let tasks = &hints.pushes().tasks;
    tasks.copies(2);
    let mut worker = world.worker(&upstream);
    let _other = world.worker(&upstream);
    let run = world.run("timed").await;
    // A look sees 10 s ahead.
    let due = machine().wall().plus_millis(15_000);
    let mut names = Vec::new();
    for n in 0..TIMERS {
        let name = format!("t-{n}");
        alarmed::timer(&run, &name, due.plus_millis(n * 100)).await;
        names.push(name);
    }
    tasks.until_task_at(due.plus_millis((TIMERS - 1) * 100)).await;
    worker.kill();
    hints.kill_the_relay(&world.engine).await;
    let _worker = world.worker(&upstream);
    run.until_count("timer.fired", names.len()).await;
    let delivered = |call: &Call| matches!(call, Call::Delivered { status: 204, .. });
    assert!(tasks.calls().iter().any(delivered));
    let mut fired = alarmed::fired(&run).await;
    fired.sort();
    assert_eq!(fired, names);
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
    hints.stop().await;
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
    world.hints.as_mut().unwrap().start_again();
    run.begin(1, spec(Semantics::NonIdempotent, "after")).await;
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
    hints.stop().await;
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
