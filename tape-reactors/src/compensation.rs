//! Compensation: the effects of a run are undone in reverse order, one at a time.

use crate::connector::{Call, Connector, NotUndone, Observation, text};
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::told::tell;
use crate::worker::{TheObligation, Waited, Worker};
use async_trait::async_trait;
use tape_api::JournalError;
use tape_api::due::DueWork;
use tape_core::agenda::Queue;
use tape_core::command::{UndoOutcome, WorkerCommand};
use tape_core::effect::Semantics;
use tape_core::entry::obligation::ObligationId;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::run::ARGUMENTS_ERASED;

/// Executes released obligations. The rules of the run decide which obligation is next, how long to wait after a failure and when a person
/// must look. The agenda has at most one obligation of each run.
#[derive(Clone, Debug)]
pub struct Compensation(Worker);

impl Compensation {
    /// The compensation of a worker.
    #[must_use]
    pub const fn new(worker: Worker) -> Self {
        Self(worker)
    }

    async fn claim(&self, call: &Call, obligation: &ObligationId) -> Result<Claimed, JournalError> {
        let claim = WorkerCommand::ClaimObligation {
            obligation: obligation.clone(),
            holder: self.0.holder(),
            claim_ms: self.0.claim_ms(),
        };
        match self.0.claim(call, claim).await {
            Ok(None) => Ok(Claimed::Nothing),
            Ok(Some(reply)) => Ok(match reply.result {
                ReplyResult::Obligation { stuck: true, .. } => Claimed::Stuck,
                ReplyResult::Obligation {
                    attempt, in_doubt, ..
                } => Claimed::Attempt { attempt, in_doubt },
                _ => Claimed::Nothing,
            }),
            Err(JournalError::Rejected(_)) => Ok(Claimed::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn undo(&self, due: TheObligation<'_>) -> Result<Reaction, ReactionError> {
        let obligation = due.obligation;
        let call = self.call(&due).await?;
        let (attempt, in_doubt) = match self.claim(&call, obligation).await? {
            Claimed::Attempt { attempt, in_doubt } => (attempt, in_doubt),
            Claimed::Stuck => return Ok(Reaction::Done),
            Claimed::Nothing => return Ok(Reaction::Nothing),
        };
        let call = call.begun(&self.0, attempt);
        if call.args.bytes().is_none() {
            let reason = ARGUMENTS_ERASED.to_owned();
            self.finish(obligation, &call, UndoOutcome::Stuck { reason })
                .await?;
            return Ok(Reaction::Done);
        }
        let renew = self.0.renew_obligation(obligation, attempt);
        let ending = match self
            .0
            .call(&call, renew, attempted(&*due.connector, &call, in_doubt))
            .await
        {
            Waited::Answered(ending) => ending,
            Waited::TooLong => UndoOutcome::Unknown {
                cause: format!("no answer within {:?}", self.0.timeout()),
            },
            Waited::Lost => return Ok(Reaction::Done),
        };
        if let UndoOutcome::Unreached { error } = &ending {
            self.0.outages().lost(&call.connector, error);
        } else {
            self.0.outages().back(&call.connector);
            tell!(info, call, attempt, ending = word(&ending), "undoing");
        }
        self.finish(obligation, &call, fitted(ending)).await?;
        Ok(Reaction::Done)
    }

    async fn finish(
        &self,
        obligation: &ObligationId,
        call: &Call,
        ending: UndoOutcome,
    ) -> Result<(), JournalError> {
        if let Some((what, why)) = told(&ending) {
            tell!(warn, call, attempt = call.attempt, why, "{what}");
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
                    tell!(error, call, "the undo is stuck: a person must look");
                }
                Ok(())
            }
            Err(JournalError::Rejected(Rejection::ClaimLost { .. })) => {
                tell!(warn, call, "the undo was answered after its claim had lapsed");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The first attempt's call, before anything is claimed.
    async fn call(&self, due: &TheObligation<'_>) -> Result<Call, JournalError> {
        let (run, at) = (due.run, &due.at);
        let undo = self.0.undo(run, at.source).await?;
        let (semantics, business_key) = match at.begun {
            Some(begun) => {
                let spec = self.0.spec(run, begun).await?;
                (spec.semantics, spec.business_key)
            }
            // An upstream that acted twice is not trusted to honour idempotency keys.
            None => (Semantics::NonIdempotent, None),
        };
        Ok(Call {
            run: run.clone(),
            effect: due.obligation.effect.clone(),
            connector: at.connector.clone(),
            operation: undo.operation,
            args: undo.args,
            key: due.obligation.key(run),
            business_key,
            semantics,
            attempt: 1,
            unwanted: false,
            deadline: self.0.deadline(),
        })
    }
}

enum Claimed {
    Attempt { attempt: u32, in_doubt: bool },
    Stuck,
    Nothing,
}

/// One attempt. Where an earlier one may have undone the effect, it asks first.
async fn attempted(connector: &dyn Connector, call: &Call, in_doubt: bool) -> UndoOutcome {
    if in_doubt && let Some(known) = looked(connector, call).await {
        return known;
    }
    match connector.compensate(call).await {
        Ok(result) => UndoOutcome::Done { result },
        Err(NotUndone::Retry { error }) => UndoOutcome::Retry { error },
        Err(NotUndone::Unknown { cause }) => UndoOutcome::Unknown { cause },
        Err(NotUndone::Unreached { error }) => UndoOutcome::Unreached { error },
        Err(NotUndone::Refused { error }) => UndoOutcome::Stuck { reason: error },
    }
}

/// The outcome of earlier attempts by the upstream; none where another attempt may be made.
async fn looked(connector: &dyn Connector, call: &Call) -> Option<UndoOutcome> {
    let heeds_keys = call.semantics == Semantics::Idempotent;
    match connector.observe_undo(call).await {
        Some(Observation::Found { result, .. }) => Some(UndoOutcome::Done { result }),
        Some(Observation::Absent) => None,
        Some(Observation::Duplicate { .. }) => Some(UndoOutcome::Stuck {
            reason: "it was undone more than once".to_owned(),
        }),
        None | Some(Observation::Inconclusive { .. } | Observation::Unreached { .. }) if heeds_keys => None,
        Some(Observation::Unreached { why }) => Some(UndoOutcome::Unreached { error: why }),
        Some(Observation::Inconclusive { why }) => Some(UndoOutcome::Unknown { cause: why }),
        None => Some(UndoOutcome::Stuck {
            reason: "an attempt may have undone it, and the upstream cannot be asked".to_owned(),
        }),
    }
}

/// An ending within the bounds of an entry.
fn fitted(ending: UndoOutcome) -> UndoOutcome {
    match ending {
        UndoOutcome::Done { .. } => ending,
        UndoOutcome::Retry { error } => UndoOutcome::Retry { error: text(error) },
        UndoOutcome::Unknown { cause } => UndoOutcome::Unknown { cause: text(cause) },
        UndoOutcome::Stuck { reason } => UndoOutcome::Stuck { reason: text(reason) },
        UndoOutcome::Unreached { error } => UndoOutcome::Unreached { error: text(error) },
    }
}

const fn word(ending: &UndoOutcome) -> &'static str {
    match ending {
        UndoOutcome::Done { .. } => "done",
        UndoOutcome::Retry { .. } => "retry",
        UndoOutcome::Unknown { .. } => "unknown",
        UndoOutcome::Stuck { .. } => "stuck",
        UndoOutcome::Unreached { .. } => "unreached",
    }
}

/// What the log says of an attempt that did not undo the effect for sure, and why. An upstream that is away is told of by its outage.
fn told(ending: &UndoOutcome) -> Option<(&'static str, &str)> {
    match ending {
        UndoOutcome::Done { .. } | UndoOutcome::Unreached { .. } => None,
        UndoOutcome::Unknown { cause } => Some(("it may be undone", cause)),
        UndoOutcome::Retry { error: why } | UndoOutcome::Stuck { reason: why } => Some(("not undone", why)),
    }
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
        Ok(Task::limited(due.limit.clone(), self.undo(due)))
    }
}

#[cfg(test)]
mod tests {
    use super::told;
    use tape_core::command::UndoOutcome;

    #[test]
    fn an_undo_whose_answer_was_lost_is_not_told_as_not_undone() {
        let why = || "timeout".to_owned();
        for (ending, what) in [
            (UndoOutcome::Unknown { cause: why() }, Some("it may be undone")),
            (UndoOutcome::Retry { error: why() }, Some("not undone")),
            (UndoOutcome::Stuck { reason: why() }, Some("not undone")),
            (UndoOutcome::Unreached { error: why() }, None),
        ] {
            assert_eq!(told(&ending).map(|(what, _)| what), what);
        }
    }
}
