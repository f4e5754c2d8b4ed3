//! Agents that hand up to a host what is of another run: the error or the result of a child that they drive.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_client::core::status::RunStatus;
use tape_client::core::time::Timestamp;
use tape_client::{Error, Host, Payload, Run, RunId, RunQuery, RunResult, Tape};
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_store::clock::Clock;
use tape_store::memory::MemoryStore;

/// Tokio's paused clock as the time of a journal.
struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let micros = self.0.elapsed().as_micros();
        Timestamp::from_micros(1_000_000 + i64::try_from(micros).unwrap())
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

async fn tape() -> Tape {
    let clock = VirtualClock(tokio::time::Instant::now());
    let engine = Engine::new(Arc::new(MemoryStore::new()), Arc::new(clock));
    Tape::over(engine).connect().await.unwrap()
}

fn id(app: &str) -> RunId {
    RunId::new("acme", app, "ann", "s", "i").unwrap()
}

async fn status(tape: &Tape, app: &str) -> RunStatus {
    let query = RunQuery::all("acme".parse().unwrap());
    let runs = tape.runs(&query, None, 100).await.unwrap().runs;
    runs.into_iter()
        .find(|(found, _)| *found == id(app))
        .unwrap()
        .1
        .status
}

type Handed = Result<RunResult, Error>;
type Child = fn(Run) -> BoxFuture<'static, Handed>;

/// A host whose agent drives a child to its end, and hands up what `then` makes of that; and how often the agent was called.
fn parent(tape: &Tape, child: Child, then: fn(Handed) -> Handed) -> (Host, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, children) = (calls.clone(), Host::new(tape.clone()).agent("child", child));
    let host = Host::new(tape.clone()).agent("parent", move |_run: Run| {
        let children = children.clone();
        counted.fetch_add(1, Ordering::SeqCst);
        async move { then(children.drive(children.tape().run(id("child"))).await) }
    });
    (host, calls)
}

fn fails(run: Run) -> BoxFuture<'static, Handed> {
    async move { run.fail("no").await }.boxed()
}

fn completes(run: Run) -> BoxFuture<'static, Handed> {
    async move { run.complete(&"child's").await }.boxed()
}

fn sleeps(run: Run) -> BoxFuture<'static, Handed> {
    async move {
        run.sleep("night", Duration::from_secs(36_000)).await?;
        run.complete(&"awake").await
    }
    .boxed()
}

fn output(handed: Handed) -> Handed {
    handed?.output::<()>()?;
    panic!("the child failed")
}

/// A case: its name, what becomes of the child, and what the agent makes of it.
type Case = (&'static str, Child, fn(Handed) -> Handed);

fn all() -> [Case; 6] {
    [
        ("the child's failure", fails, output),
        ("the child's suspension", sleeps, |handed| handed),
        ("the child's result", completes, |handed| handed),
        ("another's cancellation", completes, |_| Err(Error::Cancelled)),
        ("another's lost lease", completes, |_| {
            let run = id("child");
            Err(Error::LostLease { run })
        }),
        ("another's undoing", completes, |_| {
            RunResult::Undoing.output::<()>()?;
            panic!("it is being undone")
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_of_another_run_is_an_error_of_the_agent_and_not_of_its_run() {
    for (what, child, then) in all() {
        let tape = tape().await;
        let (host, calls) = parent(&tape, child, then);
        let driven = host.drive(tape.run(id("parent"))).await;
        assert!(
            matches!(&driven, Err(Error::Astray { run, .. }) if *run == id("parent")),
            "{what}: {driven:?}"
        );
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{what}");
        assert_eq!(status(&tape, "parent").await, RunStatus::Running, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_agent_hands_up_what_is_of_another_is_driven_ever_later_and_then_waits_for_a_person() {
    for (what, child, then) in all() {
        let tape = tape().await;
        drop(tape.run(id("parent")).begin().await.unwrap());
        let (host, calls) = parent(&tape, child, then);
        let serving = tokio::spawn(async move { host.serve_until(std::future::pending()).await });
        while status(&tape, "parent").await != RunStatus::Stuck {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 20, "{what}");
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_the_agent_made_is_not_that_of_its_run() {
    let tape = tape().await;
    let output = Payload::json(&serde_json::json!(1));
    let made = output.clone();
    let host = Host::new(tape.clone())
        .agent("made", move |_run: Run| {
            let made = RunResult::Completed(made.clone());
            async { Ok(made) }
        })
        .agent("other", move |run: Run| {
            let made = RunResult::Completed(output.clone());
            async move { run.complete(&2).await.map(|_| made) }
        });
    for (app, left) in [("made", RunStatus::Running), ("other", RunStatus::Completed)] {
        let driven = host.drive(tape.run(id(app))).await;
        assert!(matches!(driven, Err(Error::Astray { .. })), "{app}: {driven:?}");
        assert_eq!(status(&tape, app).await, left);
    }
    // The run itself has ended, and says how.
    let driven = host.drive(tape.run(id("other"))).await.unwrap();
    assert_eq!(driven.output::<u32>().unwrap(), 2);
}
