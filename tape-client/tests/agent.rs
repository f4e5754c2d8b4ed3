//! An agent that uses every feature, driven to its end, re-driven, and stopped where it drifts.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_client::core::id::{GateName, SignalId};
use tape_client::{Answer, Begun, CallError, Currency, Ending, Error, Payload, Run, RunId, Tape};

/// Upstream and model in one: counts what was asked of it.
#[derive(Clone, Debug, Default)]
struct World(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    asked: BTreeMap<String, u32>,
    acts: BTreeMap<String, u32>,
    samples: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Receipt {
    number: u32,
}

impl World {
    async fn model(&self, request: &str) -> Result<Answer, Error> {
        *self
            .0
            .lock()
            .unwrap()
            .asked
            .entry(request.to_owned())
            .or_default() += 1;
        Ok(Answer::json(&format!("do {request}"))?
            .model("scripted")
            .policy_version("p1"))
    }

    async fn act(&self, key: &str) -> Result<Receipt, CallError> {
        let mut counts = self.0.lock().unwrap();
        // An upstream that honours idempotency keys: one act a key, however often it is sent.
        let number = u32::try_from(counts.acts.len()).unwrap() + 1;
        let act = counts.acts.entry(key.to_owned()).or_insert(number);
        Ok(Receipt { number: *act })
    }
}

async fn agent(run: Run, world: World) -> Result<Ending, Error> {
    run.open_budget("usd", Currency::MicroUsd, 1_000).await?;
    let first = run
        .decide(&json!({"ask": "sweep"}), || world.model("sweep"))
        .await?;
    let args = json!({"from": "a", "to": "b"});
    let receipt: Receipt = run
        .effect(&first, "bank", "transfer")
        .args(&args)
        .undo("reverse", &args)
        .reserve("usd", 100)
        .run(|call| {
            let world = world.clone();
            async move { world.act(call.key()).await }
        })
        .await?;
    run.checkpoint("swept", &receipt).await?;
    let both = [run.scope("left")?, run.scope("right")?].map(|branch| {
        let world = world.clone();
        async move {
            let decision = branch
                .decide(&json!({"ask": "hedge"}), || world.model("hedge"))
                .await?;
            let hedge = branch
                .effect(&decision, "market", "hedge")
                .run(async |call| world.act(call.key()).await);
            hedge.await
        }
    });
    let hedges: Vec<Receipt> = futures::future::try_join_all(both).await?;
    let (now, id) = (run.now().await?, run.uuid().await?);
    let price: u32 = run
        .sample("price", || async {
            world.0.lock().unwrap().samples += 1;
            Ok::<_, Error>(42)
        })
        .await?;
    let answer = run
        .gate("approval")
        .deadline(Duration::from_secs(3600))
        .wait()
        .await?;
    run.sleep("cool down", Duration::from_millis(20)).await?;
    let approved: bool = answer.json()?;
    let read: Receipt = {
        let second = run
            .decision(&json!({"ask": "report"}))
            .reserve("usd", 10)
            .ask(|| world.model("report"))
            .await?;
        run.effect(&second, "bank", "balance")
            .read_only()
            .run(async |call| world.act(call.key()).await)
            .await?
    };
    run.complete(
        &json!({"n": [receipt.number, hedges.len(), read.number], "price": price, "ok": approved,
        "now": now.as_micros(), "id": id.to_string()}),
    )
    .await
}

fn id() -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap()
}

async fn begin(tape: &Tape) -> Run {
    tape.run(id())
        .label("desk", "fx")
        .input_json(&json!({"day": 1}))
        .begin()
        .await
        .unwrap()
        .driving()
        .unwrap()
}

#[tokio::test]
async fn a_run_is_driven_to_its_end_and_the_end_is_the_end() {
    let tape = Tape::connect("memory:").await.unwrap();
    let world = World::default();
    let run = begin(&tape).await;
    assert_eq!(run.input_json::<serde_json::Value>().unwrap(), json!({"day": 1}));
    // Spawned: the futures of an agent are `Send`.
    let driven = tokio::spawn(agent(run, world.clone()));
    let yes = Payload::json(&json!(true));
    tape.signal(
        &id(),
        GateName::new("approval").unwrap(),
        SignalId::new("x").unwrap(),
        yes,
    )
    .await
    .unwrap();
    let ending = driven.await.unwrap().unwrap();
    let output: serde_json::Value = ending.output().unwrap();
    assert_eq!(output["n"], json!([1, 2, 4]));
    assert_eq!(world.0.lock().unwrap().asked.values().sum::<u32>(), 4);
    let Begun::Ended(again) = tape.run(id()).begin().await.unwrap() else {
        panic!("the end is the end")
    };
    assert_eq!(again, ending);
}
