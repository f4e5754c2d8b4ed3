//! The program `tape-relay` with reactions, over a SQLite journal, killed again and again.

use crate::world::{World, begins};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tape_core::entry::EntryBody;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_done_by_a_command_once_its_cause_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("tape.db");
    let world = World::over(Arc::new(SqliteStore::open(&journal).await.unwrap()));
    let definition = json!({
        "form": 1,
        "when": { "pattern": "acme.value.in.>" },
        "then": { "signal": { "gate": "go", "run": "acme/audit/ann/s/1" } },
        "start": "beginning",
    });
    world.define("go", definition).await;
    world.put("in", &json!(1)).await;
    let program = Program::start(&journal);
    world.is_through("go").await;
    drop(program);
    assert_eq!(world.refusals("go").await.len(), 1);
    let redeliver = |relay: &str| {
        let store = format!("sqlite:{}", journal.display());
        let arguments = ["--store", &store, "--log", "warn", "redeliver", relay];
        let output = Command::new(env!("CARGO_BIN_EXE_tape-relay"))
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = redeliver("acme/reaction:go");
    assert!(code == Some(1) && said.contains("there is no such run"), "{said}");
    let (run, _) = world.begin("audit/ann/s/1").await;
    assert_eq!(redeliver("acme/reaction:go"), (Some(0), "1\ttaken\n".to_owned()));
    let signals = world.bodies(&run).await;
    let signals = signals
        .iter()
        .filter(|body| matches!(body, EntryBody::SignalReceived(_)));
    assert_eq!(signals.count(), 1);
    let (code, said) = redeliver("acme/reaction:none");
    assert!(code == Some(1) && said.contains("there is no reaction"), "{said}");
}
