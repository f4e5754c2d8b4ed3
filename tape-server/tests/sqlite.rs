//! The server on a SQLite file: what callers, health checks and the log are told once its file is gone.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Server, begin, checkpoint, execute, request, request_as, run};
use std::path::Path;
use std::time::Duration;
use tape_core::command::RunCommand;
use tape_core::id::Epoch;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_store::clock::{Clock as _, SystemClock};
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// A test that waits longer waits in vain.
const FOR_EVER: Duration = Duration::from_secs(90);

/// What health checks are told from now on.
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

fn command(bytes: usize) -> v1::ExecuteRequest {
    let body = RunCommand::Drive(Epoch(1), checkpoint(bytes));
    request_as(SystemClock.request_id(), &run("i1"), body)
}

/// What becomes of the file under a server.
type Fate = fn(&Path);

/// Nothing is acknowledged any more that a server which starts again would not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_under_a_server() {
    let fates: [(&str, Fate); 3] = [
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
    for (name, fate) in fates {
        for asks_first in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let server = Server::start(dir.path());
            let mut health = watch(&server).await;
            is_told(&mut health, ServingStatus::Serving).await;
            let (mut runs, run) = (server.runs().await, run("i1"));
            let begun = request(&run, begin(&run, 60_000, false));
            execute(&mut runs, begun).await.unwrap();
            fate(&dir.path().join("tape.db"));
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
