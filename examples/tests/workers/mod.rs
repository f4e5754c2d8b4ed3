//! The airline scenario with workers between the journals and an airline that ignores idempotency keys, small or at full size.
//!
//! At full size: with `TAPE_AIRLINE_TRAJECTORIES=FILE`, the recorded runs of the file are replayed with 400 kills of agents, 50 of
//! servers, 200 of workers and 100 of relays, if there are any; with `TAPE_AIRLINE_SOAK=10m` beside it, they are replayed for that long while everything is restarted.

use crate::trajectories;
use std::path::PathBuf;
use std::process::Command;

/// Runs that are replayed where no file is named, with three acts each.
const RUNS: usize = 4;

/// What the scenario runs over.
#[derive(Clone, Copy, Default)]
pub(crate) struct Over<'a> {
    /// A store; else an SQLite file of its own.
    pub(crate) store: Option<&'a str>,
    pub(crate) servers: usize,
    /// An emulator of Pub/Sub, through which relays wake the workers; else the journal does.
    pub(crate) emulator: Option<&'a str>,
}

/// Kills agents, servers, workers and relays: each act is done once, and the ledger says so.
pub(crate) fn everything_is_done_once(over: Over<'_>) {
    let kills = |small, full| if recorded().is_some() { full } else { small };
    let server_kills = if over.servers == 0 { 0 } else { kills(3, 50) };
    let relay_kills = over.emulator.map(|_| kills(6, 100));
    let mut counts = vec![
        ("--servers", over.servers),
        ("--agents", kills(3, 16)),
        ("--agent-kills", kills(8, 400)),
        ("--server-kills", server_kills),
        ("--reactors", kills(2, 4)),
        ("--reactor-kills", kills(7, 200)),
    ];
    counts.extend(relay_kills.map(|kills| ("--relay-kills", kills)));
    let said = scenario(over, &counts, &["--semantics", "non-idempotent"]);
    if recorded().is_none() {
        let (acts, kills) = (RUNS * 3, 15 + server_kills + relay_kills.unwrap_or_default());
        assert!(
            said.contains(&format!(
                "runs={RUNS} decisions=20 asked_twice=0 acts={acts} done_twice=0"
            )),
            "{said}"
        );
        assert!(said.ends_with(&format!("kills={kills}\n")), "{said}");
    }
}

/// Restarts everything while the runs are replayed: the ledger and the journals agree.
pub(crate) fn ledger_and_journals_agree(over: Over<'_>) {
    let length = std::env::var("TAPE_AIRLINE_SOAK").unwrap_or_else(|_| "1rounds".to_owned());
    let agents = if recorded().is_some() { 16 } else { 3 };
    let counts = [
        ("--servers", over.servers),
        ("--agents", agents),
        ("--reactors", 2),
    ];
    let said = scenario(over, &counts, &["--soak", &length]);
    let restarted = |who: &str| {
        let line = said.lines().find(|line| line.ends_with(&format!(" times {who}")));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        assert!(count.is_some_and(|count| count > 0), "{who}: {said}");
    };
    for who in ["agents", "workers", "servers", "the airline"] {
        restarted(who);
    }
    if over.emulator.is_some() {
        restarted("relays");
    }
}

fn recorded() -> Option<PathBuf> {
    std::env::var_os("TAPE_AIRLINE_TRAJECTORIES").map(PathBuf::from)
}

/// Runs a scenario that must succeed. Returns its output.
#[expect(clippy::print_stdout, reason = "at full size people read what came of it")]
fn scenario(over: Over<'_>, counts: &[(&str, usize)], more: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a directory is made");
    let trajectories = recorded().unwrap_or_else(|| {
        let made = dir.path().join("trajectories.json");
        trajectories::write(&made, RUNS);
        made
    });
    let mut scenario = Command::new(env!("CARGO_BIN_EXE_airline"));
    scenario.arg("--trajectories").arg(trajectories);
    scenario
        .args(["--seed", "7", "--deadline-seconds", "3600"])
        .args(more);
    for (flag, count) in counts {
        scenario.arg(flag).arg(count.to_string());
    }
    if let Some(store) = over.store {
        scenario.args(["--store", store]);
    }
    if let Some(emulator) = over.emulator {
        scenario.args(["--wake", "pubsub"]);
        scenario.env("PUBSUB_EMULATOR_HOST", emulator);
    }
    let output = scenario.output().expect("the scenario starts");
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complained}");
    println!("{said}");
    said.into_owned()
}
