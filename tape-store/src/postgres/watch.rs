//! Tells other servers of commits, and hears of theirs.
//!
//! A NOTIFY within the committing transaction would make all commits of the database wait for each other. So a task of its own
//! tells after commits, at most every few milliseconds however many there were. Who dies between commit and notice costs
//! others time, since every wait ends by itself, but no entry.

use super::settings::Target;
use crate::wake::Wake;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const CHANNEL: &str = "tape";
/// The least time between two notices.
const NOTICE_EVERY: Duration = Duration::from_millis(10);
/// A connection that says nothing for so long is asked for a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(5);
/// How long to wait before connecting anew.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Watch {
    committed: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    pub(super) fn start(target: &Target, wake: Arc<Wake>) -> Self {
        let committed = Arc::new(Notify::new());
        // A server's own notices are no news to it.
        let own = uuid::Uuid::new_v4().to_string();
        let tell = tell(target.clone(), own.clone(), Arc::clone(&committed));
        Self {
            committed,
            tasks: [tokio::spawn(tell), tokio::spawn(hear(target.clone(), own, wake))],
        }
    }

    /// Something was committed here.
    pub(super) fn committed(&self) {
        self.committed.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn tell(target: Target, own: String, committed: Arc<Notify>) {
    // Nobody waits for the notice to be on disk.
    let notice = format!("BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}, '{own}'; COMMIT");
    let mut connection: Option<PgConnection> = None;
    loop {
        committed.notified().await;
        if connection.is_none() {
            connection = timeout(SIGN_OF_LIFE_MAX, target.options.connect())
                .await
                .ok()
                .and_then(Result::ok);
        }
        if let Some(open) = &mut connection {
            let told = timeout(
                SIGN_OF_LIFE_MAX,
                sqlx::raw_sql(AssertSqlSafe(notice.as_str())).execute(open),
            );
            if !matches!(told.await, Ok(Ok(_))) {
                connection = None;
            }
        }
        if connection.is_none() {
            committed.notify_one();
            sleep(PAUSE).await;
        }
        sleep(NOTICE_EVERY).await;
    }
}

async fn hear(target: Target, own: String, wake: Arc<Wake>) {
    loop {
        if let Err(error) = listen(&target, &own, &wake).await {
            tracing::debug!(error = %error, "notices of other servers are not heard for the moment");
        }
        sleep(PAUSE).await;
    }
}

/// Listens until the connection is lost.
async fn listen(target: &Target, own: &str, wake: &Wake) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(target.settings.connect_timeout)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(target.options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    // What was committed before this moment was not heard of.
    wake.notify();
    loop {
        match timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(Ok(Some(notice))) if notice.payload() == own => {}
            Ok(Ok(Some(_))) => wake.notify(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let asked = sqlx::query("SELECT 1").execute(&mut listener);
                if !matches!(timeout(SIGN_OF_LIFE_MAX, asked).await, Ok(Ok(_))) {
                    return Ok(());
                }
            }
        }
    }
}
