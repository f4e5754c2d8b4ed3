//! Workers and people who settle an inline effect while its driver runs: the driver continues from what they recorded.

use crate::world::{World, begin, id};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_api::{Journal, JournalError, Layer};
use tape_client::core::command::{Command, DriverCommand, RunCommand, Verdict, WorkerCommand};
use tape_client::core::effect::Outcome;
use tape_client::core::id::{EffectId, Holder, RunId};
use tape_client::core::reply::{Rejection, Reply};
use tape_client::{CallError, Decision, EffectPolicy, Error, Payload, Run, Tape};
use tape_engine::Engine;
use tokio::sync::oneshot;

/// A journal in which something happens just before it is told that an effect is sent again.
#[derive(Debug)]
struct Meanwhile {
    engine: Engine,
    happens: Arc<Hook>,
}

/// What happens next, once.
#[derive(Default)]
struct Hook(Mutex<Option<BoxFuture<'static, ()>>>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[async_trait]
impl Layer for Meanwhile {
    fn inner(&self) -> &dyn Journal {
        &self.engine
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        if let RunCommand::Drive(_, DriverCommand::RestartEffect { .. }) = &command.body {
            let happens = self.happens.0.lock().unwrap().take();
            if let Some(happens) = happens {
                happens.await;
            }
        }
        self.inner().run(run, command).await
    }
}

/// A run with one decision, on a journal in which others may act.
struct Scene {
    world: World,
    engine: Engine,
    tape: Tape,
    happens: Arc<Hook>,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let engine = Engine::new(world.store.clone(), world.clock.clone());
        let happens = Arc::new(Hook::default());
        let journal = Meanwhile {
            engine: engine.clone(),
            happens: happens.clone(),
        };
        let tape = Tape::over(journal).connect().await.unwrap();
        Self {
            world,
            engine,
            tape,
            happens,
        }
    }

    /// Lets `happens` happen before the next attempt is started.
    fn before_the_next_attempt(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.happens.0.lock().unwrap() = Some(Box::pin(happens));
    }

    async fn drive(&self) -> (Run, Decision) {
        let run = begin(&self.tape).await.unwrap();
        let pay = json!("pay");
        let decision = run.decide(&pay, || self.world.model("pay")).await.unwrap();
        (run, decision)
    }

    /// Lets the payment get stuck before the next attempt is started; the receiver is told once it is.
    fn stuck_before_the_next_attempt(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let engine = self.engine.clone();
        self.before_the_next_attempt(async move {
            observe(engine, Outcome::Inconclusive).await;
            tell.send(()).unwrap();
        });
        told
    }
}

fn effect() -> EffectId {
    "#0.0".parse().unwrap()
}

/// The payment, whose answers are lost. Returns its result, and how often the upstream was called.
async fn pay(run: &Run, by: &Decision, attempts_max: u32) -> (Result<u32, Error>, u32) {
    let policy = EffectPolicy {
        attempts_max,
        observations_max: 1,
        ..EffectPolicy::default()
    };
    let mut calls = 0;
    let paid = run.effect(by, "bank", "pay").call(0).policy(policy).run(|_| {
        calls += 1;
        std::future::ready(Err(CallError::unknown("timeout")))
    });
    (paid.await, calls)
}

/// A worker asks the upstream about the payment, once that is due, and records what it says.
async fn observe(engine: Engine, outcome: Outcome) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let holder = Holder::new("reconciler").unwrap();
    let work = async |work| {
        let command = Command::new(engine.request_id(), RunCommand::Work(work));
        engine.run(&id(), command).await.unwrap()
    };
    work(WorkerCommand::ClaimObservation {
        effect: effect(),
        holder: holder.clone(),
        claim_ms: 60_000,
    })
    .await;
    work(WorkerCommand::RecordObservation {
        effect: effect(),
        holder,
        observation: 1,
        outcome,
        result: Payload::json(&json!(7)),
        undo: None,
        undo_duplicates: Vec::new(),
        why: String::new(),
    })
    .await;
}

/// A person settles the payment.
async fn settle(tape: &Tape, verdict: Verdict) {
    let seen = tape.head(&id()).await.unwrap().unwrap().0;
    tape.settle(&id(), effect(), verdict, seen, "the bank says so")
        .await
        .unwrap();
}

fn confirmed() -> Verdict {
    Verdict::Confirmed {
        result: Payload::json(&json!(7)),
        undo: None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_confirmed_after_its_run_was_read_is_not_an_error() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let lost = pay(&run, &decision, 1).await.0;
    assert!(matches!(lost, Err(Error::EffectUnknown { .. })), "{lost:?}");
    run.release(Duration::ZERO).await.unwrap();
    let (run, decision) = scene.drive().await;
    observe(scene.engine.clone(), Outcome::Found).await;
    let (paid, calls) = pay(&run, &decision, 1).await;
    assert_eq!(paid.unwrap(), 7);
    assert_eq!(calls, 0, "a confirmed effect is not sent again");
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_confirmed_during_the_wait_for_its_next_attempt_is_not_an_error() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    scene.before_the_next_attempt(observe(scene.engine.clone(), Outcome::Found));
    let (paid, calls) = pay(&run, &decision, 3).await;
    assert_eq!(paid.unwrap(), 7);
    assert_eq!(calls, 1, "a confirmed effect is not sent again");
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_a_person_settles_as_failed_before_its_next_attempt_has_failed() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let tape = scene.tape.clone();
    scene.before_the_next_attempt(async move { settle(&tape, Verdict::Failed).await });
    let (paid, calls) = pay(&run, &decision, 3).await;
    assert!(matches!(paid, Err(Error::EffectFailed { .. })), "{paid:?}");
    assert_eq!(calls, 1);
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_settled_after_a_later_decision_is_not_an_error() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let lost = pay(&run, &decision, 1).await.0;
    assert!(matches!(lost, Err(Error::EffectUnknown { .. })), "{lost:?}");
    let more = json!("more");
    run.decide(&more, || scene.world.model("more")).await.unwrap();
    // The journal's state forgets the effect with this.
    scene.before_the_next_attempt(observe(scene.engine.clone(), Outcome::Found));
    let (paid, calls) = pay(&run, &decision, 1).await;
    assert_eq!(paid.unwrap(), 7);
    assert_eq!(calls, 0);
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_gets_stuck_before_its_next_attempt_waits_for_a_person() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let stuck = scene.stuck_before_the_next_attempt();
    let waits = pay(&run, &decision, 3).await.0;
    assert!(matches!(waits, Err(Error::Suspended)), "{waits:?}");
    stuck.await.unwrap();
    let (run, decision) = scene.drive().await;
    let waits = pay(&run, &decision, 3).await.0;
    assert!(
        matches!(waits, Err(Error::Suspended)),
        "as stuck as before: {waits:?}"
    );
    settle(&scene.tape, confirmed()).await;
    let (run, decision) = scene.drive().await;
    let (paid, calls) = pay(&run, &decision, 3).await;
    assert_eq!((paid.unwrap(), calls), (7, 0));
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_effect_is_sent_again_once_a_person_allows_it() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let stuck = scene.stuck_before_the_next_attempt();
    let person = async {
        stuck.await.unwrap();
        settle(&scene.tape, Verdict::Resend).await;
    };
    let ((paid, calls), ()) = tokio::join!(pay(&run, &decision, 2), person);
    assert!(matches!(paid, Err(Error::EffectUnknown { .. })), "{paid:?}");
    assert_eq!(calls, 2, "one before, one after the person's word");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_waits_for_a_stuck_effect_hears_of_its_cancellation() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let stuck = scene.stuck_before_the_next_attempt();
    let person = async {
        stuck.await.unwrap();
        scene.tape.cancel(&id(), "not wanted").await.unwrap();
    };
    let ((paid, _), ()) = tokio::join!(pay(&run, &decision, 2), person);
    assert!(matches!(paid, Err(Error::Cancelled)), "{paid:?}");
    run.accept_cancel().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_after_another_call_has_confirmed_the_effect_gets_its_outcome() {
    let scene = Scene::new().await;
    let (run, decision) = scene.drive().await;
    let ask = || run.effect(&decision, "bank", "pay").call(0);
    let first = ask().run(async |_| {
        let second: u32 = ask().run(async |_| Ok(7)).await.unwrap();
        Ok(second + 1)
    });
    assert_eq!(Box::pin(first).await.unwrap(), 7, "the recorded one");
    run.complete(&()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_fired_before_it_is_cancelled_is_no_mistake_of_the_agent() {
    let scene = Scene::new().await;
    let (run, _) = scene.drive().await;
    run.sleep("nap", Duration::from_millis(1)).await.unwrap();
    let told = run.timer("nap").cancel().await.unwrap_err();
    assert!(
        matches!(&told, Error::Rejected(refusal) if matches!(**refusal, Rejection::TimerDone { .. })),
        "{told:?}"
    );
    assert_eq!(
        told.next(),
        "go on; the timer has fired, and nothing is left to cancel"
    );
}
