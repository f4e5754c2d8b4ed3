//! The server on PostgreSQL: the answers to callers and health checks while the database is gone, slow, read-only or full, and how the
//! command line makes tables.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;
#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;
#[path = "../../tape-store/tests/proxy/mod.rs"]
mod proxy;

use harness::{
    Runs, Server, begin, binary, checkpoint, execute, read, request, request_as, run, verified_kinds,
};
use postgres_server::{Cluster, Database};
use proxy::Proxy;
use std::time::Duration;
use tape_core::command::RunCommand;
use tape_core::id::{Epoch, RunId};
use tape_proto::convert::RunCall;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_store::clock::{Clock as _, SystemClock};
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Short timeouts, so that the tests do not take long.
const IMPATIENT: &str = "statement_timeout_ms=500&connect_timeout=1&wait_timeout_ms=500";
/// A test that waits longer fails.
const FOR_EVER: Duration = Duration::from_secs(90);
const CHECKPOINT_BYTES: usize = 50_000;

/// A server, one of its runs, and its answers to health checks.
struct Outage {
    server: Server,
    runs: Runs,
    health: Streaming<HealthCheckResponse>,
    run: RunId,
    /// Commands that were acknowledged.
    taken: usize,
}

impl Outage {
    async fn on(store: &str) -> Self {
        let server = Server::start_on(&format!("{store}?{IMPATIENT}"), &[]);
        let service = String::new();
        let health = HealthClient::new(server.connect().await)
            .watch(HealthCheckRequest { service })
            .await
            .unwrap()
            .into_inner();
        let (runs, run) = (server.runs().await, run("i1"));
        let mut outage = Self {
            server,
            runs,
            health,
            run,
            taken: 0,
        };
        outage.is_told(ServingStatus::Serving).await;
        let begin = request(&outage.run, begin(&outage.run, 60_000, false));
        execute(&mut outage.runs, begin).await.unwrap();
        outage
    }

    /// Waits until health checks get this status.
    async fn is_told(&mut self, expected: ServingStatus) {
        let told = async { while self.health.message().await.unwrap().unwrap().status() != expected {} };
        let told = tokio::time::timeout(FOR_EVER, told).await;
        assert!(told.is_ok(), "health checks are never told {expected:?}");
    }

    fn command(&self) -> RunCall {
        let id = SystemClock.request_id();
        let body = RunCommand::Drive(Epoch(1), checkpoint(CHECKPOINT_BYTES));
        request_as(id, &self.run, body)
    }

    /// Writes until the database refuses a write. Returns the refused command, and why.
    async fn write_until_refused(&mut self) -> (RunCall, Failure) {
        loop {
            let command = self.command();
            match execute(&mut self.runs, command.clone()).await {
                Ok(_) => self.taken += 1,
                Err(failure) => return (command, failure),
            }
        }
    }

    /// While the database is broken, callers are told to retry, and why; health checks report that the server is not serving. Once the
    /// database is repaired, the server continues by itself: the same command is executed once.
    async fn suffers(mut self, cause: &str, mend: impl AsyncFnOnce()) {
        let (command, failure) = self.write_until_refused().await;
        let again = matches!(failure, Failure::Unavailable(_) | Failure::OutcomeUnknown(_));
        assert!(again && failure.to_string().contains(cause), "{failure:?}");
        self.is_told(ServingStatus::NotServing).await;
        mend().await;
        self.is_told(ServingStatus::Serving).await;
        execute(&mut self.runs, command.clone()).await.unwrap();
        execute(&mut self.runs, command).await.unwrap();
        let entries = read(&mut self.runs, &self.run, 0).await;
        let checkpoints = verified_kinds(&self.run, &entries)
            .into_iter()
            .filter(|kind| *kind == "run.checkpoint");
        assert_eq!(checkpoints.count(), self.taken + 1);
        drop(self.server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone() {
    let Some(cluster) = Cluster::own() else { return };
    let outage = Outage::on(&cluster.database().url()).await;
    cluster.stop();
    outage.suffers("database", async || cluster.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_read_only() {
    let Some(database) = Database::create() else {
        return;
    };
    let outage = Outage::on(&database.url()).await;
    database.set_read_only(true);
    outage
        .suffers("read-only", async || database.set_read_only(false))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_full() {
    let Some(cluster) = Cluster::with_small_disk() else {
        return;
    };
    let database = cluster.database_on_small_disk();
    database.psql("CREATE TABLE ballast(bytes bytea); ALTER TABLE ballast ALTER bytes SET STORAGE EXTERNAL");
    let outage = Outage::on(&database.url()).await;
    // Fills the disk down to the last page; the server's writes run out of room at once or a little later.
    for kilobytes in [1_024, 64, 8] {
        database.psql(&format!(
            "DO $$ BEGIN LOOP INSERT INTO ballast SELECT convert_to(repeat('x', {kilobytes} * 1000), 'UTF8'); END LOOP; \
             EXCEPTION WHEN disk_full THEN NULL; END $$"
        ));
    }
    outage
        .suffers("No space left on device", async || {
            database.psql("DROP TABLE ballast");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer() {
    let Some(database) = Database::create() else {
        return;
    };
    let proxy = Proxy::start(database.port()).await;
    let mut outage = Outage::on(&database.url_at(proxy.port())).await;
    proxy.hold();
    // The caller's own deadline holds, however long the server still waits.
    let RunCall::Drive(command) = outage.command() else {
        panic!("it is a driver's");
    };
    let command = Some(command);
    let mut hurried = tonic::Request::new(v1::DriveOnceRequest { command });
    hurried.set_timeout(Duration::from_millis(100));
    let status = outage.runs.drive_once(hurried).await.unwrap_err();
    assert!(
        matches!(
            status.code(),
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled
        ),
        "{status:?}"
    );
    // It is unknown yet whether that command was executed.
    let abandoned = request(&outage.run, RunCommand::Drive(Epoch(1), checkpoint(1)));
    assert_eq!(
        execute(&mut outage.runs, abandoned).await.unwrap_err().code(),
        tonic::Code::Unavailable
    );
    outage.is_told(ServingStatus::NotServing).await;
    proxy.release().await;
    outage.is_told(ServingStatus::Serving).await;
    let last = outage.command();
    execute(&mut outage.runs, last).await.unwrap();
    verified_kinds(&outage.run, &read(&mut outage.runs, &outage.run, 0).await);
}

#[test]
fn tables_are_made_from_the_command_line() {
    let Some(database) = Database::bare() else { return };
    let url = database.url();
    let migrate = |flags: &[&str]| {
        let done = binary()
            .args(["migrate", "--store", &url])
            .args(flags)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let [would, did, had] = [&["--dry-run"][..], &[], &[]].map(migrate);
    let by_environment = binary().arg("migrate").env("TAPE_STORE", &url).output().unwrap();
    assert!(by_environment.status.success(), "{by_environment:?}");
    assert_eq!(would, "would migrate the database from schema version 0 to 4\n");
    assert_eq!(did, "migrated the database from schema version 0 to 4\n");
    assert_eq!(had, "the database is at schema version 4\n");
    database.psql("INSERT INTO tape_schema VALUES (6, 5)");
    let refused = binary().args(["migrate", "--store", &url]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        text.contains("schema version 6") && text.contains("newer build"),
        "{text}"
    );
}

/// A transaction of another database of the cluster holds the feed up. A reader that follows one run does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_followed_while_the_feed_is_held_up() {
    let Some(cluster) = Cluster::own() else {
        return;
    };
    let (database, other) = (cluster.database(), cluster.database());
    let holder = sqlx::PgPool::connect(&other.url()).await.unwrap();
    let mut open = holder.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()")
        .execute(&mut *open)
        .await
        .unwrap();
    let (mine, theirs) = (
        Server::start_on(&database.url(), &[]),
        Server::start_on(&database.url(), &[]),
    );
    let run = run("followed");
    let begun = request(&run, begin(&run, 60_000, false));
    execute(&mut mine.runs().await, begun).await.unwrap();
    let follow = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        follow: true,
        ..Default::default()
    };
    let mut followed = mine.runs().await.read_run(follow).await.unwrap().into_inner();
    let mut seen = 0;
    for (n, server) in [&mine, &theirs, &mine, &theirs].into_iter().enumerate() {
        let checkpoint = RunCommand::Drive(Epoch(1), checkpoint(10));
        let checkpoint = request(&run, checkpoint);
        execute(&mut server.runs().await, checkpoint).await.unwrap();
        // The beginning of the run has two entries.
        let told = async {
            while seen < n + 3 {
                seen += followed.message().await.unwrap().unwrap().entries.len();
            }
        };
        let told = tokio::time::timeout(FOR_EVER, told).await;
        assert!(told.is_ok(), "the follower is never told of checkpoint {n}");
    }
}
