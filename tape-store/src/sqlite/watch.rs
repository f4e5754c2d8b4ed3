//! Notices the commits of other processes.

use crate::wake::Wake;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often the file is looked at while somebody waits.
const PERIOD: Duration = Duration::from_millis(50);

/// A task that asks for the file's data version, which costs a look into shared memory, as long as somebody waits.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    pub(super) fn start(connection: SqliteConnection, wake: Arc<Wake>) -> Self {
        Self(tokio::spawn(run(connection, wake)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(mut connection: SqliteConnection, wake: Arc<Wake>) {
    let mut seen: i64 = 0;
    loop {
        tokio::time::sleep(PERIOD).await;
        if wake.waiting() == 0 {
            continue;
        }
        let version = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut connection)
            .await;
        // While the file cannot be read, those who wait find out for themselves.
        if version.as_ref().ok() != Some(&seen) {
            seen = version.unwrap_or(seen);
            wake.notify();
        }
    }
}
