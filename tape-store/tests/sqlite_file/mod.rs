//! A SQLite file of a test, an engine over it, and one value in it.

#![allow(dead_code, reason = "each test file needs some of it")]

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_engine::EngineError;
use tape_store::clock::SystemClock;
use tape_store::sqlite::SqliteStore;

pub(crate) fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    (directory, path)
}

pub(crate) async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

pub(crate) async fn engine(path: &Path) -> Engine {
    Engine::new(
        Arc::new(SqliteStore::open(path).await.unwrap()),
        Arc::new(SystemClock),
    )
}

pub(crate) fn value() -> (Tenant, ValueName, StreamId) {
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("v").unwrap());
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    (tenant, name, stream)
}

pub(crate) async fn put(engine: &Engine, text: &str) -> Result<(), EngineError> {
    let (tenant, name, _) = value();
    let value = Payload::new("text/plain", text.to_owned()).unwrap();
    let request = engine.request_id();
    let put = Command::new(
        request,
        ValueCommand::Put {
            value,
            expected: None,
        },
    );
    engine.value(&tenant, &name, put).await.map(drop)
}
