//! Wakes tasks that wait for commits.

use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A wait ends after this long without a commit, so that a missed wake-up costs time, not work.
const SWEEP: Duration = Duration::from_secs(5);

/// Wakes tasks that wait for a commit.
#[derive(Debug)]
pub(crate) struct Wake {
    /// Held by those who wait, too.
    committed: Arc<Notify>,
    #[cfg(all(test, feature = "bigtable"))]
    count: tokio::sync::watch::Sender<u64>,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self {
            committed: Arc::default(),
            #[cfg(all(test, feature = "bigtable"))]
            count: tokio::sync::watch::Sender::new(0),
        }
    }

    /// Something was committed.
    pub(crate) fn notify(&self) {
        self.committed.notify_waiters();
        #[cfg(all(test, feature = "bigtable"))]
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until something is committed after this call.
    pub(crate) fn changed(&self) -> BoxFuture<'static, ()> {
        // It counts from here on, polled or not.
        let committed = Arc::clone(&self.committed).notified_owned();
        Box::pin(async move {
            // It makes no difference whether the time was over.
            let _ = tokio::time::timeout(SWEEP, committed).await;
        })
    }

    /// Counts the wake-ups.
    #[cfg(all(test, feature = "bigtable"))]
    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// The number of waiting tasks.
    #[cfg(any(feature = "sqlite", feature = "spanner"))]
    pub(crate) fn waiting(&self) -> usize {
        Arc::strong_count(&self.committed) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::Wake;
    use futures::FutureExt as _;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_woken_in_their_order() {
        let (wake, woken) = (Wake::new(), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (changed, woken) = (wake.changed(), Arc::clone(&woken));
            tasks.spawn(async move {
                changed.await;
                woken.lock().unwrap().push(n);
            });
        }
        tokio::task::yield_now().await;
        wake.notify();
        tasks.join_all().await;
        assert_eq!(*woken.lock().unwrap(), (0..32).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_counts_from_the_call_on() {
        let wake = Wake::new();
        wake.notify();
        assert!(
            wake.changed().now_or_never().is_none(),
            "what came before does not count"
        );
        let changed = wake.changed();
        wake.notify();
        assert!(changed.now_or_never().is_some());
    }
}
