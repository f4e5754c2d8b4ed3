//! The program `tape-relay` with reactions, over a SQLite journal, killed again and again.

use crate::world::{World, begins};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tape_core::reaction::Origin;
use tape_store::sqlite::SqliteStore;

/// Events of the test, unless the variable says another number.
const EVENTS: u64 = 200;
const VARIABLE: &str = "TAPE_REACTION_EVENTS";
/// How often a process is killed.
const KILLS: u64 = 6;

/// A process, which is killed with this value.
struct Program(Child);

impl Program {
    fn start(journal: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tape-relay"))
            .arg("--store")
            .arg(format!("sqlite:{}", journal.display()))
            .args([
                "--reactions",
                "acme",
                "--reactions-ms",
                "50",
                "--reactions-lease-ms",
                "1000",
            ])
            .args(["--log", "warn", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("tape-relay ready on "), "it said {line:?}");
        Self(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_killed_begin_a_run_for_each_event_and_none_twice() {
    let events = std::env::var(VARIABLE).map_or(EVENTS, |events| events.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("tape.db");
    let world = World::over(Arc::new(SqliteStore::open(&journal).await.unwrap()));
    world.define("audit", begins("audit")).await;
    let mut programs = vec![Program::start(&journal), Program::start(&journal)];
    for n in 0..events {
        world.put(&format!("in{}", n % 7), &json!(n)).await;
        if n % events.div_ceil(KILLS) == events.div_ceil(KILLS) / 2 {
            // The one that carries the reaction or the one that stands by.
            drop(programs.remove(usize::from(n % 2 == 0)));
            programs.push(Program::start(&journal));
        }
    }
    world.is_through("audit").await;
    drop(programs);
    let runs = world.runs_of("audit").await;
    assert_eq!(runs.len() as u64, events);
    let causes = runs
        .iter()
        .map(|(_, summary)| Origin::of(&summary.labels).unwrap().unwrap().cause);
    assert_eq!(causes.collect::<BTreeSet<_>>().len() as u64, events);
    assert!(world.refusals("audit").await.is_empty());
}
