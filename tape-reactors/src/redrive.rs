//! Having a run driven again.

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::HashMap;
use tape_core::id::{App, Epoch, RunId};

/// A run that recovery took, for an agent to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redrive {
    /// The run.
    pub run: RunId,
    /// The epoch that recovery holds the run with: the agent adopts the run from it, so that it passes from hand to
    /// hand without a gap.
    pub epoch: Epoch,
}

/// Has agents driven again.
#[async_trait]
pub trait Redriver: Send + Sync + 'static {
    /// Starts the agent of the run over its journal. It may return once the agent has adopted the run, or once the agent
    /// is done with it: recovery keeps its hold of the run until it is adopted or this returns.
    ///
    /// # Errors
    /// [`RedriveError`]: the run is let go and becomes due again, later each time.
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError>;
}

/// A run could not be driven again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// Nothing here drives runs of the app.
    #[error("no agent of app '{app}' is known here")]
    UnknownApp {
        /// The app.
        app: App,
    },
    /// The agent could not be reached or refused.
    #[error("the agent did not take the run")]
    Agent(#[source] Box<dyn std::error::Error + Send + Sync>),
}

type Agent = Box<dyn Fn(Redrive) -> BoxFuture<'static, Result<(), RedriveError>> + Send + Sync>;

/// Agents of this process, by app.
#[derive(Default)]
pub struct Registry(HashMap<App, Agent>);

impl Registry {
    /// No agents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the agent of an app: a function that drives a run to its end or its next wait.
    #[must_use]
    pub fn agent<F, R>(mut self, app: App, agent: F) -> Self
    where
        F: Fn(Redrive) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), RedriveError>> + Send + 'static,
    {
        self.0
            .insert(app, Box::new(move |redrive| Box::pin(agent(redrive))));
        self
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[async_trait]
impl Redriver for Registry {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let app = &redrive.run.app;
        let agent = self
            .0
            .get(app)
            .ok_or_else(|| RedriveError::UnknownApp { app: app.clone() })?;
        agent(redrive.clone()).await
    }
}
