//! Workers that reach the journal through a server.

use crate::process::{Child, role, say};
use crate::upstream::{Fault, Upstream};
use crate::world::{World, spec};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_client::Remote;
use tape_core::agenda::{Item, Queue};
use tape_core::command::DriverCommand;
use tape_core::effect::{Semantics, Status};
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::status::RunStatus;
use tape_core::time::Deadline;
use tape_environment::machine;
use tape_reactors::Wake;
use tape_reactors::api::Journal as _;
use tape_reactors::api::due::DuePage;
use tape_server::config::Config;

/// A server in a process of its own.
pub(crate) struct Server {
    child: Child,
    address: String,
    store: std::path::PathBuf,
}

impl Server {
    pub(crate) fn start(store: &Path) -> Self {
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

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
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
        let server = tape_server::server::Server::bind(config, machine())
            .await
            .unwrap();
        say(&server.address().to_string());
        server.run(std::future::pending()).await.unwrap();
    });
}

#[tokio::test]
async fn due_work_is_read_from_page_to_page_through_a_server() {
    const TIMERS: usize = 5;
    let world = World::sqlite().await;
    let server = Server::start(&world.dir.path().join("tape.db"));
    let run = world.run("paged").await;
    for n in 0..TIMERS {
        run.drive(DriverCommand::SetTimer {
            timer: TimerName::new(format!("t{n}")).unwrap(),
            due: Deadline::InMs(0),
            note: Payload::empty(),
        })
        .await;
    }
    let journal = Remote::new(&server.address, Duration::from_secs(30), machine()).unwrap();
    // The server's clock has to come by the last of them.
    let items = loop {
        let items = pages(&journal).await;
        if items.len() >= TIMERS {
            break items;
        }
    };
    assert_eq!(items.iter().collect::<HashSet<_>>().len(), TIMERS);
    assert_eq!(items.len(), TIMERS, "each once");
    let foreign = "[{}]";
    let refused = journal.due(Queue::Timers, Duration::ZERO, Some(foreign), 2).await;
    assert!(refused.is_err());
}

/// No message tells of a timer when it is due.
#[tokio::test]
async fn a_look_by_hints_sees_ahead_through_a_server() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let world = World::sqlite().await;
    let server = Server::start(&world.dir.path().join("tape.db"));
    let run = world.run("ahead").await;
    for (name, due) in [("soon", 1), ("later", 3)] {
        run.drive(DriverCommand::SetTimer {
            timer: TimerName::new(name).unwrap(),
            due: Deadline::InMs(due * 3_600_000),
            note: Payload::empty(),
        })
        .await;
    }
    let journal = Remote::new(&server.address, Duration::from_secs(30), machine()).unwrap();
    let journal = Wake::new().journal(Arc::new(journal));
    let look = async |within| journal.due(Queue::Timers, within, None, 10).await.unwrap();
    let seen = look(2 * HOUR).await;
    let [soon] = &seen.work[..] else {
        panic!("one is within two hours: {seen:?}");
    };
    // The journal's time is known within bounds, and work is rather too late than too early.
    assert!(soon.due_in > Duration::ZERO && soon.due_in < 2 * HOUR, "{soon:?}");
    assert_eq!(look(Duration::ZERO).await, DuePage::default());
}

/// Due work, in pages of two.
async fn pages(journal: &Remote) -> Vec<Item> {
    let (mut items, mut from): (Vec<Item>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal
            .due(Queue::Timers, Duration::ZERO, from.as_deref(), 2)
            .await
            .unwrap();
        assert!(page.work.len() <= 2);
        items.extend(page.work.into_iter().map(|work| work.item));
        from = page.next;
        if from.is_none() {
            return items;
        }
    }
}

#[tokio::test]
async fn workers_behind_a_server_do_the_same() {
    all_behind_a_server(World::sqlite().await).await;
}

pub(crate) async fn all_behind_a_server(world: World) {
    let mut server = Server::start(&world.dir.path().join("tape.db"));
    let world = world.behind(&server);
    let upstream = Upstream::start(world.dir.path(), true);
    let mut worker = world.worker(&upstream);
    let run = world.run("served").await;

    // The worker is killed after the upstream's commit; the next one handles the effect.
    upstream.faults(&[Fault::Hold]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "held")).await;
    upstream.held(1).await;
    worker.kill();
    // Its claims last while the server is restarted.
    let _worker = world.worker_claiming(&upstream, 10_000, "");
    run.until_effect(0, Status::Confirmed).await;

    // The server is killed while the upstream is called; the worker has an outcome to record, and records it.
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
