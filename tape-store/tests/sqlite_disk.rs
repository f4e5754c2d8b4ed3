//! The store in a file on disks that fail, that take no writes, or that a log must not fill.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod process;

use pen::{Pen, all};
use process::{Child, role, say};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tape_core::id::{Epoch, Seq, Tenant};
use tape_store::contract::{CommitOutcome, Cursor, JournalStore, RunFilter, Shard};
use tape_store::error::{CommitError, StoreError};
use tape_store::sqlite::SqliteStore;
use tape_store::upkeep::{Correction, End};

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// The error of a call after the disk failed.
fn told<T>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Ok(_) => "done".to_owned(),
        Err(StoreError::Poisoned { source, .. }) => format!("poisoned: {source}"),
        Err(other) => format!("{other:?}"),
    }
}

/// The process whose disk fails during a commit. It dies without closing SQLite.
#[test]
fn writer_on_a_failing_disk() {
    let Some(path) = role("writer_on_a_failing_disk") else {
        return;
    };
    let path = Path::new(&path);
    let fails = PathBuf::from(std::env::var_os("TAPE_TEST_FAILS").unwrap());
    block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        let mut pen = Pen::new("a");
        pen.put(&store, "acknowledged", 1).await;
        std::fs::write(&fails, "").unwrap();
        let batch = pen.batch("in doubt", 2);
        match store.commit(vec![batch.clone()]).await.remove(0) {
            Err(CommitError::OutcomeUnknown { .. }) => say("unknown"),
            other => say(&format!("{other:?}")),
        }
        // The disk works again, but its content is still unknown.
        std::fs::remove_file(&fails).unwrap();
        say(&told(store.resolve(&batch).await));
        match store.commit(vec![pen.batch("instead", 1)]).await.remove(0) {
            Err(CommitError::Store(error)) => say(&told::<()>(Err(error))),
            other => say(&format!("{other:?}")),
        }
        say(&told(store.head(&pen.stream).await));
        say(&told(store.read(&pen.stream, Seq::ZERO, 10).await));
        say(&told(store.tail(Shard(0), &Cursor::default(), 10).await));
        say(&told(store.erase(&pen.stream, &[Seq(1)]).await));
        say(&told(store.drop_before(&[(pen.stream.clone(), Seq(1))]).await));
        say(&told(store.probe().await));
        let upkeep = store.upkeep();
        let stream = &pen.stream;
        let end = End {
            seq: pen.seq,
            epoch: Epoch::default(),
            digest: pen.digest,
        };
        say(&told(upkeep.streams(None, 10).await));
        say(&told(upkeep.indexed(stream, &[]).await));
        say(&told(upkeep.index_version().await));
        say(&told(upkeep.reindex(stream, end, &Correction::default()).await));
        say(&told(upkeep.set_index_version(1).await));
    });
    std::process::abort();
}

/// The process whose disk fails while it writes an index.
#[test]
fn upkeep_on_a_failing_disk() {
    let Some(path) = role("upkeep_on_a_failing_disk") else {
        return;
    };
    let fails = PathBuf::from(std::env::var_os("TAPE_TEST_FAILS").unwrap());
    block_on(async {
        let store = SqliteStore::open(Path::new(&path)).await.unwrap();
        let mut pen = Pen::new("a");
        pen.put(&store, "acknowledged", 1).await;
        std::fs::write(&fails, "").unwrap();
        say(&told(store.upkeep().set_index_version(1).await));
        std::fs::remove_file(&fails).unwrap();
        match store.commit(vec![pen.batch("on top", 1)]).await.remove(0) {
            Err(CommitError::Store(error)) => say(&told::<()>(Err(error))),
            other => say(&format!("{other:?}")),
        }
    });
    std::process::abort();
}

/// The output of a process whose disk can be made to fail.
fn on_a_failing_disk(role: &str, directory: &Path, path: &Path) -> Vec<String> {
    let library = directory.join("failing_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failing_disk/failing_disk.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source);
    assert!(compiler.arg("-ldl").status().unwrap().success());
    let fails = directory.join("fails");
    Child::start_with_library(role, path, (&library, "TAPE_TEST_FAILS", &fails)).says()
}

fn failed_fsync(path: &Path) -> String {
    format!(
        "poisoned: {}: disk I/O error: fsync failed (SQLite code 1034)",
        path.display()
    )
}

/// An index is written to the same log, and later commits depend on it.
#[test]
fn a_failed_fsync_of_an_index_is_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let said = on_a_failing_disk("upkeep_on_a_failing_disk", directory.path(), &path);
    assert_eq!(said, [failed_fsync(&path), failed_fsync(&path)]);
}

#[test]
fn after_a_failed_fsync_nothing_is_said_until_the_file_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let said = on_a_failing_disk("writer_on_a_failing_disk", directory.path(), &path);
    assert_eq!(said.len(), 14, "{said:?}");
    assert_eq!(said[0], "unknown");
    for told in &said[1..] {
        assert_eq!(*told, failed_fsync(&path));
    }
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut pen = Pen::new("a");
        pen.advance(&pen.batch("acknowledged", 1));
        let batch = pen.batch("in doubt", 2);
        let entries = all(&store, &pen.stream).await.len();
        match store.resolve(&batch).await.unwrap() {
            CommitOutcome::Committed(_) => {
                pen.advance(&batch);
                assert_eq!(entries, 3);
            }
            fate => assert_eq!((fate, entries), (CommitOutcome::NotCommitted, 1)),
        }
        pen.put(&store, "on", 1).await;
        assert_eq!(all(&store, &pen.stream).await.len() as u64, pen.seq.0);
    });
}

/// What happens to a file, or its log, while a process has it open.
type Blow = fn(&Path);

/// Whether a probe or a commit comes first: the store refuses it, and every later call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_removed_or_replaced_is_not_written_to_any_more() {
    let fates: [(&str, Blow); 4] = [
        ("db was removed", |path| std::fs::remove_file(path).unwrap()),
        ("db was replaced", |path| {
            let backup = beside(path, "-backup");
            std::fs::copy(path, &backup).unwrap();
            std::fs::rename(backup, path).unwrap();
        }),
        ("db-wal was removed", |path| {
            std::fs::remove_file(beside(path, "-wal")).unwrap()
        }),
        ("db-wal was replaced", |path| {
            std::fs::write(beside(path, "-other"), "").unwrap();
            std::fs::rename(beside(path, "-other"), beside(path, "-wal")).unwrap();
        }),
    ];
    for (what, fate) in fates {
        for is_probed in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("tape.db");
            let store = SqliteStore::open(&path).await.unwrap();
            let mut pen = Pen::new("a");
            pen.put(&store, "acknowledged", 1).await;
            store.probe().await.unwrap();
            fate(&path);
            if is_probed {
                let probed = told(store.probe().await);
                assert!(
                    probed.starts_with("poisoned") && probed.contains(what),
                    "{probed}"
                );
            }
            let batch = pen.batch("lost", 1);
            let refused = store.commit(vec![batch.clone()]).await.remove(0);
            assert!(
                matches!(
                    refused,
                    Err(CommitError::OutcomeUnknown { .. } | CommitError::Store(StoreError::Poisoned { .. }))
                ),
                "{what}: {refused:?}"
            );
            for told in [
                told(store.resolve(&batch).await),
                told(store.head(&pen.stream).await),
                told(store.probe().await),
                told(store.erase(&pen.stream, &[Seq(1)]).await),
                told(store.upkeep().set_index_version(1).await),
            ] {
                assert!(told.starts_with("poisoned") && told.contains(what), "{told}");
            }
        }
    }
}

/// A log that SQLite restarts, truncates or empties is the same file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_that_come_and_go_and_empty_the_log_change_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut pen = Pen::new("a");
    for n in 0..3 {
        pen.put(&store, &format!("{n}"), 1).await;
        let other = SqliteStore::open(&path).await.unwrap();
        let mut elsewhere = Pen::new(&format!("other {n}"));
        elsewhere.put(&other, "x", 1).await;
        drop(other);
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        connection
            .execute("PRAGMA wal_checkpoint(TRUNCATE)")
            .await
            .unwrap();
        connection.close().await.unwrap();
        store.probe().await.unwrap();
    }
    pen.put(&store, "last", 1).await;
}

/// The content of a log when a process died is on the disk, and not only in the system's memory, once it can be read again.
#[test]
fn what_a_dead_process_left_in_the_log_is_in_the_file_once_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("tape.db"), directory.path().join("copy.db"));
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut pen = Pen::new("a");
        pen.put(&store, "one", 1).await;
        // The files as a crash leaves them.
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
        assert!(beside(&copy, "-wal").metadata().unwrap().len() > 0);
        let opened = SqliteStore::open(&copy).await.unwrap();
        let file = directory.path().join("file-alone.db");
        std::fs::copy(&copy, &file).unwrap();
        drop(opened);
        let alone = SqliteStore::open(&file).await.unwrap();
        assert_eq!(all(&alone, &pen.stream).await.len(), 1);
    });
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// The process that finds a backup where it may not write.
#[test]
fn reader_of_a_backup() {
    let Some(path) = role("reader_of_a_backup") else {
        return;
    };
    block_on(async {
        let store = match SqliteStore::open(Path::new(&path)).await {
            Ok(store) => store,
            Err(error) => return say(&format!("{error}: {:?}", std::error::Error::source(&error))),
        };
        let pen = Pen::new("a");
        let entries = all(&store, &pen.stream).await.len();
        let fed = store.tail(Shard(0), &Cursor::default(), 10).await.unwrap();
        let runs = store
            .runs(&RunFilter::all(Tenant::new("t").unwrap()), None, 10)
            .await;
        let refused = store.commit(vec![pen.batch("in vain", 1)]).await.remove(0);
        let refused = matches!(refused, Err(CommitError::Store(StoreError::Unavailable { .. })));
        let unready = matches!(store.probe().await, Err(StoreError::Unavailable { .. }));
        let kept = store.upkeep().set_index_version(1).await;
        let kept = matches!(kept, Err(error @ StoreError::Unavailable { .. }) if told::<()>(Err(error.clone())).contains("only read"));
        say(&format!(
            "{entries} {} {} {refused} {unready} {kept}",
            fed.entries.len(),
            runs.is_ok()
        ));
    });
}

fn mode(mode: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(mode)
}

/// The output of a process that may write neither to the file nor beside it.
fn read_backup(directory: &Path, path: &Path) -> String {
    // The process needs an executable that it can reach.
    std::fs::set_permissions(directory, mode(0o777)).unwrap();
    std::fs::set_permissions(path, mode(0o444)).unwrap();
    let prepared = || std::fs::set_permissions(directory, mode(0o555)).unwrap();
    let mut child = Child::start_unprivileged_after("reader_of_a_backup", path, prepared);
    let said = child.says();
    std::fs::set_permissions(directory, mode(0o777)).unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].clone()
}

#[test]
fn a_backup_on_a_disk_that_takes_no_writes_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        Pen::new("a").put(&store, "one", 3).await;
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        let copy = "PRAGMA wal_checkpoint(TRUNCATE)";
        connection.execute(copy).await.unwrap();
        connection.close().await.unwrap();
        drop(store);
    });
    let backup = directory.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    let copy = backup.join("tape.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(read_backup(&backup, &copy), "3 3 true true true true");
    // Nothing was left beside it.
    assert!(!beside(&copy, "-wal").exists() && !beside(&copy, "-shm").exists());
}

/// A copy of both files. The log has the newest entries: without it they would seem to be missing.
#[test]
fn a_backup_whose_log_cannot_be_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let backup = directory.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    let copy = backup.join("tape.db");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        Pen::new("a").put(&store, "one", 3).await;
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
    });
    let said = read_backup(&backup, &copy);
    assert!(said.contains("copy both to a disk that can be written"), "{said}");
}

/// While a reader keeps an old snapshot, the log grows. Once the reader is gone, the log becomes short again, although no process writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_a_reader_held_up_gets_short_again() {
    const MUCH: u64 = 24 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let length = || std::fs::metadata(beside(&path, "-wal")).unwrap().len();
    let mut pen = Pen::new("a");
    pen.put(&store, "first", 1).await;
    let mut reader = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    reader.execute("BEGIN; SELECT count(*) FROM entry").await.unwrap();
    while length() < MUCH {
        pen.put(&store, &"x".repeat(900_000), 1).await;
    }
    reader.close().await.unwrap();
    while length() > 1 << 20 {
        tokio::task::yield_now().await;
    }
    pen.put(&store, "last", 1).await;
    assert_eq!(all(&store, &pen.stream).await.len() as u64, pen.seq.0);
}
