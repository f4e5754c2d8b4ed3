//! Wakes tasks that wait for commits.

use futures::future::BoxFuture;
use std::time::Duration;
use tokio::sync::watch;

/// A wait ends after this long without a commit, so that a missed wake-up costs time, not work.
const SWEEP: Duration = Duration::from_secs(5);

/// Wakes tasks that wait for a commit.
#[derive(Debug)]
pub(crate) struct Wake(watch::Sender<u64>);

impl Wake {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Something was committed.
    pub(crate) fn notify(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until something is committed after this call.
    pub(crate) fn changed(&self) -> BoxFuture<'static, ()> {
        let mut receiver = self.0.subscribe();
        Box::pin(async move {
            // A closed channel means that the store is gone: then only the timeout remains to wait for.
            if let Ok(Err(_)) = tokio::time::timeout(SWEEP, receiver.changed()).await {
                tokio::time::sleep(SWEEP).await;
            }
        })
    }

    /// Counts the wake-ups.
    #[cfg(all(test, feature = "bigtable"))]
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// The number of waiting tasks.
    #[cfg(any(feature = "sqlite", feature = "spanner"))]
    pub(crate) fn waiting(&self) -> usize {
        self.0.receiver_count()
    }
}
