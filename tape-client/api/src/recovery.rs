//! How a run without a driver is taken and handed to an agent.
//!
//! [`Handover::take`] takes a run that is due, so that no two workers have it driven at once. The agent adopts the run from the epoch
//! that it was taken with. [`Handover::hold`] keeps the run until then, and [`Handover::release`] lets go one that no agent adopted. How
//! long a run that makes no progress waits between re-drives, and when it waits for a person, are rules of the run.

use crate::sending::ask;
use crate::{Journal, JournalError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tape_core::agent_version::BegunBy;
use tape_core::causes::Causes;
use tape_core::codec::decode;
use tape_core::command::{Begin, DriverCommand, RunCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{AgentVersion, Epoch, Holder, RunId, Seq, StreamId};
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::run::Driver;
use tokio::time::Instant;
use tracing::debug;

/// A run that its agent has not adopted after so many leases is let go: an agent that hangs would have the place for as long as its
/// answer may take.
const LEASES_UNADOPTED_MAX: u32 = 4;
/// The lease is renewed so many times before it is over.
const RENEWALS_PER_LEASE: u32 = 3;

/// A run that recovery took, for an agent to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The run.
    pub run: RunId,
    /// The epoch that recovery holds the run with: the agent adopts the run from it, so that it passes from hand to
    /// hand without a gap.
    pub epoch: Epoch,
    /// The version of the agent that began the run, where the re-driver chooses by versions and the run has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<AgentVersion>,
}

impl Redrive {
    /// A re-drive by who does not choose by versions.
    #[must_use]
    pub const fn new(run: RunId, epoch: Epoch) -> Self {
        Self {
            run,
            epoch,
            agent_version: None,
        }
    }
}

/// What the journal says about the version of the agent that began a run; no version where there is no such run.
///
/// # Errors
/// [`JournalError`].
pub async fn begun_by(journal: &dyn Journal, run: &RunId) -> Result<BegunBy, JournalError> {
    let first = journal.read(run, Seq::ZERO, 1).await?;
    let Some(first) = first.first() else {
        return Ok(BegunBy::NoVersion);
    };
    let erased = first.payload.is_none();
    Ok(match decode(first).map_err(JournalError::damaged)?.body {
        EntryBody::RunBegun(begun) => BegunBy::of(&begun.labels, erased),
        EntryBody::RunRetired(retired) => BegunBy::of(&retired.labels, erased),
        _ => BegunBy::NoVersion,
    })
}

/// What came of taking a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is held with this epoch, until an agent adopts it.
    Held(Epoch),
    /// It waits for a person, for this reason.
    Stuck(String),
    /// There is nothing to recover: it is not due, another has it, or it has ended. Taking a cancelled run ends it.
    Nothing,
}

/// Takes runs under one name, for a lease at a time.
#[derive(Clone, Debug)]
pub struct Handover {
    journal: Arc<dyn Journal>,
    holder: Holder,
    lease: Duration,
}

impl Handover {
    /// Takes runs of `journal` as `holder`, for `lease` at a time.
    #[must_use]
    pub const fn new(journal: Arc<dyn Journal>, holder: Holder, lease: Duration) -> Self {
        Self {
            journal,
            holder,
            lease,
        }
    }

    /// The name under which it takes runs.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Takes a run that is due.
    ///
    /// # Errors
    /// [`JournalError`], where the run may be taken if the journal is [`Unavailable`](JournalError::Unavailable).
    pub async fn take(&self, run: &RunId) -> Result<Taken, JournalError> {
        let begin = Begin {
            run: run.clone(),
            create: None,
            holder: self.holder.clone(),
            lease_ms: self.lease_ms(),
            adopt: None,
            recovery: true,
        };
        match ask(self.journal.as_ref(), run, RunCommand::Begin(begin)).await {
            Ok(reply) => Ok(match reply.result {
                ReplyResult::Leased { epoch, .. } => Taken::Held(epoch),
                ReplyResult::Stuck { reason } => Taken::Stuck(reason),
                _ => Taken::Nothing,
            }),
            Err(JournalError::Rejected(Rejection::NotDue { .. } | Rejection::LeaseHeld { .. })) => {
                Ok(Taken::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a run that was taken until an agent has it: from then on the agent's own lease counts, and this never returns. Returns
    /// after four leases in which no agent adopted the run, and says how long that is.
    pub async fn hold(&self, run: &RunId, epoch: Epoch) -> Duration {
        let within = self.lease * LEASES_UNADOPTED_MAX;
        let give_up = Instant::now() + within;
        loop {
            tokio::time::sleep(self.lease / RENEWALS_PER_LEASE).await;
            let renew = DriverCommand::RenewLease {
                lease_ms: self.lease_ms(),
            };
            match self.drive(run, epoch, renew).await {
                // It was adopted, or has ended.
                Err(JournalError::Rejected(_)) => return std::future::pending().await,
                Err(error) => {
                    let run = StreamId::Run(run.clone());
                    debug!(%run, error = %Causes(&error), "the lease was not renewed");
                }
                Ok(()) if Instant::now() >= give_up => return within,
                Ok(()) => {}
            }
        }
    }

    /// Lets a run go that was taken, so that it is not adopted any more. Where an agent adopted it, that is refused and changes nothing.
    /// Whether it was let go: then the re-drive does not count towards those without progress. It does not count either where this is never
    /// called, because this worker dies.
    ///
    /// # Errors
    /// [`JournalError`], where the run is due again after its lease.
    pub async fn release(&self, run: &RunId, epoch: Epoch) -> Result<bool, JournalError> {
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

    /// Ends a run without its agent, if a cancellation was requested and the run has no driver. Returns whether that was so.
    ///
    /// Any other run is left as it is: taken and let go again, it would wait longer for an agent.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn end_cancelled(&self, run: &RunId) -> Result<bool, JournalError> {
        let Some(Driver::Alone { cancel: Some(_), .. }) = self.journal.driver(run).await? else {
            return Ok(false);
        };
        // What takes up a cancelled run ends it instead.
        self.take(run).await?;
        Ok(true)
    }

    async fn drive(&self, run: &RunId, epoch: Epoch, command: DriverCommand) -> Result<(), JournalError> {
        let command = RunCommand::Drive(epoch, command);
        ask(self.journal.as_ref(), run, command).await.map(drop)
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
