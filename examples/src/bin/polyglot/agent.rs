//! The agents. `examples/tests/python/agent.py` has the same in Python.

use crate::bank::Bank;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tape_client::core::reply::Rejection;
use tape_client::{Answer, CallError, Currency, EffectPolicy, Error, Payload, Run, RunResult, Usage};

/// Drives one of them.
pub(crate) async fn drive(kind: &str, run: Run, bank: Bank) -> Result<RunResult, Error> {
    match kind {
        "treasury" => treasury(run, bank).await,
        "waits" => waits(run, bank).await,
        _ => fails(run, bank).await,
    }
}

/// What they are given.
pub(crate) fn input() -> Value {
    json!({ "day": 3, "ceiling": 9_007_199_254_740_993_u64, "rate": 1.0825, "desks": ["Ä/1", "b\"2\\"],
            "nested": { "z": [], "a": { "ﬁ": null, "😀": true } } })
}

/// A request with what JSON makes hard: floats, large numbers, escapes, order of names, depth.
fn hard(input: Value, rate: f64) -> Value {
    json!({
        "model": "m-1", "temperature": 0.1 + 0.2,
        "floats": [1.0, -0.0, 1e15, 1e16, 1e21, 0.0001, 0.00001, -0.000_012_345, 0.000_001, 5e-324,
                   1.797_693_134_862_315_7e308, 123_456_789.125],
        "ints": [u64::MAX, i64::MIN, 9_007_199_254_740_993_u64, 0],
        "text": "Zahl \"Ännchen\"\n\t\r\u{8}\u{c}\u{1}\u{1f}\u{7f}\u{2028} 😀 / \\ é",
        "ﬁ": 1, "😀": 2, "long": "é".repeat(200),
        "messages": [{ "role": "user", "b": { "z": { "y": [[], {}, null, true] }, "a": "" } }, "pay", ["last", 1.5]],
        "input": input, "rate": rate,
    })
}

async fn treasury(run: Run, bank: Bank) -> Result<RunResult, Error> {
    let mut told = Map::new();
    let given: Value = run.input_json()?;
    run.open_budget("day", Currency::MicroUsd, 9_007_199_254_740_991)
        .await?;
    run.open_budget_within("day", "desk", Currency::MicroUsd, 100_000)
        .await?;
    let rate: f64 = run.sample("rate", async || Ok::<_, Error>(0.000_012_5)).await?;
    let (now, random) = (run.now().await?, run.random().await?);
    let taken = json!({ "rate": rate, "now": now, "random": random, "uuid": run.uuid().await? });
    run.checkpoint("sampled", &taken).await?;
    let invoice = format!("invoice*7 {}", run.id().invocation);

    let plan = run.decision(&hard(given, rate)).reserve("desk", 50);
    let plan = plan.ask(async || planned()).await?;
    let answer: Value = plan.json()?;
    let pay = json!({ "amount": answer["pay"][0], "to": answer["to"], "rate": rate });
    let transfer = run
        .effect(&plan, "bank", "transfer")
        .args(&pay)
        .business_key(&invoice);
    let transfer = transfer
        .undo("reverse", &json!({ "to": "Ännchen", "why": null }))
        .reserve("desk", 20);
    let policy = EffectPolicy {
        attempts_max: 3,
        backoff_ms: 1,
        ..EffectPolicy::default()
    };
    let paid = transfer.policy(policy).run(async |call| {
        call.spent("desk", 15)?;
        bank.act("transfer", &pay, call.key()).await
    });
    told.insert("paid".to_owned(), paid.await?);
    let balance = run
        .effect(&plan, "bank", "balance")
        .args(&json!({ "of": 1e16 }))
        .read_only();
    told.insert(
        "balance".to_owned(),
        balance.run(async |_| Ok(json!({ "balance": -0.5 }))).await?,
    );
    told.insert("declined".to_owned(), declined(&run, &plan).await?);
    let mail = run
        .effect(&plan, "mail", "send")
        .args(&json!({ "text": "bezahlt ✓" }))
        .non_idempotent();
    told.insert("mailed".to_owned(), mail.settled().await?);

    let over = refused_for_its_price(&run).await?;
    let ask = json!({ "ask": "a little", "told": over });
    told.insert("over".to_owned(), over);
    let small = run.decision(&ask).reserve("desk", 5);
    let small = small.ask(async || Answer::json(&[1, 2])).await?;
    let twice = run
        .effect(&small, "bank", "transfer")
        .args(&pay)
        .business_key(&invoice);
    let twice: Result<Value, Error> = twice
        .run(async |call| bank.act("twice", &pay, call.key()).await)
        .await;
    told.insert("taken".to_owned(), taken_by(twice)?);
    let fee = json!({ "fee": 5 });
    let charged = run.effect(&small, "bank", "fee").args(&fee);
    let charged = charged
        .run(async |call| bank.act("fee", &fee, call.key()).await)
        .await?;
    told.insert("fee".to_owned(), charged);

    scopes(&run, &bank, &mut told).await?;
    waits_of_the_day(&run, &mut told).await?;
    for n in 0..2_i32 {
        let ask = json!({ "n": n, "share": f64::from(n) / 3.0, "of": 10_f64.powi(n + 14) / 7.0 });
        let again = run
            .decide(&ask, async || Answer::json(&(f64::from(n) * 0.1)))
            .await?;
        let share = run.effect(&again, "bank", "share").args(&ask);
        let share = share.run(async |call| bank.act(&format!("share-{n}"), &ask, call.key()).await);
        told.insert(format!("share {n}"), share.await?);
    }
    run.complete(&told).await
}

fn planned() -> Result<Answer, Error> {
    let answer = Answer::json(&json!({ "pay": [1.10, 2], "to": "Ännchen" }))?.model("m-1");
    let usage = Usage {
        input_tokens: 12,
        output_tokens: 3,
        cost_micro_usd: 9_007_199_254_740_991,
    };
    let answer = answer
        .usage(usage)
        .rationale(Payload::json(&json!("sie ist dran")));
    answer.policy_version("p/2").spent("desk", 12)
}

async fn declined(run: &Run, plan: &tape_client::Decision) -> Result<Value, Error> {
    let transfer = run
        .effect(plan, "bank", "transfer")
        .args(&json!({ "amount": 1e9 }));
    let declined = transfer.run(async |_| {
        let detail = Some(Payload::json(&json!({ "limit": 1.0 })));
        Err::<Value, _>(CallError::Failed {
            error: "über dem Limit".to_owned(),
            detail,
        })
    });
    match declined.await {
        Err(Error::EffectFailed {
            error,
            detail: Some(detail),
            ..
        }) => {
            let detail: Value =
                serde_json::from_slice(detail.bytes().expect("it is not erased")).expect("it is JSON");
            Ok(json!([error, detail]))
        }
        other => other,
    }
}

async fn refused_for_its_price(run: &Run) -> Result<Value, Error> {
    let lot = run
        .decision(&json!({ "ask": "a lot" }))
        .reserve("desk", 10_000_000);
    match lot.ask(async || Answer::json(&())).await {
        Err(Error::OverBudget { budget, left, asked }) => Ok(json!([budget, left, asked])),
        other => other.map(|decision| json!(decision.position().to_string())),
    }
}

fn taken_by(effect: Result<Value, Error>) -> Result<Value, Error> {
    match effect {
        Err(Error::Rejected(rejection)) => match *rejection {
            Rejection::BusinessKeyTaken { effect, .. } => Ok(json!(effect.to_string())),
            other => Err(Error::Rejected(Box::new(other))),
        },
        other => other,
    }
}

async fn scopes(run: &Run, bank: &Bank, told: &mut Map<String, Value>) -> Result<(), Error> {
    let planner = run.scope("planner")?;
    let hint: String = planner
        .sample("hint", async || Ok::<_, Error>("größer".to_owned()))
        .await?;
    let thought = planner
        .decide(&json!([hint, 1, 2.0]), async || Answer::json(&"ja"))
        .await?;
    let note = planner.effect(&thought, "bank", "note").args(&"ja");
    let note = note
        .run(async |call| bank.act("note", &json!("ja"), call.key()).await)
        .await?;
    told.extend([("hint".to_owned(), json!(hint)), ("thought".to_owned(), note)]);
    let branches = run.scope("branch")?;
    let (a, b) = (
        branch(branches.scope("a")?, bank, "a"),
        branch(branches.scope("b")?, bank, "b"),
    );
    let (a, b) = futures::try_join!(a, b)?;
    told.insert("branches".to_owned(), json!({ "a": a, "b": b }));
    Ok(())
}

async fn branch(scope: Run, bank: &Bank, name: &str) -> Result<Value, Error> {
    let ask = json!({ "branch": name, "rate": 1e-7 });
    let chosen = scope
        .decide(&ask, async || Answer::json(&json!({ "take": [name, 2.50] })))
        .await?;
    let args = json!({ "branch": name, "take": chosen.json::<Value>()?["take"] });
    let book = scope.effect(&chosen, "bank", "book").args(&args);
    let book = book.run(async |call| bank.act(&format!("book-{name}"), &args, call.key()).await);
    let receipt = book.await?;
    scope.checkpoint("booked", &json!({ "receipt": receipt })).await?;
    Ok(receipt)
}

async fn waits_of_the_day(run: &Run, told: &mut Map<String, Value>) -> Result<(), Error> {
    let approved = run.gate("approve").wait().await?;
    told.insert(
        "approved".to_owned(),
        json!([by(&approved), approved.json::<Value>()?]),
    );
    let veto = run.gate("veto").deadline(Duration::from_millis(1)).wait().await?;
    told.insert("veto".to_owned(), json!(by(&veto)));
    let settle = run.timer("settle").note(Payload::json(&json!("später")));
    settle.after(Duration::from_millis(1)).await?;
    told.insert("patched".to_owned(), json!(run.patched("rounding").await?));
    Ok(())
}

fn by(answer: &tape_client::GateAnswer) -> Value {
    serde_json::to_value(&answer.by).expect("it has a JSON form")["by"].take()
}

async fn waits(run: Run, bank: Bank) -> Result<RunResult, Error> {
    let drift = std::env::var_os("TAPE_DRIFT").is_some();
    let ask = if drift { "pay twice" } else { "pay" };
    let plan = run.decide(&ask, async || Answer::json(&1)).await?;
    pay(&run, &plan, &bank, 1).await?;
    println!("waiting");
    match run.gate("approve").wait().await {
        Ok(answer) => run.complete(&answer.json::<Value>()?).await,
        Err(Error::Cancelled) => run.accept_cancel().await,
        Err(other) => Err(other),
    }
}

async fn fails(run: Run, bank: Bank) -> Result<RunResult, Error> {
    let plan = run.decide(&"pay", async || Answer::json(&1)).await?;
    pay(&run, &plan, &bank, 2).await?;
    run.fail("das ging schief").await
}

async fn pay(run: &Run, plan: &tape_client::Decision, bank: &Bank, n: u32) -> Result<(), Error> {
    let args = json!({ "n": n });
    let transfer = run
        .effect(plan, "bank", "transfer")
        .args(&args)
        .undo("reverse", &args);
    let paid = transfer.run(async |call| bank.act("transfer", &args, call.key()).await);
    let _receipt: Value = paid.await?;
    Ok(())
}
