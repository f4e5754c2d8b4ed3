//! Waits: a run that waits long is suspended, and continues at the same place when it is driven again.

use crate::world::{World, begin, id};
use serde_json::json;
use std::time::Duration;
use tape_client::core::agenda::Queue;
use tape_client::core::command::{AttemptOutcome as Outcome, Command, RunCommand, Verdict, WorkerCommand};
use tape_client::core::effect::Status;
use tape_client::core::entry::gate::AnsweredBy;
use tape_client::core::id::{EffectId, Holder, StreamId};
use tape_client::core::time::Timestamp;
use tape_client::{CallError, EffectPolicy, Error, Payload, Run, RunResult};
use tape_engine::Engine;
use tape_store::contract::Shard;

async fn approval(run: &Run) -> Result<RunResult, Error> {
    let answer = run
        .gate("approval")
        .deadline(Duration::from_secs(3600))
        .wait()
        .await?;
    run.complete(&answer.is_timeout()).await
}

/// When the run is due for recovery.
async fn due(world: &World) -> Option<Timestamp> {
    let shard = Shard::of(&StreamId::Run(id()), world.store.capabilities().shards);
    world
        .store
        .due(Queue::Recovery, shard, Timestamp::MAX, None, 10)
        .await
        .unwrap()
        .first()
        .map(|hint| hint.due)
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_suspends_the_run_and_a_signal_brings_it_back() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let waited = approval(&run).await;
    assert!(matches!(waited, Err(Error::Suspended)), "{waited:?}");
    assert!(
        matches!(run.now().await, Err(Error::Suspended)),
        "the driver is done"
    );
    let resume = due(&world).await.unwrap();
    assert!(
        resume > Timestamp::from_micros(0).plus_millis(3_500_000),
        "it is woken at the deadline at the latest"
    );
    world.signal_by(&tape).await;
    assert!(due(&world).await.unwrap() < resume, "the signal wakes it at once");
    let run = begin(&tape).await.unwrap();
    let output: bool = approval(&run).await.unwrap().output().unwrap();
    assert!(!output);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_answers_the_gate_without_any_other_process() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    assert!(matches!(
        approval(&begin(&tape).await.unwrap()).await,
        Err(Error::Suspended)
    ));
    tokio::time::sleep(Duration::from_secs(3601)).await;
    let output: bool = approval(&begin(&tape).await.unwrap())
        .await
        .unwrap()
        .output()
        .unwrap();
    assert!(output);
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_stays_in_the_process() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    run.sleep("short", Duration::from_secs(3)).await.unwrap();
    let gate = run
        .gate("quick")
        .deadline(Duration::from_secs(2))
        .wait()
        .await
        .unwrap();
    assert_eq!(gate.by, AnsweredBy::Deadline);
    let read = gate.json::<Option<bool>>();
    assert!(
        matches!(read, Err(Error::Unreadable { .. })),
        "no answer is none of `null`: {read:?}"
    );
    let long = run.sleep("long", Duration::from_secs(600)).await;
    assert!(matches!(long, Err(Error::Suspended)), "{long:?}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let run = begin(&tape).await.unwrap();
    for (name, length) in [("short", 3), ("long", 600)] {
        run.sleep(name, Duration::from_secs(length)).await.unwrap();
    }
    let gate = run.gate("quick").deadline(Duration::from_secs(2));
    gate.wait().await.unwrap();
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outbox_effect_is_waited_for_until_a_worker_settles_it() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let pay = async |run: &Run| {
        let decision = run.decide(&json!("pay"), || world.model("pay")).await?;
        run.effect(&decision, "bank", "pay")
            .non_idempotent()
            .settled::<u32>()
            .await
    };
    let suspended = pay(&run).await;
    assert!(matches!(suspended, Err(Error::Suspended)), "{suspended:?}");
    let engine = Engine::new(world.store.clone(), world.clock.clone());
    let effect: EffectId = "#0.0".parse().unwrap();
    let holder = Holder::new("worker").unwrap();
    let work = async |work| {
        engine
            .run(&id(), Command::new(engine.request_id(), RunCommand::Work(work)))
            .await
            .unwrap()
    };
    let claim = WorkerCommand::ClaimEffect {
        effect: effect.clone(),
        holder: holder.clone(),
        claim_ms: 1000,
    };
    work(claim).await;
    let ending = Outcome::Confirmed {
        result: Payload::json(&json!(7)),
        undo: None,
        spent: None,
    };
    work(WorkerCommand::FinishClaimed {
        effect,
        holder,
        attempt: 1,
        ending,
    })
    .await;
    let run = begin(&tape).await.unwrap();
    assert_eq!(pay(&run).await.unwrap(), 7);
    assert_eq!(world.wrongs(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn retryable_failures_and_lost_answers_are_tried_again_with_the_same_key() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let decision = run.decide(&json!("pay"), || world.model("pay")).await.unwrap();
    let mut calls = Vec::new();
    let paid = run.effect(&decision, "bank", "pay").run(|call| {
        calls.push((call.key().to_owned(), call.attempt()));
        let n = calls.len();
        async move {
            match n {
                1 => Err(CallError::retry_after("busy", Duration::from_secs(7))),
                2 => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
                _ => Ok(5_u32),
            }
        }
    });
    assert_eq!(paid.await.unwrap(), 5);
    let key = calls[0].0.clone();
    assert_eq!(calls, [(key.clone(), 1), (key.clone(), 2), (key, 3)]);
    let kinds: Vec<&str> = world
        .journal()
        .await
        .iter()
        .map(|entry| entry.body.kind())
        .collect();
    let effects: Vec<&&str> = kinds.iter().filter(|kind| kind.starts_with("effect.")).collect();
    let expected = ["begun", "deferred", "started", "unknown", "started", "confirmed"];
    assert!(
        effects
            .iter()
            .zip(expected)
            .all(|(kind, end)| **kind == format!("effect.{end}")),
        "{effects:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_after_a_lost_answer_are_bounded_and_come_to_unknown() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let decision = run.decide(&json!("pay"), || world.model("pay")).await.unwrap();
    let policy = EffectPolicy {
        attempts_max: 3,
        ..EffectPolicy::default()
    };
    let mut calls = 0;
    let paid = run.effect(&decision, "bank", "pay").policy(policy).run(|_| {
        calls += 1;
        let answer = match calls {
            1 => CallError::unknown("timeout"),
            _ => CallError::retry("busy"),
        };
        std::future::ready(Err::<u32, _>(answer))
    });
    let unknown = paid.await;
    assert!(
        matches!(&unknown, Err(Error::EffectUnknown { cause, .. }) if cause == "busy"),
        "{unknown:?}"
    );
    assert_eq!(calls, 4, "one is lost, three fail");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_without_end_are_unknown_and_a_person_can_settle_them() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let pay = async |run: &Run| {
        let decision = run.decide(&json!("pay"), || world.model("pay")).await?;
        let policy = EffectPolicy {
            attempts_max: 3,
            ..EffectPolicy::default()
        };
        let effect = run.effect(&decision, "bank", "pay").policy(policy);
        effect
            .run(|_| std::future::ready(Err::<u32, _>(CallError::unknown("timeout"))))
            .await
    };
    let unknown = pay(&run).await;
    assert!(matches!(unknown, Err(Error::EffectUnknown { .. })), "{unknown:?}");
    let refused = run.complete(&()).await;
    assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
    run.release(Duration::ZERO).await.unwrap();
    let verdict = Verdict::Confirmed {
        result: Payload::json(&json!(9)),
        undo: None,
    };
    let seen = tape.head(&id()).await.unwrap().unwrap().0;
    tape.settle(
        &id(),
        "#0.0".parse().unwrap(),
        verdict,
        seen,
        "the bank's statement has it",
    )
    .await
    .unwrap();
    let run = begin(&tape).await.unwrap();
    assert_eq!(pay(&run).await.unwrap(), 9);
    let seen = tape.head(&id()).await.unwrap().unwrap().0;
    let reply = tape
        .settle(&id(), "#0.0".parse().unwrap(), Verdict::Failed, seen, "no")
        .await;
    assert!(
        reply
            .unwrap_err()
            .to_string()
            .contains(Status::Confirmed.as_str())
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_be_cancelled_says_so_and_undoes_what_it_did() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let decision = run.decide(&json!("pay"), || world.model("pay")).await.unwrap();
    let effect = run.effect(&decision, "bank", "pay").undo("reverse", &json!({}));
    let _: crate::world::Receipt = effect.run(async |call| world.act(call).await).await.unwrap();
    tape.cancel(&id(), "the desk closed").await.unwrap();
    let told = run.decide(&json!("more"), || world.model("more")).await;
    assert!(matches!(told, Err(Error::Cancelled)), "{told:?}");
    assert_eq!(run.accept_cancel().await.unwrap(), RunResult::Undoing);
    assert!(matches!(run.now().await, Err(Error::Closing { .. })));
}

/// An effect whose upstream is busy for a while, each time, and then acts.
async fn busy_upstream(run: &Run, world: &World, busy: u32, wait: Duration) -> Result<u32, Error> {
    let decision = run.decide(&json!("pay"), || world.model("pay")).await?;
    let effect = run
        .effect(&decision, "bank", "pay")
        .run(async |call| match call.attempt() {
            attempt if attempt <= busy => Err(CallError::retry_after("busy", wait)),
            attempt => Ok(attempt),
        });
    effect.await
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_for_the_next_attempt_suspends_the_run_until_then() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let hour = Duration::from_secs(3_600);
    let run = begin(&tape).await.unwrap();
    let waits = busy_upstream(&run, &world, 1, hour).await;
    assert!(matches!(waits, Err(Error::Suspended)), "{waits:?}");
    let resume = due(&world).await.unwrap();
    assert!(
        resume > Timestamp::from_micros(0).plus_millis(3_500_000),
        "{resume:?}"
    );
    tokio::time::sleep(hour).await;
    let run = begin(&tape).await.unwrap();
    assert_eq!(busy_upstream(&run, &world, 1, hour).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_next_attempt_hears_of_its_cancellation() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let begun = tokio::time::Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tape.cancel(&id(), "not wanted").await.unwrap();
    };
    let waits = busy_upstream(&run, &world, 1, Duration::from_secs(9));
    let (told, ()) = tokio::join!(waits, cancel);
    assert!(matches!(told, Err(Error::Cancelled)), "{told:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "it is told before the next attempt"
    );
    run.accept_cancel().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_next_attempt_ends_with_the_lease() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let begun = tokio::time::Instant::now();
    let release = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        run.release(Duration::ZERO).await.unwrap();
    };
    let (told, ()) = tokio::join!(busy_upstream(&run, &world, 1, Duration::from_secs(9)), release);
    assert!(told.is_err(), "{told:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "it is told before the next attempt"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gate_does_not_suspend_the_run_over_a_short_wait_for_an_attempt() {
    let world = World::new();
    let tape = world.patient_process("one").await;
    let run = begin(&tape).await.unwrap();
    let (gate, pays) = (run.scope("asks").unwrap(), run.scope("pays").unwrap());
    let pays = busy_upstream(&pays, &world, 3, Duration::from_secs(8));
    let (answer, paid) = tokio::join!(gate.gate("approval").wait(), pays);
    assert_eq!(paid.unwrap(), 4, "in the same drive");
    assert!(matches!(answer, Err(Error::Suspended)), "{answer:?}");
}
