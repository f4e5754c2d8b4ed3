//! Polls for commits of other servers, since Spanner pushes none.
//!
//! While a task waits, the feed is polled for anything newer than the last poll, first after fifty milliseconds, then at growing intervals
//! up to the setting. A poll is one seek for each shard, may be answered by any replica, and reads no entry. While no task waits, there are
//! no polls.

use super::link::{Link, Question};
use crate::error::StoreError;
use crate::wake::Wake;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::value::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The shortest interval between two polls.
const PAUSE_MIN: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// Wakes waiting tasks, from now on; polls at least each `poll`.
    pub(super) fn start(link: Link, shards: u16, poll: Duration, wake: Arc<Wake>) -> Self {
        Self(tokio::spawn(watch(link, shards, poll, wake)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(link: Link, shards: u16, poll: Duration, wake: Arc<Wake>) {
    let mut pause = PAUSE_MIN;
    let mut seen: Option<Timestamp> = None;
    loop {
        sleep(pause).await;
        if wake.waiting() == 0 {
            (seen, pause) = (None, PAUSE_MIN.min(poll));
            continue;
        }
        match look(&link, shards, poll, seen).await {
            Ok(Some(now)) => {
                // Commits up to this time are announced now, later ones are found by the next poll.
                (seen, pause) = (Some(now), PAUSE_MIN.min(poll));
                wake.notify();
            }
            Ok(None) => pause = (pause * 2).min(poll),
            Err(error) => {
                tracing::debug!(error = %error, "commits of other servers are not heard of for the moment");
                pause = poll;
            }
        }
    }
}

/// The time now, where there may be commits since a time.
async fn look(
    link: &Link,
    shards: u16,
    staleness: Duration,
    seen: Option<Timestamp>,
) -> Result<Option<Timestamp>, StoreError> {
    if let Some(seen) = seen {
        // The place after all entries of the last time.
        let after = |shard: u16| key![i64::from(shard), seen, vec![u8::MAX; 16], i64::MAX];
        let newer = |shard: u16| KeyRange::open_closed(after(shard), key![i64::from(shard)]);
        let keys = (0..shards).fold(KeySet::builder(), |keys, shard| keys.add_range(newer(shard)));
        let request = ReadRequest::builder("tape_entry", ["seq"])
            .with_index("tape_feed", keys.build())
            .set_limit(1);
        let news = link.ask_stale(staleness, Question::Keys(request.build()), |_| Ok(()));
        if news.await?.is_empty() {
            return Ok(None);
        }
    }
    link.now("looks for commits").await.map(Some)
}
