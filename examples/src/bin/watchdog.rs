//! A reactor of one's own: it cancels every run in which a payment over its limit is confirmed. docs/reactors.md explains it.
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

use anyhow::{Result, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tape_client::core::{codec, entry::EntryBody};
use tape_client::{Answer, Begun, CallError, Error, RunId, RunResult, Tail, Tape};

const LIMIT: u64 = 1_000;

/// Watches without end. After a restart it begins with the first entry of the feed: cancelling a run twice has the effect of cancelling it
/// once.
async fn watch(tape: Tape) -> Result<()> {
    let mut feed = tape.tail(&Tail {
        from_start: true,
        ..Tail::new("demo.run.*.*.*.*.effect.confirmed".parse()?)
    });
    while let Some(page) = feed.next().await {
        // While the journal is unreachable, the feed retries by itself and continues where it was.
        let Ok(page) = page else { continue };
        for (stream, entry) in page.entries {
            let too_much = paid(&entry)?.filter(|paid| *paid > LIMIT);
            if let (Some(run), Some(paid)) = (stream.as_run(), too_much) {
                println!("watchdog: {paid} paid in {stream}");
                cancel(&tape, run, &format!("{paid} is over {LIMIT}")).await?;
            }
        }
    }
    bail!("the feed ended")
}

fn paid(entry: &codec::StoredEntry) -> Result<Option<u64>> {
    let EntryBody::EffectConfirmed(effect) = codec::decode(entry)?.body else {
        return Ok(None);
    };
    let receipt = effect.result.bytes().map(|bytes| serde_json::from_slice(bytes));
    Ok(receipt
        .transpose()?
        .and_then(|receipt: Value| receipt["paid"].as_u64()))
}

async fn cancel(tape: &Tape, run: &RunId, why: &str) -> Result<(), Error> {
    match tape.cancel(run, why).await {
        Ok(_) | Err(Error::Ended(_) | Error::Closing { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Pays a bill, then waits for a person. It knows nothing of the watchdog.
async fn agent(tape: &Tape) -> Result<RunResult, Error> {
    let id = RunId::new("demo", "bills", "ann", "s1", "i1")?;
    let run = match tape.run(id).begin().await? {
        Begun::Driving(run) => run,
        Begun::Ended(ending) => return Ok(ending),
    };
    let ask = async || Answer::json(&9_000);
    let decision = run.decide(&"what to pay?", ask).await?;
    let pay = run.effect(&decision, "bank", "pay").args(&9_000);
    let receipt = json!({ "paid": 9_000 });
    let _: Value = pay.run(async |_| Ok::<_, CallError>(receipt.clone())).await?;
    match run.gate("desk").wait().await {
        Err(Error::Cancelled) => run.accept_cancel().await,
        waited => waited.map(|_| RunResult::Undoing),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let connect = Tape::at("memory:").suspend_after(Duration::from_secs(1));
    let tape = connect.connect().await?;
    let ending = tokio::select! {
        watched = watch(tape.clone()) => return watched,
        ending = agent(&tape) => ending?,
    };
    println!("the run has ended: {ending:?}");
    Ok(())
}
