//! A few recorded runs, made here.

use serde_json::{Value, json};
use std::path::Path;

/// Runs of the recorded form: the user asks, the model looks, books the same twice, and says good-bye.
pub(crate) fn write(path: &Path, runs: usize) {
    let runs: Vec<Value> = (0..runs)
        .map(|n| json!({ "task_id": n, "trial": 0, "traj": conversation(n) }))
        .collect();
    std::fs::write(path, Value::from(runs).to_string()).expect("the file is written");
}

fn conversation(n: usize) -> Vec<Value> {
    let mut traj = vec![
        json!({ "role": "system", "content": "You are an airline's agent." }),
        json!({ "role": "user", "content": format!("Two seats to Oslo, please; I am customer {n}.") }),
    ];
    let calls = [
        ("get_user_details", json!({ "user_id": n })),
        ("book_reservation", json!({ "user_id": n, "to": "OSL" })),
        ("book_reservation", json!({ "user_id": n, "to": "OSL" })),
        ("send_certificate", json!({ "user_id": n, "amount": 50 })),
    ];
    for (at, (tool, args)) in calls.into_iter().enumerate() {
        let id = format!("call-{at}");
        let call = json!({ "id": id, "type": "function", "function": { "name": tool, "arguments": args.to_string() } });
        traj.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
        traj.push(json!({ "role": "tool", "tool_call_id": id, "name": tool, "content": format!("{tool} {at}: ok") }));
    }
    traj.push(json!({ "role": "assistant", "content": "Both seats are booked." }));
    traj.push(json!({ "role": "user", "content": "Thank you!" }));
    traj
}
