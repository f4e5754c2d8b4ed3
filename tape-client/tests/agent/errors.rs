//! What agents pass up: one function may call models and upstreams, and fails both by `?`.

use crate::world::{World, begin};
use serde_json::{Value, json};
use std::error::Error as _;
use tape_client::{CallError, Error, RunId};

/// A call over HTTP, for models and upstreams alike.
async fn ask(what: &str) -> Result<Value, CallError> {
    match what {
        "away" => Err(CallError::unreached("connection refused")),
        "busy" => Err(CallError::retry("busy")),
        what => Ok(json!({ "asked": what })),
    }
}

#[tokio::test(start_paused = true)]
async fn one_function_calls_models_and_upstreams() {
    let world = World::new();
    let run = begin(&world.patient_process("one").await).await.unwrap();
    // A JSON value is an answer.
    let decision = run.decide(&1, || ask("model")).await.unwrap();
    assert_eq!(decision.json::<Value>().unwrap(), json!({ "asked": "model" }));
    let paid = run
        .effect(&decision, "bank", "pay")
        .run(async |_| ask("bank").await);
    assert_eq!(paid.await.unwrap(), json!({ "asked": "bank" }));
    for (what, told) in [
        ("away", "the upstream was not reached: connection refused"),
        ("busy", "busy"),
    ] {
        let failed = run.decide(&2, || ask(what)).await.unwrap_err();
        assert!(matches!(failed, Error::NoAnswer { .. }), "{failed:?}");
        assert_eq!(failed.source().unwrap().to_string(), told);
    }
    let boxed = async {
        let found = ask("busy").await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(found)
    };
    assert_eq!(boxed.await.unwrap_err().to_string(), "busy");
}

#[test]
fn a_run_is_told_as_the_command_line_takes_it() {
    let run = RunId::new("acme", "treasury", "ann", "s/1", "i1").unwrap();
    assert_eq!(run.to_string(), "acme/treasury/ann/s%2F1/i1");
}
