//! Servers whose clocks differ and are set while they run: no right ends early, and no work waits for a clock.
//!
//! A server's clock is set by `libfaketime` (Debian: `faketime`). Where it is not installed, nothing is tested.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

#[cfg(feature = "bigtable")]
#[path = "../../tape-store/tests/bigtable_emulator/mod.rs"]
mod bigtable_emulator;
mod harness;
#[cfg(feature = "postgres")]
#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;
#[cfg(feature = "spanner")]
#[path = "../../tape-store/tests/spanner_emulator/mod.rs"]
mod spanner_emulator;

use harness::{Runs, Server, begin, begin_effect, decision, execute, request, run};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tape_core::command::{AttemptOutcome, DriverCommand, ExternalCommand, Held, RunCommand, WorkerCommand};
use tape_core::effect::{Mode, Semantics};
use tape_core::id::{EffectId, Epoch, RunId};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, Reply};
use tape_core::time::Deadline;
use tape_proto::failure::Failure;

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
/// A test that waits longer fails.
const FOR_EVER: Duration = Duration::from_secs(60);

fn library() -> Option<&'static str> {
    let found = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        assert!(std::env::var("CI").is_err(), "libfaketime is not installed");
        eprintln!("NOT TESTED: libfaketime is not installed");
    }
    found
}

/// A server whose machine shows another time.
struct Skewed {
    _server: Server,
    runs: Runs,
    clock: PathBuf,
}

impl Skewed {
    async fn start(store: &str, library: &str, dir: &Path, name: &str, ahead: &str) -> Self {
        let clock = dir.join(name);
        std::fs::write(&clock, ahead).unwrap();
        let file = clock.to_str().unwrap();
        let server = Server::start_among(
            store,
            &[],
            &[
                ("LD_PRELOAD", library),
                ("FAKETIME_TIMESTAMP_FILE", file),
                ("FAKETIME_NO_CACHE", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ],
        );
        Self {
            runs: server.runs().await,
            _server: server,
            clock,
        }
    }

    /// Sets the clock of the machine.
    fn set(&self, ahead: &str) {
        let part = self.clock.with_extension("part");
        std::fs::write(&part, ahead).unwrap();
        std::fs::rename(&part, &self.clock).unwrap();
    }

    async fn ask(&mut self, run: &RunId, body: RunCommand) -> Result<Reply, Failure> {
        execute(&mut self.runs, request(run, body)).await
    }

    async fn work(&mut self, run: &RunId, command: WorkerCommand) -> Result<Reply, Failure> {
        self.ask(run, RunCommand::Work(command)).await
    }

    async fn drive(&mut self, run: &RunId, command: DriverCommand) -> Result<Reply, Failure> {
        self.ask(run, RunCommand::Drive(Epoch(1), command)).await
    }
}

fn effect() -> EffectId {
    "#0.0".parse().unwrap()
}

fn claim(claim_ms: u64) -> WorkerCommand {
    WorkerCommand::ClaimEffect {
        effect: effect(),
        holder: "worker".parse().unwrap(),
        claim_ms,
    }
}

fn non_idempotent() -> DriverCommand {
    match begin_effect(0, Mode::Outbox) {
        DriverCommand::BeginEffect { effect, mut spec } => {
            spec.semantics = Semantics::NonIdempotent;
            DriverCommand::BeginEffect { effect, spec }
        }
        other => other,
    }
}

/// Asserts that no server grants a right that another holder has.
async fn assert_held(servers: &mut [Skewed], run: &RunId) {
    for server in servers {
        let taken = server.ask(run, begin(run, 30_000, true)).await;
        assert!(
            matches!(taken, Err(Failure::Rejected(Rejection::LeaseHeld { .. }))),
            "{taken:?}"
        );
        let lapse = WorkerCommand::LapseEffect { effect: effect() };
        for command in [lapse, claim(30_000)] {
            let taken = server.work(run, command).await;
            assert!(
                matches!(taken, Err(Failure::Rejected(Rejection::Claimed { .. }))),
                "{taken:?}"
            );
        }
    }
}

/// Two servers ahead and behind: each grants a claim and a lease in turn, which the others respect, while the clocks are set.
async fn nothing_ends_early(store: &str, library: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = Vec::new();
    for (name, ahead) in [("right", "+0s"), ("ahead", "+3600s"), ("behind", "-60s")] {
        servers.push(Skewed::start(store, library, dir.path(), name, ahead).await);
    }
    for (n, set) in ["+60s", "+7200s", "-3600s"].into_iter().enumerate() {
        let run = run(&format!("i{n}"));
        let holder = &mut servers[n];
        holder.ask(&run, begin(&run, 120_000, false)).await.unwrap();
        holder.drive(&run, decision(0)).await.unwrap();
        holder.drive(&run, non_idempotent()).await.unwrap();
        holder.work(&run, claim(120_000)).await.unwrap();
        assert_held(&mut servers, &run).await;
        for server in &servers {
            server.set(set);
        }
        assert_held(&mut servers, &run).await;
        // The worker renews its claim and records its outcome through other servers.
        let renew = WorkerCommand::RenewEffectClaim {
            effect: effect(),
            holder: "worker".parse().unwrap(),
            held: Some(Held::Attempt(1)),
            claim_ms: 120_000,
        };
        servers[(n + 1) % 3].work(&run, renew).await.unwrap();
        let finish = WorkerCommand::FinishClaimed {
            effect: effect(),
            holder: "worker".parse().unwrap(),
            attempt: 1,
            ending: AttemptOutcome::Confirmed {
                result: Payload::empty(),
                undo: None,
                spent: None,
            },
        };
        servers[(n + 2) % 3].work(&run, finish).await.unwrap();
    }
}

/// A timer fires and a lease ends after the requested time, through any server.
async fn nothing_waits_for_a_clock(store: &str, library: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut ahead = Skewed::start(store, library, dir.path(), "ahead", "+3600s").await;
    let mut behind = Skewed::start(store, library, dir.path(), "behind", "-3600s").await;
    let run = run("timed");
    let begun = Instant::now();
    ahead.ask(&run, begin(&run, 1_000, false)).await.unwrap();
    let set = DriverCommand::SetTimer {
        timer: "soon".parse().unwrap(),
        due: Deadline::InMs(500),
        note: Payload::empty(),
    };
    ahead.drive(&run, set).await.unwrap();
    let fire = || {
        RunCommand::External(ExternalCommand::FireTimer {
            timer: "soon".parse().unwrap(),
        })
    };
    until_taken(&mut behind, &run, fire).await;
    assert!(begun.elapsed() >= Duration::from_millis(500));
    ahead.set("-60s");
    behind.set("+60s");
    until_taken(&mut behind, &run, || begin(&run, 30_000, true)).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

/// Repeats a command until it is no longer too early.
async fn until_taken(server: &mut Skewed, run: &RunId, body: impl Fn() -> RunCommand) {
    let give_up = Instant::now() + FOR_EVER;
    loop {
        match server.ask(run, body()).await {
            Ok(_) => return,
            Err(Failure::Rejected(
                Rejection::TooEarly { .. } | Rejection::LeaseHeld { .. } | Rejection::NotDue { .. },
            )) if Instant::now() < give_up => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn on_sqlite_clocks_of_servers_decide_nothing() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    nothing_ends_early(&store("a.db"), library).await;
    nothing_waits_for_a_clock(&store("b.db"), library).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn on_postgres_clocks_of_servers_decide_nothing() {
    let Some(library) = library() else { return };
    let Some(database) = postgres_server::Database::create() else {
        return;
    };
    nothing_ends_early(&database.url(), library).await;
    nothing_waits_for_a_clock(&database.url(), library).await;
}

#[cfg(feature = "bigtable")]
#[tokio::test]
async fn on_bigtable_clocks_of_servers_decide_nothing() {
    let Some(library) = library() else { return };
    let Some(table) = bigtable_emulator::Table::new() else {
        return;
    };
    nothing_ends_early(&table.url(), library).await;
    nothing_waits_for_a_clock(&table.url(), library).await;
}

#[cfg(feature = "spanner")]
#[tokio::test]
async fn on_spanner_clocks_of_servers_decide_nothing() {
    let Some(library) = library() else { return };
    let Some(database) = spanner_emulator::Database::create() else {
        return;
    };
    nothing_ends_early(&database.url(), library).await;
    nothing_waits_for_a_clock(&database.url(), library).await;
}
