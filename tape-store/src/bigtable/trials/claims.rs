//! Business keys of runs whose process died.

use super::pen::all;
use super::wire::{Order, Wire};
use super::{NEVER, store, table};
use crate::bigtable::table::Table;
use crate::clock::ManualClock;
use crate::contract::JournalStore;
use crate::engine::Engine;
use crate::journal::JournalError;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::command::{Begin, Command, Create, DriverCommand, RecordDecision, RunCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{
    BusinessKey, Connector, EffectId, Epoch, Holder, Operation, Position, RunId, Scope, StreamId,
};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::time::Timestamp;

fn run(name: &str) -> RunId {
    RunId::new("t", "app", "user", "session", name).unwrap()
}

fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).unwrap()
}

fn first(k: u32) -> Position {
    Position {
        scope: Scope::root(),
        k,
    }
}

async fn begin(engine: &Engine, run: &RunId) -> Result<Epoch, JournalError> {
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
) -> Result<(), JournalError> {
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

fn effect(k: u32) -> DriverCommand {
    DriverCommand::BeginEffect {
        effect: EffectId {
            position: first(k),
            call: 0,
        },
        spec: EffectSpec {
            connector: Connector::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            semantics: Semantics::Idempotent,
            mode: Mode::Outbox,
            args: text("args"),
            business_key: Some(BusinessKey::new("invoice 7").unwrap()),
            undo: None,
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        },
    }
}

/// A run up to the effect that wants the key.
async fn pay(engine: &Engine, run: &RunId) -> Result<(), JournalError> {
    let epoch = begin(engine, run).await?;
    drive(engine, run, epoch, decision(0)).await?;
    drive(engine, run, epoch, effect(0)).await
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

/// A run that dies after so many changes, is taken up by another process and goes on without the effect; then a second run wants
/// the key. Whether the first process died at all, and who has paid.
async fn die_after(changes: u64, order: Order) -> (bool, [usize; 2]) {
    let table = table().await.expect("there is an emulator");
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
    let wire: Arc<dyn Table> = Arc::new(Wire::dying_after(&table, changes, order));
    let (one, two) = (run("one"), run("two"));
    let dying = Engine::new(Arc::new(store(&wire, NEVER)), Arc::clone(&clock) as _);
    let died = pay(&dying, &one).await.is_err();
    drop(dying);
    let after: Arc<dyn JournalStore> = Arc::new(store(&table, NEVER));
    let engine = Engine::new(Arc::clone(&after), Arc::clone(&clock) as _);
    // While the first run may still want its key, nobody takes it.
    clock.advance_ms(2_000);
    let epoch = begin(&engine, &one).await.unwrap();
    let decided = payments(after.as_ref(), &one).await;
    let state = engine.run_state(&one).await.unwrap().unwrap();
    if state.next_position(&Scope::root()).k == 0 {
        drive(&engine, &one, epoch, decision(0)).await.unwrap();
    }
    // The agent has thought better of it: under a later decision the effect can begin no more.
    drive(&engine, &one, epoch, decision(1)).await.unwrap();
    let taken = pay(&engine, &two).await;
    let paid = [decided, payments(after.as_ref(), &two).await];
    match taken {
        Ok(()) => assert_eq!(paid, [0, 1], "after {changes} changes"),
        Err(JournalError::Rejected(Rejection::BusinessKeyTaken { run, .. })) => {
            assert_eq!((paid, run), ([1, 0], one), "after {changes} changes");
        }
        Err(other) => panic!("after {changes} changes: {other}"),
    }
    (died, paid)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_run_that_died_is_taken_over_or_used_but_never_lost() {
    if table().await.is_none() {
        return;
    }
    let plays = (1..60).flat_map(|n| [(n, Order::Given), (n, Order::Reversed)]);
    let plays = plays.map(|(n, order)| tokio::spawn(die_after(n, order)));
    let mut plays = futures::stream::iter(plays).buffer_unordered(6);
    let (mut taken_over, mut used, mut lived) = (0, 0, 0);
    while let Some(outcome) = plays.next().await {
        match outcome.unwrap() {
            (true, [0, 1]) => taken_over += 1,
            (true, _) => used += 1,
            (false, paid) => {
                assert_eq!(paid, [1, 0]);
                lived += 1;
            }
        }
    }
    assert!(
        taken_over > 0 && used > 0 && lived > 0,
        "{taken_over} {used} {lived}"
    );
}
