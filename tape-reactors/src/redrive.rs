//! Re-drives runs.

#[cfg(feature = "http")]
mod agent_engine;
#[cfg(feature = "command")]
mod command;
#[cfg(feature = "http")]
mod http;

#[cfg(feature = "http")]
pub use agent_engine::AgentEngineRedriver;
#[cfg(feature = "command")]
pub use command::CommandRedriver;
#[cfg(feature = "http")]
pub use http::HttpRedriver;

use crate::connector::ConcurrencyLimit;
use async_trait::async_trait;
use std::collections::HashMap;
use std::time::Duration;
use tape_api::recovery::Redrive;
use tape_core::id::{AgentVersion, App};

/// Starts agents for runs again.
#[async_trait]
pub trait Redriver: Send + Sync + 'static {
    /// Whether it chooses by the version of the agent that began a run of an app. Only then is that version read, and told to the
    /// other methods.
    fn by_version(&self, app: &App) -> bool {
        let _ = app;
        false
    }

    /// Whether it drives runs of an app that an agent of a version began. Other runs are left to other processes.
    fn drives(&self, app: &App, version: Option<&AgentVersion>) -> bool {
        let _ = (app, version);
        true
    }

    /// Bounds the re-drives of an app that are under way at once, so that those of an agent that hangs leave room for others.
    fn concurrency_limit(&self, app: &App, version: Option<&AgentVersion>) -> Option<ConcurrencyLimit> {
        let _ = (app, version);
        None
    }

    /// Starts the agent of the run over its journal. It may return once the agent has adopted the run, or once the agent is done with it:
    /// recovery keeps its hold of the run until it is adopted or this returns, and drops this future where the run is not adopted within a
    /// few leases. Where the run is not adopted when this returns, whatever it returns, the run is released and becomes due again, later
    /// each time. That says nothing about the run, and does not make it stuck.
    ///
    /// # Errors
    /// [`RedriveError`], which is logged.
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError>;
}

/// A run could not be re-driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// No agent here drives runs of the app.
    #[error("no agent of app '{app}' is known here")]
    UnknownApp {
        /// The app.
        app: App,
    },
    /// The agent, or a proxy before it, refused.
    #[error("the answer has status {status}")]
    Refused {
        /// Its HTTP status.
        status: u16,
    },
    /// The agent could not be reached: it knows nothing of the run.
    #[error("the agent is out of reach")]
    Unreached(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The agent was asked, but no agent adopted the run.
    #[error("the run was not adopted within {}s", .within.as_secs())]
    Unadopted {
        /// How long that took.
        within: Duration,
    },
    /// The agent failed, or its answer was lost. It may have adopted the run before.
    #[error("the agent failed, or its answer was lost")]
    Agent(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The error for a failed HTTP request to an agent.
#[cfg(feature = "http")]
fn failed(error: reqwest::Error) -> RedriveError {
    let unreached = error.is_connect();
    // Its URL may have a secret.
    let error = Box::new(error.without_url());
    if unreached {
        RedriveError::Unreached(error)
    } else {
        RedriveError::Agent(error)
    }
}

/// Agents by app: functions of this process, or anything else that drives runs again. Each has its own bound on runs at once.
///
/// An app may have several agents, each for the runs that its version began. Runs of other versions, and of none, go to the agent that was
/// added without a version; where there is none, they are left to other processes.
#[derive(Default)]
pub struct Registry(HashMap<App, Agents>);

/// The agents of an app.
#[derive(Default)]
struct Agents {
    default: Option<Entry>,
    by_version: HashMap<AgentVersion, Entry>,
}

/// An agent, and its bound on runs at once.
struct Entry {
    redriver: Box<dyn Redriver>,
    limit: ConcurrencyLimit,
}

/// An agent of this process.
struct Function<F>(F);

impl Entry {
    fn new(redriver: impl Redriver, concurrency: usize) -> Self {
        Self {
            redriver: Box::new(redriver),
            limit: ConcurrencyLimit::new(concurrency),
        }
    }
}

impl Registry {
    /// No agents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the agent of an app: a function that drives a run to its end or its next wait, called for at most `concurrency` at once.
    #[must_use]
    pub fn agent<F, R>(self, app: App, concurrency: usize, agent: F) -> Self
    where
        F: Fn(Redrive) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), RedriveError>> + Send + 'static,
    {
        self.redriver(app, concurrency, Function(agent))
    }

    /// Adds what drives the runs of an app again, at most `concurrency` at once.
    #[must_use]
    pub fn redriver(mut self, app: App, concurrency: usize, redriver: impl Redriver) -> Self {
        self.0.entry(app).or_default().default = Some(Entry::new(redriver, concurrency));
        self
    }

    /// Adds what drives those runs of an app again that an agent of `version` began, at most `concurrency` at once.
    #[must_use]
    pub fn redriver_of_version(
        mut self,
        app: App,
        version: AgentVersion,
        concurrency: usize,
        redriver: impl Redriver,
    ) -> Self {
        let agents = self.0.entry(app).or_default();
        agents
            .by_version
            .insert(version, Entry::new(redriver, concurrency));
        self
    }

    fn entry(&self, app: &App, version: Option<&AgentVersion>) -> Option<&Entry> {
        let agents = self.0.get(app)?;
        let own = version.and_then(|version| agents.by_version.get(version));
        own.or(agents.default.as_ref())
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[async_trait]
impl Redriver for Registry {
    fn by_version(&self, app: &App) -> bool {
        self.0
            .get(app)
            .is_some_and(|agents| !agents.by_version.is_empty())
    }

    fn drives(&self, app: &App, version: Option<&AgentVersion>) -> bool {
        self.entry(app, version).is_some()
    }

    fn concurrency_limit(&self, app: &App, version: Option<&AgentVersion>) -> Option<ConcurrencyLimit> {
        self.entry(app, version).map(|entry| entry.limit.clone())
    }

    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let app = &redrive.run.app;
        let entry = self.entry(app, redrive.agent_version.as_ref());
        let entry = entry.ok_or_else(|| RedriveError::UnknownApp { app: app.clone() })?;
        entry.redriver.redrive(redrive).await
    }
}

#[async_trait]
impl<F, R> Redriver for Function<F>
where
    F: Fn(Redrive) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), RedriveError>> + Send + 'static,
{
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        (self.0)(redrive.clone()).await
    }
}
