//! What a reactor is.

use crate::access::{AccessError, DueWork};
use crate::connector::Lane;
use async_trait::async_trait;
use tape_core::agenda::Queue;
use tape_core::id::{App, Connector};

/// Sees to the due work of one queue. Copies of a reactor may run in any number of processes: what one takes up, by a command that
/// claims it, the others leave alone.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Whose work it sees to.
    fn queue(&self) -> Queue;

    /// What bounds this piece besides its queue, such as the lane of its connector. A piece that waits for a place there takes up none in
    /// the queue.
    ///
    /// # Errors
    /// As [`Reactor::react`].
    async fn lane(&self, work: &DueWork) -> Result<Option<Lane>, ReactionError> {
        let _ = work;
        Ok(None)
    }

    /// Sees to one piece of work. The driver calls it for several pieces at a time, never twice at once for the same one.
    ///
    /// # Errors
    /// [`ReactionError`]: the driver comes back to this piece later, with growing waits, and goes on with others.
    async fn react(&self, work: &DueWork) -> Result<Reaction, ReactionError>;
}

/// What came of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is seen to.
    Done,
    /// There was nothing to do: another was faster, or the hint was stale.
    Nothing,
}

/// A piece of work could not be seen to now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactionError {
    /// The journal was out of reach or refused.
    #[error("the journal did not take it")]
    Access(#[from] AccessError),
    /// Nothing here knows the upstream; a worker elsewhere may.
    #[error("no connector '{connector}' is known here")]
    UnknownConnector {
        /// Its name.
        connector: Connector,
    },
    /// Nothing here drives runs of the app; a worker elsewhere may.
    #[error("no agent of app '{app}' is known here")]
    UnknownApp {
        /// The app.
        app: App,
    },
    /// The reactor panicked, which is a bug of its own.
    #[error("the reactor panicked")]
    Panicked,
    /// The world outside did not do its part.
    #[error("{what} failed")]
    Outside {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
