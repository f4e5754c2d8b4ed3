//! Gates that are answered by their deadline, by a signal, by both at once, too early, and twice.

use crate::upstream::Upstream;
use crate::world::{Driven, World};
use tape_core::agenda::{Item, Queue};
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::entry::gate::AnsweredBy;
use tape_core::id::{GateName, SignalId, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::run::Gate;
use tape_core::time::Deadline;
use tape_engine::EngineError;
use tape_store::contract::Hint;

#[tokio::test]
async fn a_gate_is_answered_once_whoever_comes_first() {
    each(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_gate_is_answered_once_whoever_comes_first_on_postgres() {
    if let Some(world) = World::postgres().await {
        each(&world).await;
    }
}

pub(crate) async fn each(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let _workers = [world.worker(&upstream), world.worker(&upstream)];
    let run = world.run("gates").await;
    by_the_deadline(&run).await;
    by_a_signal_twice(&run).await;
    before_it_opens(&run).await;
    for n in 0..30 {
        by_both_at_once(&run, n).await;
    }
}

fn gate(name: &str) -> GateName {
    GateName::new(name).unwrap()
}

async fn open(run: &Driven, name: &str, after_ms: Option<u64>) {
    let deadline = after_ms.map(Deadline::InMs);
    let gate = gate(name);
    run.drive(DriverCommand::OpenGate { gate, deadline }).await;
}

async fn signal(run: &Driven, name: &str, id: &str) -> Result<Reply, EngineError> {
    run.tell(ExternalCommand::Signal {
        gate: gate(name),
        id: SignalId::new(id).unwrap(),
        answer: Payload::empty(),
        seen: None,
    })
    .await
}

async fn answered(run: &Driven, name: &str) -> AnsweredBy {
    let gate = gate(name);
    run.until(|run| matches!(run.gates().get(&gate), Some(Gate::Answered { .. })))
        .await;
    match &run.state().await.gates()[&gate] {
        Gate::Answered { by, .. } => by.clone(),
        other => panic!("not answered: {other:?}"),
    }
}

async fn by_the_deadline(run: &Driven) {
    open(run, "deadline", Some(50)).await;
    assert_eq!(answered(run, "deadline").await, AnsweredBy::Deadline);
    let late = signal(run, "deadline", "s").await;
    let told = matches!(
        late,
        Err(EngineError::Rejected(Rejection::GateAnswered {
            by: AnsweredBy::Deadline,
            ..
        }))
    );
    assert!(told, "{late:?}");
}

async fn by_a_signal_twice(run: &Driven) {
    open(run, "signal", Some(3_600_000)).await;
    signal(run, "signal", "s").await.unwrap();
    signal(run, "signal", "s").await.unwrap();
    assert!(signal(run, "signal", "other").await.is_err());
    assert!(matches!(answered(run, "signal").await, AnsweredBy::Signal { .. }));
}

async fn before_it_opens(run: &Driven) {
    let early = signal(run, "early", "s").await.unwrap();
    assert_eq!(early.result, ReplyResult::SignalBuffered);
    open(run, "early", Some(0)).await;
    assert!(matches!(
        answered(run, "early").await,
        AnsweredBy::EarlierSignal { .. }
    ));
}

/// Waits until the agenda says that the deadline has passed, so that workers may take it up, or until they did.
async fn until_due(run: &Driven, name: &str) {
    let item = Item::Gate(gate(name));
    let stream = StreamId::Run(run.run.clone());
    let is_it = |hint: &Hint| hint.item == item && hint.stream == stream;
    loop {
        if !matches!(
            run.state().await.gates().get(&gate(name)),
            Some(Gate::Open { .. })
        ) {
            return;
        }
        let due = run
            .engine
            .due_page(Queue::Timers, run.engine.now().await.unwrap(), None, 1_000)
            .await;
        if due.unwrap().hints.iter().any(is_it) {
            return;
        }
    }
}

async fn by_both_at_once(run: &Driven, n: u64) {
    let name = format!("both-{n}");
    open(run, &name, Some(n)).await;
    until_due(run, &name).await;
    let told = signal(run, &name, "s").await;
    match answered(run, &name).await {
        AnsweredBy::Signal { .. } => assert!(told.is_ok()),
        AnsweredBy::Deadline => assert!(
            matches!(told, Err(EngineError::Rejected(Rejection::GateAnswered { .. }))),
            "{told:?}"
        ),
        AnsweredBy::EarlierSignal { .. } => panic!("the gate was open"),
    }
}
