//! The airline scenario over Spanner's emulator and two servers, while agents and servers are killed.
//!
//! At full size: `TAPE_AIRLINE_TRAJECTORIES=FILE cargo nextest run -p tape-examples --features spanner --test airline_spanner`
//! replays the recorded runs of the file with 400 kills of agents and 50 of servers.

#![cfg(feature = "spanner")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tape-store/tests/spanner_emulator/mod.rs"]
mod spanner_emulator;
mod trajectories;
#[expect(dead_code, reason = "each test file needs some of it")]
mod workers;

use spanner_emulator::Database;
use std::process::Command;
use workers::Over;

#[test]
fn over_two_servers_on_one_database_everything_is_done_once() {
    let Some(database) = Database::create() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("trajectories.json");
    let recorded = std::env::var_os("TAPE_AIRLINE_TRAJECTORIES");
    let counts = if recorded.is_some() {
        [
            ("--agents", "16"),
            ("--agent-kills", "400"),
            ("--server-kills", "50"),
        ]
    } else {
        trajectories::write(&made, 4);
        [
            ("--agents", "3"),
            ("--agent-kills", "10"),
            ("--server-kills", "3"),
        ]
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_airline"));
    command
        .arg("--trajectories")
        .arg(recorded.unwrap_or_else(|| made.into()));
    command.args(["--store", &database.url(), "--servers", "2", "--seed", "7"]);
    // The emulator is slow: it executes one commit at a time.
    command.args(["--deadline-seconds", "1800"]);
    for (flag, count) in counts {
        command.args([flag, count]);
    }
    let output = command.output().unwrap();
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
    let Some(database) = Database::create() else {
        return;
    };
    workers::everything_is_done_once(Over {
        store: Some(&database.url()),
        servers: 2,
        ..Over::default()
    });
}
