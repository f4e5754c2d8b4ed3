//! What a reactor is.

use crate::access::{AccessError, DueWork};
use async_trait::async_trait;
use tape_core::agenda::Queue;

/// Sees to the due work of one queue. Copies of a reactor may run in any number of processes: what one takes up, by a command that
/// claims it, the others leave alone.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Whose work it sees to.
    fn queue(&self) -> Queue;

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
