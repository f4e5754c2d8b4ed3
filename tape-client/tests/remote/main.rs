//! The client over a server in a process of its own, which is killed and restarted: the model and the upstream are never asked twice for
//! the same thing.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod clock;
mod server;

use futures::StreamExt as _;
use serde_json::json;
use server::Server;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_client::core::codec::decode;
use tape_client::core::entry::EntryBody;
use tape_client::core::id::{EventId, GateName, Seq, SignalId, Tenant, ValueName};
use tape_client::core::state::Delta;
use tape_client::{Answer, CallError, Error, Event, Payload, Run, RunId, RunResult, Tail, Tape};

const STEPS: usize = 40;

fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap()
}

async fn connect(server: &Server) -> Tape {
    Tape::at(&server.url())
        .lease(Duration::from_secs(5))
        .connect()
        .await
        .unwrap()
}

/// The calls of the model and the upstream, by key.
type Counts = Arc<Mutex<BTreeMap<String, u32>>>;

fn count(counts: &Counts, key: &str) {
    *counts.lock().unwrap().entry(key.to_owned()).or_default() += 1;
}

/// Decides and acts so many times; calls `between` before each call of the upstream.
async fn steps(run: &Run, counts: &Counts, between: impl Fn(usize)) -> Result<RunResult, Error> {
    for step in 0..STEPS {
        let model = || async {
            count(counts, &format!("decision {step}"));
            Answer::json(&step)
        };
        let decision = run.decide(&json!({"step": step}), model).await?;
        between(step);
        let act = |call: tape_client::Call| {
            count(counts, call.key());
            std::future::ready(Ok::<_, CallError>(step))
        };
        let done: usize = run
            .effect(&decision, "bank", "transfer")
            .args(&step)
            .run(act)
            .await?;
        assert_eq!(done, step);
    }
    run.complete(&"done").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_restarted_in_mid_run_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tape = connect(&server).await;
    let server = Mutex::new(server);
    let run = tape.run(id("i1")).begin().await.unwrap().driving().unwrap();
    let counts = Counts::default();
    let ending = steps(&run, &counts, |step| {
        if step % 10 == 5 {
            let mut server = server.lock().unwrap();
            server.kill();
            server.come_back();
        }
    });
    assert!(matches!(ending.await.unwrap(), RunResult::Completed(_)));
    assert!(counts.lock().unwrap().values().all(|n| *n == 1), "{counts:?}");
    assert_eq!(counts.lock().unwrap().len(), 2 * STEPS);
    let kinds = kinds(&tape, &id("i1")).await;
    for kind in ["decision.recorded", "effect.begun", "effect.confirmed"] {
        assert_eq!(kinds.get(kind), Some(&STEPS), "{kind}");
    }
    assert_eq!(
        kinds.get("lease.acquired"),
        Some(&1),
        "the run stays with its driver"
    );
}

async fn kinds(tape: &Tape, run: &RunId) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    let mut verifier = tape_client::core::chain::Verifier::new(&run.clone().into(), None);
    let mut pages = tape.journal(run);
    while let Some(page) = pages.next().await {
        for stored in page.unwrap() {
            verifier.check(&stored).unwrap();
            *kinds.entry(decode(&stored).unwrap().body.kind()).or_default() += 1;
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_is_taken_up_by_another_client_that_replays() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let counts = Counts::default();
    let dead = connect(&server).await;
    let run = dead.run(id("i1")).begin().await.unwrap().driving().unwrap();
    let killed = tokio::time::timeout(Duration::from_secs(60), async {
        let decision = run
            .decide(&json!({"step": 0}), || async { Answer::json(&0) })
            .await
            .unwrap();
        run.effect(&decision, "bank", "transfer")
            .args(&0)
            .run(|call| {
                count(&counts, call.key());
                std::future::ready(Ok::<_, CallError>(0_usize))
            })
            .await
            .unwrap();
    });
    killed.await.unwrap();
    // The connection closes with its last clone. The server then releases the run, and another client may take it.
    drop((run, dead));
    let tape = connect(&server).await;
    let run = loop {
        match tape.run(id("i1")).begin().await {
            Ok(begun) => break begun.driving().unwrap(),
            Err(Error::Busy { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    steps(&run, &counts, |_| ()).await.unwrap();
    assert_eq!(counts.lock().unwrap().get("decision 0"), None, "replayed");
    assert!(counts.lock().unwrap().values().all(|n| *n == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_share_one_connection_and_gates_sessions_values_and_the_feed_work_through_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tape = connect(&server).await;
    let agents = (0..32).map(|n| {
        let tape = tape.clone();
        tokio::spawn(async move {
            let run = tape.run(id(&format!("i{n}"))).begin().await?.driving()?;
            let answer = run.gate("go").deadline(Duration::from_secs(60)).wait().await?;
            run.sleep("nap", Duration::from_millis(5)).await?;
            run.sample("n", || async { Ok::<_, Infallible>(n) }).await?;
            run.complete(&answer.json::<u32>()?).await
        })
    });
    let agents: Vec<_> = agents.collect();
    for n in 0..32 {
        let (gate, signal) = (GateName::new("go").unwrap(), SignalId::new("s").unwrap());
        let told = loop {
            match tape
                .signal(
                    &id(&format!("i{n}")),
                    gate.clone(),
                    signal.clone(),
                    Payload::json(&json!(n)),
                )
                .await
            {
                Err(Error::Rejected(_)) => tokio::task::yield_now().await,
                told => break told,
            }
        };
        told.unwrap();
    }
    for (n, agent) in agents.into_iter().enumerate() {
        assert_eq!(agent.await.unwrap().unwrap().output::<usize>().unwrap(), n);
    }
    let runs = tape
        .runs(
            &tape_client::RunQuery::all(Tenant::new("acme").unwrap()),
            None,
            100,
        )
        .await
        .unwrap();
    assert_eq!(runs.runs.len(), 32);
    sessions(&tape).await;
    values(&tape).await;
    let tail = Tail {
        from_start: true,
        follow: false,
        ..Tail::new("acme.run.*.*.*.*.run.completed".parse().unwrap())
    };
    let pages: Vec<_> = tape.tail(&tail).map(Result::unwrap).collect().await;
    let completed: Vec<_> = pages.into_iter().flat_map(|page| page.entries).collect();
    assert_eq!(completed.len(), 32);
    let (stream, stored) = &completed[0];
    tape.erase(stream, vec![stored.seq], "on request").await.unwrap();
    kinds(&tape, stream.as_run().unwrap()).await;
}

async fn sessions(tape: &Tape) {
    let session = tape.session(id("i0").session());
    let state = |key: &str, json: &str| {
        Delta(
            [(key.parse().unwrap(), Some(json.to_owned().try_into().unwrap()))]
                .into_iter()
                .collect(),
        )
    };
    session.create(state("mood", "\"new\"")).await.unwrap();
    let said = |n: &str| Event::new(EventId::new(n).unwrap(), "user", Payload::json(&json!(n)));
    let first = session
        .append(said("e1").delta(state("app:limit", "5")))
        .await
        .unwrap();
    session
        .append(said("e2").delta(state("mood", "\"old\"")))
        .await
        .unwrap();
    assert_eq!(
        session
            .append(said("e1").delta(state("app:limit", "5")))
            .await
            .unwrap(),
        first,
        "once"
    );
    let view = session.get(10).await.unwrap().unwrap();
    assert_eq!(view.events.len(), 2);
    assert_eq!(view.state["mood"].as_str(), "\"old\"");
    let beyond = session.rewind(Seq(99)).await;
    assert!(matches!(beyond, Err(Error::Rejected(_))), "{beyond:?}");
    session.rewind(first).await.unwrap();
    let view = session.get(10).await.unwrap().unwrap();
    assert_eq!(view.events.len(), 1);
    assert_eq!(view.state["mood"].as_str(), "\"new\"");
    assert_eq!(view.state["app:limit"].as_str(), "5");
    session.delete().await.unwrap();
    assert_eq!(session.get(0).await.unwrap(), None);
}

async fn values(tape: &Tape) {
    let value = tape.value(Tenant::new("acme").unwrap(), ValueName::new("rate").unwrap());
    assert_eq!(value.get().await.unwrap(), None);
    let number = |n: u32| Payload::json(&json!(n));
    assert_eq!(value.compare_and_set(0, number(1)).await.unwrap(), 1);
    assert!(matches!(
        value.compare_and_set(0, number(2)).await,
        Err(Error::Rejected(_))
    ));
    assert_eq!(value.put(number(2)).await.unwrap(), 2);
    assert_eq!(value.delete(Some(2)).await.unwrap(), 3);
    let changes: Vec<_> = value.watch(1).take(2).map(Result::unwrap).collect().await;
    assert_eq!(
        changes.iter().map(|change| change.version).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(changes[0].previous, Some(number(1)));
    assert_eq!(changes[1].value, None);
    assert_eq!(value.get().await.unwrap().unwrap().value, None);
}

#[tokio::test]
async fn sessions_and_values_are_the_same_over_an_embedded_store() {
    let tape = Tape::connect("memory:").await.unwrap();
    sessions(&tape).await;
    values(&tape).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_after_the_patience() {
    let tape = Tape::at("tape://127.0.0.1:1")
        .retry_for(Duration::from_millis(50))
        .connect()
        .await
        .unwrap();
    let outcome = tape.run(id("i1")).begin().await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_answer_is_read_back_by_content_type() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tape = connect(&server).await;
    let run = tape
        .run(id("i1"))
        .input(Payload::new("text/plain", "hi").unwrap())
        .begin()
        .await
        .unwrap();
    let run = run.driving().unwrap();
    assert_eq!(run.input().content_type(), "text/plain");
    let answer = Answer::new(Payload::new("text/plain", "yes").unwrap());
    let decision = run
        .decide(&json!("?"), || async { Ok::<_, Infallible>(answer) })
        .await
        .unwrap();
    assert_eq!(decision.response().bytes().unwrap().as_ref(), b"yes");
    let mut pages = tape.journal(&id("i1"));
    let mut found = false;
    while let Some(page) = pages.next().await {
        found |= page
            .unwrap()
            .iter()
            .any(|stored| match decode(stored).unwrap().body {
                EntryBody::DecisionRecorded(recorded) => {
                    recorded.response.bytes().unwrap().as_ref() == b"yes"
                }
                _ => false,
            });
    }
    assert!(found);
}

/// Pages that wait for their readers are in the buffers of the connection that all calls share.
#[tokio::test(flavor = "multi_thread")]
async fn what_readers_do_not_take_holds_up_no_other_call() {
    const READERS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let tape = connect(&server).await;
    let value = tape.value(Tenant::new("acme").unwrap(), ValueName::new("large").unwrap());
    let large = Payload::json(&json!("x".repeat(256 * 1024)));
    for _ in 0..24 {
        value.put(large.clone()).await.unwrap();
    }
    let tail = Tail {
        from_start: true,
        ..Tail::new("acme.value.>".parse().unwrap())
    };
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut pages = tape.tail(&tail);
        pages.next().await.unwrap().unwrap();
        readers.push(pages);
    }
    let run = tape.run(id("i1")).begin().await.unwrap().driving().unwrap();
    steps(&run, &Counts::default(), |_| ()).await.unwrap();
    for _ in 0..20 {
        value.get().await.unwrap().unwrap();
    }
    drop(readers);
}
