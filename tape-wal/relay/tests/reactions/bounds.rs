//! Bounds that hold over all processes.

use crate::meddled::Meddled;
use crate::world::{World, begins};
use serde_json::json;
use std::sync::Arc;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_are_unfinished_at_a_time_than_the_bound() {
    let world = World::new();
    let mut definition = begins("audit");
    definition["concurrency"] = json!(3);
    world.define("audit", definition).await;
    for n in 0..24 {
        world.put(&format!("in{n}"), &json!(n)).await;
    }
    let mut processes = vec![world.process("one"), world.process("two")];
    let mut completed = 0;
    while completed < 24 {
        let runs = world.runs_of("audit").await;
        completed = 0;
        for (run, summary) in &runs {
            if summary.status.is_final() {
                completed += 1;
            } else {
                world.complete(run).await;
            }
        }
        // The process that carries the reaction changes in between.
        if completed % 8 == 5 {
            drop(processes.remove(0));
            processes.push(world.process(&format!("after {completed}")));
        }
        tokio::task::yield_now().await;
    }
    let runs = world.runs_of("audit").await;
    assert!(
        runs.iter()
            .all(|(_, summary)| summary.status == RunStatus::Completed)
    );
    let mut changes: Vec<(Timestamp, i32)> = Vec::new();
    for (_, summary) in &runs {
        changes.extend([(summary.begun_at, 1), (summary.changed_at, -1)]);
    }
    // Where a run ends and one begins at the same time, the end came first: the one that began was counted after it.
    changes.sort_unstable();
    let (mut unfinished, mut most) = (0, 0);
    for (_, change) in changes {
        unfinished += change;
        most = most.max(unfinished);
    }
    assert!(most <= 3, "{most} at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_begin_in_a_time_than_the_rate() {
    let world = World::new();
    let mut definition = begins("audit");
    definition["rate"] = json!({ "count": 4, "per_ms": 1_000 });
    world.define("audit", definition).await;
    for n in 0..10 {
        world.put(&format!("in{n}"), &json!(n)).await;
    }
    let processes = [world.process("one"), world.process("two")];
    while world.runs_of("audit").await.len() < 10 {
        tokio::task::yield_now().await;
    }
    let mut begun: Vec<Timestamp> = Vec::new();
    for (_, summary) in world.runs_of("audit").await {
        begun.push(summary.begun_at);
    }
    begun.sort_unstable();
    for few in begun.windows(5) {
        assert!(few[4].millis_since(few[0]) >= 1_000, "{begun:?}");
    }
    for process in &processes {
        process.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_one_of_the_journals_time_whatever_the_clock_of_a_process_shows() {
    const HOUR_MS: i64 = 3_600_000;
    for wrong_by_ms in [HOUR_MS, -HOUR_MS] {
        let world = World::new();
        let mut definition = begins("audit");
        definition["rate"] = json!({ "count": 4, "per_ms": 1_000 });
        world.define("audit", definition).await;
        for n in 0..10 {
            world.put(&format!("in{n}"), &json!(n)).await;
        }
        let journal = Arc::new(Meddled::of(&world).with_clock(wrong_by_ms));
        let process = world.process_over(journal, "one");
        while world.runs_of("audit").await.len() < 10 {
            tokio::task::yield_now().await;
        }
        let mut begun: Vec<Timestamp> = Vec::new();
        for (_, summary) in world.runs_of("audit").await {
            begun.push(summary.begun_at);
        }
        begun.sort_unstable();
        for few in begun.windows(5) {
            assert!(few[4].millis_since(few[0]) >= 1_000, "{wrong_by_ms}: {begun:?}");
        }
        process.drain().await;
    }
}
