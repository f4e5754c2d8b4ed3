//! Announcements of commits: which streams changed, where the store learns it at once.
//!
//! A feed may have to wait before it can deliver an entry in its place. A reader of one stream need not: it only has to know that its
//! stream was changed.

use crate::contract::StreamKey;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Announcements that a slow listener may lag behind. Beyond that, it looks at all its streams.
const BEHIND_MAX: usize = 256;

/// Commits that were announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Commits to these streams.
    Streams(Arc<[StreamKey]>),
    /// Commits to unknown streams: any stream may have changed.
    Any,
}

/// Announces commits to listeners in this process. A store that returns [`announcements`](crate::contract::JournalStore::announcements) has
/// one.
#[derive(Debug)]
pub struct Announcer(broadcast::Sender<Announcement>);

impl Default for Announcer {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND_MAX))
    }
}

impl Announcer {
    /// Tells all present listeners. A listener that lags too far behind gets [`Announcement::Any`] in place of what it missed.
    pub fn announce(&self, announcement: Announcement) {
        // Without listeners there is nothing to do.
        let _ = self.0.send(announcement);
    }

    /// What is announced from now on.
    pub fn listen(&self) -> Announcements {
        Announcements(self.0.subscribe())
    }
}

/// What is announced from now on.
#[derive(Debug)]
pub struct Announcements(broadcast::Receiver<Announcement>);

impl Announcements {
    /// The next announcement; none once the store is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Announcement> {
        use broadcast::error::RecvError;
        match self.0.recv().await {
            Ok(announcement) => Some(announcement),
            Err(RecvError::Lagged(_)) => Some(Announcement::Any),
            Err(RecvError::Closed) => None,
        }
    }
}
