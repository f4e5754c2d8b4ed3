//! The last of several entries.

use crate::meddled::Meddled;
use crate::world::{World, begins};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tape_core::reaction::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_entry_of_a_quick_series_counts_whatever_dies() {
    let world = World::new();
    let mut definition = begins("audit");
    // Long enough that a series is one on a slow machine too.
    definition["debounce_ms"] = json!(2_000);
    world.define("audit", definition).await;
    let first = world.process("one");
    for n in 0..5 {
        world.put("in a", &json!(n)).await;
        world.put("in b", &json!(n)).await;
        world.put("other", &json!(n)).await;
    }
    world.is_carried("audit").await;
    drop(first);
    let second = world.process("two");
    let causes = async || -> BTreeSet<String> {
        let runs = world.runs_of("audit").await.into_iter();
        runs.map(|(_, summary)| Origin::of(&summary.labels).unwrap().unwrap().cause)
            .collect()
    };
    world.is_through("audit").await;
    let last = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| format!("acme/value/{name}")).collect()
    };
    assert_eq!(causes().await, last(&["in%20a/5", "in%20b/5"]));
    // By the times that the entries have, so the answer is the same long after.
    world.again("audit").await;
    world.put("in a", &json!(5)).await;
    world.is_through("audit").await;
    assert_eq!(causes().await, last(&["in%20a/5", "in%20a/6", "in%20b/5"]));
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_clock_is_ahead_waits_for_what_may_follow() {
    let world = World::new();
    let mut definition = begins("audit");
    definition["debounce_ms"] = json!(3_000);
    world.define("audit", definition).await;
    let journal = Arc::new(Meddled::of(&world).with_clock(3_600_000));
    let process = world.process_over(journal, "one");
    world.put("in", &json!(1)).await;
    let has_acted = async {
        while world.runs_of("audit").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = has_acted => {}
        () = world.has_failed(&process) => {}
    }
    world.put("in", &json!(2)).await;
    world.is_through("audit").await;
    let runs = world.runs_of("audit").await;
    let cause = |run: usize| Origin::of(&runs[run].1.labels).unwrap().unwrap().cause;
    assert_eq!((runs.len(), cause(0).as_str()), (1, "acme/value/in/2"));
    process.drain().await;
}
