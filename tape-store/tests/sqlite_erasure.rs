//! Whether an erasure leaves bytes in a file and its log, also while others read and write.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod sqlite_file;

use sqlite_file::{connect, engine, file, put, value};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_core::command::Command;
use tape_core::erasure::Erasure;
use tape_core::id::Seq;
use tape_engine::Engine;
use tape_engine::EngineError;
use tape_store::clock::SystemClock;
use tape_store::contract::JournalStore;
use tape_store::sqlite::{Settings, SqliteStore};

async fn execute(path: &Path, statement: &str) {
    let mut connection = connect(path).await;
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Whether the file, or its log, has the bytes.
fn has(path: &Path, marker: &str) -> [bool; 2] {
    let log = path.with_extension("db-wal");
    [path, &log].map(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes
            .windows(marker.len())
            .any(|window| window == marker.as_bytes())
    })
}

/// For a payload that fits a page and one that fills many.
#[tokio::test]
async fn the_bytes_of_an_erased_payload_are_nowhere_in_an_open_file() {
    let (_directory, path) = file();
    let engine = engine(&path).await;
    let (_, _, stream) = value();
    let marker = "account DE02-1203-0000";
    for text in ["before", marker, &marker.repeat(5_000), "after"] {
        put(&engine, text).await.unwrap();
    }
    assert_eq!(has(&path, marker), [false, true], "the log has what is new");
    execute(&path, "PRAGMA wal_checkpoint(PASSIVE)").await;
    assert_eq!(has(&path, marker), [true, true], "and then the file too");
    // The entry of a value also has the previous value.
    for seq in [2, 3, 4] {
        engine.store().erase(&stream, &[Seq(seq)]).await.unwrap();
    }
    assert_eq!(has(&path, marker), [false, false]);
}

/// A reader that keeps the log in use: the erasure is not acknowledged before the bytes are gone.
#[tokio::test]
async fn an_erasure_is_not_over_while_a_reader_keeps_the_log() {
    let (_directory, path) = file();
    let mut settings = Settings::default();
    settings.busy_timeout = Duration::from_millis(1);
    let store = Arc::new(SqliteStore::open_with(&path, &settings).await.unwrap());
    let engine = Engine::new(store.clone(), Arc::new(SystemClock));
    let (_, _, stream) = value();
    let marker = "account DE02-1203-0000";
    put(&engine, marker).await.unwrap();
    let mut reader = connect(&path).await;
    reader.execute("BEGIN; SELECT count(*) FROM entry").await.unwrap();
    let erasure = Erasure {
        entries: vec![Seq(1)],
        reason: "asked for".to_owned(),
    };
    let erase = Command::new(engine.request_id(), erasure);
    let unknown = engine.erase(&stream, erase).await;
    assert!(
        matches!(unknown, Err(EngineError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    let read = pen::all(store.as_ref(), &stream).await;
    assert_eq!(read[0].payload, None, "no reader gets it any more");
    assert_eq!(read.len(), 2, "the intent is recorded, and not the end");
    assert!(has(&path, marker)[1], "the log is in use");
    reader.close().await.unwrap();
    engine.finish_erasures(&stream).await.unwrap();
    assert_eq!(has(&path, marker), [false, false]);
    assert_eq!(pen::all(store.as_ref(), &stream).await.len(), 3);
}

/// The store would wait for a reader for an hour; only the erasure waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_go_on_beside_an_erasure_that_a_reader_holds_up() {
    let (_directory, path) = file();
    let mut settings = Settings::default();
    settings.busy_timeout = Duration::from_secs(3_600);
    let store = Arc::new(SqliteStore::open_with(&path, &settings).await.unwrap());
    let (mut erased, mut other) = (pen::Pen::new("erased"), pen::Pen::new("other"));
    let marker = "account DE02-1203-0000";
    erased.put(store.as_ref(), marker, 6).await;
    let mut reader = connect(&path).await;
    reader.execute("BEGIN; SELECT count(*) FROM entry").await.unwrap();
    other.put(store.as_ref(), "one", 1).await;
    let (eraser, stream) = (store.clone(), erased.stream.clone());
    let entries: Vec<Seq> = (1..=6).map(Seq).collect();
    let erasing = tokio::spawn(async move { eraser.erase(&stream, &entries).await });
    while pen::all(store.as_ref(), &erased.stream)
        .await
        .iter()
        .any(|entry| entry.payload.is_some())
    {
        tokio::task::yield_now().await;
    }
    let commits = async {
        for _ in 0..10 {
            other.put(store.as_ref(), "on", 1).await;
        }
    };
    let went_on = tokio::time::timeout(Duration::from_secs(30), commits).await;
    went_on.expect("a commit waits for the reader");
    assert!(
        !erasing.is_finished() && has(&path, marker)[1],
        "the log is in use"
    );
    reader.close().await.unwrap();
    erasing.await.unwrap().unwrap();
    assert_eq!(has(&path, marker), [false, false]);
}
