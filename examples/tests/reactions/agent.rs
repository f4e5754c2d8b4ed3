//! The agents, in processes of their own: this test executable in another role. Recovery posts the runs to them that are to be driven.

use crate::copies::Start;
use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tape_client::core::id::Epoch;
use tape_client::{Answer, EffectPolicy, Error, Host, Run, RunId, RunResult, Tape};
use tape_examples::parent::Parent;

/// The URL of the journal, for a process in this role.
const JOURNAL: &str = "REACTIONS_JOURNAL";
/// Where it listens.
const LISTEN: &str = "REACTIONS_LISTEN";
/// How long an agent whose process was killed keeps a run.
const LEASE: Duration = Duration::from_secs(2);
/// How long a run of the bounded reaction lasts at least. Longer than clocks of servers may differ.
pub(crate) const SLOW: Duration = Duration::from_millis(2_500);
/// The word by which it says that it is ready.
const READY: &str = "agent";

/// How a process in this role is started.
pub(crate) fn start(journal: &str, listen: &str) -> Start {
    let args = ["--exact", "agent::role", "--nocapture"];
    let env = [(JOURNAL, journal), (LISTEN, listen)];
    Start {
        program: std::env::current_exe().unwrap(),
        args: args.map(str::to_owned).into(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        word: READY,
    }
}

#[tokio::test]
async fn role() {
    let Ok(journal) = std::env::var(JOURNAL) else {
        return;
    };
    let parent = Parent::attach();
    let tape = Tape::at(&journal).lease(LEASE).connect().await.unwrap();
    let host = Host::new(tape)
        .agent("audit", audit)
        .agent("slow", slow)
        .agent("rested", complete)
        .agent("quick", complete)
        .agent("a", complete)
        .agent("b", complete);
    let router = Router::new().route("/redrive", post(redrive)).with_state(host);
    let listen = std::env::var(LISTEN).unwrap();
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    // On a line of its own, after what the test harness writes.
    parent.say(&format!("\n{READY} {}", listener.local_addr().unwrap()));
    axum::serve(listener, router).await.unwrap();
}

/// What recovery posts.
#[derive(Deserialize)]
struct Posted {
    run: RunId,
    epoch: Epoch,
}

async fn redrive(State(host): State<Host>, Json(Posted { run, epoch }): Json<Posted>) -> StatusCode {
    let run = host.tape().run(run).existing().adopt(epoch);
    match host.drive(run).await {
        Ok(_) | Err(Error::Suspended) => StatusCode::OK,
        Err(_) => StatusCode::CONFLICT,
    }
}

/// Books the event at the ledger, once.
async fn audit(run: Run) -> Result<RunResult, Error> {
    let event: Value = run.input_json()?;
    let answer = Answer::json(&"book")?;
    let decision = run.decide(&event["id"], async || Ok::<_, Error>(answer)).await?;
    // The ledger acts at once or not at all, so what it does not have is not on its way.
    let policy = EffectPolicy {
        resend_absent: true,
        observations_max: 1_000,
        backoff_ms: 100,
        ..EffectPolicy::default()
    };
    let effect = run
        .effect(&decision, "ledger", "book")
        .args(&event["id"])
        .business_key(&business_key(event["id"].as_str().unwrap_or_default()))
        .non_idempotent()
        .policy(policy);
    effect.settled_payload().await?;
    run.complete(&event["id"]).await
}

/// The name of the act for an event, in characters that neither a header nor a URL escapes.
pub(crate) fn business_key(event: &str) -> String {
    event.replace('/', ".")
}

async fn slow(run: Run) -> Result<RunResult, Error> {
    tokio::time::sleep(SLOW).await;
    complete(run).await
}

async fn complete(run: Run) -> Result<RunResult, Error> {
    run.complete(&()).await
}
