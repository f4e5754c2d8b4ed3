//! Reactions that are removed, and others that are added under their names.

use crate::meddled::Meddled;
use crate::world::{World, begins};
use serde_json::json;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_added_under_the_name_of_another_begins_where_it_says() {
    let world = World::new();
    let first = world.process("one");
    world.define("audit", begins("audit")).await;
    for n in 0..2 {
        world.put("in", &json!(n)).await;
    }
    world.is_carried("audit").await;
    world.is_through("audit").await;
    // No process is there to see that it is removed.
    drop(first);
    world.remove("audit").await;
    for n in 0..3 {
        world.put("in", &json!(n)).await;
    }
    world.define("audit", begins("review")).await;
    let second = world.process("two");
    world.is_through("audit").await;
    let runs = world.runs_of("audit").await;
    let of = |app: &str| runs.iter().filter(|(run, _)| run.app.as_str() == app).count();
    assert_eq!((of("audit"), of("review")), (2, 5));
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_carried_out_late_takes_nothing_from_one_that_was_added_since() {
    let world = World::new();
    let meddled = Arc::new(Meddled::of(&world));
    let late = world.process_over(meddled.clone(), "late");
    let mut definition = begins("audit");
    definition["start"] = json!("now");
    world.define("audit", definition.clone()).await;
    world.is_carried("audit").await;
    world.put("in", &json!(1)).await;
    world.is_through("audit").await;
    meddled.hold();
    world.remove("audit").await;
    meddled.has_held().await;
    world.define("audit", definition).await;
    let other = world.process("other");
    world.begins_anew("audit", "other").await;
    world.put("in", &json!(2)).await;
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 2);
    other.drain().await;
    world.put("in", &json!(3)).await;
    meddled.let_go();
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 3);
    late.drain().await;
}
