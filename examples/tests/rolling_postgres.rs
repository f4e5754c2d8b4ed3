//! Five servers on one PostgreSQL are replaced one after the other while the schema goes from one version to the next under them:
//! no client sees an error, and nothing is lost.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;

use postgres_server::Database;
use std::sync::Arc;
use tape_client::{Answer, RunId, Tape};
use tape_examples::record;
use tape_examples::server::Servers;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SERVERS: usize = 5;
const WRITERS: usize = 10;
/// Decisions that each writer makes between two changes.
const STRETCH: u64 = 10;

/// A change that a later build could make to the tables: it only adds, and says that builds of version 4 can work with it. Each transaction
/// changes one table: one that waits for the lock of a table while it holds the lock of another would block commits.
const LATER: [&str; 5] = [
    "ALTER TABLE tape_head ADD COLUMN later int NOT NULL DEFAULT 7",
    "ALTER TABLE tape_entry ADD COLUMN later text",
    "ALTER TABLE tape_agenda ADD COLUMN later bigint",
    "CREATE INDEX later ON tape_run(changed_at)",
    "INSERT INTO tape_schema VALUES (5, 4)",
];

/// A client that records one decision after the other until it is stopped.
struct Writer {
    run: RunId,
    decided: watch::Receiver<u64>,
    writing: JoinHandle<u64>,
}

impl Writer {
    async fn start(url: &str, name: &str, stop: watch::Receiver<bool>) -> Self {
        let tape = Tape::connect(url).await.unwrap();
        let id = RunId::new("acme", "app", "ann", "s1", name).unwrap();
        let run = tape.run(id.clone()).begin().await.unwrap().driving().unwrap();
        let (tell, decided) = watch::channel(0);
        let writing = tokio::spawn(async move {
            let mut n = 0;
            while !*stop.borrow() {
                let answer = async || Answer::json(&n);
                run.decide(&n, answer)
                    .await
                    .expect("a client that retries sees no error");
                n += 1;
                tell.send_replace(n);
            }
            run.complete(&n)
                .await
                .expect("a client that retries sees no error");
            n
        });
        Self {
            run: id,
            decided,
            writing,
        }
    }

    /// Waits until it has recorded [`STRETCH`] more decisions.
    async fn goes_on(&mut self) {
        let from = *self.decided.borrow();
        // Where the writer has failed, its end says why.
        let _ = self.decided.wait_for(|n| *n >= from + STRETCH).await;
    }
}

async fn all_go_on(writers: &mut [Writer]) {
    futures::future::join_all(writers.iter_mut().map(Writer::goes_on)).await;
}

/// Replaces servers one after the other while clients write, after `change` was made to the database.
async fn replace_all(servers: Servers, change: impl FnOnce()) {
    let servers = Arc::new(servers);
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        writers.push(Writer::start(&servers.url(n), &format!("i{n}"), stopped.clone()).await);
    }
    all_go_on(&mut writers).await;
    change();
    for server in 0..SERVERS {
        servers.kill(server, async { Ok(()) }).await.unwrap();
        all_go_on(&mut writers).await;
    }
    stop.send_replace(true);
    let tape = Tape::connect(&servers.url(0)).await.unwrap();
    for writer in writers {
        let decided = writer.writing.await.unwrap();
        let record = record::read(&tape, &writer.run).await.unwrap();
        assert!(record.chain.is_ok() && record.completed(), "{:?}", record.chain);
        assert_eq!(record.decisions().unwrap().len() as u64, decided);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_two_schema_versions_work_side_by_side() {
    let Some(database) = Database::create() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let errors = dir.path().join("errors");
    let servers = Servers::start(&database.url(), SERVERS, &errors).await.unwrap();
    let migrate = || {
        for step in LATER {
            database.psql(step);
        }
    };
    replace_all(servers, migrate).await;
}

/// With `TAPE_EARLIER_SERVER=FILE`, a `tape-server` of an earlier build with the feature `postgres`: its servers make the tables, and the
/// first server of this build that replaces one of them migrates the tables to its version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_an_earlier_build_are_replaced() {
    let Some(earlier) = std::env::var_os("TAPE_EARLIER_SERVER") else {
        eprintln!("NOT TESTED: TAPE_EARLIER_SERVER names no server of an earlier build");
        return;
    };
    let Some(database) = Database::bare() else { return };
    let dir = tempfile::tempdir().unwrap();
    let errors = dir.path().join("errors");
    let servers = Servers::start_earlier(earlier.as_ref(), &database.url(), SERVERS, &errors).await;
    let before = database.psql("SELECT max(version) FROM tape_schema");
    replace_all(servers.unwrap(), || ()).await;
    let after = database.psql("SELECT max(version) FROM tape_schema");
    println!("schema version {before} to {after}");
    assert_ne!(before, after, "the earlier build has an earlier schema");
}
