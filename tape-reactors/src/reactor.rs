//! What a reactor is.

use crate::connector::ConcurrencyLimit;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tape_api::JournalError;
use tape_api::due::DueWork;
use tape_core::agenda::Queue;
use tape_core::id::{AgentVersion, App, ConnectorName};

/// Sees to the due work of one queue. Copies of a reactor may run in any number of processes: what one takes up, by a command that
/// claims it, the others leave alone.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Whose work it sees to.
    fn queue(&self) -> Queue;

    /// Looks at one piece of work, and says what is to be done about it. The runner calls it for several pieces at a time, never for a
    /// piece that it has a task of already.
    ///
    /// # Errors
    /// [`ReactionError`]: the runner comes back to this piece later, with growing waits, and goes on with others.
    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError>;
}

/// What is to be done about a piece of work, and what bounds it.
pub struct Task<'a> {
    limit: Option<ConcurrencyLimit>,
    act: BoxFuture<'a, Result<Reaction, ReactionError>>,
}

impl<'a> Task<'a> {
    /// To be done as soon as its queue has room, which it has when the task is made.
    pub fn now(act: impl Future<Output = Result<Reaction, ReactionError>> + Send + 'a) -> Self {
        Self {
            limit: None,
            act: act.boxed(),
        }
    }

    /// The same once there is a place in a limit, such as that of its connector. While it waits for that, it takes up no place in the
    /// queue.
    pub fn limited(
        limit: ConcurrencyLimit,
        act: impl Future<Output = Result<Reaction, ReactionError>> + Send + 'a,
    ) -> Self {
        Self {
            limit: Some(limit),
            ..Self::now(act)
        }
    }

    /// Nothing is to be done: the hint was stale.
    #[must_use]
    pub fn nothing() -> Self {
        Self::now(std::future::ready(Ok(Reaction::Nothing)))
    }

    pub(crate) fn into_parts(
        self,
    ) -> (
        Option<ConcurrencyLimit>,
        BoxFuture<'a, Result<Reaction, ReactionError>>,
    ) {
        (self.limit, self.act)
    }
}

impl std::fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
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
    Journal(#[from] JournalError),
    /// Nothing here knows the upstream; a worker elsewhere may.
    #[error("no connector '{connector}' is known here")]
    UnknownConnector {
        /// Its name.
        connector: ConnectorName,
    },
    /// Nothing here drives runs of the app; a worker elsewhere may.
    #[error("no agent of app '{app}' is known here")]
    UnknownApp {
        /// The app.
        app: App,
    },
    /// Nothing here drives runs that agents of the version began; a worker elsewhere may.
    #[error("no agent of version '{version}' of app '{app}' is known here, and none for runs of any version")]
    UnknownVersion {
        /// The app.
        app: App,
        /// The version of the agent that began the run.
        version: AgentVersion,
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

impl ReactionError {
    /// The app or connector that is not known here, where that is why: the work is for other processes, and nothing has failed.
    pub(crate) fn unconfigured(&self) -> Option<String> {
        match self {
            Self::UnknownConnector { connector } => Some(format!("connector {connector}")),
            Self::UnknownApp { app } => Some(format!("app {app}")),
            Self::UnknownVersion { app, version } => Some(format!("version {version} of app {app}")),
            Self::Journal(_) | Self::Panicked | Self::Outside { .. } => None,
        }
    }
}
