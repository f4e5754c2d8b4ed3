//! Tests for the store in a file: foreign files, damage, limits, other processes, and the cost of queries.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod process;
mod sqlite_file;

use pen::Pen;
use process::{Child, role};
use sqlite_file::{connect, engine, file, put, value};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_core::command::{Begin, Command, Create, RunCommand};
use tape_core::id::{Key, RunId, Seq, Tenant};
use tape_core::payload::Payload;
use tape_core::status::RunStatus;
use tape_engine::{Engine, EngineError, IndexFinding, IndexProblem};
use tape_store::clock::Clock as _;
use tape_store::clock::SystemClock;
use tape_store::contract::{Cursor, JournalStore, RunFilter, Shard};
use tape_store::error::{CommitError, StoreError};
use tape_store::sqlite::{Settings, SqliteStore};

/// A journal of `n` entries of one value, closed.
async fn journal(path: &Path, n: usize) {
    let engine = engine(path).await;
    for i in 0..n {
        put(&engine, &i.to_string()).await.unwrap();
    }
}

async fn execute(path: &Path, statement: &str) {
    let mut connection = connect(path).await;
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_database_of_another_application_stays_as_it_is() {
    let (_directory, path) = file();
    execute(&path, "CREATE TABLE theirs(a); INSERT INTO theirs VALUES (1)").await;
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open(&path).await.expect_err("it is not a journal");
    assert!(matches!(refused, StoreError::Invalid { .. }), "{refused}");
    assert!(refused.to_string().contains("another application"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_stays_as_it_is() {
    let (_directory, path) = file();
    let before = b"Dear diary, today I was a text file, and quite a long one.".repeat(100);
    std::fs::write(&path, &before).unwrap();
    let refused = SqliteStore::open(&path).await.expect_err("it is not a database");
    assert!(matches!(refused, StoreError::Invalid { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_journal_of_a_newer_build_stays_as_it_is() {
    let (_directory, path) = file();
    journal(&path, 1).await;
    execute(&path, "PRAGMA user_version = 7; PRAGMA wal_checkpoint(TRUNCATE)").await;
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open(&path).await.expect_err("a newer build made it");
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 7, known: 5 }),
        "{refused}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_unavailable() {
    let (directory, _) = file();
    let refused = SqliteStore::open(&directory.path().join("no/such/directory/tape.db")).await;
    let Err(StoreError::Unavailable { source, .. }) = &refused else {
        panic!("{refused:?}")
    };
    let said = source.to_string();
    assert!(
        said.contains("no/such/directory/tape.db: unable to open database file (SQLite code 14)"),
        "{said}"
    );
    assert!(matches!(
        tape_store::open::open("sqlite:").await,
        Err(StoreError::Invalid { .. })
    ));
    assert!(matches!(
        tape_store::open::open("mongodb://x").await,
        Err(StoreError::Invalid { .. })
    ));
}

#[tokio::test]
async fn of_many_that_make_the_file_at_once_all_find_one_journal() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..200 {
        let path = directory.path().join(format!("{n}.db"));
        let opened = futures::future::join_all((0..4).map(|_| SqliteStore::open(&path))).await;
        assert!(opened.iter().all(Result::is_ok), "file {n}: {opened:?}");
    }
}

/// A stream that lost its head is told as damaged where a batch begins it anew, and the other batches of the commit are taken.
#[tokio::test]
async fn a_lost_head_refuses_its_own_batch_only() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    Pen::new("lost").put(&store, "one", 1).await;
    execute(&path, "DELETE FROM head").await;
    let (lost, sound) = (Pen::new("lost"), Pen::new("sound"));
    let answers = store
        .commit(vec![lost.batch("again", 1), sound.batch("one", 1)])
        .await;
    let is_damage = matches!(&answers[0], Err(CommitError::Store(StoreError::Corrupt { .. })));
    assert!(is_damage, "{answers:?}");
    assert!(answers[1].is_ok(), "{answers:?}");
}

/// Each kind of damage to rows, and the error that reports it.
#[tokio::test]
async fn damaged_rows_are_found_and_named() {
    for (damage, names) in [
        (
            "UPDATE entry SET digest = x'00' WHERE seq = 3",
            "row 3 of t/value/v of table entry",
        ),
        (
            "UPDATE entry SET payload = NULL WHERE seq = 3",
            "row 3 of t/value/v of table entry",
        ),
        (
            "DELETE FROM entry WHERE seq = 3",
            "row 3 of t/value/v of table entry",
        ),
        (
            "UPDATE entry SET seq = 9 WHERE seq = 3",
            "row 3 of t/value/v of table entry",
        ),
        (
            "UPDATE entry SET stream = 99 WHERE seq = 3",
            "row 3 of t/value/v of table entry",
        ),
        (
            "UPDATE entry SET prev = pos WHERE seq = 3",
            "row 2 of t/value/v of table entry",
        ),
        (
            "UPDATE entry SET prev = pos + 1 WHERE seq = 3",
            "row 2 of t/value/v of table entry",
        ),
        ("DELETE FROM entry WHERE seq = 5", "head"),
        ("UPDATE head SET pos = 77", "head"),
        ("UPDATE head SET seq = 4", "head"),
        ("UPDATE head SET seq = 7", "head"),
    ] {
        let (_directory, path) = file();
        journal(&path, 5).await;
        execute(&path, damage).await;
        let store = SqliteStore::open(&path).await.unwrap();
        let (_, _, stream) = value();
        let read = match store.head(&stream).await {
            Ok(_) => store.read(&stream, Seq::ZERO, 10).await.map(drop),
            Err(error) => Err(error),
        };
        let error = read.expect_err(damage);
        assert!(
            matches!(&error, StoreError::Corrupt { what, .. } if what.contains(names)),
            "{damage}: {error}"
        );
        // Nothing is written over the damage.
        let refused = put(&Engine::new(Arc::new(store), Arc::new(SystemClock)), "on top").await;
        assert!(
            matches!(refused, Err(EngineError::Store(StoreError::Corrupt { .. }))),
            "{damage}: {refused:?}"
        );
    }
}

/// An erased payload is no damage, also where it was erased by a version that did not record it.
#[tokio::test]
async fn an_erased_payload_is_told_from_a_lost_one() {
    let (_directory, path) = file();
    journal(&path, 5).await;
    let (_, _, stream) = value();
    let store = SqliteStore::open(&path).await.unwrap();
    store.erase(&stream, &[Seq(2)]).await.unwrap();
    store.erase(&stream, &[Seq(2)]).await.unwrap();
    drop(store);
    // The file in the form of the first version of the schema.
    execute(
        &path,
        "DROP TABLE erased; DROP TABLE kept; DROP TABLE clock; DROP TABLE record; PRAGMA user_version = 1",
    )
    .await;
    let store = SqliteStore::open(&path).await.unwrap();
    let payloads = |read: Vec<tape_core::codec::StoredEntry>| {
        let there = read.iter().map(|entry| entry.payload.is_some());
        there.collect::<Vec<_>>()
    };
    let read = store.read(&stream, Seq::ZERO, 10).await.unwrap();
    assert_eq!(payloads(read), [true, false, true, true, true]);
    store.erase(&stream, &[Seq(4)]).await.unwrap();
    let read = store.read(&stream, Seq::ZERO, 10).await.unwrap();
    assert_eq!(payloads(read), [true, false, true, false, true]);
    execute(&path, "UPDATE entry SET payload = NULL WHERE seq = 3").await;
    let lost = store.read(&stream, Seq::ZERO, 10).await;
    let error = lost.expect_err("it was never erased");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let page = store.tail(Shard(0), &Cursor::default(), 10).await.unwrap();
    assert_eq!(page.damaged[0].stream.as_ref(), Some(&stream));
}

/// Bytes that are changed within a row: the chain detects it.
#[tokio::test]
async fn damaged_bytes_are_found_by_the_chain() {
    for damage in [
        "UPDATE entry SET envelope = x'7b7d' WHERE seq = 3",
        "UPDATE entry SET envelope = replace(envelope, 'value.put', 'value.pat') WHERE seq = 3",
        "UPDATE entry SET payload = x'39' WHERE seq = 3",
        "UPDATE entry SET payload = x'' WHERE seq = 3",
        "UPDATE entry SET digest = zeroblob(32) WHERE seq = 5",
    ] {
        let (_directory, path) = file();
        journal(&path, 5).await;
        let damage = damage
            .replace("replace(envelope", "CAST(replace(envelope")
            .replace("'value.pat')", "'value.pat') AS BLOB)");
        execute(&path, &damage).await;
        let refused = put(&engine(&path).await, "on top").await;
        assert!(
            matches!(refused, Err(EngineError::Damaged { .. })),
            "{damage}: {refused:?}"
        );
    }
}

/// One tenant's damage is an error in its place: the feed continues after it, for this tenant and for the others.
#[tokio::test]
async fn the_feed_goes_on_after_a_damaged_entry() {
    let (_directory, path) = file();
    journal(&path, 5).await;
    for damage in [
        "UPDATE entry SET payload = NULL WHERE seq = 2",
        "UPDATE entry SET digest = x'00' WHERE seq = 4",
    ] {
        execute(&path, damage).await;
    }
    let store = SqliteStore::open(&path).await.unwrap();
    let page = store.tail(Shard(0), &Cursor::default(), 10).await.unwrap();
    let read: Vec<u64> = page.entries.iter().map(|fed| fed.entry.seq.0).collect();
    assert_eq!(read, [1, 3, 5]);
    let told: Vec<_> = page
        .damaged
        .iter()
        .map(|damaged| damaged.stream.as_ref())
        .collect();
    let (_, _, stream) = value();
    assert_eq!(told, [Some(&stream), Some(&stream)]);
    assert!(
        page.damaged[0].problem.contains("row 2 of t/value/v"),
        "{:?}",
        page.damaged
    );
    let rest = store.tail(Shard(0), &page.cursor, 10).await.unwrap();
    assert!(rest.is_end());
}

/// A backup is restored: later entries may take the places of earlier, lost ones.
#[tokio::test]
async fn a_cursor_of_before_a_restore_is_refused() {
    let (_directory, path) = file();
    journal(&path, 3).await;
    let backup = path.with_extension("backup");
    execute(&path, &format!("VACUUM INTO '{}'", backup.display())).await;
    for text in ["four", "five"] {
        put(&engine(&path).await, text).await.unwrap();
    }
    let store = SqliteStore::open(&path).await.unwrap();
    let old = store.tail(Shard(0), &Cursor::default(), 10).await.unwrap().cursor;
    let shared = store.tail(Shard(0), &Cursor::default(), 3).await.unwrap().cursor;
    let end = store.tail_end(Shard(0)).await.unwrap();
    drop(store);
    for written in 0..4 {
        let restored = SqliteStore::open(&backup).await.unwrap();
        for cursor in [&old, &end] {
            let refused = restored.tail(Shard(0), cursor, 10).await;
            let is_refused = matches!(refused, Err(StoreError::Invalid { what: "cursor", .. }));
            assert!(is_refused, "after {written} entries: {refused:?}");
        }
        let page = restored.tail(Shard(0), &shared, 10).await.unwrap();
        assert_eq!(page.entries.len(), written);
        drop(restored);
        put(&engine(&backup).await, "another").await.unwrap();
    }
}

/// A run under another name would give its effects other keys, and the upstream would act again.
#[tokio::test]
async fn a_run_that_was_moved_under_another_name_is_refused() {
    let (_directory, path) = file();
    let run = |invocation| RunId::new("t", "bills", "ann", "march", invocation).unwrap();
    let begin = |run: &RunId, create| {
        let begin = Begin {
            run: run.clone(),
            create,
            holder: "a".parse().unwrap(),
            lease_ms: 1_000,
            adopt: None,
            recovery: false,
        };
        let request = SystemClock.request_id();
        Command::new(request, RunCommand::Begin(begin))
    };
    let create = Create {
        labels: [].into(),
        input: Payload::empty(),
        forked_from: None,
    };
    let (seven, eight) = (run("bill-7"), run("bill-8"));
    let engine_before = engine(&path).await;
    engine_before
        .run(&seven, begin(&seven, Some(create)))
        .await
        .unwrap();
    drop(engine_before);
    execute(
        &path,
        "UPDATE stream SET name = replace(name, 'bill-7', 'bill-8')",
    )
    .await;
    let refused = engine(&path).await.run(&eight, begin(&eight, None)).await;
    assert!(matches!(refused, Err(EngineError::Damaged { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_nothing_is_written() {
    let (_directory, path) = file();
    let mut settings = Settings::default();
    settings.file_bytes_max = Some(400_000);
    let store = Arc::new(SqliteStore::open_with(&path, &settings).await.unwrap());
    let engine = Engine::new(Arc::clone(&store) as Arc<dyn JournalStore>, Arc::new(SystemClock));
    let mut written = 0;
    let refused = loop {
        match put(&engine, &"x".repeat(20_000)).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the file has a bound");
    };
    assert!(
        matches!(refused, EngineError::Store(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    let probed = store.probe().await;
    assert!(
        matches!(probed, Err(StoreError::Unavailable { .. })),
        "what is full is not well, whatever still fits: {probed:?}"
    );
    let (_, _, stream) = value();
    assert_eq!(store.head(&stream).await.unwrap().unwrap().seq, Seq(written));
    // With room again, the store continues.
    let engine = self::engine(&path).await;
    put(&engine, "on").await.unwrap();
    assert_eq!(store.head(&stream).await.unwrap().unwrap().seq, Seq(written + 1));
}

#[tokio::test]
async fn a_file_that_somebody_locks_is_unavailable_until_let_go() {
    let (_directory, path) = file();
    let mut settings = Settings::default();
    settings.busy_timeout = Duration::from_millis(20);
    let store = Arc::new(SqliteStore::open_with(&path, &settings).await.unwrap());
    let engine = Engine::new(Arc::clone(&store) as Arc<dyn JournalStore>, Arc::new(SystemClock));
    put(&engine, "before").await.unwrap();
    let mut other = connect(&path).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    for _ in 0..3 {
        let refused = put(&engine, "while it is locked").await;
        assert!(
            matches!(refused, Err(EngineError::Store(StoreError::Unavailable { .. }))),
            "{refused:?}"
        );
    }
    other.execute("ROLLBACK").await.unwrap();
    put(&engine, "after").await.unwrap();
    let (_, _, stream) = value();
    assert_eq!(store.head(&stream).await.unwrap().unwrap().seq, Seq(2));
}

/// The process that may read the file and not write it.
#[test]
fn reader() {
    let Some(path) = role("reader") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open(Path::new(&path)).await.unwrap());
        let (_, _, stream) = value();
        let seq = store.head(&stream).await.unwrap().unwrap().seq;
        let refused = put(&Engine::new(store, Arc::new(SystemClock)), "in vain").await;
        let unavailable = matches!(refused, Err(EngineError::Store(StoreError::Unavailable { .. })));
        process::say(&format!("{seq} {unavailable}"));
    });
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_read_and_not_written() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = file();
    journal(&path, 3).await;
    // The directory may be written, since readers of a WAL need their shared memory beside the file.
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    for other in ["tape.db-wal", "tape.db-shm"] {
        let _ = std::fs::set_permissions(directory.path().join(other), PermissionsExt::from_mode(0o666));
    }
    let mut child = Child::start_unprivileged("reader", &path);
    let said = child
        .output()
        .lines()
        .map_while(Result::ok)
        .find_map(|line| process::said(&line).map(str::to_owned));
    assert_eq!(said.as_deref(), Some("3 true"));
}

/// The commits of another process wake waiting tasks, and an engine with an old state answers by the new one.
#[tokio::test]
async fn another_store_on_the_file_is_noticed() {
    let (_directory, path) = file();
    let (one, two) = (engine(&path).await, engine(&path).await);
    let (tenant, name, _) = value();
    for n in 0..5 {
        let cursor = two.store().tail_end(Shard(0)).await.unwrap();
        let mut changed = two.store().changed();
        put(&one, "x").await.unwrap();
        // It may wake spuriously, and must look again.
        while two
            .store()
            .tail(Shard(0), &cursor, 10)
            .await
            .unwrap()
            .entries
            .is_empty()
        {
            changed.await;
            changed = two.store().changed();
        }
        assert_eq!(
            two.value_state(&tenant, &name).await.unwrap().unwrap().version(),
            2 * n + 1
        );
        put(&two, "y").await.unwrap();
    }
}

/// Rows of the indexes that a newer build wrote, or that are damaged, are passed over; what comes after them is found.
#[tokio::test]
async fn rows_of_indexes_that_cannot_be_read_are_passed_over() {
    let (_directory, path) = file();
    let engine = engine(&path).await;
    for n in 0..4 {
        let run = RunId::new("t", "app", "user", "session", &n.to_string()).unwrap();
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels: Default::default(),
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
    }
    execute(
        &path,
        "UPDATE agenda SET item = 'review:later' WHERE stream IN (1, 3); \
         INSERT INTO agenda VALUES (1, 0, 999, 'run'); \
         UPDATE run SET status = 'paused' WHERE stream = 2; UPDATE run SET labels = '[]' WHERE stream = 3",
    )
    .await;
    let store = engine.store();
    let due = async |limit, after: Option<&tape_store::contract::Hint>| {
        let until = tape_core::time::Timestamp::MAX;
        store
            .due(tape_core::agenda::Queue::Recovery, Shard(0), until, after, limit)
            .await
            .unwrap()
    };
    let all = due(10, None).await;
    let names: Vec<_> = all.iter().map(|hint| hint.stream.to_string()).collect();
    assert_eq!(names, ["t/run/app/user/session/1", "t/run/app/user/session/3"]);
    let first = due(1, None).await;
    assert_eq!(first, all[..1], "a page is full as long as there is more");
    assert_eq!(due(1, Some(&first[0])).await, all[1..]);
    let filter = RunFilter::all(Tenant::new("t").unwrap());
    let (mut listed, mut from) = (0, None);
    loop {
        let page = store.runs(&filter, from.as_ref(), 1).await.unwrap();
        (listed, from) = (listed + page.runs.len(), page.next);
        if from.is_none() {
            break;
        }
    }
    assert_eq!(listed, 2, "the rest of the list goes on");
}

/// Every column that lists filter by is compared, and the rows of the labels with them.
#[tokio::test]
async fn a_row_of_the_lists_that_is_wrong_in_any_way_is_found_and_put_right() {
    let (_directory, path) = file();
    let engine = engine(&path).await;
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
    let other = Tenant::new("other").unwrap();
    let blue = RunFilter {
        label: Some((Key::new("color").unwrap(), "blue".to_owned())),
        ..RunFilter::all(run.tenant.clone())
    };
    for wrong in [
        "UPDATE run SET tenant = 'other'",
        "UPDATE run SET app = 'other'",
        "UPDATE run SET status = 'failed'",
        "UPDATE run SET begun_at = 1",
        "UPDATE run SET changed_at = 1",
        "UPDATE run SET labels = '{\"color\":\"blue\"}'",
        "UPDATE run SET labels = '[]'",
        "UPDATE label SET tenant = 'other'",
        "UPDATE label SET value = 'blue'",
        "UPDATE label SET begun_at = 1",
        "DELETE FROM label",
        "DELETE FROM run",
    ] {
        execute(&path, wrong).await;
        let listed = async || {
            let page = engine.check_index(None, 10, true).await.unwrap();
            let listed = |found: &&IndexFinding| found.problem == IndexProblem::Listed && found.corrected;
            page.findings.iter().filter(listed).count()
        };
        let found = engine
            .store()
            .runs(&RunFilter::all(other.clone()), None, 10)
            .await;
        assert_eq!(found.unwrap().runs, [], "{wrong}: it is not of another tenant");
        assert_eq!(listed().await, 1, "{wrong}");
        assert_eq!(listed().await, 0, "{wrong}: it was put right");
        let now = engine.store().runs(&filter, None, 10).await.unwrap().runs;
        assert_eq!(now, right, "{wrong}");
        let found = engine.store().runs(&blue, None, 10).await.unwrap().runs;
        assert_eq!(found, [], "{wrong}: it is not found by another label");
    }
}
