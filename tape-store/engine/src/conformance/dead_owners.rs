//! Business keys of runs whose process died.

use super::broken_off::dying_store;
use crate::{Engine, EngineError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::command::{Begin, Command, Create, DriverCommand, RecordDecision, RunCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{
    BusinessKey, ConnectorName, EffectId, Epoch, Holder, Operation, Position, RunId, Scope, StreamId,
};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::time::Timestamp;
use tape_store::clock::ManualClock;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{all, run};
use tape_store::contract::JournalStore;
use tape_store::layer::Point;

fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).unwrap()
}

fn first(k: u32) -> Position {
    Position {
        scope: Scope::root(),
        k,
    }
}

async fn begin(engine: &Engine, run: &RunId) -> Result<Epoch, EngineError> {
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::new(),
            input: text("go"),
            forked_from: None,
        }),
        holder: Holder::new("driver").unwrap(),
        lease_ms: 1_000,
        adopt: None,
        recovery: false,
    };
    let reply = engine
        .run(run, Command::new(engine.request_id(), RunCommand::Begin(begin)))
        .await?;
    match reply.result {
        ReplyResult::Leased { epoch, .. } => Ok(epoch),
        other => panic!("{run:?} was not leased: {other:?}"),
    }
}

async fn drive(
    engine: &Engine,
    run: &RunId,
    epoch: Epoch,
    command: DriverCommand,
) -> Result<(), EngineError> {
    let command = RunCommand::Drive(epoch, command);
    engine
        .run(run, Command::new(engine.request_id(), command))
        .await
        .map(drop)
}

fn decision(k: u32) -> DriverCommand {
    DriverCommand::RecordDecision(RecordDecision {
        position: first(k),
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: text("answered"),
        model: "m".to_owned(),
        usage: Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    })
}

fn effect(k: u32, key: &str) -> DriverCommand {
    DriverCommand::BeginEffect {
        effect: EffectId {
            position: first(k),
            call: 0,
        },
        spec: EffectSpec {
            connector: ConnectorName::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            semantics: Semantics::Idempotent,
            mode: Mode::Outbox,
            args: text("args"),
            business_key: Some(BusinessKey::new(key).unwrap()),
            undo: None,
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        },
    }
}

/// A run up to the effect that wants the key.
async fn pay(engine: &Engine, run: &RunId, key: &str) -> Result<(), EngineError> {
    let epoch = begin(engine, run).await?;
    drive(engine, run, epoch, decision(0)).await?;
    drive(engine, run, epoch, effect(0, key)).await
}

async fn payments(store: &dyn JournalStore, run: &RunId) -> usize {
    let entries = all(store, &StreamId::Run(run.clone())).await;
    let bodies = entries
        .iter()
        .map(|entry| tape_core::codec::decode(entry).unwrap().body);
    bodies
        .filter(|body| matches!(body, EntryBody::EffectBegun(_)))
        .count()
}

/// A run dies during the `n`th call of a step; another process adopts it and continues without the effect; then a second run wants the key.
/// Returns whether the first process died at all, and which runs have paid.
async fn die_amid(store: &Arc<dyn JournalStore>, point: Point, n: usize) -> (bool, [usize; 2]) {
    let key = format!("invoice {point:?} {n}");
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
    let (one, two) = (
        run(&format!("one-{point:?}-{n}")),
        run(&format!("two-{point:?}-{n}")),
    );
    let dying = Engine::new(dying_store(store, point, n), Arc::clone(&clock) as _);
    let died = pay(&dying, &one, &key).await.is_err();
    drop(dying);
    let engine = Engine::new(Arc::clone(store), Arc::clone(&clock) as _);
    // While the first run may still want its key, the second cannot take it.
    clock.advance_ms(2_000);
    let epoch = begin(&engine, &one).await.unwrap();
    let decided = payments(store.as_ref(), &one).await;
    let state = engine.run_state(&one).await.unwrap().unwrap();
    if state.next_position(&Scope::root()).k == 0 {
        drive(&engine, &one, epoch, decision(0)).await.unwrap();
    }
    // The agent has decided otherwise: under a later decision the effect can begin no more.
    drive(&engine, &one, epoch, decision(1)).await.unwrap();
    let taken = pay(&engine, &two, &key).await;
    let paid = [decided, payments(store.as_ref(), &two).await];
    match taken {
        Ok(()) => assert_eq!(paid, [0, 1], "{key}"),
        Err(EngineError::Rejected(Rejection::BusinessKeyTaken { run, .. })) => {
            assert_eq!((paid, run), ([1, 0], one), "{key}");
        }
        Err(other) => panic!("{key}: {other}"),
    }
    (died, paid)
}

pub(super) async fn the_key_of_a_run_that_died_is_taken_over_or_used_but_never_lost(fixture: Fixture) {
    let (mut taken_over, mut used, mut lived) = (0, 0, 0);
    for point in [Point::Head, Point::Read, Point::BeforeCommit, Point::AfterCommit] {
        for n in 0..8 {
            match die_amid(&fixture.store, point, n).await {
                (true, [0, 1]) => taken_over += 1,
                (true, _) => used += 1,
                (false, paid) => {
                    assert_eq!(paid, [1, 0]);
                    lived += 1;
                }
            }
        }
    }
    assert!(
        taken_over > 0 && used > 0 && lived > 0,
        "{taken_over} {used} {lived}"
    );
}
