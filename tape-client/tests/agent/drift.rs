//! A re-drive whose requests differ from its journal stops with a readable difference.

use crate::world::{LEASE, World, begin};
use serde_json::json;
use tape_client::core::id::StreamId;
use tape_client::{Currency, Error, Run};
use tokio::sync::Notify;

/// A first drive that decides once, transfers once, samples once, and releases the run.
async fn recorded() -> (World, Run) {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    drive(&run, &world, "pay Ann", 5).await.unwrap();
    drop((run, tape));
    world.clock.advance(2 * LEASE);
    let tape = world.process("two", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    (world, run)
}

async fn drive(run: &Run, world: &World, ask: &str, amount: u32) -> Result<(), Error> {
    let request = json!({"model": "m", "messages": ["hi", ask]});
    let decision = run.decide(&request, || world.model(ask)).await?;
    let transfer = run
        .effect(&decision, "bank", "transfer")
        .args(&json!({"amount": amount}));
    let _: crate::world::Receipt = transfer.run(async |call| world.act(call).await).await?;
    run.random().await?;
    Ok(())
}

/// How many entries the journal has, renewals of the lease apart.
async fn length(world: &World) -> usize {
    let journal = world.journal().await;
    let renewals = journal
        .iter()
        .filter(|entry| entry.body.kind() == "lease.renewed");
    journal.len() - renewals.count()
}

#[tokio::test(start_paused = true)]
async fn another_request_is_drift() {
    let (world, run) = recorded().await;
    let before = length(&world).await;
    let error = drive(&run, &world, "pay Bob", 5).await.unwrap_err();
    let expected = expect_test::expect![[
        r#"the agent drifted from its journal at decision #0: messages[1]: recorded "pay Ann", asked "pay Bob""#
    ]];
    expected.assert_eq(&error.to_string());
    assert!(matches!(error, Error::Drift(_)));
    assert_eq!(world.asked().get("pay Bob"), None, "the model is not asked");
    assert_eq!(length(&world).await, before, "nothing is written");
}

#[tokio::test(start_paused = true)]
async fn other_arguments_are_drift() {
    let (world, run) = recorded().await;
    let error = drive(&run, &world, "pay Ann", 6).await.unwrap_err();
    let text = error.to_string();
    let start = "the agent drifted from its journal at effect #0.0: args: recorded 12 bytes of application/json with digest 7e84cbf0";
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.contains(", asked 12 bytes of application/json with digest e4d23a63"),
        "{text}"
    );
    assert_eq!(world.acts().len(), 1, "the upstream is not called");
}

#[tokio::test(start_paused = true)]
async fn an_effect_left_out_is_drift_before_the_next_decision() {
    let (world, run) = recorded().await;
    let request = json!({"model": "m", "messages": ["hi", "pay Ann"]});
    run.decide(&request, || world.model("pay Ann")).await.unwrap();
    let error = run
        .decide(&json!("next"), || world.model("next"))
        .await
        .unwrap_err();
    let expected = expect_test::expect![
        "the agent drifted from its journal at effect #0.0: the journal has it next, the agent asked for decision #1 instead"
    ];
    expected.assert_eq(&error.to_string());
    assert_eq!(world.asked().get("next"), None, "the model is not asked");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_at_the_end_is_drift() {
    let (world, run) = recorded().await;
    let error = run.complete(&()).await.unwrap_err();
    let expected = expect_test::expect![
        "the agent drifted from its journal at decision #0: the journal has it, the agent went on without asking for it"
    ];
    expected.assert_eq(&error.to_string());
    let state = world.journal().await;
    assert!(
        state.iter().all(|entry| entry.body.kind() != "run.completed"),
        "{}",
        StreamId::Run(run.id().clone())
    );
}

/// Decides twice, and asks for an effect of the first decision; one began before the second, another did not.
async fn late(run: &Run, world: &World) -> (Result<crate::world::Receipt, Error>, [Error; 2]) {
    let first = run.decide(&1, || world.model("first")).await.unwrap();
    let transfer = |call| run.effect(&first, "bank", "transfer").call(call);
    let begun: Result<crate::world::Receipt, _> = transfer(0).run(async |call| world.act(call).await).await;
    begun.unwrap();
    run.decide(&2, || world.model("second")).await.unwrap();
    let late = async || {
        let asked = transfer(1).run::<crate::world::Receipt, _>(async |call| world.act(call).await);
        asked.await.unwrap_err()
    };
    let twice = [late().await, late().await];
    (transfer(0).run(async |call| world.act(call).await).await, twice)
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_comes_after_a_later_decision_is_no_drift_in_any_drive() {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    for drive in ["one", "two"] {
        let run = begin(&tape).await.unwrap();
        let (begun, refused) = late(&run, &world).await;
        assert_eq!(begun.unwrap().number, 1, "drive {drive}: it began in time");
        for error in refused {
            assert!(
                matches!(error, Error::Invalid { what: "effect", .. }),
                "{error:?}"
            );
            let rule = "a new effect begins under the newest decision";
            assert!(error.to_string().contains(rule), "{error}");
        }
        run.release(std::time::Duration::ZERO).await.unwrap();
    }
    assert_eq!(world.acts().len(), 1, "only the one that began in time is called");
    assert_eq!(world.wrongs(), [""; 0]);
}

/// Decides, and waits at a gate that was answered before.
async fn gated() -> (World, Run) {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    run.decide(&1, || world.model("pay")).await.unwrap();
    world.signal().await;
    run.gate("approval").wait().await.unwrap();
    drop((run, tape));
    world.clock.advance(2 * LEASE);
    let tape = world.process("two", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    (world, run)
}

#[tokio::test(start_paused = true)]
async fn a_gate_left_out_is_drift_before_anything_new() {
    let (world, run) = gated().await;
    let before = length(&world).await;
    let decision = run.decide(&1, || world.model("pay")).await.unwrap();
    let transfer = run.effect(&decision, "bank", "transfer");
    let error = transfer
        .run::<crate::world::Receipt, _>(async |call| world.act(call).await)
        .await
        .unwrap_err();
    let expected = expect_test::expect![
        "the agent drifted from its journal at gate 'approval': the journal has it next, the agent asked for effect #0.0 instead"
    ];
    expected.assert_eq(&error.to_string());
    for error in [
        run.decide(&2, || world.model("next")).await.unwrap_err(),
        run.now().await.unwrap_err(),
        run.checkpoint("new", &1).await.unwrap_err(),
        run.sleep("new", LEASE).await.unwrap_err(),
        run.gate("new").wait().await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Drift(drift) if drift.skipped), "{error}");
    }
    assert_eq!(world.acts().len(), 0, "the upstream is not called");
    assert_eq!(length(&world).await, before, "nothing is written");
    let error = run.gate("approval").deadline(LEASE).wait().await.unwrap_err();
    let expected = expect_test::expect![
        "the agent drifted from its journal at gate 'approval': deadline: recorded none, asked after 30000 ms"
    ];
    expected.assert_eq(&error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_parallel_branch_may_ask_for_it_in_any_order() {
    let (world, run) = gated().await;
    let decision = run.decide(&1, || world.model("pay")).await.unwrap();
    let transfer = run.effect(&decision, "bank", "transfer");
    // The branch that makes a new request runs first.
    let new = transfer.run::<crate::world::Receipt, _>(async |call| world.act(call).await);
    let known = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        run.gate("approval").wait().await
    };
    let (receipt, answer) = futures::future::join(new, known).await;
    assert_eq!(
        (receipt.unwrap().number, answer.unwrap().is_timeout()),
        (1, false)
    );
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sub_agent_left_out_is_drift_before_anything_new() {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    let sub = run.scope("planner").unwrap();
    sub.gate("plan")
        .deadline(std::time::Duration::ZERO)
        .wait()
        .await
        .unwrap();
    drop((run, sub, tape));
    world.clock.advance(2 * LEASE);
    let tape = world.process("two", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    let error = run.decide(&1, || world.model("pay")).await.unwrap_err();
    let expected = expect_test::expect![
        "the agent drifted from its journal at scope 'planner': the journal has it next, the agent asked for decision #0 instead"
    ];
    expected.assert_eq(&error.to_string());
    assert_eq!(world.asked().get("pay"), None, "the model is not asked");
}

#[tokio::test(start_paused = true)]
async fn another_input_or_label_is_drift_and_lets_the_run_go() {
    let (world, run) = recorded().await;
    run.release(std::time::Duration::ZERO).await.unwrap();
    let tape = world.process("three", world.store.clone()).await;
    let other = tape.run(crate::world::id()).input_json(&json!({"day": 2}));
    let error = other.begin().await.unwrap_err();
    assert!(matches!(&error, Error::Drift(_)), "{error}");
    let other = tape.run(crate::world::id()).label("desk", "rates");
    let error = other.begin().await.unwrap_err();
    let expected = expect_test::expect![[
        r#"the agent drifted from its journal at its beginning: label 'desk': recorded "fx", asked "rates""#
    ]];
    expected.assert_eq(&error.to_string());
    begin(&tape).await.unwrap();
}

/// A JSON text, as a model or an upstream may give it.
const LETTERS: &str =
    r#"{"a":1070.8500000000001,"b":123456789012345678901234567890,"c":-0.0,"d":1e400,"e":1.10}"#;

#[tokio::test(start_paused = true)]
async fn numbers_keep_their_letters() {
    let world = World::new();
    let raw = serde_json::value::RawValue::from_string(LETTERS.to_owned()).unwrap();
    let mut fresh = Vec::new();
    for process in ["one", "two"] {
        let tape = world.process(process, world.store.clone()).await;
        let run = tape.run(crate::world::id()).input_json(&raw).begin().await;
        let run = run.unwrap().driving().unwrap();
        let text =
            |payload: &tape_client::Payload| String::from_utf8(payload.bytes().unwrap().to_vec()).unwrap();
        assert_eq!(text(run.input()), LETTERS);
        let input: Box<serde_json::value::RawValue> = run.input_json().unwrap();
        let model = async || tape_client::Answer::json(&input);
        let decision = run.decide(&input, model).await.unwrap();
        assert_eq!(text(decision.response()), LETTERS);
        let asked: Box<serde_json::value::RawValue> = decision.json().unwrap();
        let transfer = run.effect(&decision, "bank", "transfer").args(&asked);
        let result: Box<serde_json::value::RawValue> =
            transfer.run(async |_| Ok(asked.clone())).await.unwrap();
        assert_eq!(result.get(), LETTERS);
        let sample: Box<serde_json::value::RawValue> = run
            .sample("price", || std::future::ready(Ok::<_, Error>(asked.clone())))
            .await
            .unwrap();
        assert_eq!(sample.get(), LETTERS);
        // A number that a float holds is the same float again, in any process.
        #[derive(serde::Deserialize)]
        struct Amount {
            a: f64,
        }
        let amount: Amount = serde_json::from_str(result.get()).unwrap();
        assert_eq!(amount.a.to_string(), "1070.8500000000001");
        fresh.push(!decision.is_replayed());
        world.clock.advance(2 * LEASE);
    }
    assert_eq!(fresh, [true, false]);
    let begun = world
        .journal()
        .await
        .into_iter()
        .find_map(|entry| match entry.body {
            tape_client::core::entry::EntryBody::EffectBegun(begun) => Some(begun.spec.args),
            _ => None,
        });
    assert_eq!(begun.unwrap().bytes().unwrap().as_ref(), LETTERS.as_bytes());
}

/// Wants more than its budget has left, first of an effect and then of a decision, and goes on with less.
async fn thrifty(run: &Run, world: &World) -> Result<(), Error> {
    run.open_budget("usd", Currency::MicroUsd, 100).await?;
    let decision = run.decide(&1, || world.model("one")).await?;
    let transfer = |amount: u64| {
        let transfer = run.effect(&decision, "bank", "transfer");
        transfer.args(&amount).reserve("usd", amount)
    };
    let (begun, refused) = (Notify::new(), Notify::new());
    let first = async {
        let receipt: Result<crate::world::Receipt, Error> = transfer(80)
            .run(async |call| {
                begun.notify_one();
                refused.notified().await;
                call.spent("usd", 10)?;
                world.act(call).await
            })
            .await;
        // The journal has its outcome by now.
        begun.notify_one();
        receipt
    };
    let second = async {
        begun.notified().await;
        let over: Result<crate::world::Receipt, Error> =
            transfer(50).run(async |call| world.act(call).await).await;
        assert!(
            matches!(
                over,
                Err(Error::OverBudget {
                    left: 20,
                    asked: 50,
                    ..
                })
            ),
            "{over:?}"
        );
        refused.notify_one();
        transfer(20).run(async |call| world.act(call).await).await
    };
    let (first, second): (_, Result<crate::world::Receipt, Error>) = tokio::join!(first, second);
    first?;
    second?;
    let dear = run.decision(&"dear").reserve("usd", 71);
    let over = dear.ask(|| world.model("dear")).await;
    assert!(
        matches!(
            over,
            Err(Error::OverBudget {
                left: 70,
                asked: 71,
                ..
            })
        ),
        "{over:?}"
    );
    let cheap = run.decision(&"cheap").reserve("usd", 70);
    cheap.ask(|| world.model("cheap")).await?;
    Ok(())
}

/// A request that was over budget is over budget in a re-drive, although it would fit now: the agent continued from the refusal.
#[tokio::test(start_paused = true)]
async fn what_was_over_budget_is_so_in_a_re_drive() {
    let world = World::new();
    let tape = world.process("one", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    thrifty(&run, &world).await.unwrap();
    drop((run, tape));
    world.clock.advance(2 * LEASE);
    let before = length(&world).await;
    let tape = world.process("two", world.store.clone()).await;
    let run = begin(&tape).await.unwrap();
    thrifty(&run, &world).await.unwrap();
    assert_eq!(length(&world).await, before + 1, "nothing but the lease is new");
    assert_eq!((world.acts().len(), world.asked().len()), (2, 2));
    assert_eq!(world.wrongs(), Vec::<String>::new());
    run.complete(&()).await.unwrap();
}
