//! The server on a SQLite file: the answers to callers and health checks, and the log, while its disk is full and once its file is gone.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Server, begin, checkpoint, execute, read, request, request_as, run, verified_kinds};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tape_core::command::RunCommand;
use tape_core::id::Epoch;
use tape_proto::convert::RunCall;
use tape_proto::failure::Failure;
use tape_store::clock::{Clock as _, SystemClock};
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// A test that waits longer fails.
const FOR_EVER: Duration = Duration::from_secs(90);

/// The answers to health checks from now on.
async fn watch(server: &Server) -> Streaming<HealthCheckResponse> {
    let service = String::new();
    let watched = HealthClient::new(server.connect().await)
        .watch(HealthCheckRequest { service })
        .await;
    watched.unwrap().into_inner()
}

async fn is_told(health: &mut Streaming<HealthCheckResponse>, expected: ServingStatus) {
    let told = async { while health.message().await.unwrap().unwrap().status() != expected {} };
    let told = tokio::time::timeout(FOR_EVER, told).await;
    assert!(told.is_ok(), "health checks are never told {expected:?}");
}

fn command(bytes: usize) -> RunCall {
    let body = RunCommand::Drive(Epoch(1), checkpoint(bytes));
    request_as(SystemClock.request_id(), &run("i1"), body)
}

/// A directory that a server has on a small disk: it is mounted where only the server sees it.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    const SIZE: &str = "size=24m";
    const MOUNT: &str = "mount -t tmpfs -o $0 tmpfs \"$1\" && shift && exec \"$@\"";

    /// None where nothing can be mounted, which is reported.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        let disk = Self { dir };
        let tried = disk.under("true").output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            return Some(disk);
        }
        eprintln!("NOT TESTED: a disk can only be mounted by root");
        None
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// Starts a program with the disk.
    fn under(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", Self::MOUNT, Self::SIZE]);
        command.arg(self.path()).arg(program);
        command
    }

    fn serve(&self) -> Server {
        let mut command = self.under(env!("CARGO_BIN_EXE_tape-server"));
        command
            .env("TAPE_LOG", "info")
            .stderr(std::fs::File::create(self.log()).unwrap());
        let store = format!("sqlite:{}", self.path().join("tape.db").display());
        Server::start_by(command, &store, &[])
    }

    /// The path of a file on the disk, as seen by the server.
    fn seen_by(&self, server: &Server, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", server.process()));
        root.join(self.path().strip_prefix("/").unwrap()).join(name)
    }
}

/// Writes to a file until there is no room for a byte more.
fn fill(path: &Path) {
    let mut ballast = std::fs::File::create(path).unwrap();
    for bytes in [1 << 20, 1 << 12, 1] {
        while ballast.write_all(&vec![b'x'; bytes]).is_ok() {}
    }
}

/// While the disk is full, callers are told to retry, health checks report that the server is not serving, and the log says why. With room
/// again, the server continues by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full() {
    let Some(disk) = SmallDisk::new() else { return };
    let server = disk.serve();
    let mut health = watch(&server).await;
    is_told(&mut health, ServingStatus::Serving).await;
    let (mut runs, run) = (server.runs().await, run("i1"));
    let begun = request(&run, begin(&run, 60_000, false));
    execute(&mut runs, begun).await.unwrap();
    let ballast = disk.seen_by(&server, "ballast");
    fill(&ballast);
    let mut taken = 0;
    let (refused, failure) = loop {
        let command = command(50_000);
        match execute(&mut runs, command.clone()).await {
            Ok(_) => taken += 1,
            Err(failure) => break (command, failure),
        }
    };
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
    is_told(&mut health, ServingStatus::NotServing).await;
    let logged = disk.logged();
    assert!(
        logged.contains("the store takes no commits") && logged.contains("not ready"),
        "{logged}"
    );
    std::fs::remove_file(ballast).unwrap();
    is_told(&mut health, ServingStatus::Serving).await;
    execute(&mut runs, refused).await.unwrap();
    let logged = disk.logged();
    assert!(logged.contains("the store takes commits again"), "{logged}");
    assert_eq!(
        logged.matches("the store takes no commits").count(),
        1,
        "{logged}"
    );
    let kinds = verified_kinds(&run, &read(&mut runs, &run, 0).await);
    let checkpoints = kinds.into_iter().filter(|kind| *kind == "run.checkpoint");
    assert_eq!(checkpoints.count(), taken + 1);
}

/// What happens to the file under a server.
type Damage = fn(&Path);

/// Nothing is acknowledged that a restarted server would not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_under_a_server() {
    let damages: [(&str, Damage); 3] = [
        ("removed", |path| std::fs::remove_file(path).unwrap()),
        ("replaced", |path| {
            let backup = path.with_extension("backup");
            std::fs::copy(path, &backup).unwrap();
            std::fs::rename(backup, path).unwrap();
        }),
        ("log removed", |path| {
            std::fs::remove_file(path.with_extension("db-wal")).unwrap();
        }),
    ];
    for (name, damage) in damages {
        for asks_first in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let server = Server::start(dir.path());
            let mut health = watch(&server).await;
            is_told(&mut health, ServingStatus::Serving).await;
            let (mut runs, run) = (server.runs().await, run("i1"));
            let begun = request(&run, begin(&run, 60_000, false));
            execute(&mut runs, begun).await.unwrap();
            damage(&dir.path().join("tape.db"));
            if !asks_first {
                is_told(&mut health, ServingStatus::NotServing).await;
            }
            let refused = execute(&mut runs, command(10)).await.unwrap_err();
            assert!(
                matches!(refused, Failure::Unavailable(_) | Failure::OutcomeUnknown(_))
                    && refused.to_string().contains("while it was in use"),
                "{name}: {refused:?}"
            );
            if asks_first {
                is_told(&mut health, ServingStatus::NotServing).await;
            }
        }
    }
}
