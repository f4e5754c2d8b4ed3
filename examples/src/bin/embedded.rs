//! An agent over a journal in its own process: no server, one file. It pays a bill.
//!
//! Kill it whenever you like and start it again: the model is asked once, and the bill is paid once. To see it die between the
//! bank's answer and its record, start it with `--die` first:
//!
//! ```text
//! cargo run -p tape-examples --bin embedded -- journal.db --die
//! cargo run -p tape-examples --bin embedded -- journal.db
//! ```
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

use serde_json::{Value, json};
use std::time::Duration;
use tape_client::{Begun, CallError, Error, RunId, Tape};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let file = args.get(1).map_or("journal.db", String::as_str);
    let die = args.iter().any(|arg| arg == "--die");

    // The journal is a file. A process that died holds the run for as long as its lease lasts.
    let tape = Tape::at(&format!("sqlite:{file}"))
        .lease(Duration::from_secs(1))
        .connect()
        .await?;

    // A run has a name: begun again, it is the same run. Its input is what it was first begun with.
    let name = RunId::new("demo", "bills", "ann", "march", "bill-7")?;
    let begun = loop {
        match tape
            .run(name.clone())
            .input_json(&json!({ "to": "Northwind", "cents": 12_050 }))
            .begin()
            .await
        {
            Err(Error::Busy { holder }) => println!("{holder} still holds the run; waiting"),
            begun => break begun?,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let Begun::Driving(run) = begun else {
        return Ok(println!("the run has ended already"));
    };
    let bill: Value = run.input_json()?;

    // The model decides. Once its answer is recorded, it is replayed, and the model is not asked again.
    let question = json!({ "task": "Is this bill to be paid?", "bill": bill });
    let decision = run.decide(&question, ask_model).await?;
    println!(
        "the model says {} ({})",
        decision.json::<Value>()?,
        replayed(decision.is_replayed())
    );

    // The intent is durable before the bank is called, the key is the same in every attempt and every process, and
    // a recorded receipt is replayed. Should the run fail later, the payment is undone by a refund.
    let payment = run
        .effect(&decision, "bank", "pay")
        .args(&bill)
        .undo("refund", &bill);
    let receipt: Value = payment.run(|call| pay(call.key().to_owned(), die)).await?;
    println!("the receipt is {receipt}");

    // The end is the end: begun again, the run says how it ended.
    run.complete(&receipt).await?;
    Ok(())
}

async fn ask_model() -> Result<tape_client::Answer, Error> {
    tape_client::Answer::json(&json!("yes"))
}

async fn pay(key: String, die: bool) -> Result<Value, CallError> {
    println!("calling the bank with key {key}");
    if die {
        std::process::abort()
    } else {
        Ok(json!({ "paid_under": key }))
    }
}

const fn replayed(replayed: bool) -> &'static str {
    if replayed { "from the journal" } else { "asked now" }
}
