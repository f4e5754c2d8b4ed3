//! The trait of a reactor, and its results.

use crate::connector::ConcurrencyLimit;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tape_api::JournalError;
use tape_api::due::DueWork;
use tape_core::agenda::Queue;
use tape_core::id::{AgentVersion, App, ConnectorName};

/// Handles the due work of one queue. Copies of a reactor may run in any number of processes: work that one has claimed by a command, the
/// others leave alone.
#[async_trait]
pub trait Reactor: Send + Sync + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// The queue whose work it handles.
    fn queue(&self) -> Queue;

    /// Looks at one piece of work, and returns what to do about it. The runner calls this for several pieces at a time, never for a piece
    /// that already has a task.
    ///
    /// # Errors
    /// [`ReactionError`]: the runner retries this piece later, with growing waits, and continues with others.
    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError>;
}

/// What to do about a piece of work, and the limit that bounds it.
pub struct Task<'a> {
    limit: Option<ConcurrencyLimit>,
    act: BoxFuture<'a, Result<Reaction, ReactionError>>,
}

impl<'a> Task<'a> {
    /// A task for as soon as its queue has room, which it has when the task is made.
    pub fn now(act: impl Future<Output = Result<Reaction, ReactionError>> + Send + 'a) -> Self {
        Self {
            limit: None,
            act: act.boxed(),
        }
    }

    /// The same once there is a place in a limit, such as that of its connector. While it waits for the limit, it holds no place in the
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

    /// There is nothing to do: the hint was stale.
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

/// The result of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The work is done.
    Done,
    /// There was nothing to do: another worker was faster, or the hint was stale.
    Nothing,
}

/// A piece of work could not be done now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactionError {
    /// The journal was unreachable or refused.
    #[error("the journal did not take it")]
    Journal(#[from] JournalError),
    /// The upstream has no connector here; a worker elsewhere may have one.
    #[error("no connector '{connector}' is known here")]
    UnknownConnector {
        /// Its name.
        connector: ConnectorName,
    },
    /// No agent here drives runs of the app; a worker elsewhere may have one.
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
    /// The app has agents of several versions here, and the first entry of the run was erased: nothing says which of them began it.
    #[error("the version that began the run was erased, and app '{app}' has agents by version here")]
    ErasedVersion {
        /// The app.
        app: App,
    },
    /// The reactor panicked, which is a bug of its own.
    #[error("the reactor panicked")]
    Panicked,
    /// A call to the outside failed.
    #[error("{what} failed")]
    Outside {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ReactionError {
    /// The app or connector that is not configured here, where that is the reason: then the work is for other processes, and nothing has
    /// failed.
    pub(crate) fn unconfigured(&self) -> Option<String> {
        match self {
            Self::UnknownConnector { connector } => Some(format!("connector {connector}")),
            Self::UnknownApp { app } => Some(format!("app {app}")),
            Self::UnknownVersion { app, version } => Some(format!("version {version} of app {app}")),
            Self::ErasedVersion { app } => Some(format!("erased versions of app {app}")),
            Self::Journal(_) | Self::Panicked | Self::Outside { .. } => None,
        }
    }
}
