//! Streams with destroyed heads. `tape-store/src/bigtable/tests/lost.rs` has the same for Bigtable. Spanner does not allow this damage:
//! entries are deleted with their stream.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lost_head;
mod pen;
#[cfg(feature = "postgres")]
mod postgres_server;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tape_store::sqlite::SqliteStore;

#[tokio::test]
async fn the_feed_of_a_file_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    let store = SqliteStore::open(&path).await.unwrap();
    lost_head::is_told_and_holds_up_nothing(&store, async |stream| {
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        let delete = format!("DELETE FROM stream WHERE name = '{stream}'");
        connection.execute(AssertSqlSafe(delete)).await.unwrap();
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn the_feed_of_a_database_goes_on() {
    let Some(database) = postgres_server::Database::create() else {
        return;
    };
    let target = database.url().parse().unwrap();
    let store = tape_store::postgres::PostgresStore::open(&target).await.unwrap();
    lost_head::is_told_and_holds_up_nothing(&store, async |stream| {
        database.psql(&format!("DELETE FROM tape_head WHERE name = '{stream}'"));
    })
    .await;
}
