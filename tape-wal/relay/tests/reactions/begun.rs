//! Runs that are begun once for each entry.

use crate::meddled::Meddled;
use crate::world::{World, begins};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tape_api::Journal as _;
use tape_client::{Host, Run, Tape};
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::Seq;
use tape_core::reaction::Origin;
use tape_core::run::Driver;
use tape_core::status::RunStatus;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn each_entry_begins_one_run_with_the_event_as_its_input() {
    let world = World::new();
    let process = world.process("one");
    world.define("audit", begins("audit")).await;
    for n in 0..20 {
        world
            .put(&format!("in{}", n % 4), &serde_json::json!({ "n": n }))
            .await;
        world.put("other", &serde_json::json!({ "n": n })).await;
    }
    world.is_carried("audit").await;
    world.is_through("audit").await;
    let runs = world.runs_of("audit").await;
    assert_eq!(runs.len(), 20);
    let mut causes = BTreeSet::new();
    for (run, summary) in &runs {
        let origin = Origin::of(&summary.labels).unwrap().unwrap();
        assert_eq!((origin.reaction.as_str(), origin.depth), ("audit", 1));
        let first = world.engine.read(run, Seq::ZERO, 1).await.unwrap();
        let EntryBody::RunBegun(begun) = decode(&first[0]).unwrap().body else {
            panic!("{run} does not begin as a run")
        };
        let event: serde_json::Value = serde_json::from_slice(begun.input.bytes().unwrap()).unwrap();
        assert_eq!(event["id"], origin.cause.as_str());
        assert_eq!(event["kind"], "value.put");
        causes.insert(origin.cause);
        // It waits for an agent, and nothing keeps recovery from it.
        let driver = world.engine.driver(run).await.unwrap().unwrap();
        assert!(matches!(driver, Driver::Alone { .. }), "{driver:?}");
    }
    assert_eq!(causes.len(), 20);
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_again_begins_nothing_and_touches_no_run() {
    let world = World::new();
    let process = world.process("one");
    world.define("audit", begins("audit")).await;
    for n in 0..10 {
        world.put("in", &serde_json::json!({ "n": n })).await;
    }
    world.is_carried("audit").await;
    world.is_through("audit").await;
    let heads = async || {
        let mut heads = Vec::new();
        for (run, _) in world.runs_of("audit").await {
            let head = world.engine.head(&run).await.unwrap();
            heads.push((run, head));
        }
        heads
    };
    let before = heads().await;
    assert_eq!(before.len(), 10);
    world.again("audit").await;
    world.is_through("audit").await;
    assert_eq!(heads().await, before);
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_die_lose_nothing_and_begin_nothing_twice() {
    let world = World::new();
    world.define("audit", begins("audit")).await;
    let mut processes = vec![world.process("0"), world.process("1")];
    for round in 0..6_usize {
        for n in 0..40 {
            world
                .put(&format!("in{}", n % 5), &serde_json::json!({ "n": n }))
                .await;
        }
        // One of the two dies in the midst of it: its tasks end where they are.
        drop(processes.remove(round % 2));
        processes.push(world.process(&(round + 2).to_string()));
    }
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 240);
    assert!(world.refusals("audit").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_the_app_drives_what_was_begun() {
    let world = World::new();
    let process = world.process("one");
    world.define("audit", begins("audit")).await;
    let tape = Tape::over(world.engine.clone()).connect().await.unwrap();
    let host = Host::new(tape).agent("audit", async |run: Run| {
        // What names the reaction is the journal's own, and not the agent's.
        assert!(run.labels().is_empty());
        let event: serde_json::Value = run.input_json()?;
        run.complete(&event["id"]).await
    });
    let stop = CancellationToken::new();
    let served = tokio::spawn({
        let stop = stop.clone();
        async move { host.serve_until(stop.cancelled()).await }
    });
    for n in 0..5 {
        world.put("in", &serde_json::json!(n)).await;
    }
    loop {
        let runs = world.runs_of("audit").await;
        let completed = runs
            .iter()
            .filter(|(_, summary)| summary.status == RunStatus::Completed);
        if completed.count() == 5 {
            break;
        }
        tokio::task::yield_now().await;
    }
    stop.cancel();
    served.await.unwrap().unwrap();
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_reactions_yet_is_waited_for() {
    let world = World::new();
    let meddled = Arc::new(Meddled::of(&world));
    meddled.knows_no_reactions.store(true, SeqCst);
    let process = world.process_over(meddled.clone(), "one");
    world.define("audit", begins("audit")).await;
    for n in 0..3 {
        world.put("in", &serde_json::json!(n)).await;
    }
    world.has_failed(&process).await;
    meddled.knows_no_reactions.store(false, SeqCst);
    world.is_through("audit").await;
    assert!(
        world.refusals("audit").await.is_empty(),
        "nothing was wrong with an event"
    );
    assert_eq!(world.runs_of("audit").await.len(), 3);
    process.drain().await;
}
