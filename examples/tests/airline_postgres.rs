//! The airline scenario over PostgreSQL and three servers, while agents and servers are killed, connections are cut, half closed and
//! delayed during commits, and the database itself crashes.
//!
//! At full size: `TAPE_AIRLINE_TRAJECTORIES=FILE cargo nextest run -p tape-examples --features postgres --test airline_postgres`
//! replays the recorded runs of the file with 400 kills of agents and 50 of servers.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;
#[path = "../../tape-store/tests/proxy/mod.rs"]
mod proxy;
mod trajectories;
mod workers;

use postgres_server::{Cluster, Database};
use proxy::Proxy;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};
use workers::Over;

/// How many of a thousand requests to the database fail.
const FAULTS: usize = 10;

/// The number of runs and of faults.
struct Size {
    trajectories: PathBuf,
    agents: usize,
    agent_kills: usize,
    server_kills: usize,
    /// The database crashes after each this many new entries.
    crash_every: usize,
}

impl Size {
    fn of_environment(dir: &tempfile::TempDir) -> Self {
        if let Some(recorded) = std::env::var_os("TAPE_AIRLINE_TRAJECTORIES") {
            return Self {
                trajectories: recorded.into(),
                agents: 16,
                agent_kills: 400,
                server_kills: 50,
                crash_every: 1_500,
            };
        }
        let made = dir.path().join("trajectories.json");
        trajectories::write(&made, 8);
        Self {
            trajectories: made,
            agents: 4,
            agent_kills: 15,
            server_kills: 4,
            crash_every: 100,
        }
    }

    fn scenario(&self, store: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airline"));
        command.arg("--trajectories").arg(&self.trajectories);
        command.args(["--store", store, "--servers", "3", "--seed", "7"]);
        for (flag, count) in [
            ("--agents", self.agents),
            ("--agent-kills", self.agent_kills),
            ("--server-kills", self.server_kills),
        ] {
            command.args([flag, &count.to_string()]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_down_everything_is_done_once() {
    let Some(cluster) = Cluster::own() else { return };
    let dir = tempfile::tempdir().unwrap();
    let size = Size::of_environment(&dir);
    let database = cluster.database();
    let proxy = Proxy::start(database.port()).await;
    let store = format!("{}?statement_timeout_ms=2000", database.url_at(proxy.port()));
    let scenario = tokio::spawn(size.scenario(&store).wait_with_output());
    let mut crashes = 0;
    while !scenario.is_finished() {
        let entries: usize = database.psql("SELECT count(*) FROM tape_entry").parse().unwrap();
        if entries > 0 {
            proxy.havoc(FAULTS);
        }
        if entries >= (crashes + 1) * size.crash_every {
            cluster.crash();
            crashes += 1;
        }
    }
    let output = scenario.await.unwrap().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{complained}");
    let verdict = said.trim_end().lines().last().unwrap_or_default();
    for once in ["asked_twice=0", "done_twice=0", "lost=0", "chains=ok"] {
        assert!(verdict.contains(once), "{said}");
    }
    assert!(crashes > 1, "the database crashed {crashes} times only: {said}");
    println!("{verdict}; the database crashed {crashes} times");
}

#[test]
fn with_workers_that_are_killed_too_everything_is_done_once() {
    let Some(database) = Database::create() else {
        return;
    };
    workers::everything_is_done_once(Over {
        store: Some(&database.url()),
        servers: 3,
        ..Over::default()
    });
}

#[test]
fn whatever_is_restarted_the_ledger_and_the_journals_agree() {
    let Some(database) = Database::create() else {
        return;
    };
    workers::ledger_and_journals_agree(Over {
        store: Some(&database.url()),
        servers: 2,
        ..Over::default()
    });
}
