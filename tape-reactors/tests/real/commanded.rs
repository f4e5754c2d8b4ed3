//! Agents that are programs, started for each re-drive.

use crate::upstream::Upstream;
use crate::world::World;
use serde_json::{Value, json};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tape_client::{Begun, RunId, Tape};
use tape_core::status::RunStatus;
use tape_reactors::Redrive;

/// The store, for the program.
const STORE: &str = "COMMANDED_STORE";
/// A variable of the worker that the program must not have.
const SECRET: &str = "COMMANDED_SECRET";
/// The directory, for the program.
const PLACE: &str = "COMMANDED_PLACE";

fn named(name: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", name).unwrap()
}

/// The agent: this executable, started by the worker.
#[tokio::test]
async fn agent_program() {
    let Ok(told) = std::env::var("TAPE_REDRIVE") else {
        return;
    };
    let mut asked = String::new();
    std::io::stdin().read_to_string(&mut asked).unwrap();
    assert_eq!(asked, format!("{told}\n"), "the same in both");
    let redrive: Redrive = serde_json::from_str(&asked).unwrap();
    let store = std::env::var(STORE).unwrap();
    let tape = Tape::at(&store)
        .lease(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    let adopt = tape.run(redrive.run).existing().adopt(redrive.epoch);
    let run = adopt.begin().await.unwrap().driving().unwrap();
    let place = std::env::var(PLACE).unwrap();
    let pids = Path::new(&place).join("pids");
    if run.id().invocation.as_str() == "hangs" && !pids.exists() {
        // It leaves the process group.
        let mut child = Command::new("sleep")
            .arg("3600")
            .process_group(0)
            .spawn()
            .unwrap();
        std::fs::write(pids, format!("{} {}", std::process::id(), child.id())).unwrap();
        child.wait().unwrap();
    }
    let variables: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    run.complete(&json!({ "by": std::process::id(), "variables": variables }))
        .await
        .unwrap();
}

/// Begins a run that has no driver, and has a worker start the program for it.
async fn driven(world: &World, name: &str, timeout_ms: u64) -> Value {
    let upstream = Upstream::start(world.dir.path(), true);
    let tape = Tape::over(world.engine.clone()).connect().await.unwrap();
    let run = tape.run(named(name)).begin().await.unwrap().driving().unwrap();
    run.release(Duration::ZERO).await.unwrap();
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    let command = [program, "--exact", "commanded::agent_program", "--nocapture"];
    let more = format!(
        "[agents.treasury]\ncommand = {command:?}\nenv = [{STORE:?}, {PLACE:?}]\ntimeout_ms = {timeout_ms}\n"
    );
    let place = world.dir.path().to_str().unwrap();
    let env = [(STORE, world.url.as_str()), (PLACE, place), (SECRET, "secret")];
    let _worker = world.worker_in(&upstream, &more, &env);
    while world
        .engine
        .run_state(&named(name))
        .await
        .unwrap()
        .unwrap()
        .status()
        != RunStatus::Completed
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let Begun::Ended(result) = tape.run(named(name)).begin().await.unwrap() else {
        panic!("it has ended");
    };
    result.output().unwrap()
}

#[tokio::test]
async fn a_program_is_told_the_run_and_drives_it_to_its_end() {
    to_its_end(&World::sqlite().await).await;
}

pub(crate) async fn to_its_end(world: &World) {
    let output = driven(world, "dead", 60_000).await;
    assert_ne!(output["by"], json!(std::process::id()));
    let variables: Vec<String> = serde_json::from_value(output["variables"].clone()).unwrap();
    assert!(variables.contains(&STORE.to_owned()), "{variables:?}");
    assert!(!variables.contains(&SECRET.to_owned()), "{variables:?}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_all_it_started_and_its_run_is_driven_again() {
    let world = World::sqlite().await;
    driven(&world, "hangs", 2_000).await;
    let pids = std::fs::read_to_string(world.dir.path().join("pids")).unwrap();
    for pid in pids.split(' ') {
        // One that has ended and that its parent has not asked for has no command line.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(command.is_empty(), "{pid} is alive");
    }
}
