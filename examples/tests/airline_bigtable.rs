//! The airline scenario over Bigtable's emulator and two servers, while agents and servers are killed.
//!
//! At full size: `TAPE_AIRLINE_TRAJECTORIES=FILE cargo nextest run -p tape-examples --features bigtable --test airline_bigtable`
//! replays the recorded runs of the file with 400 kills of agents and 50 of servers.

#![cfg(feature = "bigtable")]

#[path = "../../tape-store/tests/bigtable_emulator/mod.rs"]
mod bigtable_emulator;
mod trajectories;
#[expect(dead_code, reason = "each test file needs some of it")]
mod workers;

use bigtable_emulator::Table;
use std::path::PathBuf;
use std::process::Command;
use workers::Over;

#[test]
fn over_two_servers_that_are_killed_too_everything_is_done_once() {
    let Some(table) = Table::new() else { return };
    let dir = tempfile::tempdir().expect("a directory is made");
    let recorded = std::env::var_os("TAPE_AIRLINE_TRAJECTORIES").map(PathBuf::from);
    let [agents, agent_kills, server_kills] = match recorded {
        Some(_) => ["16", "400", "50"],
        None => ["4", "15", "4"],
    };
    let trajectories = recorded.unwrap_or_else(|| {
        let made = dir.path().join("trajectories.json");
        trajectories::write(&made, 8);
        made
    });
    let mut scenario = Command::new(env!("CARGO_BIN_EXE_airline"));
    scenario.arg("--trajectories").arg(trajectories);
    scenario.args(["--store", &table.url(), "--servers", "2", "--seed", "7"]);
    scenario.args([
        "--agents",
        agents,
        "--agent-kills",
        agent_kills,
        "--server-kills",
        server_kills,
    ]);
    let output = scenario.output().expect("the scenario starts");
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complained}");
    let verdict = said.trim_end().lines().last().unwrap_or_default();
    for once in ["asked_twice=0", "done_twice=0", "lost=0", "chains=ok"] {
        assert!(verdict.contains(once), "{said}");
    }
    println!("{verdict}");
}

#[test]
fn with_workers_that_are_killed_too_everything_is_done_once() {
    let Some(table) = Table::new() else { return };
    workers::everything_is_done_once(Over {
        store: Some(&table.url()),
        servers: 2,
        ..Over::default()
    });
}
