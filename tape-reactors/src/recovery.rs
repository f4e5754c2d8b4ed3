//! Recovery: it re-drives runs whose drivers are gone, or whose wait is over.

use crate::outages::Outages;
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::redrive::{Redrive, RedriveError, Redriver};
use crate::sending::ask;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tape_api::due::DueWork;
use tape_api::{Journal, JournalError};
use tape_core::agenda::Queue;
use tape_core::causes::Causes;
use tape_core::command::{Begin, DriverCommand, RunCommand};
use tape_core::id::{App, Epoch, Holder, RunId};
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::run::Driver;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A run that its agent has not adopted after this many leases is released: otherwise an agent that hangs would hold the place for as long
/// as its answer may take.
const LEASES_UNADOPTED_MAX: u32 = 4;

/// Claims a due run before it re-drives it, so that no two workers drive it at once. It keeps its lease until the agent has adopted the
/// run. It releases the run where the agent answers without having adopted it, or has not adopted it within four leases. A re-drive counts
/// only if the journal shows that an agent adopted the run, whatever the answer. The rules of the run decide how long a run without
/// progress waits between re-drives, and when it waits for a person. A run that was asked to end, and whose driver is gone, is ended
/// without an agent.
pub struct Recovery {
    journal: Arc<dyn Journal>,
    redriver: Arc<dyn Redriver>,
    holder: Holder,
    lease: Duration,
    /// Agents that adopt no runs.
    outages: Outages<App>,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery")
            .field("holder", &self.holder)
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
            journal,
            redriver,
            holder,
            lease,
            outages: Outages::new("agent", "adopts no run: its runs wait, and no re-drive counts"),
        }
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes the run; none where there is nothing to recover.
    async fn claim(&self, run: &RunId) -> Result<Option<Epoch>, JournalError> {
        let begin = Begin {
            run: run.clone(),
            create: None,
            holder: self.holder.clone(),
            lease_ms: self.lease_ms(),
            adopt: None,
            recovery: true,
        };
        match ask(self.journal.as_ref(), run, RunCommand::Begin(begin)).await {
            Ok(reply) => match reply.result {
                ReplyResult::Leased { epoch, .. } => Ok(Some(epoch)),
                ReplyResult::Stuck { reason } => {
                    warn!(run = %name(run), reason, "the run waits for a person");
                    Ok(None)
                }
                _ => Ok(None),
            },
            Err(JournalError::Rejected(Rejection::NotDue { .. } | Rejection::LeaseHeld { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews the lease until the run is adopted; returns where no agent adopts it in time.
    async fn hold(&self, run: &RunId, epoch: Epoch) -> RedriveError {
        let within = self.lease * LEASES_UNADOPTED_MAX;
        let give_up = Instant::now() + within;
        loop {
            tokio::time::sleep(self.lease / 3).await;
            let renew = DriverCommand::RenewLease {
                lease_ms: self.lease_ms(),
            };
            match self.drive(run, epoch, renew).await {
                // It was adopted, or has ended: the agent's own lease counts from here.
                Err(JournalError::Rejected(_)) => return std::future::pending().await,
                Err(error) => debug!(run = %name(run), error = %Causes(&error), "the lease was not renewed"),
                Ok(()) if Instant::now() >= give_up => return RedriveError::Unadopted { within },
                Ok(()) => {}
            }
        }
    }

    /// Releases the run, unless an agent adopted it: then this is refused and changes nothing. Returns whether it was released.
    async fn release(&self, run: &RunId, epoch: Epoch) -> Result<bool, JournalError> {
        let release = DriverCommand::ReleaseLease {
            redrive_in_ms: 0,
            undriven: true,
        };
        match self.drive(run, epoch, release).await {
            Ok(()) => Ok(true),
            Err(JournalError::Rejected(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a run whose app has no agent here, where the run was asked to end and its driver is gone.
    async fn end(&self, run: &RunId) -> Result<Reaction, ReactionError> {
        match self.journal.driver(run).await? {
            Some(Driver::Alone { cancel: Some(_), .. }) => {
                // Claiming a cancelled run ends it instead.
                self.claim(run).await?;
                Ok(Reaction::Done)
            }
            // A claimed and released run would count as driven without progress, and become stuck.
            _ => Err(ReactionError::UnknownApp { app: run.app.clone() }),
        }
    }

    /// Claims the run and re-drives it.
    async fn recover(&self, run: &RunId) -> Result<Reaction, ReactionError> {
        let Some(epoch) = self.claim(run).await? else {
            return Ok(Reaction::Nothing);
        };
        debug!(run = %name(run), %epoch, "re-driving");
        let redrive = Redrive {
            run: run.clone(),
            epoch,
        };
        let driven = tokio::select! {
            driven = self.redriver.redrive(&redrive) => driven,
            unadopted = self.hold(run, epoch) => Err(unadopted),
        };
        let undriven = self.release(run, epoch).await?;
        self.tell(run, &driven, undriven);
        // The run itself says when it is due again: the runner need not add a wait.
        Ok(Reaction::Done)
    }

    /// Logs the result of a re-drive.
    fn tell(&self, run: &RunId, driven: &Result<(), RedriveError>, undriven: bool) {
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
                Some(error) => warn!(run = %name(run), error, "the re-drive failed"),
                None => info!(run = %name(run), "driven again"),
            }
        }
    }

    async fn drive(&self, run: &RunId, epoch: Epoch, command: DriverCommand) -> Result<(), JournalError> {
        let command = RunCommand::Drive(epoch, command);
        ask(self.journal.as_ref(), run, command).await.map(drop)
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
        if !self.redriver.drives(&run.app) {
            return Ok(Task::now(self.end(run)));
        }
        let recover = self.recover(run);
        Ok(match self.redriver.concurrency_limit(&run.app) {
            Some(limit) => Task::limited(limit, recover),
            None => Task::now(recover),
        })
    }
}

fn name(run: &RunId) -> tape_core::id::StreamId {
    tape_core::id::StreamId::Run(run.clone())
}
