//! An agent over a journal in its own process: no server, one file. Kill it whenever you like and start it again: the model is
//! asked once and the bill is paid once. `embedded journal.db --die` dies between the bank's answer and its record.
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

use serde_json::{Value, json};
use std::time::Duration;
use tape_client::{Answer, Begun, Call, CallError, Error, Run, RunId, RunResult, Tape};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "journal.db".to_owned());
    // The journal is a file. A dead process holds its run until its lease expires.
    let url = format!("sqlite:{file}");
    let tape = Tape::at(&url).lease(Duration::from_secs(1)).connect().await?;
    // A run has a name: begun again, it is the same run, with the input of its first beginning.
    let id = RunId::new("demo", "bills", "ann", "march", "bill-7")?;
    let bill = json!({ "to": "Northwind", "cents": 12_050 });
    let begun = loop {
        match tape.run(id.clone()).input_json(&bill).begin().await {
            Err(Error::Busy { .. }) => tokio::time::sleep(Duration::from_millis(200)).await,
            begun => break begun?,
        }
    };
    match begun {
        Begun::Driving(run) => println!("{:?}", agent(run, pay).await?),
        Begun::Ended(_) => println!("the run has ended"),
    }
    Ok(())
}

/// Pays the bill that the run was begun with, through `pay`.
async fn agent<F>(run: Run, pay: impl FnMut(Call) -> F) -> Result<RunResult, Error>
where
    F: Future<Output = Result<Value, CallError>>,
{
    let bill: Value = run.input_json()?;

    // The model decides. Once its answer is recorded, it is replayed, and the model is not asked again.
    let decision = run.decide(&json!({ "pay?": bill }), ask_model).await?;
    println!("decision: {}", decision.json::<Value>()?);

    // The intent is durable before the bank is called, the key is the same in every attempt and every
    // process, and a recorded receipt is replayed. If the run fails later, a refund undoes the payment.
    let payment = run
        .effect(&decision, "bank", "pay")
        .args(&bill)
        .undo("refund", &bill);
    let receipt: Value = payment.run(pay).await?;

    // A run ends once: begun again, it only returns how it ended.
    run.complete(&receipt).await
}

async fn ask_model() -> Result<Answer, Error> {
    println!("the model is asked");
    Answer::json(&json!("yes"))
}

async fn pay(call: Call) -> Result<Value, CallError> {
    println!("the bank pays under {}", call.key());
    if std::env::args().any(|arg| arg == "--die") {
        std::process::abort();
    }
    Ok(json!({ "paid_under": call.key() }))
}

#[cfg(test)]
mod tests {
    use super::agent;
    use serde_json::json;
    use tape_client::testing::Kit;

    /// The test kit kills the agent at each write and each await, and loses each message once.
    #[tokio::test(start_paused = true)]
    async fn the_bill_is_paid_once_wherever_the_agent_is_killed() {
        let kit = Kit::new(|run, bank| {
            agent(run, move |call| {
                let bank = bank.clone();
                async move { bank.act(&call, || json!({ "paid_under": call.key() })).await }
            })
        });
        let report = kit.input_json(&json!({ "cents": 12_050 })).check().await.unwrap();
        assert!(report.kills > 0, "{report:?}");
    }
}
