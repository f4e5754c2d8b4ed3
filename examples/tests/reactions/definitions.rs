//! The reactions.

use crate::world::World;
use serde_json::{Value, json};
use std::time::Duration;

/// Most unfinished runs of the bounded reaction.
pub(crate) const CONCURRENCY: u64 = 6;
/// Its rate: so many runs in a time.
pub(crate) const RATE: usize = 10;
pub(crate) const RATE_TIME: Duration = Duration::from_secs(4);
/// The time for which a stream must be quiet.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// All of them.
pub(crate) const ALL: [&str; 6] = ["audit", "rested", "bounded", "last", "ping", "pong"];

/// What is written for a reaction: values whose names begin with this.
pub(crate) fn prefix(reaction: &str) -> String {
    format!("{reaction}-")
}

fn begins(reaction: &str, app: &str) -> Value {
    let prefix = prefix(reaction);
    json!({
        "form": 1,
        "when": { "pattern": "acme.value.>", "predicate": format!("stream.startsWith('acme/value/{prefix}')") },
        "then": { "begin": { "app": app, "user": "ann", "labels": { "team": "risk" } } },
        "start": "beginning",
    })
}

fn follows(app: &str, begins: &str) -> Value {
    json!({
        "form": 1,
        "when": { "pattern": format!("acme.run.{app}.*.*.*.run.begun") },
        "then": { "begin": { "app": begins } },
        "start": "beginning",
        "repeats": 8,
    })
}

/// The reaction that is paused and resumed.
pub(crate) fn rested(paused: bool) -> Value {
    let mut definition = begins("rested", "rested");
    definition["paused"] = json!(paused);
    definition
}

pub(crate) async fn define(world: &World) {
    let mut bounded = begins("bounded", "slow");
    let per_ms = u64::try_from(RATE_TIME.as_millis()).unwrap();
    bounded["concurrency"] = json!(CONCURRENCY);
    bounded["rate"] = json!({ "count": RATE, "per_ms": per_ms });
    let mut last = begins("last", "quick");
    last["debounce_ms"] = json!(u64::try_from(QUIET.as_millis()).unwrap());
    let definitions = [
        ("audit", begins("audit", "audit")),
        ("rested", rested(false)),
        ("bounded", bounded),
        ("last", last),
        ("ping", follows("b", "a")),
        ("pong", follows("a", "b")),
    ];
    for (reaction, definition) in definitions {
        put(world, reaction, &definition).await;
    }
}

pub(crate) async fn put(world: &World, reaction: &str, definition: &Value) {
    world.put(&format!("tape.reaction/{reaction}"), definition).await;
}
