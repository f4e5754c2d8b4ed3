//! The program itself: how it ends, how it reports its health, and how it reads its configuration.

use crate::served::Server;
use crate::upstream::{Fault, Upstream, http};
use crate::world::{World, effect, spec};
use serde_json::{Value, json};
use std::process::{Command, Output};
use tape_core::effect::{Semantics, Status};
use tape_core::entry::EntryBody;
use tape_core::id::ConnectorName;
use tape_core::status::RunStatus;

/// The status of its answer, and the body.
async fn ask(url: &str, path: &str) -> (u16, String) {
    let answer = http().get(format!("{url}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn told_to_stop_it_takes_up_nothing_new_and_finishes_what_is_under_way() {
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), true);
    let (mut worker, url) = world.worker_listening(&upstream, &["--drain-ms", "60000"]);
    let run = world.run("drained").await;
    assert_eq!(ask(&url, "/readyz").await, (200, "ready\n".to_owned()));
    upstream.faults(&[Fault::Wait]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "under-way")).await;
    upstream.held(1).await;

    worker.signal("TERM");
    while ask(&url, "/readyz").await.0 == 200 {}
    assert_eq!(ask(&url, "/readyz").await, (503, "stopping\n".to_owned()));
    assert_eq!(ask(&url, "/healthz").await.0, 200, "it is alive");
    run.begin(1, spec(Semantics::NonIdempotent, "new")).await;
    upstream.go().await;
    assert!(worker.wait().success());
    let state = run.state().await;
    let status = |call| state.effects()[&effect(call)].status;
    assert_eq!((status(0), status(1)), (Status::Confirmed, Status::Pending));
    assert_eq!(upstream.acts("under-way"), 1);
}

/// Other workers take the work up once its claim lapses.
#[tokio::test]
async fn what_is_under_way_for_too_long_is_left_behind() {
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), true);
    let mut worker = world.worker_with(&upstream, "", &["--drain-ms", "100"]);
    let run = world.run("left").await;
    upstream.faults(&[Fault::Hold]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "left")).await;
    upstream.held(1).await;
    worker.signal("TERM");
    assert!(worker.wait().success());
    assert_eq!(run.state().await.effects()[&effect(0)].status, Status::Started);
    let _worker = world.worker(&upstream);
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("left"), 1);
}

#[tokio::test]
async fn it_is_ready_only_while_it_reaches_its_journal() {
    let world = World::sqlite().await;
    let mut server = Server::start(&world.dir.path().join("tape.db"));
    let world = world.behind(&server);
    let upstream = Upstream::start(world.dir.path(), true);
    let (_worker, url) = world.worker_listening(&upstream, &[]);
    assert_eq!(ask(&url, "/readyz").await.0, 200);
    server.kill();
    let unready = (503, "the journal is out of reach\n".to_owned());
    assert_eq!(ask(&url, "/readyz").await, unready);
    assert_eq!(ask(&url, "/healthz").await.0, 200, "it is alive");
}

#[test]
fn what_makes_no_sense_is_said_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("reactors.toml");
    let store = format!("sqlite:{}", dir.path().join("tape.db").display());
    let started = |config: &str| {
        std::fs::write(&file, config).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
        program.env_clear().args(["--store", &store, "--config"]);
        program.arg(&file).output().unwrap()
    };
    for (config, says) in [
        ("claim_ms = soon", "makes no sense"),
        ("claims_ms = 1", "unknown field `claims_ms`"),
        (
            "[connectors.bank]\nconcurrency = 1",
            "connector 'bank' is one of `http`, `command`, `pubsub` and `cloud_tasks`",
        ),
        (
            "[agents.a]\nurl = \"http://a/\"\nsecret_env = \"NOT_SET\"",
            "`agents.a.secret_env` names a variable of the environment that is not set",
        ),
    ] {
        let Output { status, stderr, .. } = started(config);
        assert_eq!(status.code(), Some(2), "{config}");
        let said = String::from_utf8(stderr).unwrap();
        assert!(said.contains(says), "{said}");
    }
    assert!(!dir.path().join("tape.db").exists(), "no journal was opened");
}

#[tokio::test]
async fn a_command_dispatches_observes_and_undoes() {
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), true);
    let dir = world.dir.path().display();
    // It stores its request, loses its first answer, and later finds what it did.
    let script = format!(
        "read -r question; echo \"$question\" >> {dir}/asked\n\
         case \"$question\" in\n\
         *'\"do\":\"dispatch\"'*) exit 1;;\n\
         *'\"do\":\"observe\"'*) echo '{{\"found\": {{\"result\": {{\"receipt\": 7}}}}}}';;\n\
         *) echo '{{\"done\": {{\"result\": null}}}}';;\n\
         esac\n"
    );
    let path = world.dir.path().join("desk.sh");
    std::fs::write(&path, script).unwrap();
    let more = format!(
        "[connectors.desk]\ncommand = [\"/bin/sh\", \"{}\"]\n",
        path.display()
    );
    let _worker = world.worker_with(&upstream, &more, &[]);
    let run = world.run("commanded").await;
    let mut spec = spec(Semantics::NonIdempotent, "desk-1");
    spec.connector = ConnectorName::new("desk").unwrap();
    run.begin(0, spec).await;
    run.until_effect(0, Status::Confirmed).await;
    let entries = run.entries().await;
    let result = entries.iter().find_map(|body| match body {
        EntryBody::EffectConfirmed(confirmed) => confirmed.result.bytes().cloned(),
        _ => None,
    });
    let result: Value = serde_json::from_slice(&result.unwrap()).unwrap();
    assert_eq!(result, json!({"receipt": 7}));

    let error = "enough".to_owned();
    run.drive(tape_core::command::DriverCommand::Fail { error }).await;
    run.until_run(RunStatus::Failed).await;
    let asked = std::fs::read_to_string(world.dir.path().join("asked")).unwrap();
    let asked: Vec<Value> = asked
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let what: Vec<_> = asked.iter().map(|question| &question["do"]).collect();
    assert_eq!(what, ["dispatch", "observe", "compensate"]);
    assert_eq!(asked[0]["key"], asked[1]["key"]);
    assert_ne!(asked[0]["key"], asked[2]["key"], "an undo has a key of its own");
}
