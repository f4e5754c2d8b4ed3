//! Business keys: each has one owner, through engines over the store.

use super::engines::{begin, decision, drive, effect, spec};
use crate::EngineError;
use crate::{Engine, Retirement};
use std::sync::Arc;
use tape_core::command::{AttemptOutcome, Command, DriverCommand, RunCommand, WorkerCommand};
use tape_core::effect::Status;
use tape_core::id::{ConnectorName, Epoch, Holder, RunId, StreamId};
use tape_core::reply::Rejection;
use tape_store::clock::SystemClock;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{all, run};

/// Sixteen runs want one business key at the same time.
pub(super) async fn a_business_key_has_one_owner(fixture: Fixture) {
    let engines: Vec<_> = (0..2)
        .map(|_| Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)))
        .collect();
    let mut runs = Vec::new();
    for n in 0..16 {
        let (engine, run) = (engines[n % 2].clone(), run(&format!("run-{n}")));
        let epoch = begin(&engine, &run, "driver").await;
        drive(&engine, &run, epoch, decision(0)).await.unwrap();
        runs.push((engine, run, epoch));
    }
    let race = |(engine, run, epoch): (Engine, RunId, Epoch)| {
        let begin = DriverCommand::BeginEffect {
            effect: effect(0),
            spec: spec(Some("invoice 7"), vec![]),
        };
        tokio::spawn(async move { drive(&engine, &run, epoch, begin).await })
    };
    let answers = futures::future::join_all(runs.iter().cloned().map(race).collect::<Vec<_>>()).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let winners: Vec<usize> = (0..16).filter(|n| answers[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let (engine, owner, epoch) = &runs[winners[0]];
    for answer in answers.iter().filter(|answer| answer.is_err()) {
        let taken = matches!(answer, Err(EngineError::Rejected(Rejection::BusinessKeyTaken { run, .. })) if run == owner);
        assert!(taken, "{answer:?}");
    }
    // Another key, another connector's same key, and a key of an owner that can no longer use it, are free.
    let begin = |call, key: &str| DriverCommand::BeginEffect {
        effect: effect(call),
        spec: spec(Some(key), vec![]),
    };
    drive(engine, owner, *epoch, begin(1, "invoice 8")).await.unwrap();
    let mut elsewhere = spec(Some("invoice 7"), vec![]);
    elsewhere.connector = ConnectorName::new("other bank").unwrap();
    let begin = DriverCommand::BeginEffect {
        effect: effect(2),
        spec: elsewhere,
    };
    drive(engine, owner, *epoch, begin).await.unwrap();
}

/// The run whose effect took a key keeps the key, also when only the last entry of the run remains.
pub(super) async fn a_business_key_stays_with_a_run_that_was_retired(fixture: Fixture) {
    let engine = Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock));
    let (owner, other) = (run("owner"), run("other"));
    let pay = || DriverCommand::BeginEffect {
        effect: effect(0),
        spec: spec(Some("invoice 7"), vec![]),
    };
    let epoch = begin(&engine, &owner, "driver").await;
    drive(&engine, &owner, epoch, decision(0)).await.unwrap();
    drive(&engine, &owner, epoch, pay()).await.unwrap();
    let fail = DriverCommand::Fail {
        error: "no money".to_owned(),
    };
    drive(&engine, &owner, epoch, fail).await.unwrap();
    let retirement = Retirement {
        tenant: owner.tenant.clone(),
        ended_before: engine.now().await.unwrap().plus_millis(60_000),
        principal: None,
        reason: "old".to_owned(),
        dry_run: false,
    };
    let mut page = None;
    for _ in 0..3 {
        let retired = engine.retire_page(&retirement, page.as_ref(), 10).await;
        page = retired.unwrap().next;
    }
    let left = all(fixture.store.as_ref(), &StreamId::Run(owner.clone())).await;
    assert_eq!(left.len(), 1, "its intent is dropped");
    let epoch = begin(&engine, &other, "driver").await;
    drive(&engine, &other, epoch, decision(0)).await.unwrap();
    for engine in [
        &engine,
        &Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)),
    ] {
        let taken = drive(engine, &other, epoch, pay()).await;
        let by_owner = matches!(&taken, Err(EngineError::Rejected(Rejection::BusinessKeyTaken { run, .. })) if *run == owner);
        assert!(by_owner, "{taken:?}");
    }
}

/// An effect that failed before anything was sent frees its key. A caller that meets a taken key gets the state of the owner's effect.
pub(super) async fn a_business_key_of_what_never_happened_is_free(fixture: Fixture) {
    let engines: Vec<_> = (0..2)
        .map(|_| Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)))
        .collect();
    let pay = || DriverCommand::BeginEffect {
        effect: effect(0),
        spec: spec(Some("invoice 7"), vec![]),
    };
    let (gone, next, late) = (run("gone"), run("next"), run("late"));
    let mut epochs = Vec::new();
    for run in [&gone, &next, &late] {
        let epoch = begin(&engines[0], run, "driver").await;
        drive(&engines[0], run, epoch, decision(0)).await.unwrap();
        epochs.push(epoch);
    }
    drive(&engines[0], &gone, epochs[0], pay()).await.unwrap();
    let early = drive(&engines[1], &next, epochs[1], pay()).await.unwrap_err();
    assert_taken(&early, &gone, Status::Pending, false);
    let fail = DriverCommand::Fail {
        error: "no money".to_owned(),
    };
    drive(&engines[0], &gone, epochs[0], fail).await.unwrap();
    drive(&engines[1], &next, epochs[1], pay()).await.unwrap();
    let holder = Holder::new("worker").expect("it is a name");
    let claim = WorkerCommand::ClaimEffect {
        effect: effect(0),
        holder: holder.clone(),
        claim_ms: 60_000,
    };
    work(&engines[0], &next, claim).await;
    let finish = WorkerCommand::FinishClaimed {
        effect: effect(0),
        holder,
        attempt: 1,
        ending: AttemptOutcome::Failed {
            error: "refused".to_owned(),
            detail: None,
        },
    };
    work(&engines[0], &next, finish).await;
    let taken = drive(&engines[1], &late, epochs[2], pay()).await.unwrap_err();
    assert_taken(&taken, &next, Status::Failed, true);
}

async fn work(engine: &Engine, run: &RunId, command: WorkerCommand) {
    let command = Command::new(engine.request_id(), RunCommand::Work(command));
    engine
        .run(run, command)
        .await
        .expect("the worker's command is taken");
}

#[track_caller]
fn assert_taken(error: &EngineError, owner: &RunId, standing: Status, is_settled: bool) {
    let EngineError::Rejected(Rejection::BusinessKeyTaken {
        run, status, settled, ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (run, *status, settled.is_some()),
        (owner, Some(standing), is_settled)
    );
}
