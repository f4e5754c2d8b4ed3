//! Definitions that come, change and go.

use crate::meddled::Meddled;
use crate::world::{World, acme, begins};
use serde_json::json;
use std::sync::Arc;
use tape_core::id::ValueName;
use tape_core::payload::Payload;
use tape_environment::machine;
use tape_relay::reactions::{Definition, InvalidDefinition, REACTIONS_MAX};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_rests_keeps_its_place_and_catches_up() {
    let world = World::new();
    let process = world.process("one");
    let mut definition = begins("audit");
    definition["start"] = json!("now");
    world.define("audit", definition.clone()).await;
    world.is_carried("audit").await;
    world.put("in", &json!(1)).await;
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 1);
    definition["paused"] = json!(true);
    world.define("audit", definition.clone()).await;
    world.has_looked(&process).await;
    assert_eq!((process.counts().carried, process.counts().paused), (0, 1));
    for n in 0..5 {
        world.put("in", &json!(n)).await;
    }
    assert_eq!(world.runs_of("audit").await.len(), 1);
    definition["paused"] = json!(false);
    world.define("audit", definition).await;
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 6);
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_new_reacts_to_nothing_from_before_unless_told() {
    let world = World::new();
    let process = world.process("one");
    world.put("in", &json!(0)).await;
    let mut definition = begins("audit");
    world.define("all", definition.clone()).await;
    definition["start"] = json!("now");
    world.define("new", definition).await;
    world.is_carried("new").await;
    world.put("in", &json!(1)).await;
    world.is_through("new").await;
    world.is_carried("all").await;
    world.is_through("all").await;
    assert_eq!(world.runs_of("new").await.len(), 1);
    assert_eq!(world.runs_of("all").await.len(), 2);
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_removed_is_forgotten_and_one_that_changes_goes_on() {
    let world = World::new();
    let process = world.process("one");
    world.define("audit", begins("audit")).await;
    world.put("in", &json!(1)).await;
    world.is_carried("audit").await;
    world.is_through("audit").await;
    world.define("audit", begins("review")).await;
    world.has_looked(&process).await;
    world.put("in", &json!(2)).await;
    world.is_through("audit").await;
    let apps: Vec<String> = world
        .runs_of("audit")
        .await
        .iter()
        .map(|(run, _)| run.app.to_string())
        .collect();
    assert_eq!(apps.len(), 2, "what was done is not done again: {apps:?}");
    assert!(apps.iter().any(|app| app == "audit") && apps.iter().any(|app| app == "review"));
    world.remove("audit").await;
    world.has_looked(&process).await;
    assert!(world.places("audit").await.is_empty());
    assert_eq!((process.counts().carried, world.definitions().await), (0, 1));
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_valid_is_counted_and_stops_no_other() {
    let world = World::new();
    let process = world.process("one");
    world.define("broken", json!({ "form": 1, "when": {} })).await;
    let mut wrong = begins("audit");
    wrong["when"]["predicate"] = json!("1 +");
    world.define("wrong", wrong).await;
    world.define("audit", begins("audit")).await;
    world.put("in", &json!(1)).await;
    world.is_carried("audit").await;
    world.is_through("audit").await;
    assert_eq!(world.runs_of("audit").await.len(), 1);
    world.has_looked(&process).await;
    assert_eq!((process.counts().carried, process.counts().invalid), (1, 2));
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_read_stops_no_other() {
    let world = World::new();
    world.define("a", begins("audit")).await;
    world.define("b", begins("audit")).await;
    let meddled = Meddled::of(&world).with_damage_of(ValueName::new("tape.reaction/a").unwrap());
    let process = world.process_over(Arc::new(meddled), "one");
    world.is_carried("b").await;
    assert_eq!(
        process.counts().looks,
        0,
        "not all definitions could be looked at"
    );
    process.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_there_is_no_room_for_is_carried_once_there_is() {
    let world = World::new();
    for n in 0..=REACTIONS_MAX {
        let mut definition = begins("audit");
        definition["start"] = json!("now");
        world.define(&format!("r{n:03}"), definition).await;
    }
    let process = world.process("one");
    world.has_looked(&process).await;
    let counts = process.counts();
    assert_eq!((counts.carried, counts.invalid), (REACTIONS_MAX as u64, 1));
    world.remove("r000").await;
    world.has_looked(&process).await;
    let counts = process.counts();
    assert_eq!((counts.carried, counts.invalid), (REACTIONS_MAX as u64, 0));
}

#[test]
fn what_makes_no_sense_is_named() {
    let environment = machine();
    let read = |definition: &serde_json::Value| -> Result<Definition, InvalidDefinition> {
        let definition = Definition::read(&acme(), &Payload::json(definition))?;
        definition.write(&acme(), &Arc::clone(&environment))?;
        Ok(definition)
    };
    read(&begins("audit")).unwrap();
    for (at, value, said) in [
        ("/form", json!(2), "`form` is 2"),
        (
            "/when/pattern",
            json!("beta.>"),
            "chooses entries of 'beta' alone",
        ),
        ("/when/predicate", json!("1 +"), "`when.predicate` does not hold"),
        (
            "/then",
            json!({ "begin": { "app": "tape.reaction" } }),
            "the journal's own app",
        ),
        (
            "/then",
            json!({ "begin": { "app": "a", "labels": { "tape.x": "" } } }),
            "are the journal's own",
        ),
        (
            "/then",
            json!({ "begin": { "app": "a" }, "signal": {} }),
            "it is no definition",
        ),
        (
            "/then",
            json!({ "signal": { "gate": "g", "run": "beta/a/u/s/i" } }),
            "is of 'beta'",
        ),
        (
            "/then",
            json!({ "signal": { "gate": "g", "run": "acme/a" } }),
            "it is no definition",
        ),
        ("/debounce_ms", json!(0), "`debounce_ms` is 0"),
        ("/concurrency", json!(0), "`concurrency` is 0"),
        ("/rate", json!({ "count": 1, "per_ms": 1 }), "`rate.per_ms` is 1"),
        ("/later", json!(1), "unknown field `later`"),
    ] {
        let mut definition = begins("audit");
        let name = at.trim_start_matches('/');
        match name.split_once('/') {
            Some((outer, inner)) => definition[outer][inner] = value,
            None => definition[name] = value,
        }
        let problem = read(&definition).unwrap_err().to_string();
        assert!(problem.contains(said), "{at}: {problem}");
    }
}
