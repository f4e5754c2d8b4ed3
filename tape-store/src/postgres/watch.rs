//! Notifies other servers of commits, and listens for theirs.
//!
//! A NOTIFY within the committing transaction would make all commits of the database wait for each other. So a separate task notifies after
//! commits, at most every few milliseconds however many there were, and names their streams. A server that dies between commit and notice
//! costs others time, since every wait ends by itself, but no entry.

use super::settings::Target;
use crate::announce::{Announcement, Announcements, Announcer};
use crate::contract::StreamKey;
use crate::wake::Wake;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const CHANNEL: &str = "tape";
/// Most streams that a notice names, well below the 8,000 bytes that it may have. A notice for more streams names none.
const NOTICE_STREAMS_MAX: usize = 400;
/// The least time between two notices.
const NOTICE_EVERY: Duration = Duration::from_millis(10);
/// A connection that is silent for so long is checked.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(5);
/// How long to wait before connecting anew.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Watch {
    committed: Arc<Committed>,
    announcer: Arc<Announcer>,
    tasks: [JoinHandle<()>; 2],
}

/// What was committed here since the last notice.
#[derive(Debug, Default)]
struct Committed {
    streams: Mutex<BTreeSet<StreamKey>>,
    notify: Notify,
}

impl Committed {
    fn add(&self, streams: &[StreamKey]) {
        let mut known = self.lock();
        // One more than a notice can name means that there are too many.
        let room = (NOTICE_STREAMS_MAX + 1).saturating_sub(known.len());
        known.extend(streams.iter().take(room));
        drop(known);
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<StreamKey> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<StreamKey>> {
        self.streams
            .lock()
            .expect("no code panics while it holds the streams")
    }
}

impl Watch {
    /// Tells and listens, under a name that no other server has.
    pub(super) fn start(target: &Target, wake: Arc<Wake>, own: Uuid) -> Self {
        let committed = Arc::new(Committed::default());
        let announcer = Arc::new(Announcer::default());
        // A server's own notices are no news to it.
        let own = own.to_string();
        let tell = tell(target.clone(), own.clone(), Arc::clone(&committed));
        let ear = Ear {
            target: target.clone(),
            own,
            wake,
            announcer: Arc::clone(&announcer),
        };
        Self {
            committed,
            announcer,
            tasks: [tokio::spawn(tell), tokio::spawn(ear.hear())],
        }
    }

    /// Commits were made here to these streams.
    pub(super) fn committed(&self, streams: &[StreamKey]) {
        self.committed.add(streams);
        self.announcer.announce(Announcement::Streams(streams.into()));
    }

    /// What is committed from now on.
    pub(super) fn announcements(&self) -> Announcements {
        self.announcer.listen()
    }
}

/// A notice: the server that sends it, and the changed streams where they are not too many.
fn notice(own: &str, streams: &BTreeSet<StreamKey>) -> String {
    let named = streams.iter().filter(|_| streams.len() <= NOTICE_STREAMS_MAX);
    named.fold(own.to_owned(), |text, stream| format!("{text} {:016x}", stream.0))
}

/// The content of a notice of another server; none where it is this server's own.
fn heard(own: &str, notice: &str) -> Option<Announcement> {
    let mut words = notice.split(' ');
    if words.next() == Some(own) {
        return None;
    }
    let streams: Result<Vec<_>, _> = words
        .map(|word| u64::from_str_radix(word, 16).map(StreamKey))
        .collect();
    // Earlier builds named no streams.
    Some(match streams {
        Ok(streams) if !streams.is_empty() => Announcement::Streams(streams.into()),
        _ => Announcement::Any,
    })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn tell(target: Target, own: String, committed: Arc<Committed>) {
    let mut connection: Option<PgConnection> = None;
    loop {
        committed.notify.notified().await;
        let streams = committed.take();
        let payload = notice(&own, &streams);
        // No reader waits for the notice to be on disk.
        let sql = format!("BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}, '{payload}'; COMMIT");
        if connection.is_none() {
            connection = timeout(SIGN_OF_LIFE_MAX, target.options.connect())
                .await
                .ok()
                .and_then(Result::ok);
        }
        if let Some(open) = &mut connection {
            let told = timeout(
                SIGN_OF_LIFE_MAX,
                sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(open),
            );
            if !matches!(told.await, Ok(Ok(_))) {
                connection = None;
            }
        }
        if connection.is_none() {
            committed.add(&Vec::from_iter(streams));
            sleep(PAUSE).await;
        }
        sleep(NOTICE_EVERY).await;
    }
}

/// Listens for the notices of other servers.
struct Ear {
    target: Target,
    own: String,
    wake: Arc<Wake>,
    announcer: Arc<Announcer>,
}

impl Ear {
    async fn hear(self) {
        loop {
            if let Err(error) = self.listen().await {
                tracing::debug!(error = %error, "notices of other servers are not heard for the moment");
            }
            sleep(PAUSE).await;
        }
    }

    fn pass_on(&self, announcement: Announcement) {
        self.wake.notify();
        self.announcer.announce(announcement);
    }

    /// Listens until the connection is lost.
    async fn listen(&self) -> Result<(), sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.target.settings.connect_timeout)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.target.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        // Notices of commits before this moment were missed.
        self.pass_on(Announcement::Any);
        loop {
            match timeout(SILENCE_MAX, listener.try_recv()).await {
                Ok(Ok(Some(notice))) => {
                    if let Some(announcement) = heard(&self.own, notice.payload()) {
                        self.pass_on(announcement);
                    }
                }
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
}

#[cfg(test)]
mod tests {
    use super::{NOTICE_STREAMS_MAX, heard, notice};
    use crate::announce::Announcement;
    use crate::contract::StreamKey;
    use std::collections::BTreeSet;

    #[test]
    fn a_notice_names_its_streams_unless_they_are_too_many() {
        let streams = |n: usize| (0..n as u64).map(StreamKey).collect::<BTreeSet<_>>();
        let few = streams(NOTICE_STREAMS_MAX);
        let text = notice("own", &few);
        assert!(text.len() < 8_000);
        assert_eq!(heard("own", &text), None);
        let named = Announcement::Streams(few.into_iter().collect());
        assert_eq!(heard("other", &text), Some(named));
        let many = notice("own", &streams(NOTICE_STREAMS_MAX + 1));
        assert_eq!(heard("other", &many), Some(Announcement::Any));
        assert_eq!(
            heard("other", "own words of another build"),
            Some(Announcement::Any)
        );
    }
}
