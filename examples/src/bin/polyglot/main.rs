//! The treasury agent of the test in Python (`examples/tests/python`) in Rust: the same acts, asked for in the same order.
//!
//! `polyglot SERVER RUN LEDGER KIND`. `TAPE_KILL=n` kills the process at its n-th point: after each answer to a command, and after each
//! act of the upstream. It prints a line of JSON.
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

mod agent;
mod bank;
mod points;

use anyhow::{Context as _, Result, bail};
use points::{Counted, Points};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tape_client::{Begun, Error, RunId, RunResult, Tape, open};

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, invocation, ledger, kind] = args.as_slice() else {
        bail!("polyglot SERVER RUN LEDGER KIND");
    };
    let points = Points::from_environment()?;
    let lease = Duration::from_secs(10);
    let url = format!("tape://{server}").parse()?;
    let journal = open(&url, lease, tape_client::environment::machine()).await?;
    let tape = Tape::over(Counted::new(journal, Arc::clone(&points)));
    let tape = tape.lease(lease).connect().await?;
    let id = RunId::new("acme", "treasury", "ann", "s/1 é", invocation)?;
    let bank = bank::Bank::new(ledger, Arc::clone(&points));
    let mut told = match begin(&tape, id).await {
        Ok(Begun::Driving(run)) => drove(agent::drive(kind, run, bank).await)?,
        Ok(Begun::Ended(RunResult::Completed(output))) => {
            let output: serde_json::Value = serde_json::from_slice(output.bytes().context("it is there")?)?;
            json!({ "driven": false, "how": "completed", "output": output })
        }
        Ok(Begun::Ended(result)) => json!({ "driven": false, "how": format!("{result:?}") }),
        Err(error) => drove(Err(error))?,
    };
    told["points"] = points.passed().into();
    println!("{told}");
    Ok(())
}

/// Begins the run, once the lease of a driver that is gone is over.
async fn begin(tape: &Tape, id: RunId) -> Result<Begun, Error> {
    loop {
        let run = tape
            .run(id.clone())
            .input_json(&agent::input())
            .label("desk", "fx *é");
        match run.begin().await {
            Err(Error::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            begun => return begun,
        }
    }
}

fn drove(result: Result<RunResult, Error>) -> Result<serde_json::Value> {
    match result {
        Ok(_) => Ok(json!({ "driven": true })),
        Err(error @ Error::Drift(_)) => Ok(json!({ "stopped": "Drift", "error": error.to_string() })),
        Err(error @ Error::LostLease { .. }) => {
            Ok(json!({ "stopped": "Fenced", "error": error.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}
