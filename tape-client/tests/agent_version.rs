//! Runs carry the version of the agent that began them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::id::Key;
use tape_client::{Answer, Error, Run, RunId, RunQuery, Tape};
use tape_engine::Engine;
use tape_store::memory::MemoryStore;

fn id() -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap()
}

/// One journal for processes of several versions.
struct World(Arc<MemoryStore>);

impl World {
    fn new() -> Self {
        Self(Arc::new(MemoryStore::new()))
    }

    async fn process(&self, version: Option<&str>) -> Tape {
        let connect = Tape::over(Engine::start(self.0.clone()));
        let connect = match version {
            Some(version) => connect.agent_version(version),
            None => connect,
        };
        connect.connect().await.unwrap()
    }

    async fn begin(&self, version: Option<&str>) -> Run {
        let tape = self.process(version).await;
        let begun = tape.run(id()).label("desk", "fx").begin().await;
        begun.unwrap().driving().unwrap()
    }
}

async fn decide(run: &Run, what: &str) -> Result<(), Error> {
    let answer = || async { Answer::json(&json!("yes")) };
    run.decide(&what, answer).await.map(drop)
}

#[tokio::test]
async fn a_run_keeps_the_version_that_began_it_and_may_be_driven_by_another() {
    let world = World::new();
    let run = world.begin(Some("2026-11-01")).await;
    assert_eq!(run.agent_version().unwrap().as_str(), "2026-11-01");
    run.release(Duration::ZERO).await.unwrap();
    for driver in [Some("2026-11-29"), None] {
        let run = world.begin(driver).await;
        assert_eq!(run.agent_version().unwrap().as_str(), "2026-11-01");
        let own = BTreeMap::from([(Key::new("desk").unwrap(), "fx".to_owned())]);
        assert_eq!(*run.labels(), own, "the labels are the user's own");
        run.release(Duration::ZERO).await.unwrap();
    }
    let label = (Key::new("tape.agent_version").unwrap(), "2026-11-01".to_owned());
    let query = RunQuery {
        label: Some(label),
        ..RunQuery::all(id().tenant)
    };
    let found = world.process(None).await.runs(&query, None, 10).await.unwrap();
    assert_eq!(found.runs.len(), 1, "it is found by it");
}

#[tokio::test]
async fn a_run_of_an_agent_without_a_version_has_none() {
    let world = World::new();
    let run = world.begin(None).await;
    assert_eq!(run.agent_version(), None);
    run.release(Duration::ZERO).await.unwrap();
    assert_eq!(world.begin(Some("2")).await.agent_version(), None);
}

/// What a driver of a version is told that asks something else than the one that began the run.
async fn drift(began: Option<&str>, drives: Option<&str>) -> String {
    let world = World::new();
    let run = world.begin(began).await;
    decide(&run, "pay Ann").await.unwrap();
    run.release(Duration::ZERO).await.unwrap();
    let run = world.begin(drives).await;
    decide(&run, "pay Bob").await.unwrap_err().to_string()
}

#[tokio::test]
async fn drift_names_the_version_that_began_the_run_and_the_one_that_drives_it() {
    let expected = expect_test::expect![[
        r#"the agent drifted from its journal at decision #0: request: recorded "pay Ann", asked "pay Bob" (the run was begun by version 1 of the agent, this is version 2)"#
    ]];
    expected.assert_eq(&drift(Some("1"), Some("2")).await);
    let other = drift(None, Some("2")).await;
    assert!(
        other.ends_with("(the run was begun by no version of the agent, this is version 2)"),
        "{other}"
    );
    let none = drift(None, None).await;
    assert!(!none.contains("version"), "{none}");
}

#[tokio::test]
async fn drift_at_the_beginning_and_the_end_names_the_versions_too() {
    let world = World::new();
    let run = world.begin(Some("1")).await;
    decide(&run, "pay Ann").await.unwrap();
    run.release(Duration::ZERO).await.unwrap();
    let tape = world.process(Some("2")).await;
    let beginning = tape.run(id()).input_json(&"other").begin().await.unwrap_err();
    let run = world.begin(Some("2")).await;
    let end = run.complete(&()).await.unwrap_err();
    for drift in [beginning.to_string(), end.to_string()] {
        assert!(
            drift.ends_with("version 1 of the agent, this is version 2)"),
            "{drift}"
        );
    }
}

#[tokio::test]
async fn labels_and_versions_that_are_none_are_refused() {
    let tape = World::new().process(None).await;
    let label = tape.run(id()).label("tape.agent_version", "3").begin().await;
    let refused = label.unwrap_err();
    assert!(
        matches!(refused, Error::Invalid { what: "label", .. }),
        "{refused:?}"
    );
    let unnamed = Tape::at("memory:").agent_version("").connect().await.unwrap_err();
    assert_eq!(unnamed.to_string(), "agent version: is empty");
}
