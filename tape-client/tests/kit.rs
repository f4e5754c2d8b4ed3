//! The test kit: it passes a sound agent, and finds the errors of others.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tape_client::testing::{Disturbance, Kit, Upstream};
use tape_client::{Answer, CallError, Error, Run, RunResult};

/// An agent that asks for approval, waits a while, pays, and files the receipt.
async fn sound(run: Run, bank: Upstream) -> Result<RunResult, Error> {
    let order: Value = run.input_json()?;
    let number = run.uuid().await?;
    let question = json!({ "order": order });
    let plan = run
        .decide(&question, || async { Answer::json(&json!("pay")) })
        .await?;
    let approved: bool = run.gate("approval").wait().await?.json()?;
    run.sleep("cooling off", Duration::from_secs(60)).await?;
    let payment = run
        .effect(&plan, "bank", "pay")
        .args(&json!({ "order": order, "approved": approved }))
        .undo("refund", &order);
    let receipt: Value = payment
        .run(async |call| bank.act(&call, || json!({ "paid": order })).await)
        .await?;
    run.checkpoint("paid", &receipt).await?;
    let filing = run
        .decide(&receipt, || async { Answer::json(&json!("file")) })
        .await?;
    let filed: Value = run
        .effect(&filing, "archive", "file")
        .args(&json!({ "receipt": receipt, "number": number }))
        .run(async |call| bank.act(&call, || json!({ "filed": number })).await)
        .await?;
    run.complete(&filed).await
}

#[tokio::test(start_paused = true)]
async fn a_sound_agent_does_the_same_wherever_it_is_disturbed() {
    let kit = Kit::new(sound)
        .input_json(&json!({ "cents": 12_050 }))
        .signal("approval", &true);
    let report = kit.check().await.unwrap();
    // It begins, samples, decides twice, opens and waits, sets a timer, begins and ends two effects, checkpoints and completes.
    assert!(report.kills > 25, "{report:?}");
    assert!(report.losses > 20, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_fails_is_held_to_its_failure() {
    let kit = Kit::new(async |run: Run, _: Upstream| run.fail("no funds").await);
    assert!(kit.check().await.unwrap().kills > 0);
}

#[tokio::test(start_paused = true)]
async fn arguments_that_change_from_drive_to_drive_are_found() {
    let drives = Arc::new(AtomicU32::new(0));
    let kit = Kit::new(move |run: Run, bank: Upstream| {
        let drive = drives.fetch_add(1, Ordering::SeqCst);
        async move {
            let plan = run
                .decide(&"what?", || async { Answer::json(&json!("pay")) })
                .await?;
            let payment = run.effect(&plan, "bank", "pay").args(&json!({ "drive": drive }));
            let receipt: Value = payment
                .run(async |call| bank.act(&call, || json!(1)).await)
                .await?;
            run.complete(&receipt).await
        }
    });
    let violation = kit.check().await.unwrap_err();
    assert!(violation.problem().contains("bank.pay"), "{violation}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_takes_a_lost_answer_for_a_failure_is_found() {
    let kit = Kit::new(async |run: Run, bank: Upstream| {
        let plan = run
            .decide(&"what?", || async { Answer::json(&json!("pay")) })
            .await?;
        let payment = run.effect(&plan, "bank", "pay");
        let paid = payment.run(async |call| {
            let answer = bank.act(&call, || json!("paid")).await;
            answer.map_err(|_| CallError::failed("no answer"))
        });
        match paid.await {
            Ok(receipt) => {
                let receipt: Value = receipt;
                run.complete(&receipt).await
            }
            Err(Error::EffectFailed { .. }) => run.fail("not paid").await,
            Err(other) => Err(other),
        }
    });
    let violation = kit.check().await.unwrap_err();
    assert!(
        matches!(
            violation.disturbance(),
            Disturbance::CallLost(1) | Disturbance::CallAnswerLost(1)
        ),
        "{violation}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_act_that_is_no_effect_is_found() {
    // State that it keeps outside the journal is lost with the process, or is changed twice.
    let sent = Arc::new(AtomicU32::new(0));
    let kit = Kit::new(move |run: Run, _: Upstream| {
        let sent = Arc::clone(&sent);
        async move {
            let plan = run
                .decide(&"what?", || async { Answer::json(&json!("send")) })
                .await?;
            let mails = sent.fetch_add(1, Ordering::SeqCst);
            let _ = plan;
            run.complete(&json!({ "mails sent before": mails })).await
        }
    });
    let violation = kit.check().await.unwrap_err();
    assert!(violation.problem().contains("mails sent before"), "{violation}");
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_depends_on_the_drive_is_found() {
    let asked = Arc::new(AtomicU32::new(0));
    let kit = Kit::new(move |run: Run, _: Upstream| {
        let asked = Arc::clone(&asked);
        async move {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            let question = if first { "pay?" } else { "pay again?" };
            run.decide(&question, || async { Answer::json(&json!("yes")) })
                .await?;
            run.complete(&"done").await
        }
    });
    let violation = kit.check().await.unwrap_err();
    assert!(violation.problem().contains("decision"), "{violation}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_ends_is_found() {
    let kit = Kit::new(async |run: Run, _: Upstream| {
        run.release(Duration::ZERO).await?;
        Err(Error::Suspended)
    });
    let violation = kit.check().await.unwrap_err();
    assert_eq!(violation.disturbance(), Disturbance::None);
    assert!(violation.problem().contains("not ended"), "{violation}");
}
