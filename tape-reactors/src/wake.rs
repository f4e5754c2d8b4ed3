//! What wakes reactors instead of the journal.

#[cfg(feature = "push")]
mod acknowledged;
#[cfg(feature = "pubsub")]
mod pubsub;
#[cfg(feature = "push")]
mod push;

#[cfg(feature = "pubsub")]
pub use pubsub::{PubsubError, PubsubWake};
#[cfg(feature = "push")]
pub use push::{PushCounts, PushEndpoint};

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tape_api::due::{DuePage, DueWork, PendingPage};
use tape_api::{Journal, JournalError, Layer};
use tape_core::agenda::Queue;
use tape_core::time::Timestamp;
use tokio::sync::watch;

/// Wakes runners by hints from outside, such as messages about what the journal recorded. Cheap to clone; clones wake the same runners.
///
/// A hint says only that something may be due: a woken [`Runner`](crate::Runner) looks at the agenda, which alone says what is. So a hint
/// that is doubled, late or made up costs a look, and one that is lost delays work until the next sweep
/// ([`Options::sweep`](crate::Options::sweep)). However many hints there are, looks are as far apart as those of a runner that the journal
/// wakes.
///
/// ```
/// use std::sync::Arc;
/// use tape_reactors::api::Journal;
/// use tape_reactors::{Wake, Watched};
///
/// fn by_hand(journal: Arc<dyn Journal>) -> (Wake, Watched) {
///     let wake = Wake::new();
///     let journal = Watched::from(wake.journal(journal));
///     (wake, journal)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Wake(Arc<watch::Sender<u64>>);

impl Wake {
    /// Without hints so far.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Something may be due. Never waits.
    pub fn hint(&self) {
        self.0.send_modify(|hints| *hints = hints.wrapping_add(1));
    }

    /// Completes once there is a hint after this call.
    pub fn hinted(&self) -> BoxFuture<'static, ()> {
        let (sender, mut hints) = (Arc::clone(&self.0), self.0.subscribe());
        Box::pin(async move {
            // The channel is open as long as this has its sender.
            let _ = hints.changed().await;
            drop(sender);
        })
    }

    /// The same journal, which says that something may have become due when there is a hint, and at no other time: it is neither asked nor
    /// watched for changes. Nothing tells of what becomes due by time alone, so a look always sees that far ahead, also through a server.
    pub fn journal(&self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        let wake = self.clone();
        Arc::new(Hinted { journal, wake })
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Hinted {
    journal: Arc<dyn Journal>,
    wake: Wake,
}

#[async_trait]
impl Layer for Hinted {
    fn inner(&self) -> &dyn Journal {
        self.journal.as_ref()
    }

    /// A server lists only what is due, since it pushes the rest when that becomes due. Here, it pushes nothing.
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        let page = self.journal.pending(queue, from, limit).await?;
        let now = page.now.unwrap_or_else(|| self.journal.environment().wall());
        Ok(until(page, now, within))
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        self.wake.hinted()
    }
}

/// The part of a page that is due within a time. What is due later is at the end of each shard: a page that has nothing else is the last.
fn until(page: PendingPage, now: Timestamp, within: Duration) -> DuePage {
    let was_empty = page.work.is_empty();
    let ahead = |due: Timestamp| due.as_micros().saturating_sub(now.as_micros());
    let due = page.work.into_iter().map(|work| DueWork {
        stream: work.stream,
        item: work.item,
        due_in: Duration::from_micros(u64::try_from(ahead(work.due)).unwrap_or_default()),
    });
    let work: Vec<DueWork> = due.filter(|work| work.due_in <= within).collect();
    let is_last = work.is_empty() && !was_empty;
    DuePage {
        next: page.next.filter(|_| !is_last),
        work,
    }
}
