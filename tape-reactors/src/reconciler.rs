//! The reconciler: it asks the upstream about effects with an unknown outcome, until the outcome is known or a person must look.

use crate::connector::{Call, Observation, text};
use crate::outbox::call;
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::told::tell;
use crate::worker::{TheEffect, Waited, Worker};
use async_trait::async_trait;
use tape_api::JournalError;
use tape_api::due::DueWork;
use tape_core::agenda::Queue;
use tape_core::command::{Held, WorkerCommand};
use tape_core::effect::Undo;
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::run::ARGUMENTS_ERASED;

/// Observes UNKNOWN effects. The rules of the run decide when the next observation is due, what follows from one, and when a person must
/// look.
#[derive(Clone, Debug)]
pub struct Reconciler(Worker);

impl Reconciler {
    /// The reconciler of a worker.
    #[must_use]
    pub const fn new(worker: Worker) -> Self {
        Self(worker)
    }

    /// Claims the observation. Returns its number, and whether the run no longer wants the effect; none where there is nothing to observe.
    async fn claim(&self, call: &Call) -> Result<Option<(u32, bool)>, JournalError> {
        let claim = WorkerCommand::ClaimObservation {
            effect: call.effect.clone(),
            holder: self.0.holder(),
            claim_ms: self.0.claim_ms(),
        };
        match self.0.claim(call, claim).await {
            Ok(reply) => Ok(reply.and_then(|reply| match reply.result {
                ReplyResult::Observing {
                    observation,
                    unwanted,
                    ..
                } => Some((observation, unwanted)),
                _ => None,
            })),
            Err(JournalError::Rejected(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn observe(&self, due: TheEffect<'_>) -> Result<Reaction, ReactionError> {
        let (run, effect) = (due.run, due.effect);
        let spec = self.0.spec(run, due.begun).await?;
        let call = call(&self.0, run, effect, &spec);
        let Some((observation, unwanted)) = self.claim(&call).await? else {
            return Ok(Reaction::Nothing);
        };
        let call = Call {
            unwanted,
            ..call.begun(&self.0, observation)
        };
        if call.args.bytes().is_none() {
            self.record(&call, Observation::inconclusive(ARGUMENTS_ERASED))
                .await?;
            return Ok(Reaction::Done);
        }
        let renew = self.0.renew_effect(effect, Held::Observation(observation));
        let seen = match self.0.call(&call, renew, due.connector.observe(&call)).await {
            Waited::Answered(seen) => seen,
            Waited::TooLong => {
                Observation::inconclusive(format_args!("no answer within {:?}", self.0.timeout()))
            }
            Waited::Lost => return Ok(Reaction::Done),
        };
        self.record(&call, seen).await?;
        Ok(Reaction::Done)
    }

    async fn record(&self, call: &Call, seen: Observation) -> Result<(), JournalError> {
        let conclusive = !matches!(
            seen,
            Observation::Inconclusive { .. } | Observation::Unreached { .. }
        );
        match self.send(call, seen).await {
            Err(JournalError::Rejected(Rejection::ClaimLost { .. })) => {
                tell!(warn, call, "the observation came after its claim had lapsed");
                Ok(())
            }
            // The connector's result cannot be recorded as it is: the observation still counts towards its bound.
            Err(JournalError::Rejected(rejection)) if conclusive => {
                let why = format!("what was seen was refused: {rejection}");
                match self.send(call, Observation::Inconclusive { why }).await {
                    Err(JournalError::Rejected(_)) => Ok(()),
                    other => other,
                }
            }
            other => other,
        }
    }

    async fn send(&self, call: &Call, seen: Observation) -> Result<(), JournalError> {
        let outcome = seen.outcome();
        if let Observation::Unreached { why } = &seen {
            self.0.outages().lost(&call.connector, why);
        } else {
            self.0.outages().back(&call.connector);
            tell!(info, call, ?outcome, why = why(&seen), "observed");
        }
        let why = text_of(why(&seen));
        let (result, undo, undo_duplicates) = parts(seen);
        let record = WorkerCommand::RecordObservation {
            effect: call.effect.clone(),
            holder: self.0.holder(),
            observation: call.attempt,
            outcome,
            result,
            undo,
            undo_duplicates,
            why,
        };
        self.0.ask(&call.run, record).await.map(drop)
    }
}

#[async_trait]
impl Reactor for Reconciler {
    fn name(&self) -> &'static str {
        "reconciler"
    }

    fn queue(&self) -> Queue {
        Queue::Reconcile
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        let Some(due) = self.0.effect(work).await? else {
            return Ok(Task::nothing());
        };
        Ok(Task::limited(due.limit.clone(), self.observe(due)))
    }
}

fn parts(seen: Observation) -> (Payload, Option<Undo>, Vec<Undo>) {
    match seen {
        Observation::Found { result, undo } => (result, undo, Vec::new()),
        Observation::Duplicate {
            result,
            undo,
            undo_duplicates,
        } => (result, undo, undo_duplicates),
        Observation::Absent | Observation::Inconclusive { .. } | Observation::Unreached { .. } => {
            (Payload::empty(), None, Vec::new())
        }
    }
}

/// A reason within the bounds of an entry.
fn text_of(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| text(why.to_owned()))
}

fn why(seen: &Observation) -> Option<&str> {
    match seen {
        Observation::Inconclusive { why } | Observation::Unreached { why } => Some(why),
        Observation::Found { .. } | Observation::Absent | Observation::Duplicate { .. } => None,
    }
}
