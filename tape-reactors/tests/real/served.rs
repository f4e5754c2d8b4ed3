//! Workers that reach the journal through a server.

use crate::process::{Child, role, say};
use crate::upstream::{Fault, Upstream};
use crate::world::{World, spec};
use std::path::Path;
use tape_core::command::{Deadline, DriverCommand};
use tape_core::effect::{Semantics, Status};
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::stream::RunStatus;
use tape_server::config::Config;

/// A server in a process of its own.
pub(crate) struct Server {
    child: Child,
    address: String,
    store: std::path::PathBuf,
}

impl Server {
    fn start(store: &Path) -> Self {
        let (child, address) = launch(store, "127.0.0.1:0");
        Self {
            child,
            address,
            store: store.to_owned(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("tape://{}", self.address)
    }

    /// SIGKILL, and another process at the same address.
    fn restart(&mut self) {
        self.child.kill();
        (self.child, _) = launch(&self.store, &self.address);
    }
}

fn launch(store: &Path, listen: &str) -> (Child, String) {
    let listen = ("SERVER_LISTEN", listen.to_owned());
    let mut child = Child::start_role("served::server", store, &[listen]);
    let address = child.said();
    (child, address)
}

#[test]
fn server() {
    let Some(path) = role("served::server") else {
        return;
    };
    let listen = std::env::var("SERVER_LISTEN").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = Config::new(&format!("sqlite:{path}"), listen);
        let server = tape_server::server::Server::bind(config).await.unwrap();
        say(&server.address().to_string());
        server.run(std::future::pending()).await.unwrap();
    });
}

#[tokio::test]
async fn workers_behind_a_server_do_the_same() {
    let world = World::sqlite().await;
    let mut server = Server::start(&world.dir.path().join("tape.db"));
    let world = world.behind(&server);
    let upstream = Upstream::start(world.dir.path(), true);
    let mut worker = world.worker(&upstream);
    let run = world.run("served").await;

    // Killed after the upstream's commit; seen to by the next.
    upstream.faults(&[Fault::Hold]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "held")).await;
    upstream.held(1).await;
    worker.kill();
    let _worker = world.worker(&upstream);
    run.until_effect(0, Status::Confirmed).await;

    // The server is killed while the upstream is called; the worker has an outcome to record, and does.
    upstream.faults(&[Fault::Wait]).await;
    run.begin(1, spec(Semantics::NonIdempotent, "restart")).await;
    upstream.held(2).await;
    server.restart();
    upstream.go().await;
    run.until_effect(1, Status::Confirmed).await;

    let timer = TimerName::new("t").unwrap();
    run.drive(DriverCommand::SetTimer {
        timer,
        due: Deadline::InMs(50),
        note: Payload::empty(),
    })
    .await;
    run.until_count("timer.fired", 1).await;

    let error = "enough".to_owned();
    run.drive(DriverCommand::Fail { error }).await;
    run.until_run(RunStatus::Failed).await;
    let did: Vec<String> = upstream.ledger().into_iter().map(|line| line.operation).collect();
    assert_eq!(did, ["pay", "pay", "refund", "refund"]);
}
