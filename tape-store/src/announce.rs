//! Which streams commits were made to, as far as a store hears of it at once.
//!
//! A feed may have to wait before it can deliver an entry in its place. A reader of one stream need not: it only has to know that its
//! stream was changed.

use crate::contract::StreamKey;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Announcements that a slow listener may be behind; beyond it looks at all its streams.
const BEHIND_MAX: usize = 256;

/// Commits that were announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// To these streams.
    Streams(Arc<[StreamKey]>),
    /// To any stream: it is not known to which.
    Any,
}

/// Announces commits to those who listen in this process: what a store has whose
/// [`announcements`](crate::contract::JournalStore::announcements) are some.
#[derive(Debug)]
pub struct Announcer(broadcast::Sender<Announcement>);

impl Default for Announcer {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND_MAX))
    }
}

impl Announcer {
    /// Tells all that listen now. Of those that are too far behind, each is told [`Announcement::Any`] in place of what it missed.
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
