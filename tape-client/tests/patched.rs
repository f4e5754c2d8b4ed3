//! A changed agent over runs that were begun before the change.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use futures::FutureExt as _;
use serde_json::json;
use std::sync::Arc;
use tape_client::{Answer, CallError, Decision, Error, Run, RunId, RunResult, Tape};
use tape_engine::Engine;
use tape_store::memory::MemoryStore;

async fn tape() -> Tape {
    let engine = Engine::start(Arc::new(MemoryStore::new()));
    Tape::over(engine).connect().await.unwrap()
}

async fn begin(tape: &Tape, invocation: &str) -> Run {
    let id = RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap();
    tape.run(id).begin().await.unwrap().driving().unwrap()
}

/// The process ends here: it releases the lease, and the run is taken over again.
async fn die(run: Run) {
    run.release(std::time::Duration::ZERO).await.unwrap();
}

async fn decide(run: &Run, what: &str) -> Result<String, Error> {
    let asked = json!({ "what": what });
    let answer = || async { Answer::json(&format!("answer to {what}")) };
    run.decide(&asked, answer).await?.json()
}

/// The agent before the change.
async fn before(run: &Run) -> Result<(), Error> {
    decide(run, "plan").await?;
    decide(run, "pay").await.map(drop)
}

/// The agent after the change: it asks for compliance in between.
async fn after(run: &Run) -> Result<bool, Error> {
    decide(run, "plan").await?;
    let changed = run.patched("ask-compliance").await?;
    if changed {
        decide(run, "compliance").await?;
    }
    decide(run, "pay").await?;
    Ok(changed)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_came_further_keeps_its_path_and_a_new_one_takes_the_new() {
    let tape = tape().await;
    let run = begin(&tape, "old").await;
    before(&run).await.unwrap();
    die(run).await;
    for _ in 0..2 {
        let run = begin(&tape, "old").await;
        assert!(!after(&run).await.unwrap());
        die(run).await;
    }
    let run = begin(&tape, "new").await;
    assert!(after(&run).await.unwrap());
    die(run).await;
    let run = begin(&tape, "new").await;
    assert!(after(&run).await.unwrap());
    // Code without the question always takes the new path.
    die(run).await;
    let run = begin(&tape, "new").await;
    decide(&run, "plan").await.unwrap();
    decide(&run, "compliance").await.unwrap();
    decide(&run, "pay").await.unwrap();
    let ended = run.complete(&()).await.unwrap();
    assert!(matches!(ended, RunResult::Completed(_)), "{ended:?}");
}

#[tokio::test]
async fn a_run_that_stopped_before_the_change_takes_the_new_path() {
    let tape = tape().await;
    let run = begin(&tape, "early").await;
    decide(&run, "plan").await.unwrap();
    die(run).await;
    let run = begin(&tape, "early").await;
    assert!(after(&run).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_a_parallel_branch_did_does_not_send_a_new_run_down_the_old_path() {
    let tape = tape().await;
    let (run, plan) = planned(&tape).await;
    // The payment of another branch is under way when the process dies.
    let head = async || tape.head(run.id()).await.unwrap().unwrap().0;
    let before = head().await;
    let payment = run.effect(&plan, "bank", "pay");
    let begun = payment.run(async |_| std::future::pending::<Result<(), CallError>>().await);
    assert!(begun.now_or_never().is_none());
    while head().await == before {
        tokio::task::yield_now().await;
    }
    die(run).await;
    // In the next drive, that branch is the slower one.
    let (run, plan) = planned(&tape).await;
    let pays = async {
        run.effect(&plan, "bank", "pay")
            .run(async |_| Ok::<_, CallError>(()))
            .await
    };
    let (changed, paid) = tokio::join!(run.patched("ask-compliance"), pays);
    paid.unwrap();
    assert!(changed.unwrap());
    die(run).await;
    let (run, _) = planned(&tape).await;
    assert!(run.patched("ask-compliance").await.unwrap(), "it is recorded");
}

async fn planned(tape: &Tape) -> (Run, Decision) {
    let run = begin(tape, "parallel").await;
    let plan = run.decide(&"plan", || async { Answer::json(&1) }).await.unwrap();
    (run, plan)
}

#[tokio::test]
async fn names_of_the_journals_own_are_refused() {
    let run = begin(&tape().await, "own").await;
    let take = || std::future::ready(Ok::<_, std::convert::Infallible>(1));
    let refused = run.sample("tape.patched.x", take).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}
