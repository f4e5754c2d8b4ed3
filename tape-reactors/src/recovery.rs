//! Recovery: it re-drives runs whose drivers are gone, or whose wait is over.

use crate::outages::Outages;
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::redrive::{RedriveError, Redriver};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tape_api::due::DueWork;
use tape_api::recovery::{self, Handover, Redrive, Taken};
use tape_api::{Journal, JournalError};
use tape_core::agenda::Queue;
use tape_core::agent_version::BegunBy;
use tape_core::causes::Causes;
use tape_core::id::{AgentVersion, App, Epoch, Holder, RunId};
use tape_core::run::Driver;
use tracing::{debug, info, warn};

/// Claims a due run before it has it re-driven, so that no two workers drive it at once; keeps its hold until the agent has
/// adopted the run; lets it go where the agent answers without having adopted it, or has not adopted it within four leases. A re-drive
/// counts only if the journal shows that an agent adopted the run, whatever was answered. How long a run that makes
/// no progress waits between re-drives, and when it waits for a person, are rules of the run. A run whose end was requested and
/// whose driver is gone is ended without an agent.
pub struct Recovery {
    journal: Arc<dyn Journal>,
    handover: Handover,
    redriver: Arc<dyn Redriver>,
    /// Agents that adopt nothing.
    outages: Outages<App>,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery")
            .field("holder", self.handover.holder())
            .finish_non_exhaustive()
    }
}

impl Recovery {
    /// A recovery worker named `holder`, which takes runs for `lease` at a time.
    pub fn new(
        journal: Arc<dyn Journal>,
        redriver: Arc<dyn Redriver>,
        holder: Holder,
        lease: Duration,
    ) -> Self {
        Self {
            handover: Handover::new(Arc::clone(&journal), holder, lease),
            journal,
            redriver,
            outages: Outages::new("agent", "adopts no run: its runs wait, and no re-drive counts"),
        }
    }

    /// Takes the run; none where there is nothing to recover.
    async fn claim(&self, run: &RunId) -> Result<Option<Epoch>, JournalError> {
        match self.handover.take(run).await? {
            Taken::Held(epoch) => Ok(Some(epoch)),
            Taken::Stuck(reason) => {
                warn!(run = %name(run), reason, "the run waits for a person");
                Ok(None)
            }
            Taken::Nothing => Ok(None),
        }
    }

    /// Waits as long as an agent may take to adopt the run.
    async fn hold(&self, run: &RunId, epoch: Epoch) -> RedriveError {
        let within = self.handover.hold(run, epoch).await;
        RedriveError::Unadopted { within }
    }

    /// Ends a run without its agent, if a cancellation was requested and the run has no driver.
    async fn end(&self, run: &RunId, begun: BegunBy) -> Result<Reaction, ReactionError> {
        if self.handover.end_cancelled(run).await? {
            return Ok(Reaction::Done);
        }
        let app = run.app.clone();
        Err(match begun {
            BegunBy::Version(version) => ReactionError::UnknownVersion { app, version },
            BegunBy::NoVersion => ReactionError::UnknownApp { app },
            BegunBy::Erased => ReactionError::ErasedVersion { app },
        })
    }

    /// Takes the run and has it driven again.
    async fn recover(
        &self,
        run: &RunId,
        agent_version: Option<AgentVersion>,
    ) -> Result<Reaction, ReactionError> {
        let Some(epoch) = self.claim(run).await? else {
            return Ok(Reaction::Nothing);
        };
        debug!(run = %name(run), %epoch, "re-driving");
        let redrive = Redrive {
            run: run.clone(),
            epoch,
            agent_version,
        };
        let driven = tokio::select! {
            // What the agent answers in time counts.
            biased;
            driven = self.redriver.redrive(&redrive) => driven,
            unadopted = self.hold(run, epoch) => Err(unadopted),
        };
        let undriven = self.handover.release(run, epoch).await?;
        self.tell(run, &driven, undriven).await;
        // The run itself says when it is due again: the runner need not add a wait.
        Ok(Reaction::Done)
    }

    /// Logs the result of a re-drive.
    async fn tell(&self, run: &RunId, driven: &Result<(), RedriveError>, undriven: bool) {
        let failed = driven.as_ref().err().map(|error| Causes(error).to_string());
        if undriven {
            let why = failed.as_deref();
            self.outages.lost(
                &run.app,
                why.unwrap_or("it answered as if all were well, and did not adopt the run"),
            );
        } else {
            self.outages.back(&run.app);
            match failed {
                Some(error) if self.needs_driver(run).await => {
                    warn!(run = %name(run), error, "the agent adopted the run, and the re-drive failed then");
                }
                Some(error) => {
                    debug!(run = %name(run), error, "what was answered of a run that needs no driver now");
                    info!(run = %name(run), "driven again");
                }
                None => info!(run = %name(run), "driven again"),
            }
        }
    }

    /// Whether a run still has something to drive. An agent may end with an error because its run waits or has ended.
    async fn needs_driver(&self, run: &RunId) -> bool {
        !matches!(self.journal.driver(run).await, Ok(Some(Driver::Unneeded)))
    }
}

#[async_trait]
impl Reactor for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn queue(&self) -> Queue {
        Queue::Recovery
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        let Some(run) = work.stream.as_run() else {
            return Ok(Task::nothing());
        };
        let begun = if self.redriver.by_version(&run.app) {
            recovery::begun_by(self.journal.as_ref(), run).await?
        } else {
            BegunBy::NoVersion
        };
        let version = match &begun {
            BegunBy::Version(version) => Some(version.clone()),
            BegunBy::NoVersion => None,
            // It may have been begun by any of them.
            BegunBy::Erased => return Ok(Task::now(self.end(run, begun))),
        };
        if !self.redriver.drives(&run.app, version.as_ref()) {
            return Ok(Task::now(self.end(run, begun)));
        }
        let limit = self.redriver.concurrency_limit(&run.app, version.as_ref());
        let recover = self.recover(run, version);
        Ok(match limit {
            Some(limit) => Task::limited(limit, recover),
            None => Task::now(recover),
        })
    }
}

fn name(run: &RunId) -> tape_core::id::StreamId {
    tape_core::id::StreamId::Run(run.clone())
}
