//! The test kit: it passes a sound agent, and finds the errors of others.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tape_client::testing::{Disturbance, Kit, Report, Upstream, Violation};
use tape_client::{Answer, CallError, Error, Payload, Run, RunResult};

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

/// Pays what it was told, perhaps after a nap.
async fn pay(run: &Run, bank: &Upstream, told: &Value, pays: impl Fn()) -> Result<Value, Error> {
    let plan = run.decide(told, || async { Answer::json(&json!("pay")) }).await?;
    let payment = run.effect(&plan, "bank", "pay").args(told);
    let act = async |call| {
        let acted = bank.act(&call, || {
            pays();
            told.clone()
        });
        acted.await
    };
    payment.run(act).await
}

/// An agent that asks with its balance, which its own payment changes, and does not sample it.
async fn check_unsampled_balance(naps: u32) -> Result<Report, Violation> {
    let paid = Arc::new(AtomicBool::new(false));
    let kit = Kit::new(move |run: Run, bank: Upstream| {
        let paid = Arc::clone(&paid);
        async move {
            // Another drive from the start begins with the whole balance.
            if run.is_live() {
                paid.store(false, Ordering::SeqCst);
            }
            for nap in 0..naps {
                run.sleep(&format!("nap {nap}"), Duration::from_secs(20)).await?;
            }
            let balance = if paid.load(Ordering::SeqCst) { 90 } else { 100 };
            let pays = || paid.store(true, Ordering::SeqCst);
            let receipt = pay(&run, &bank, &json!({ "balance": balance }), pays).await?;
            run.complete(&receipt).await
        }
    });
    kit.check().await
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_in_a_later_process_is_found_too() {
    for naps in 0..3 {
        let violation = check_unsampled_balance(naps).await.unwrap_err();
        assert!(
            violation.problem().contains("drifted"),
            "{naps} naps: {violation}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_process_of_a_drive_is_disturbed() {
    let check = async |naps: u32| {
        let kit = Kit::new(move |run: Run, bank: Upstream| async move {
            for nap in 0..naps {
                run.sleep(&format!("nap {nap}"), Duration::from_secs(20)).await?;
            }
            let receipt = pay(&run, &bank, &json!(1), || {}).await?;
            run.complete(&receipt).await
        });
        kit.check().await.unwrap()
    };
    let (awake, once, twice) = (check(0).await, check(1).await, check(2).await);
    assert!(
        awake.kills < once.kills && once.kills < twice.kills,
        "{awake:?}, {once:?}, {twice:?}"
    );
    assert!(
        awake.losses < once.losses && once.losses < twice.losses,
        "{awake:?}, {once:?}, {twice:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disturbance_that_never_happens_is_not_counted() {
    let check = async |undisturbed: u32, disturbed: u32| {
        let drives = AtomicU32::new(0);
        let kit = Kit::new(move |run: Run, _: Upstream| {
            let first = drives.fetch_add(1, Ordering::SeqCst) == 0;
            let checkpoints = if first { undisturbed } else { disturbed };
            async move {
                for n in 0..checkpoints {
                    run.checkpoint("at", &n).await?;
                }
                run.complete(&()).await
            }
        });
        kit.check().await.unwrap()
    };
    let (fewer, few) = (check(20, 1).await, check(1, 1).await);
    assert_eq!(fewer.losses, few.losses);
    assert!(fewer.kills <= few.kills, "{fewer:?}, {few:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_derived_from_samples_is_the_same_in_each_drive() {
    let kit = Kit::new(async |run: Run, bank: Upstream| {
        let expires = run.now().await?.plus_millis(3_600_000).to_string();
        let dice = run.random().await? % 6;
        let short = run.uuid().await?.to_string()[..3].to_owned();
        let rate = run.sample("rate", async || Ok::<_, Error>(run.epoch().0));
        let told = json!({ "expires": expires, "dice": dice, "short": short, "rate": rate.await? });
        let receipt = pay(&run, &bank, &told, || {}).await?;
        run.complete(&receipt).await
    });
    assert!(kit.check().await.unwrap().kills > 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_sleep_takes_one_process_more() {
    for hours in [1, 24, 24 * 365] {
        let kit = Kit::new(move |run: Run, bank: Upstream| async move {
            run.sleep("night", Duration::from_secs(hours * 3600)).await?;
            let receipt = pay(&run, &bank, &json!(1), || {}).await?;
            run.complete(&receipt).await
        });
        assert!(kit.check().await.unwrap().kills > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_for_the_outbox_is_refused_and_the_text_says_why() {
    let kit = Kit::new(async |run: Run, _: Upstream| {
        let plan = run.decide(&1, || async { Answer::json(&json!("pay")) }).await?;
        let receipt: Value = run.effect(&plan, "bank", "pay").outbox().settled().await?;
        run.complete(&receipt).await
    });
    let violation = kit.check().await.unwrap_err();
    assert_eq!(violation.disturbance(), Disturbance::None);
    let problem = violation.problem();
    assert!(
        problem.starts_with("effect #0.0 of connector 'bank' is for the outbox"),
        "{violation}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_signal_that_the_kit_was_not_given_is_found_at_once() {
    let kit = Kit::new(async |run: Run, _: Upstream| {
        let approved: bool = run.gate("approval").wait().await?.json()?;
        run.complete(&approved).await
    });
    let violation = kit.check().await.unwrap_err();
    assert!(
        violation
            .problem()
            .contains("a signal that the kit was not given"),
        "{violation}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_that_of_the_run_is_found() {
    let kit = Kit::new(async |run: Run, bank: Upstream| {
        pay(&run, &bank, &json!(1), || {}).await?;
        Ok(RunResult::Completed(Payload::empty()))
    });
    let violation = kit.check().await.unwrap_err();
    assert_eq!(violation.disturbance(), Disturbance::None);
    assert!(
        violation.problem().contains("it has not ended the run"),
        "{violation}"
    );
}
