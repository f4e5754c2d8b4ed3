//! Runs go to the agent of the version that began them.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_client::{AgentVersion, Begun, RunId, Tape};
use tape_core::id::{App, Holder, Seq, StreamId};
use tape_engine::Engine;
use tape_reactors::{Options, Recovery, Redrive, RedriveError, Redriver, Registry, Runner};
use tape_store::memory::MemoryStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s", invocation).unwrap()
}

/// An agent that completes its runs, and says which it had.
struct Deployed {
    name: &'static str,
    tape: Tape,
    had: mpsc::UnboundedSender<(String, &'static str, Option<AgentVersion>)>,
}

#[async_trait]
impl Redriver for Deployed {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let run = self.tape.run(redrive.run.clone()).existing().adopt(redrive.epoch);
        let run = run.begin().await.unwrap().driving().unwrap();
        run.complete(&()).await.unwrap();
        let invocation = redrive.run.invocation.to_string();
        self.had
            .send((invocation, self.name, redrive.agent_version.clone()))
            .unwrap();
        Ok(())
    }
}

/// Runs by the version that begins them, each let go at once.
async fn begun(engine: &Engine, runs: &[(&str, Option<&str>)]) {
    for (invocation, version) in runs {
        let connect = Tape::over(engine.clone());
        let connect = match version {
            Some(version) => connect.agent_version(*version),
            None => connect,
        };
        let tape = connect.connect().await.unwrap();
        let run = tape.run(id(invocation)).begin().await.unwrap().driving().unwrap();
        run.release(Duration::ZERO).await.unwrap();
    }
}

struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    fn start(engine: &Engine, registry: Registry) -> Self {
        let (journal, stop) = (Arc::new(engine.clone()), CancellationToken::new());
        let holder = Holder::new("recovery").unwrap();
        let recovery = Recovery::new(
            journal.clone(),
            Arc::new(registry),
            holder,
            Duration::from_secs(10),
        );
        let journal: Arc<dyn tape_reactors::api::Journal> = journal;
        let task = Runner::new(journal, Arc::new(recovery), Options::default()).run(stop.clone());
        Self {
            stop,
            task: tokio::spawn(task),
        }
    }

    async fn drain(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn runs_go_to_the_agent_of_their_version_and_others_to_the_default() {
    let engine = Engine::start(Arc::new(MemoryStore::new()));
    begun(
        &engine,
        &[("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("d", None)],
    )
    .await;
    let (had, mut told) = mpsc::unbounded_channel();
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    let deployed = |name| Deployed {
        name,
        tape: tape.clone(),
        had: had.clone(),
    };
    let app = || App::new("treasury").unwrap();
    let version = |version| AgentVersion::new(version).unwrap();
    let registry = Registry::new()
        .redriver_of_version(app(), version("1"), 4, deployed("one"))
        .redriver_of_version(app(), version("2"), 4, deployed("two"))
        .redriver(app(), 4, deployed("default"));
    let worker = Worker::start(&engine, registry);
    let mut by = BTreeMap::new();
    for _ in 0..4 {
        let (run, agent, version) = told.recv().await.unwrap();
        by.insert(run, (agent, version.map(|version| version.to_string())));
    }
    worker.drain().await;
    let expected = [
        ("a", "one", Some("1")),
        ("b", "two", Some("2")),
        ("c", "default", Some("3")),
        ("d", "default", None),
    ];
    let expected =
        expected.map(|(run, agent, version)| (run.to_owned(), (agent, version.map(str::to_owned))));
    assert_eq!(by, BTreeMap::from(expected));
}

#[tokio::test]
async fn without_a_default_runs_of_other_versions_are_left_to_other_processes() {
    let engine = Engine::start(Arc::new(MemoryStore::new()));
    begun(&engine, &[("a", Some("1")), ("b", Some("2")), ("c", None)]).await;
    let (had, mut told) = mpsc::unbounded_channel();
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    let registry = Registry::new().redriver_of_version(
        App::new("treasury").unwrap(),
        AgentVersion::new("2").unwrap(),
        4,
        Deployed {
            name: "two",
            tape: tape.clone(),
            had,
        },
    );
    let heads = async || {
        (
            tape.head(&id("a")).await.unwrap(),
            tape.head(&id("c")).await.unwrap(),
        )
    };
    let before = heads().await;
    let worker = Worker::start(&engine, registry);
    assert_eq!(told.recv().await.unwrap().0, "b");
    // All three were due in one look at the queue.
    worker.drain().await;
    assert_eq!(heads().await, before, "nothing is written");
}

/// Nothing says which agent began it, so that none is right, not even the default.
#[tokio::test]
async fn a_run_whose_version_was_erased_goes_to_no_agent_and_can_be_cancelled() {
    let engine = Engine::start(Arc::new(MemoryStore::new()));
    begun(&engine, &[("a", Some("1")), ("b", Some("1")), ("c", None)]).await;
    for run in ["a", "c"] {
        let stream = StreamId::Run(id(run));
        let tape = Tape::over(engine.clone()).connect().await.unwrap();
        tape.erase(&stream, vec![Seq(1)], "asked for").await.unwrap();
        engine.finish_erasures(&stream).await.unwrap();
    }
    let (had, mut told) = mpsc::unbounded_channel();
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    let deployed = |name| Deployed {
        name,
        tape: tape.clone(),
        had: had.clone(),
    };
    let app = || App::new("treasury").unwrap();
    let registry = Registry::new()
        .redriver_of_version(app(), AgentVersion::new("1").unwrap(), 4, deployed("one"))
        .redriver(app(), 4, deployed("default"));
    let before = tape.head(&id("c")).await.unwrap();
    tape.cancel(&id("a"), "it cannot go on").await.unwrap();
    let worker = Worker::start(&engine, registry);
    assert_eq!(told.recv().await.unwrap().0, "b");
    // All three were due in one look at the queue.
    worker.drain().await;
    assert!(told.try_recv().is_err(), "none of the two was handed to an agent");
    assert_eq!(tape.head(&id("c")).await.unwrap(), before, "nothing is written");
    let ended = tape.run(id("a")).existing().begin().await.unwrap();
    assert!(matches!(ended, Begun::Ended(_)), "{ended:?}");
}
