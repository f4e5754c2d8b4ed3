//! Commits whose outcome depends on other servers: standbys that are reached instead of the primary, that take over from it, and that a
//! commit waits for.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod postgres_server;
mod proxy;

use pen::Pen;
use postgres_server::{Cluster, Database};
use proxy::Proxy;
use std::sync::Arc;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{RequestId, Seq, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::reply::Reply;
use tape_engine::Engine;
use tape_engine::EngineError;
use tape_store::clock::SystemClock;
use tape_store::contract::{Batch, CommitOutcome, Committed, JournalStore};
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::{CommitError, StoreError};
use tape_store::postgres::{PostgresStore, Target};

fn with(url: &str, parameters: &str) -> Target {
    format!("{url}?{parameters}").parse().unwrap()
}

async fn commit(store: &dyn JournalStore, batch: &Batch) -> Result<Committed, CommitError> {
    store.commit(vec![batch.clone()]).await.remove(0)
}

/// Whether the store is unavailable for this cause.
fn is_refused<T>(outcome: &Result<T, StoreError>, cause: &str) -> bool {
    matches!(outcome, Err(StoreError::Unavailable { source, .. }) if source.to_string().contains(cause))
}

/// The outcome of a batch, as soon as it is known.
async fn resolve(store: &dyn JournalStore, batch: &Batch) -> CommitOutcome {
    loop {
        match store.resolve(batch).await {
            Ok(fate) => return fate,
            Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_until_it_takes_over_and_its_primary_from_then_on() {
    const STANDBY: &str = "is a standby";
    const OVERTAKEN: &str = "has taken over";
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let standby = cluster.standby();
    let straight = with(&database.url_at(standby.port()), "migrate=never");
    let opened = PostgresStore::open(&straight).await;
    assert!(is_refused(&opened, STANDBY), "{opened:?}");
    let proxy = Proxy::start(database.port()).await;
    let target = with(&database.url_at(proxy.port()), "statement_timeout_ms=2000");
    let store = PostgresStore::open(&target).await.unwrap();
    let mut pen = Pen::new("a");
    pen.put(&store, "one", 1).await;
    // From now on the standby lags behind, until it takes over.
    standby.fall_behind();
    let batch = pen.batch("two", 1);
    let acknowledged = commit(&store, &batch).await;
    assert!(acknowledged.is_ok(), "{acknowledged:?}");
    proxy.lead_to(standby.port());
    // The first calls find the connections that were cut.
    while !is_refused(&store.head(&pen.stream).await, STANDBY) {}
    let resolved = store.resolve(&batch).await;
    assert!(is_refused(&resolved, STANDBY), "it is not there: {resolved:?}");
    let refused = loop {
        match commit(&store, &pen.batch("instead", 1)).await {
            Err(CommitError::OutcomeUnknown { .. }) => {}
            answer => break answer,
        }
    };
    assert!(
        matches!(refused, Err(CommitError::Store(StoreError::Unavailable { .. }))),
        "{refused:?}"
    );
    let probed = store.probe().await;
    assert!(is_refused(&probed, STANDBY), "{probed:?}");
    standby.promote();
    assert_eq!(
        resolve(&store, &batch).await,
        CommitOutcome::Committed(Committed { seq: Seq(2) })
    );
    pen.advance(&batch);
    pen.put(&store, "on the new primary", 1).await;
    // The old primary still takes commits, which no later reader would ever see.
    proxy.lead_to(database.port());
    while !is_refused(&store.head(&pen.stream).await, OVERTAKEN) {}
    let refused = loop {
        match commit(&store, &pen.batch("lost", 1)).await {
            Err(CommitError::OutcomeUnknown { .. }) => {}
            answer => break answer,
        }
    };
    assert!(
        matches!(refused, Err(CommitError::Store(StoreError::Unavailable { .. }))),
        "{refused:?}"
    );
    let resolved = store.resolve(&batch).await;
    assert!(is_refused(&resolved, OVERTAKEN), "{resolved:?}");
    proxy.lead_to(standby.port());
    assert_eq!(
        resolve(&store, &batch).await,
        CommitOutcome::Committed(Committed { seq: Seq(2) })
    );
}

/// Changes a value once the server that takes commits is found. Returns the last entry afterwards.
async fn change(engine: &Engine, value: &str) -> Seq {
    let request = engine.request_id();
    loop {
        match put(engine, request, value).await {
            Ok(reply) => return reply.seq,
            Err(EngineError::Store(StoreError::Unavailable { .. }) | EngineError::OutcomeUnknown { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn value_name() -> (Tenant, ValueName) {
    (Tenant::new("acme").unwrap(), ValueName::new("v").unwrap())
}

/// The standby that takes over had not received everything. One server still has the lost entries in its cache; another wrote first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_primary_took_along_is_not_written_on() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let standby = cluster.standby();
    let proxy = Proxy::start(database.port()).await;
    let target = with(&database.url_at(proxy.port()), "statement_timeout_ms=2000");
    let engine = async || {
        let store: Arc<dyn JournalStore> = Arc::new(PostgresStore::open(&target).await.unwrap());
        Engine::new(store, Arc::new(SystemClock))
    };
    let (a, b) = (engine().await, engine().await);
    assert_eq!(change(&a, "kept").await, Seq(1));
    while standby.says(database.name(), "SELECT count(*) FROM tape_entry") != "1" {}
    standby.lose_touch();
    assert_eq!(change(&a, "lost").await, Seq(2));
    cluster.stop();
    standby.promote();
    proxy.lead_to(standby.port());
    assert_eq!(change(&b, "instead").await, Seq(2));
    assert_eq!(change(&a, "on what there is").await, Seq(3));
    let (tenant, name) = value_name();
    for engine in [a, b, engine().await] {
        let value = engine.value_state(&tenant, &name).await.unwrap().unwrap();
        assert_eq!(value.version(), 3);
    }
}

/// A server whose commits wait for a missing standby, until this is dropped.
struct Waiting<'d>(&'d Database);

impl<'d> Waiting<'d> {
    fn begin(database: &'d Database) -> Self {
        let waiting = Self(database);
        waiting.set("ALTER SYSTEM SET synchronous_standby_names = 'away'", "away");
        waiting
    }

    fn end(self) {
        self.set("ALTER SYSTEM RESET synchronous_standby_names", "");
    }

    fn set(&self, statement: &str, expected: &str) {
        self.0.psql(statement);
        self.0.psql("SELECT pg_reload_conf()");
        while self.0.psql("SHOW synchronous_standby_names") != expected {}
    }

    /// Cancels the wait of a commit.
    fn cancel(&self) {
        const CANCEL: &str =
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while self.0.psql(CANCEL) == "0" {}
    }
}

fn is_unknown(answer: &Result<Committed, CommitError>) -> bool {
    matches!(answer, Err(CommitError::OutcomeUnknown { .. }))
}

/// Also where the setting for what commits wait for was changed, before the server connected or after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_no_standby_has_is_not_acknowledged() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    database.psql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$");
    let target = with(&database.url(), "statement_timeout_ms=500");
    let store = Arc::new(PostgresStore::open(&target).await.unwrap());
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "one", 1).await;
    database.psql("ALTER SYSTEM SET synchronous_commit = off");
    let waiting = Waiting::begin(&database);
    let silent = pen.batch("its answer does not come", 1);
    let answer = commit(store.as_ref(), &silent).await;
    assert!(is_unknown(&answer), "{answer:?}");
    let resolved = store.resolve(&silent).await;
    assert!(
        matches!(resolved, Err(StoreError::Unavailable { .. })),
        "{resolved:?}"
    );
    let read = store.head(&pen.stream).await.unwrap().unwrap();
    assert_eq!(read.seq, silent.last(), "it can be read by now");
    waiting.end();
    assert_eq!(
        resolve(store.as_ref(), &silent).await,
        CommitOutcome::Committed(Committed { seq: Seq(2) })
    );
    pen.advance(&silent);

    let waiting = Waiting::begin(&database);
    let cut = pen.batch("it is told not to wait", 1);
    let (committing, batch) = (Arc::clone(&store), cut.clone());
    let answer = tokio::spawn(async move { commit(committing.as_ref(), &batch).await });
    waiting.cancel();
    let answer = answer.await.unwrap();
    assert!(is_unknown(&answer), "{answer:?}");
    for _ in 0..2 {
        let (resolving, batch) = (Arc::clone(&store), cut.clone());
        let resolved = tokio::spawn(async move { resolving.resolve(&batch).await });
        waiting.cancel();
        let resolved = resolved.await.unwrap();
        assert!(
            matches!(resolved, Err(StoreError::Unavailable { .. })),
            "{resolved:?}"
        );
    }
    waiting.end();
    assert_eq!(
        resolve(store.as_ref(), &cut).await,
        CommitOutcome::Committed(Committed { seq: Seq(3) })
    );
}

/// The same for a change of a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_record_that_no_standby_has_is_not_acknowledged() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    database.psql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = local', current_database()); END $$");
    let target = with(&database.url(), "statement_timeout_ms=500");
    let store = Arc::new(PostgresStore::open(&target).await.unwrap());
    let change = |version: u64| {
        let (bytes, expected) = ("place".into(), version - 1);
        let next = Record { version, bytes };
        if expected == 0 {
            Swap::Make(next)
        } else {
            Swap::Replace { expected, next }
        }
    };
    assert!(store.swap_record("t/a/0", &change(1)).await.unwrap());
    let waiting = Waiting::begin(&database);
    let changing = Arc::clone(&store);
    let answer = tokio::spawn(async move { changing.swap_record("t/a/0", &change(2)).await });
    waiting.cancel();
    assert!(is_refused(&answer.await.unwrap(), "standbys may not have"));
    let found = store.record("t/a/0").await.unwrap().unwrap();
    assert_eq!(found.version, 2, "it can be read by now");
    let barrier = store.barrier().await;
    assert!(
        matches!(barrier, Err(StoreError::Unavailable { .. })),
        "{barrier:?}"
    );
    waiting.end();
    store.barrier().await.unwrap();
    assert!(store.swap_record("t/a/0", &change(3)).await.unwrap());
}

async fn put(engine: &Engine, request: RequestId, value: &str) -> Result<Reply, EngineError> {
    let (tenant, name) = value_name();
    let value = Payload::new("text/plain", value.to_owned()).unwrap();
    let put = ValueCommand::Put {
        value,
        expected: None,
    };
    engine.value(&tenant, &name, Command::new(request, put)).await
}

/// A repeated request is acknowledged only once a standby has it, by any server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_command_is_not_acknowledged_before_a_standby_has_it() {
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    let target = with(&database.url(), "statement_timeout_ms=300");
    let open = async || {
        let store = Arc::new(PostgresStore::open(&target).await.unwrap());
        Engine::new(store, Arc::new(SystemClock))
    };
    let (engine, other) = (open().await, open().await);
    let waiting = Waiting::begin(&database);
    let request = engine.request_id();
    for engine in [&engine, &other, &engine] {
        let told = put(engine, request, "once").await;
        assert!(
            matches!(told, Err(EngineError::OutcomeUnknown { .. })),
            "{told:?}"
        );
    }
    waiting.end();
    for engine in [&engine, &other] {
        assert_eq!(put(engine, request, "once").await.unwrap().seq, Seq(1));
    }
    assert_eq!(database.psql("SELECT count(*) FROM tape_entry"), "1");
}
