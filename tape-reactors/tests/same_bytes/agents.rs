//! Agents that decide, act, wait and crash.

use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;
use tape_client::{Answer, Begun, Error, Run, Tape};
use tape_core::id::{Epoch, GateName, RunId, SignalId, ValueName};
use tape_core::payload::Payload;
use tokio::task::JoinSet;

/// How many agents there are.
pub(crate) const AGENTS: usize = 10;
/// The app whose runs they drive.
pub(crate) const APP: &str = "treasury";
/// The parts that an invoice is paid in.
const PARTS: std::ops::Range<u16> = 0..3;
/// How often each process writes the value that they share.
const PRICES: u32 = 50;
/// A drive crashes within this, with one chance of two.
const CRASHES_WITHIN: Duration = Duration::from_secs(20);
/// An answer to a gate comes within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run_id(n: usize) -> RunId {
    RunId::new("acme", APP, "ann", "s", &format!("i{n}")).unwrap()
}

/// Drives a run to its end or its next wait, or crashes: then everything that the drive has is dropped.
pub(crate) async fn drive(tape: &Tape, run: RunId, adopt: Option<Epoch>) {
    let agent = agent(tape, run, adopt);
    let chance = tape.environment().chance();
    if chance < 0.5 {
        // A crash, or an end before it.
        let _ = tokio::time::timeout(CRASHES_WITHIN.mul_f64(chance * 2.0), agent).await;
    } else {
        // What a driver is told that has to stop is no failure: the run goes on with the next.
        let _ = agent.await;
    }
}

async fn agent(tape: &Tape, id: RunId, adopt: Option<Epoch>) -> Result<(), Error> {
    let mut run = tape
        .run(id.clone())
        .input_json(&json!({ "of": id.invocation.as_str() }));
    if let Some(epoch) = adopt {
        run = run.adopt(epoch);
    }
    let Begun::Driving(run) = run.begin().await? else {
        return Ok(());
    };
    let seen = json!({
        "at": run.now().await?.as_micros(),
        "id": run.uuid().await?,
        "luck": run.random().await?,
    });
    let plan = run
        .decide(&seen, || ready(Ok::<_, Infallible>(answer(&"pay"))))
        .await?;
    // Payments at once, in tasks of their own.
    let mut payments = JoinSet::new();
    for part in PARTS {
        let args = json!({ "part": part });
        let pay = run.effect(&plan, "bank", "transfer").args(&args);
        let pay = pay.undo("refund", &args).outbox();
        payments.spawn(pay.settled::<Value>());
    }
    let receipts = payments.join_all().await;
    let receipts = receipts.into_iter().collect::<Result<Vec<Value>, Error>>()?;
    wait(&run, &id).await?;
    if let "i2" | "i7" = id.invocation.as_str() {
        run.fail("the invoice was withdrawn").await?;
    } else {
        run.complete(&receipts.len()).await?;
    }
    Ok(())
}

/// Writes a value many times, which others write, too: they overtake each other.
pub(crate) async fn contend(tape: Tape) {
    let value = tape.value("acme".parse().unwrap(), ValueName::new("price").unwrap());
    for price in 0..PRICES {
        value.put(Payload::json(&json!(price))).await.unwrap();
    }
}

fn answer(value: &impl serde::Serialize) -> Answer {
    Answer::json(value).unwrap()
}

/// What the run waits for before its end.
async fn wait(run: &Run, id: &RunId) -> Result<(), Error> {
    match id.invocation.as_str() {
        "i1" | "i2" | "i3" => drop(run.gate("approval").wait().await?),
        "i4" => drop(
            run.gate("approval")
                .deadline(Duration::from_secs(45))
                .wait()
                .await?,
        ),
        "i5" | "i6" => run.sleep("cooling off", Duration::from_secs(40)).await?,
        _ => {}
    }
    Ok(())
}

/// Answers the gates of the runs, as a person does in the end.
pub(crate) async fn approve(tape: Tape) {
    for n in [3, 1, 2] {
        let wait = ANSWERED_WITHIN.mul_f64(tape.environment().chance());
        tokio::time::sleep(wait).await;
        let signal = SignalId::new(format!("approval-{:016x}", tape.environment().random_u64()));
        let answer = Payload::json(&json!({ "approved": true }));
        let gate = GateName::new("approval").unwrap();
        tape.signal(&run_id(n), gate, signal.unwrap(), answer)
            .await
            .unwrap();
    }
}
