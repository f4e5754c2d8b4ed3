//! Reactions that cause each other.

use crate::world::World;
use serde_json::json;
use tape_api::Journal;
use tape_core::command::Command;
use tape_core::erasure::Erasure;
use tape_core::id::{Seq, StreamId};
use tape_core::reaction::Origin;
use tape_relay::reactions::DEPTH_MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_is_stopped_and_named() {
    let world = World::new();
    let on_begun = |of: &str, begins: &str| {
        json!({
            "form": 1,
            "when": { "pattern": format!("acme.run.{of}.*.*.*.run.begun") },
            "then": { "begin": { "app": begins } },
            "start": "beginning",
            "repeats": 8,
        })
    };
    world.define("ping", on_begun("b", "a")).await;
    world.define("pong", on_begun("a", "b")).await;
    let process = world.process("one");
    world.begin("a/ann/s/1").await;
    // The chain begins with `pong`, so its eighth is a `ping`, to which `pong` does not react any more.
    let refused = loop {
        let refused = world.refusals("pong").await;
        if !refused.is_empty() {
            break refused;
        }
        let begun = world.runs_of("ping").await.len() + world.runs_of("pong").await.len();
        assert!(begun <= DEPTH_MAX as usize, "the chain goes on: {begun} runs");
        tokio::task::yield_now().await;
    };
    world.is_through("ping").await;
    world.is_through("pong").await;
    let mut depths = Vec::new();
    for reaction in ["ping", "pong"] {
        for (_, summary) in world.runs_of(reaction).await {
            depths.push(Origin::of(&summary.labels).unwrap().unwrap().depth);
        }
    }
    depths.sort_unstable();
    assert_eq!(depths, (1..=DEPTH_MAX).collect::<Vec<_>>());
    assert_eq!(refused.len(), 1);
    let chain = "pong > ping > pong > ping > pong > ping > pong > ping";
    assert!(refused[0].reason.contains(chain), "{}", refused[0].reason);
    assert!(world.refusals("ping").await.is_empty());
    process.drain().await;
}

/// Each run has several entries, so that a reaction to them would multiply at each depth.
#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_reacts_to_nothing_that_it_caused_itself() {
    let world = World::new();
    let on_all = |of: &str, begins: &str| {
        json!({
            "form": 1,
            "when": { "pattern": format!("acme.run.{of}.>") },
            "then": { "begin": { "app": begins } },
            "start": "beginning",
        })
    };
    world.define("itself", on_all("*", "own")).await;
    world.define("there", on_all("a", "b")).await;
    world.define("back", on_all("b", "a")).await;
    let (run, _) = world.begin("x/ann/s/1").await;
    let entries = Journal::read(&world.engine, &run, Seq::ZERO, 100)
        .await
        .unwrap()
        .len();
    let process = world.process("one");
    for reaction in ["itself", "there", "back"] {
        world.is_carried(reaction).await;
        world.is_through(reaction).await;
    }
    assert_eq!(world.runs_of("itself").await.len(), entries);
    assert!(
        world.refusals("itself").await.is_empty(),
        "its own runs are no refusals"
    );
    assert!(world.runs_of("there").await.is_empty());
    // `there` leads to `back`, and `back` to no `there`.
    world.begin("a/ann/s/1").await;
    loop {
        let refused = world.refusals("there").await;
        if let Some(first) = refused.first() {
            let told = "it is a cycle: `there` led to it itself: there > back;";
            assert!(first.reason.contains(told), "{}", first.reason);
            break;
        }
        tokio::task::yield_now().await;
    }
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_record_of_a_relay_triggers_nothing() {
    let world = World::new();
    let fails = json!({
        "form": 1,
        "when": { "pattern": "acme.value.in.>" },
        "then": { "signal": { "gate": "go", "run": "same" } },
        "start": "beginning",
    });
    let reacts = json!({
        "form": 1,
        "when": { "pattern": "acme.relay.>" },
        "then": { "begin": { "app": "audit" } },
        "start": "beginning",
    });
    world.define("fails", fails).await;
    world.define("reacts", reacts).await;
    let process = world.process("one");
    world.put("in", &json!(1)).await;
    world.is_carried("fails").await;
    world.is_through("fails").await;
    assert_eq!(world.refusals("fails").await.len(), 1);
    world.is_carried("reacts").await;
    world.is_through("reacts").await;
    assert!(world.runs_of("reacts").await.is_empty());
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_labels_were_erased_begins_no_chain() {
    let world = World::new();
    let (run, _) = world.begin("a/ann/s/1").await;
    let erasure = Erasure {
        entries: vec![Seq(1)],
        reason: "asked to".to_owned(),
    };
    let command = Command::new(world.engine.request_id(), erasure);
    let stream = StreamId::Run(run);
    world.engine.erase(&stream, command).await.unwrap();
    let definition = json!({
        "form": 1,
        "when": { "pattern": "acme.run.a.*.*.*.run.begun" },
        "then": { "begin": { "app": "audit" } },
        "start": "beginning",
    });
    world.define("audit", definition).await;
    let process = world.process("one");
    world.is_carried("audit").await;
    world.is_through("audit").await;
    assert!(world.runs_of("audit").await.is_empty());
    let refused = world.refusals("audit").await;
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].reason.contains("its labels were erased"),
        "{}",
        refused[0].reason
    );
    process.drain().await;
}
