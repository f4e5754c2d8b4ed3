//! The store's clock, and engines that use it: all of them agree on which right is over and what is due.

use super::engines::{begin, decision, drive, effect, spec};
use crate::Engine;
use crate::EngineError;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tape_core::agenda::{Item, Queue};
use tape_core::command::{Begin, Command, DriverCommand, ExternalCommand, RunCommand, WorkerCommand};
use tape_core::effect::{EffectSpec, Semantics};
use tape_core::id::{EffectId, Epoch, Holder, RunId, StreamId};
use tape_core::limits::LEASE_MS_MAX;
use tape_core::reply::{Rejection, Reply};
use tape_core::time::Timestamp;
use tape_environment::machine;
use tape_store::clock::{JournalClock, ManualClock};
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{all, run};
use tape_store::contract::{JournalStore, StoreTime};
use tape_store::error::StoreError;
use tape_store::layer::Layer;

const HOUR_MS: i64 = 3_600_000;
/// The pause between two checks whether a right is over.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The store of another process: opened once more where that is possible.
async fn another(fixture: &Fixture) -> Arc<dyn JournalStore> {
    match &fixture.reopen {
        Some(reopen) => reopen().await,
        None => Arc::clone(&fixture.store),
    }
}

/// The times that two processes get in turns never go back.
pub(super) async fn processes_share_one_clock(fixture: Fixture) {
    let other = another(&fixture).await;
    let mut last = Timestamp::MIN;
    for turn in 0..20 {
        let store = if turn % 2 == 0 { &fixture.store } else { &other };
        let told = store.time().await.unwrap();
        assert!(told.at >= last, "{:?} was told after {last:?}", told.at);
        assert_eq!(told.step_ms, 0);
        last = told.at;
    }
}

/// An engine takes over a right that is over, and none before, whichever process wrote it; no machine's clock decides.
pub(super) async fn a_right_is_taken_over_when_it_is_over_and_not_before(fixture: Fixture) {
    let first = Engine::start(Arc::clone(&fixture.store));
    let second = Engine::start(another(&fixture).await);
    let run = run("run");
    let (begun, lease) = (Instant::now(), Duration::from_secs(1));
    begin(&first, &run, "first").await;
    let mut refused = 0;
    loop {
        match take(&second, &run).await {
            Ok(_) => break,
            Err(EngineError::Rejected(Rejection::LeaseHeld { .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert!(refused > 0, "it was taken at once");
    assert!(
        begun.elapsed() >= lease,
        "it was taken after {:?}",
        begun.elapsed()
    );
}

/// A store whose clock is set by hand.
struct Set {
    inner: Arc<dyn JournalStore>,
    ahead_ms: AtomicI64,
}

#[async_trait]
impl Layer for Set {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn time(&self) -> Result<StoreTime, StoreError> {
        let told = self.inner.time().await?;
        let ahead = self.ahead_ms.load(Ordering::SeqCst) * 1_000;
        let at = Timestamp::from_micros(told.at.as_micros() + ahead);
        Ok(StoreTime { at, ..told })
    }
}

/// The clock of the store is set ahead by an hour, by a minute and back again, and by two hours, while engines run.
pub(super) async fn a_clock_that_is_set_ends_no_right_and_holds_up_no_work(fixture: Fixture) {
    let store = Arc::new(Set {
        inner: Arc::clone(&fixture.store),
        ahead_ms: AtomicI64::new(0),
    });
    let shared: Arc<dyn JournalStore> = Arc::<Set>::clone(&store);
    let clock = Arc::new(JournalClock::start(&shared, machine()));
    clock.measure().await.unwrap();
    let engine = Engine::new(shared, Arc::<JournalClock>::clone(&clock) as _);
    let run = run("run");
    let epoch = begin(&engine, &run, "first").await;
    let renew = DriverCommand::RenewLease { lease_ms: 600_000 };
    drive(&engine, &run, epoch, renew).await.unwrap();
    drive(&engine, &run, epoch, decision(0)).await.unwrap();
    for (call, ahead_ms) in (0..).zip([HOUR_MS, 0, 60_000, 0, 2 * HOUR_MS]) {
        let claimed = effect(2 * call);
        start(&engine, &run, epoch, &claimed).await;
        claim(&engine, &run, &claimed).await.unwrap();
        store.ahead_ms.store(ahead_ms, Ordering::SeqCst);
        clock.measure().await.unwrap();
        unsure_or_held(take(&engine, &run).await);
        clock.measure().await.unwrap();
        held(take(&engine, &run).await);
        held(
            work(
                &engine,
                &run,
                WorkerCommand::LapseEffect {
                    effect: claimed.clone(),
                },
            )
            .await,
        );
        // Its worker continues, and work that begins now is due now.
        renew_claim(&engine, &run, &claimed).await.unwrap();
        let fresh = effect(2 * call + 1);
        start(&engine, &run, epoch, &fresh).await;
        due_now(&engine, &run, &fresh).await;
        claim(&engine, &run, &fresh).await.unwrap();
    }
    let cancel = RunCommand::External(ExternalCommand::Cancel {
        reason: "enough".to_owned(),
    });
    engine
        .run(&run, Command::new(engine.request_id(), cancel))
        .await
        .unwrap();
    let state = engine.run_state(&run).await.unwrap().unwrap();
    assert_eq!(
        state.cancel_requested(),
        Some("enough"),
        "its driver is asked, since it is there"
    );
    let entries = all(fixture.store.as_ref(), &StreamId::Run(run)).await;
    let times: Vec<Timestamp> = entries
        .iter()
        .map(|stored| tape_core::codec::decode(stored).unwrap().at)
        .collect();
    assert!(times.is_sorted(), "time within a stream went back: {times:?}");
}

/// A clock was ahead by a month. Leases and claims from then are over by the rules once the clock is right, and the engine finds their
/// work.
pub(super) async fn work_of_a_clock_that_was_ahead_is_found(fixture: Fixture) {
    let right = Timestamp::from_micros(1_800_000_000_000_000);
    let ahead = right.plus_millis(30 * 24 * 3_600_000);
    let run = run("run");
    let under = |at| Engine::new(Arc::clone(&fixture.store), Arc::new(ManualClock::at(at)) as _);
    let wrong = under(ahead);
    let epoch = begin(&wrong, &run, "first").await;
    drive(&wrong, &run, epoch, decision(0)).await.unwrap();
    start(&wrong, &run, epoch, &effect(0)).await;
    claim(&wrong, &run, &effect(0)).await.unwrap();
    // Later than the end of any right, and all holders are dead.
    let engine = under(right.plus_millis(3 * LEASE_MS_MAX));
    for (queue, item) in [
        (Queue::Recovery, Item::Run),
        (Queue::Outbox, Item::Effect(effect(0))),
    ] {
        let until = engine.due_until().await.unwrap();
        let page = engine.due_page(queue, until, None, 100).await.unwrap();
        let found: Vec<&Item> = page.hints.iter().map(|hint| &hint.item).collect();
        assert_eq!(found, [&item], "{queue}");
        assert!(page.hints[0].due <= until, "{queue}");
    }
    take(&engine, &run).await.unwrap();
    claim(&engine, &run, &effect(0)).await.unwrap();
}

/// Sends a command, and sends it again where its request id was made by the clock before it was set: the engine learns from the refusal.
async fn ask(engine: &Engine, run: &RunId, body: RunCommand) -> Result<Reply, EngineError> {
    let command = || Command::new(engine.request_id(), body.clone());
    match engine.run(run, command()).await {
        Err(EngineError::Rejected(Rejection::RequestTooOld { .. } | Rejection::RequestFromFuture { .. })) => {
            engine.run(run, command()).await
        }
        outcome => outcome,
    }
}

async fn take(engine: &Engine, run: &RunId) -> Result<Reply, EngineError> {
    let begin = Begin {
        run: run.clone(),
        create: None,
        holder: Holder::new("second").unwrap(),
        lease_ms: 1_000,
        adopt: None,
        recovery: true,
    };
    ask(engine, run, RunCommand::Begin(begin)).await
}

async fn work(engine: &Engine, run: &RunId, command: WorkerCommand) -> Result<Reply, EngineError> {
    ask(engine, run, RunCommand::Work(command)).await
}

async fn start(engine: &Engine, run: &RunId, epoch: Epoch, effect: &EffectId) {
    let spec = EffectSpec {
        semantics: Semantics::NonIdempotent,
        ..spec(None, Vec::new())
    };
    let begin = DriverCommand::BeginEffect {
        effect: effect.clone(),
        spec,
    };
    ask(engine, run, RunCommand::Drive(epoch, begin)).await.unwrap();
}

async fn claim(engine: &Engine, run: &RunId, effect: &EffectId) -> Result<Reply, EngineError> {
    let command = WorkerCommand::ClaimEffect {
        effect: effect.clone(),
        holder: Holder::new("worker").unwrap(),
        claim_ms: 600_000,
    };
    work(engine, run, command).await
}

async fn renew_claim(engine: &Engine, run: &RunId, effect: &EffectId) -> Result<Reply, EngineError> {
    let command = WorkerCommand::RenewEffectClaim {
        effect: effect.clone(),
        holder: Holder::new("worker").unwrap(),
        held: None,
        claim_ms: 600_000,
    };
    work(engine, run, command).await
}

/// The agenda shows an effect as due, within the bound that the time is known with.
async fn due_now(engine: &Engine, run: &RunId, effect: &EffectId) {
    let within_ms = tape_core::limits::CLOCK_ERROR_MS_MAX;
    assert!(within_ms < LEASE_MS_MAX);
    let until = engine.now().await.unwrap().plus_millis(within_ms);
    let page = engine.due_page(Queue::Outbox, until, None, 1_000).await.unwrap();
    let stream = StreamId::Run(run.clone());
    let is_it = |item: &Item| *item == Item::Effect(effect.clone());
    assert!(
        page.hints
            .iter()
            .any(|hint| hint.stream == stream && is_it(&hint.item)),
        "effect {effect} is not due by {until:?}: {:?}",
        page.hints
    );
}

/// Asserts a refusal because another holds the right.
fn held(outcome: Result<Reply, EngineError>) {
    let refused = matches!(
        outcome,
        Err(EngineError::Rejected(
            Rejection::LeaseHeld { .. } | Rejection::Claimed { .. }
        ))
    );
    assert!(refused, "{outcome:?}");
}

/// The same, or a refusal to retry, because the time must be measured again.
fn unsure_or_held(outcome: Result<Reply, EngineError>) {
    if !matches!(outcome, Err(EngineError::Store(StoreError::Unavailable { .. }))) {
        held(outcome);
    }
}
