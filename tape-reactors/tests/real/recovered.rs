//! Runs whose drivers died, driven again through the agent's own endpoint.

use crate::upstream::Upstream;
use crate::world::World;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tape_core::command::{Begin, Command, DriverCommand, RunCommand};
use tape_core::id::{Epoch, Holder, RequestId, RunId};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_core::stream::RunStatus;
use tape_store::engine::Engine;

const RUNS: usize = 100;
const SECRET: &str = "between the two of us";

#[derive(Deserialize)]
struct Redrive {
    run: RunId,
    epoch: Epoch,
}

struct Agent {
    engine: Engine,
    redrives: Mutex<HashMap<RunId, usize>>,
}

#[tokio::test]
async fn runs_whose_drivers_died_at_once_are_each_driven_again_once() {
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), true);
    let agent = Arc::new(Agent {
        engine: world.engine.clone(),
        redrives: Mutex::default(),
    });
    let more = format!(
        "concurrency = 4\n[agents.treasury]\nurl = \"{}\"\nsecret_env = \"AGENT_SECRET\"",
        serve(&agent).await
    );
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let run = RunId::new("acme", "treasury", "ann", "s1", &format!("dead-{n}")).unwrap();
        runs.push(world.begin(run, 100).await);
    }
    // Nobody here drives the runs of this app: that must not get it stuck.
    let foreign = RunId::new("acme", "another", "ann", "s1", "dead").unwrap();
    let foreign = world.begin(foreign, 100).await;
    let env = [("AGENT_SECRET", SECRET)];
    let _workers: Vec<_> = (0..3).map(|_| world.worker_in(&upstream, &more, &env)).collect();
    for run in &runs {
        run.until_run(RunStatus::Completed).await;
    }
    let redrives = agent.redrives.lock().unwrap().clone();
    assert_eq!(redrives.len(), RUNS);
    assert!(redrives.values().all(|times| *times == 1), "{redrives:?}");
    assert_eq!(foreign.count("lease.acquired").await, 1, "it was left alone");
}

async fn serve(agent: &Arc<Agent>) -> String {
    let router = axum::Router::new()
        .route("/", post(redriven))
        .with_state(Arc::clone(agent));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn redriven(State(agent): State<Arc<Agent>>, headers: HeaderMap, body: String) -> StatusCode {
    let signature = headers[tape_reactors::SIGNATURE_HEADER].to_str().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let tolerance = Duration::from_secs(60);
    if !tape_reactors::verify(
        SECRET.as_bytes(),
        signature,
        body.as_bytes(),
        now.as_secs(),
        tolerance,
    ) {
        return StatusCode::UNAUTHORIZED;
    }
    let Redrive { run, epoch } = serde_json::from_str(&body).unwrap();
    *agent.redrives.lock().unwrap().entry(run.clone()).or_default() += 1;
    let begin = Begin {
        run: run.clone(),
        create: None,
        holder: Holder::new("agent").unwrap(),
        lease_ms: 60_000,
        adopt: Some(epoch),
        recovery: false,
    };
    let request = || RequestId(uuid::Uuid::new_v4());
    let adopted = agent
        .engine
        .run(&run, Command::new(request(), RunCommand::Begin(begin)));
    let ReplyResult::Leased { epoch, .. } = adopted.await.unwrap().result else {
        return StatusCode::CONFLICT;
    };
    let output = Payload::empty();
    let complete = RunCommand::Drive(epoch, DriverCommand::Complete { output });
    agent
        .engine
        .run(&run, Command::new(request(), complete))
        .await
        .unwrap();
    StatusCode::NO_CONTENT
}
