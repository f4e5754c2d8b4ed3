//! Effects in outboxes, each once.

use crate::world::World;
use serde_json::json;
use tape_api::Journal as _;
use tape_api::sending::ask;
use tape_core::agenda::{Item, Queue};
use tape_core::command::{AttemptOutcome, RunCommand, WorkerCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{EffectId, Holder, RunId, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_core::status::RunStatus;
use tape_relay::reactions::serve_outbox;
use tokio_util::sync::CancellationToken;

/// The effects that wait for a worker.
async fn waiting(world: &World) -> Vec<(RunId, EffectId)> {
    let page = world
        .engine
        .due(Queue::Outbox, std::time::Duration::ZERO, None, 100)
        .await
        .unwrap();
    let effect = |work: tape_api::due::DueWork| match (work.stream, work.item) {
        (StreamId::Run(run), Item::Effect(effect)) => Some((run, effect)),
        _ => None,
    };
    page.work.into_iter().filter_map(effect).collect()
}

/// Does what a worker does, and says that the upstream acted.
async fn carry_out(world: &World, run: &RunId, effect: &EffectId) {
    let holder = Holder::new("worker").unwrap();
    let claim = WorkerCommand::ClaimEffect {
        effect: effect.clone(),
        holder: holder.clone(),
        claim_ms: 60_000,
    };
    let reply = ask(&world.engine, run, RunCommand::Work(claim)).await.unwrap();
    let ReplyResult::Effect { attempt, .. } = reply.result else {
        panic!("{reply:?}")
    };
    let finish = WorkerCommand::FinishClaimed {
        effect: effect.clone(),
        holder,
        attempt,
        ending: AttemptOutcome::Confirmed {
            result: Payload::json(&json!("posted")),
            undo: None,
            spent: None,
        },
    };
    ask(&world.engine, run, RunCommand::Work(finish)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_is_carried_out_once_and_its_run_ends() {
    let world = World::new();
    let definition = json!({
        "form": 1,
        "when": { "pattern": "acme.value.in.>" },
        "then": { "outbox": { "connector": "ledger", "operation": "post", "request": { "amount": 1.10 } } },
        "start": "beginning",
    });
    world.define("post", definition).await;
    let process = world.process("one");
    let agent = |name: &str, stop: &CancellationToken| {
        let holder = Holder::new(name).unwrap();
        tokio::spawn(serve_outbox(
            world.journal(),
            holder,
            stop.clone().cancelled_owned(),
        ))
    };
    let (stop_first, stop) = (CancellationToken::new(), CancellationToken::new());
    let first = agent("first", &stop_first);
    world.put("in", &json!(1)).await;
    let (run, effect) = loop {
        if let Some(one) = waiting(&world).await.pop() {
            break one;
        }
        tokio::task::yield_now().await;
    };
    // The agent is stopped while the effect waits, and everything is delivered again.
    stop_first.cancel();
    first.await.unwrap().unwrap();
    let second = agent("second", &stop);
    world.is_carried("post").await;
    world.again("post").await;
    world.is_through("post").await;
    carry_out(&world, &run, &effect).await;
    loop {
        let runs = world.runs_of("post").await;
        assert_eq!(runs.len(), 1);
        if runs[0].1.status == RunStatus::Completed {
            break;
        }
        tokio::task::yield_now().await;
    }
    let begun: Vec<_> = world
        .bodies(&run)
        .await
        .into_iter()
        .filter_map(|body| match body {
            EntryBody::EffectBegun(begun) => Some(begun.spec),
            _ => None,
        })
        .collect();
    assert_eq!(begun.len(), 1);
    assert_eq!(
        (begun[0].connector.as_str(), begun[0].operation.as_str()),
        ("ledger", "post")
    );
    assert_eq!(begun[0].args.bytes().unwrap().as_ref(), br#"{"amount":1.1}"#);
    assert!(
        begun[0]
            .business_key
            .as_ref()
            .unwrap()
            .as_str()
            .starts_with("tape.reaction/post/")
    );
    assert!(waiting(&world).await.is_empty());
    stop.cancel();
    second.await.unwrap().unwrap();
    process.drain().await;
}
