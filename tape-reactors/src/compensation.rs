//! Compensation: what a run did is undone, last in, first out, one at a time.

use crate::access::{AccessError, DueWork};
use crate::connector::{Call, NotUndone, text};
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::worker::{TheObligation, Waited, Worker};
use async_trait::async_trait;
use tape_core::agenda::Queue;
use tape_core::command::WorkerCommand;
use tape_core::effect::{Semantics, Undo};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{Connector as Name, RunId, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tracing::{error, info, warn};

/// Carries out released obligations. Which one is next, how long to wait after a failure and when a person must look are rules of
/// the run: an agenda has at most one obligation of each run.
#[derive(Clone, Debug)]
pub struct Compensation(Worker);

impl Compensation {
    /// The compensation of a worker.
    #[must_use]
    pub const fn new(worker: Worker) -> Self {
        Self(worker)
    }

    async fn claim(&self, run: &RunId, obligation: &ObligationId) -> Result<Claimed, AccessError> {
        let claim = WorkerCommand::ClaimObligation {
            obligation: obligation.clone(),
            holder: self.0.holder(),
            claim_ms: self.0.claim_ms(),
        };
        let renew = self.0.renew_obligation(obligation);
        match self.0.claim(run, claim, &renew).await {
            Ok(None) => Ok(Claimed::Nothing),
            Ok(Some(reply)) => Ok(match reply.result {
                ReplyResult::Obligation { stuck: true, .. } => Claimed::Stuck,
                ReplyResult::Obligation { attempt, .. } => Claimed::Attempt(attempt),
                _ => Claimed::Nothing,
            }),
            Err(AccessError::Rejected(_)) => Ok(Claimed::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn undo(&self, due: TheObligation<'_>) -> Result<Reaction, ReactionError> {
        let (run, obligation) = (due.run, due.obligation);
        let undo = self.0.undo(run, due.at.source).await?;
        let attempt = match self.claim(run, obligation).await? {
            Claimed::Attempt(attempt) => attempt,
            Claimed::Stuck => return Ok(Reaction::Done),
            Claimed::Nothing => return Ok(Reaction::Nothing),
        };
        let call = self.call(run, obligation, due.at.connector.clone(), undo, attempt);
        let renew = self.0.renew_obligation(obligation);
        let undone = match self.0.call(run, renew, due.connector.compensate(&call)).await {
            Waited::Answered(undone) => undone,
            Waited::TooLong => Err(NotUndone::new(format_args!(
                "no answer within {:?}",
                self.0.patience()
            ))),
            Waited::Lost => return Ok(Reaction::Done),
        };
        info!(run = %StreamId::Run(run.clone()), effect = %obligation.effect, attempt, done = undone.is_ok(), "undoing");
        self.finish(obligation, &call, undone).await?;
        Ok(Reaction::Done)
    }

    async fn finish(
        &self,
        obligation: &ObligationId,
        call: &Call,
        undone: Result<Payload, NotUndone>,
    ) -> Result<(), AccessError> {
        let ending = undone.map_err(|error| text(error.to_string()));
        if let Err(error) = &ending {
            warn!(effect = %call.effect, attempt = call.attempt, error, "not undone");
        }
        let finish = WorkerCommand::FinishObligation {
            obligation: obligation.clone(),
            holder: self.0.holder(),
            attempt: call.attempt,
            ending,
        };
        match self.0.ask(&call.run, finish).await {
            Ok(reply) => {
                if let ReplyResult::Obligation { stuck: true, .. } = reply.result {
                    error!(effect = %call.effect, "the undo is stuck: a person must look");
                }
                Ok(())
            }
            Err(AccessError::Rejected(Rejection::ClaimLost { .. })) => {
                warn!(effect = %call.effect, "the undo was answered after its claim had lapsed");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn call(
        &self,
        run: &RunId,
        obligation: &ObligationId,
        connector: Name,
        undo: Undo,
        attempt: u32,
    ) -> Call {
        Call {
            run: run.clone(),
            effect: obligation.effect.clone(),
            connector,
            operation: undo.operation,
            args: undo.args,
            key: obligation.key(run),
            business_key: None,
            semantics: Semantics::Idempotent,
            attempt,
            unwanted: false,
            deadline: self.0.deadline(),
        }
    }
}

enum Claimed {
    Attempt(u32),
    Stuck,
    Nothing,
}

#[async_trait]
impl Reactor for Compensation {
    fn name(&self) -> &'static str {
        "compensation"
    }

    fn queue(&self) -> Queue {
        Queue::Compensation
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        let Some(due) = self.0.obligation(work).await? else {
            return Ok(Task::nothing());
        };
        Ok(Task::in_lane(due.lane.clone(), self.undo(due)))
    }
}
