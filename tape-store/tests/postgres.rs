//! Tests for a store with many servers: races across connections, writers that pause during a commit, lost answers, and a database that
//! refuses.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod postgres_server;
mod proxy;

use pen::Pen;
use postgres_server::{Cluster, Database};
use proxy::Proxy;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_core::chain::Verifier;
use tape_core::command::{Begin, Command, Create, RunCommand};
use tape_core::id::{Key, RunId, Seq, Tenant};
use tape_core::payload::Payload;
use tape_core::status::RunStatus;
use tape_engine::{Engine, IndexFinding, IndexProblem};
use tape_store::clock::SystemClock;
use tape_store::contract::{CommitOutcome, Cursor, JournalStore, RunFilter, Shard, SnapshotChange};
use tape_store::error::{CommitError, StoreError};
use tape_store::postgres::{PostgresStore, Target};

const FEED: Shard = Shard(0);

async fn open(url: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&url.parse().unwrap()).await.unwrap())
}

fn with(url: &str, parameters: &str) -> Target {
    format!("{url}?{parameters}").parse().unwrap()
}

/// A number that a full-size run of the test increases.
fn scale(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Everything the feed has, checked: no stream skips or goes back.
async fn feed(store: &dyn JournalStore) -> HashMap<String, u64> {
    let (mut cursor, mut seen) = (Cursor::default(), HashMap::new());
    loop {
        let page = store.tail(FEED, &cursor, 1_000).await.unwrap();
        if page.entries.is_empty() {
            return seen;
        }
        note(&mut seen, &page.entries);
        cursor = page.cursor;
    }
}

fn note(seen: &mut HashMap<String, u64>, entries: &[tape_store::contract::FeedEntry]) {
    for fed in entries {
        let last = seen.entry(fed.stream.to_string()).or_default();
        assert_eq!(fed.entry.seq.0, *last + 1, "{} in the feed", fed.stream);
        *last += 1;
    }
}

/// Four servers commit groups over the same eleven streams, each in an order of its own, and half of them on guessed ends: groups never
/// deadlock, each end has one winner, and the feed has each stream in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_many_servers_neither_lock_each_other_out_nor_both_win() {
    const STREAMS: usize = 11;
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let servers = futures::future::join_all((0..4).map(|_| open(&url))).await;
    let write = |(n, store): (usize, Arc<PostgresStore>)| async move {
        let mut won = 0;
        for round in 0..scale("TAPE_RACE_ROUNDS", 60) {
            let mut batches = Vec::new();
            for i in 0..STREAMS {
                let mut pen = Pen::new(&format!("run-{}", (i * (n * 2 + 1) + round) % STREAMS));
                if let Some(head) = store.head(&pen.stream).await.unwrap() {
                    (pen.seq, pen.digest) = (head.seq, head.digest);
                }
                if pen.seq.0 > 0 && (i + n) % 2 == 0 {
                    pen.seq = pen.seq.next();
                }
                batches.push(pen.batch(&format!("{n}"), 1 + i % 3));
            }
            for answer in store.commit(batches).await {
                match answer {
                    Ok(_) => won += 1,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        won
    };
    let writers = servers
        .iter()
        .cloned()
        .enumerate()
        .map(|server| tokio::spawn(write(server)));
    let won: usize = futures::future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    let batches = database.psql("SELECT count(*) FROM tape_entry WHERE batch IS NOT NULL");
    assert_eq!(batches, won.to_string(), "each batch that won is there once");
    let seen = feed(servers[0].as_ref()).await;
    assert_eq!(seen.len(), STREAMS);
    let deadlocks =
        database.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!(deadlocks, "0");
}

/// Some writers pause for long between taking their transaction id and committing. The feed skips nothing; a reader that only remembers the
/// highest place does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_skips_nothing_while_writers_sit_amid_a_commit() {
    const WRITERS: usize = 32;
    let entries = scale("TAPE_TAIL_ENTRIES", 20_000);
    let seconds = scale("TAPE_TAIL_PAUSE_MS", 300) as f64 / 1_000.0;
    let Some(database) = Database::create() else {
        return;
    };
    // About sixty of the snapshots: a quarter of the batches has one.
    let share = 60.0 * 64.0 / entries as f64;
    // Some transactions pause once their entries are written. The sleep is under test, not how the test waits.
    database.psql(&format!(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF random() < {share} THEN PERFORM pg_sleep({seconds}); END IF; RETURN NULL; END $$; \
         CREATE TRIGGER dawdle AFTER INSERT OR UPDATE ON tape_snapshot FOR EACH ROW EXECUTE FUNCTION dawdle()"
    ));
    let url = database.url();
    let target = with(&url, "commit_connections=8");
    let servers: Vec<_> = futures::future::join_all((0..4).map(|_| PostgresStore::open(&target)))
        .await
        .into_iter()
        .map(|store| Arc::new(store.unwrap()))
        .collect();
    let (written, writing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(WRITERS)));
    let write = |n: usize| {
        let (store, written, writing) = (
            Arc::clone(&servers[n % 4]),
            Arc::clone(&written),
            Arc::clone(&writing),
        );
        async move {
            let mut pen = Pen::new(&format!("run-{n}"));
            while written.load(Ordering::Relaxed) < entries {
                let mut batch = pen.batch("x", 16);
                if n < 8 {
                    batch.snapshot = SnapshotChange::Replace(bytes::Bytes::from_static(b"{}"));
                }
                let answers = store.commit(vec![batch.clone()]).await;
                assert!(answers[0].is_ok(), "{answers:?}");
                pen.advance(&batch);
                written.fetch_add(16, Ordering::Relaxed);
            }
            writing.fetch_sub(1, Ordering::Release);
            (pen.stream.to_string(), pen.seq.0)
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(n))).collect();
    let read = |store: Arc<PostgresStore>, writing: Arc<AtomicUsize>| async move {
        let (mut cursor, mut seen) = (Cursor::default(), HashMap::new());
        loop {
            let over = writing.load(Ordering::Acquire) == 0;
            let changed = store.changed();
            let page = store.tail(FEED, &cursor, 1_000).await.unwrap();
            note(&mut seen, &page.entries);
            cursor = page.cursor;
            match (page.entries.is_empty(), over) {
                (true, true) => return seen,
                (true, false) => changed.await,
                _ => {}
            }
        }
    };
    let reader = tokio::spawn(read(open(&url).await, Arc::clone(&writing)));
    let naive = tokio::spawn(naive(url.clone(), Arc::clone(&writing)));
    let ends: HashMap<_, _> = futures::future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let total: u64 = ends.values().sum();
    assert_eq!(reader.await.unwrap(), ends, "the reader has all of every stream");
    let naive = naive.await.unwrap();
    assert!(
        naive < total,
        "a reader of the highest place skips: it has {naive} of {total}"
    );
}

/// How many entries a reader finds that continues from the highest place it has seen.
async fn naive(url: String, writing: Arc<AtomicUsize>) -> u64 {
    use sqlx::Row as _;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let (mut place, mut found) = ((0_i64, 0_i64, 0_i64), 0);
    loop {
        let over = writing.load(Ordering::Acquire) == 0;
        let query = "SELECT ord, stream, seq FROM tape_entry WHERE (ord, stream, seq) > ($1, $2, $3) ORDER BY 1, 2, 3 LIMIT 1000";
        let rows = sqlx::query(query)
            .bind(place.0)
            .bind(place.1)
            .bind(place.2)
            .fetch_all(&pool)
            .await
            .unwrap();
        match rows.last() {
            Some(row) => place = (row.get(0), row.get(1), row.get(2)),
            None if over => return found,
            None => {}
        }
        found += rows.len() as u64;
    }
}

/// A transaction that takes its id before another one, but the lock of a stream after it, does not reverse the order of the stream.
#[tokio::test]
async fn a_transaction_that_waits_with_an_early_id_does_not_win_on_an_end_it_could_not_see() {
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let (early, late) = (open(&url).await, open(&url).await);
    let (mut first, mut second) = (Pen::new("a"), Pen::new("b"));
    for pen in [&mut first, &mut second] {
        pen.put(early.as_ref(), "one", 1).await;
    }
    // A third party holds the head that the group locks first, so that the group waits with its id taken for a third stream.
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    let lock = "SELECT name FROM tape_head ORDER BY key LIMIT 1 FOR UPDATE";
    let held: String = sqlx::query_scalar(lock).fetch_one(&mut *holder).await.unwrap();
    let (held, free) = if held == first.stream.to_string() {
        (first, second)
    } else {
        (second, first)
    };
    let mut guess = free.clone();
    let next = free.batch("two", 1);
    guess.advance(&next);
    let new = Pen::new("c").batch("new", 1);
    let group = vec![new, held.batch("two", 1), guess.batch("three", 1)];
    let group = tokio::spawn(async move { early.commit(group).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(&pool)
        .await
        .unwrap()
        == 0
    {
        tokio::task::yield_now().await;
    }
    assert!(late.commit(vec![next]).await[0].is_ok());
    holder.rollback().await.unwrap();
    let answers = group.await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok(), "{answers:?}");
    let refused = matches!(answers[2], Err(CommitError::Conflict { .. }));
    assert!(
        refused,
        "the end that it guessed was not there when the group began: {answers:?}"
    );
    feed(late.as_ref()).await;
}

/// The request is delayed on the way. A batch that was reported as not committed never arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_held_up_is_not_carried_out_once_its_batch_was_missed() {
    let Some(database) = Database::create() else {
        return;
    };
    let proxy = Proxy::start(database.port()).await;
    let through = database.url_at(proxy.port());
    let store = PostgresStore::open(&with(&through, "statement_timeout_ms=500&commit_connections=2"))
        .await
        .unwrap();
    let mut pen = Pen::new("a");
    pen.put(&store, "one", 1).await;
    for _ in 0..3 {
        proxy.hold();
        let batch = pen.batch("two", 1);
        let answer = store.commit(vec![batch.clone()]).await.remove(0);
        assert!(
            matches!(answer, Err(CommitError::OutcomeUnknown { .. })),
            "{answer:?}"
        );
        // New connections pass; the one with the request is still held.
        proxy.pass_new();
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
        proxy.release().await;
        assert_eq!(
            store.head(&pen.stream).await.unwrap().unwrap().seq,
            pen.seq,
            "the batch came after all"
        );
        pen.put(&store, "again", 1).await;
    }
}

/// Connections are cut or half closed, and answers delayed, during commits: each lost answer is resolved by reading back, nothing is
/// written twice, and nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_resolved_by_reading_back() {
    let Some(database) = Database::create() else {
        return;
    };
    let proxy = Proxy::start(database.port()).await;
    let through = database.url_at(proxy.port());
    let store = Arc::new(
        PostgresStore::open(&with(&through, "statement_timeout_ms=1000"))
            .await
            .unwrap(),
    );
    proxy.havoc(100);
    let write = |n: usize| {
        let store = Arc::clone(&store);
        async move {
            let (mut pen, mut lost) = (Pen::new(&format!("run-{n}")), 0);
            while pen.seq.0 < 3 * scale("TAPE_PROXY_BATCHES", 150) as u64 {
                let batch = pen.batch("x", 3);
                match store.commit(vec![batch.clone()]).await.remove(0) {
                    Ok(_) => pen.advance(&batch),
                    Err(CommitError::Store(StoreError::Unavailable { .. })) => {}
                    Err(CommitError::OutcomeUnknown { .. }) => {
                        lost += 1;
                        let fate = loop {
                            match store.resolve(&batch).await {
                                Ok(fate) => break fate,
                                Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
                                Err(other) => panic!("{other:?}"),
                            }
                        };
                        if let CommitOutcome::Committed(_) = fate {
                            pen.advance(&batch);
                        }
                    }
                    Err(other) => panic!("a batch was told that it is not there, and it is: {other:?}"),
                }
            }
            (pen, lost)
        }
    };
    let writers: Vec<_> = (0..4).map(|n| tokio::spawn(write(n))).collect();
    let written: Vec<_> = futures::future::join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    proxy.havoc(0);
    assert!(
        written.iter().map(|(_, lost)| lost).sum::<usize>() > 0,
        "no answer was lost: the test shows nothing"
    );
    let straight = open(&database.url()).await;
    for (pen, _) in written {
        let entries = pen::all(straight.as_ref(), &pen.stream).await;
        assert_eq!(entries.len() as u64, pen.seq.0);
        let mut verifier = Verifier::new(&pen.stream, Some((pen.seq, pen.digest)));
        entries.iter().for_each(|entry| verifier.check(entry).unwrap());
        verifier.finish().unwrap();
    }
}

/// A copy in a cluster with smaller transaction ids continues after the existing entries.
#[tokio::test]
async fn the_feed_of_a_copy_in_another_cluster_goes_on() {
    let Some(database) = Database::create() else {
        return;
    };
    let mut pen = Pen::new("a");
    pen.put(open(&database.url()).await.as_ref(), "one", 2).await;
    database.psql("UPDATE tape_entry SET ord = ord + 1000000000");
    let store = open(&database.url()).await;
    let end = store.tail_end(FEED).await.unwrap();
    pen.put(store.as_ref(), "two", 1).await;
    let page = store.tail(FEED, &end, 10).await.unwrap();
    assert_eq!(
        page.entries.iter().map(|fed| fed.entry.seq).collect::<Vec<_>>(),
        [Seq(3)]
    );
    assert_eq!(feed(store.as_ref()).await.into_values().collect::<Vec<_>>(), [3]);
}

/// Where tables must not be changed, such a copy is refused, and not read out of order.
#[tokio::test]
async fn a_copy_in_another_cluster_is_refused_where_nothing_is_migrated() {
    let Some(database) = Database::create() else {
        return;
    };
    let mut pen = Pen::new("a");
    pen.put(open(&database.url()).await.as_ref(), "one", 2).await;
    let never = with(&database.url(), "migrate=never");
    PostgresStore::open(&never).await.unwrap();
    database.psql("UPDATE tape_entry SET ord = ord + 1000000000");
    let refused = PostgresStore::open(&never).await;
    assert!(
        matches!(refused, Err(StoreError::Invalid { what: "store", .. })),
        "{refused:?}"
    );
    open(&database.url()).await;
    PostgresStore::open(&never).await.unwrap();
}

/// Transaction ids that were assigned but not logged are assigned again after a crash: the end of the feed is not one of them.
#[tokio::test]
async fn a_reader_at_the_end_of_the_feed_misses_nothing_after_a_crash() {
    let Some(cluster) = Cluster::own() else {
        return;
    };
    let database = cluster.database();
    let store = open(&database.url()).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "one", 1).await;
    let losing = Pen::new("a");
    for _ in 0..100 {
        let refused = store.commit(vec![losing.batch("lost", 1)]).await.remove(0);
        assert!(
            matches!(refused, Err(CommitError::Conflict { .. })),
            "{refused:?}"
        );
    }
    let end = store.tail_end(FEED).await.unwrap();
    drop(store);
    cluster.crash();
    let store = open(&database.url()).await;
    pen.put(store.as_ref(), "two", 3).await;
    assert_eq!(store.tail(FEED, &end, 10).await.unwrap().entries.len(), 3);
}

/// One damaged entry is an error in its place.
#[tokio::test]
async fn the_feed_goes_on_after_a_damaged_entry() {
    let Some(database) = Database::create() else {
        return;
    };
    let store = open(&database.url()).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "one", 3).await;
    database.psql("UPDATE tape_entry SET payload = NULL WHERE seq = 2");
    let page = store.tail(FEED, &Cursor::default(), 10).await.unwrap();
    let read: Vec<u64> = page.entries.iter().map(|fed| fed.entry.seq.0).collect();
    assert_eq!(read, [1, 3]);
    assert_eq!(page.damaged[0].stream.as_ref(), Some(&pen.stream));
}

/// Every kind of refusal by a database is reported with its cause, leaves nothing behind, and ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_is_unavailable_and_comes_back() {
    let Some(database) = Database::create() else {
        return;
    };
    let store = PostgresStore::open(&with(&database.url(), "statement_timeout_ms=300"))
        .await
        .unwrap();
    let mut pen = Pen::new("a");
    pen.put(&store, "one", 1).await;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                  RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER full_disk BEFORE INSERT ON tape_entry FOR EACH ROW EXECUTE FUNCTION full_disk()";
    refuses(
        &store,
        &mut pen,
        "No space left",
        || database.psql(full),
        || database.psql("DROP FUNCTION full_disk CASCADE"),
    )
    .await;
    database.set_read_only(true);
    // The first call finds the connection that was closed meanwhile.
    let batch = pen.batch("x", 1);
    if let Err(CommitError::OutcomeUnknown { .. }) = store.commit(vec![batch.clone()]).await.remove(0) {
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
    }
    let mend = || {
        database.set_read_only(false);
        String::new()
    };
    refuses(&store, &mut pen, "read-only", String::new, mend).await;
    // A lock that is held for long: the database itself cancels the statement.
    let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE tape_head IN EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let error = store.commit(vec![pen.batch("x", 1)]).await.remove(0).unwrap_err();
    assert!(
        matches!(&error, CommitError::Store(StoreError::Unavailable { source, .. }) if source.to_string().contains("timeout")),
        "{error:?}"
    );
    holder.rollback().await.unwrap();
    pen.put(&store, "and on", 1).await;
    // No server listens.
    let gone = with("postgres://tape@127.0.0.1:1/none", "connect_timeout=1");
    assert!(matches!(
        PostgresStore::open(&gone).await,
        Err(StoreError::Unavailable { .. })
    ));
}

/// While the database is as `spoil` makes it, a commit is refused with a cause. Once the database is repaired, the store continues.
async fn refuses(
    store: &PostgresStore,
    pen: &mut Pen,
    cause: &str,
    spoil: impl FnOnce() -> String,
    mend: impl FnOnce() -> String,
) {
    spoil();
    let error = store.commit(vec![pen.batch("x", 1)]).await.remove(0).unwrap_err();
    let CommitError::Store(StoreError::Unavailable { source, .. }) = &error else {
        panic!("{error:?}")
    };
    assert!(source.to_string().contains(cause), "{source}");
    mend();
    // Connections that were made meanwhile may be gone, so this retries as a stream service does.
    loop {
        let batch = pen.batch("y", 1);
        match store.commit(vec![batch.clone()]).await.remove(0) {
            Ok(_) => return pen.advance(&batch),
            Err(CommitError::OutcomeUnknown { .. }) => {
                assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// A commit of one server wakes tasks that wait at another, long before these would look by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_who_waits_at_another_server() {
    const BEFORE_A_LOOK: Duration = Duration::from_secs(4);
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let (writer, reader) = (open(&url).await, open(&url).await);
    let mut pen = Pen::new("a");
    // Both must be connected before the first notice can arrive.
    pen.put(writer.as_ref(), "first", 1).await;
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN \"tape\"'";
    while database.psql(listening) != "2" {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        let changed = reader.changed();
        pen.put(writer.as_ref(), "x", 1).await;
        tokio::time::timeout(BEFORE_A_LOOK, changed)
            .await
            .expect("the notice comes");
    }
}

/// A person reads entries with psql.
#[tokio::test]
async fn entries_are_readable_with_psql() {
    let Some(database) = Database::create() else {
        return;
    };
    let store = open(&database.url()).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "what a person reads", 1).await;
    let row = database.psql("SELECT seq, kind, payload, stream, at FROM tape_entries WHERE key = tape_key('t/run/app/user/session/a')");
    assert_eq!(
        row,
        "1|run.checkpoint|what a person reads|t/run/app/user/session/a|1970-01-01 00:00:00.000001+00"
    );
    store.erase(&pen.stream, &[Seq(1)]).await.unwrap();
    assert_eq!(
        database.psql("SELECT seq, kind, payload FROM tape_entries"),
        "1|run.checkpoint|"
    );
    assert_eq!(database.psql(r"SELECT tape_text('\xff00')"), r"\xff00");
}

/// A payload that is gone without having been erased is damage.
#[tokio::test]
async fn an_erased_payload_is_told_from_a_lost_one() {
    let Some(database) = Database::create() else {
        return;
    };
    let store = open(&database.url()).await;
    let mut pen = Pen::new("a");
    pen.put(store.as_ref(), "x", 3).await;
    store.erase(&pen.stream, &[Seq(2)]).await.unwrap();
    store.erase(&pen.stream, &[Seq(2)]).await.unwrap();
    let there = pen::all(store.as_ref(), &pen.stream).await.into_iter();
    let there: Vec<bool> = there.map(|entry| entry.payload.is_some()).collect();
    assert_eq!(there, [true, false, true]);
    database.psql("UPDATE tape_entry SET payload = NULL WHERE seq = 3");
    let error = store.read(&pen.stream, Seq::ZERO, 10).await;
    let error = error.expect_err("it was never erased");
    let named = format!("row 3 of {} of table tape_entry", pen.stream);
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if *what == named),
        "{error}"
    );
    let page = store.tail(FEED, &Cursor::default(), 10).await.unwrap();
    assert!(page.damaged[0].problem.contains(&named), "{:?}", page.damaged);
}

/// Every column that lists filter by is compared.
#[tokio::test]
async fn a_row_of_the_lists_that_is_wrong_in_any_column_is_found_and_put_right() {
    let Some(database) = Database::create() else {
        return;
    };
    let engine = Engine::new(open(&database.url()).await, Arc::new(SystemClock));
    let run = RunId::new("t", "app", "user", "session", "i").unwrap();
    let label = (Key::new("color").unwrap(), "red".to_owned());
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: [label.clone()].into(),
            input: Payload::empty(),
            forked_from: None,
        }),
        holder: "driver".parse().unwrap(),
        lease_ms: 1_000,
        adopt: None,
        recovery: false,
    };
    let begin = Command::new(engine.request_id(), RunCommand::Begin(begin));
    engine.run(&run, begin).await.unwrap();
    let filter = RunFilter {
        app: Some(run.app.clone()),
        statuses: [RunStatus::Running].into(),
        label: Some(label),
        ..RunFilter::all(run.tenant.clone())
    };
    let right = engine.store().runs(&filter, None, 10).await.unwrap().runs;
    assert_eq!(right.len(), 1);
    let other = RunFilter::all(Tenant::new("other").unwrap());
    for wrong in [
        "tenant = 'other'",
        "app = 'other'",
        "status = 'failed'",
        "begun_at = 1",
        "changed_at = 1",
        "labels = '{}'",
        "label_keys = ''",
    ] {
        database.psql(&format!("UPDATE tape_run SET {wrong}"));
        let found = engine.store().runs(&other, None, 10).await.unwrap().runs;
        assert_eq!(found, [], "{wrong}: it is not of another tenant");
        let listed = async || {
            let page = engine.check_index(None, 10, true).await.unwrap();
            let listed = |found: &&IndexFinding| found.problem == IndexProblem::Listed && found.corrected;
            page.findings.iter().filter(listed).count()
        };
        assert_eq!(listed().await, 1, "{wrong}");
        assert_eq!(listed().await, 0, "{wrong}: it was put right");
        let now = engine.store().runs(&filter, None, 10).await.unwrap().runs;
        assert_eq!(now, right, "{wrong}");
    }
}
