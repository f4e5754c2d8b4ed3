//! Compares what agents in two languages wrote.

use anyhow::Result;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tape_client::Tape;

use crate::world::run_id;

/// Members that times and processes decide.
const OF_THE_DRIVE: [&str; 8] = [
    "until",
    "retry_at",
    "due_at",
    "deadline",
    "holder",
    "redrive_at",
    "next_at",
    "observe_at",
];
/// Samples that are taken from the machine; the checkpoint repeats their values.
const TAKEN: [&str; 4] = ["now", "random", "uuid", "sampled"];

/// The entries of a run, without what differs between two drives of the same agent. Renewals and releases of leases are left out, and branches that run
/// side by side come last, each by itself.
pub(crate) async fn essence(tape: &Tape, run: &str) -> Result<Vec<Value>> {
    let pages: Vec<_> = tape.journal(&run_id(run)).try_collect().await?;
    let mut entries = Vec::new();
    for entry in pages.into_iter().flatten() {
        let envelope: Value = serde_json::from_slice(&entry.envelope)?;
        let kind = &envelope["entry"]["kind"];
        if kind != "lease.renewed" && kind != "lease.released" {
            entries.push(comparable(envelope));
        }
    }
    entries.sort_by_key(|entry| branch_of(entry).unwrap_or_default());
    Ok(entries)
}

fn comparable(mut envelope: Value) -> Value {
    let mut entry = envelope["entry"].take();
    let body = &mut entry["body"];
    let own = |name: &Value| TAKEN.iter().any(|taken| name == taken);
    let taken = own(&body["name"]) || own(&body["label"]);
    strip(body, taken);
    // The digest of a command covers its arguments, so it says that both clients sent the same. Those of a beginning name the holder.
    let named = entry["kind"] == "run.begun" || entry["kind"] == "lease.acquired" || taken;
    let by_worker = entry["kind"] == "effect.started" || entry["body"]["by"]["who"] == "worker";
    let command = if named || by_worker {
        Value::Null
    } else {
        envelope["cmd"].take()
    };
    json!({ "entry": entry, "words": envelope["words"], "command": command })
}

fn strip(value: &mut Value, taken: bool) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !OF_THE_DRIVE.contains(&name.as_str()));
            if taken {
                members.retain(|name, _| name != "len" && name != "sha256");
            }
            members.values_mut().for_each(|member| strip(member, taken));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| strip(element, taken)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn branch_of(entry: &Value) -> Option<String> {
    let body = &entry["entry"]["body"];
    let places = ["position", "effect", "scope"].map(|name| body[name].as_str());
    let place = places.into_iter().flatten().next()?;
    let scope = place.split('#').next()?;
    scope.starts_with("branch/").then(|| scope.to_owned())
}
