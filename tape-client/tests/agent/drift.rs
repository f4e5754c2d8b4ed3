//! A re-drive that asks something else than its journal has stops with a readable difference.

use crate::world::{LEASE, World, begin};
use serde_json::json;
use tape_client::core::id::StreamId;
use tape_client::{Error, Run};

/// A first drive that decides once, transfers once, samples once, and lets the run go.
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

async fn length(world: &World) -> usize {
    world.journal().await.len()
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
    let expected = expect_test::expect![
        "the agent drifted from its journal at effect #0.0: args: recorded 12 bytes with digest 7e84cbf0, asked 12 bytes with digest e4d23a63"
    ];
    expected.assert_eq(&error.to_string());
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
        "the agent drifted from its journal at effect #0.0: the journal has it, the agent went on without asking for it"
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
