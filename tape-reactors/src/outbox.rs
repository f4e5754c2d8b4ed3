//! The outbox: a worker dispatches effects. Each attempt is recorded as started before the upstream is called.

use crate::backoff::spread;
use crate::connector::{Call, text};
use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use crate::told::tell;
use crate::worker::{TheEffect, Waited, Worker};
use async_trait::async_trait;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::due::DueWork;
use tape_core::agenda::Queue;
use tape_core::command::{AttemptOutcome, Held, WorkerCommand};
use tape_core::effect::{EffectSpec, Status};
use tape_core::id::{EffectId, RunId};
use tape_core::limits::BACKOFF_MS_MAX;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::run::ARGUMENTS_ERASED;

/// Takes due effects from the outbox. It claims an effect, which records the attempt as started, before it calls the upstream. It keeps the
/// claim while it waits, and records the outcome. Where its worker vanished during the call, an effect that is not idempotent becomes
/// UNKNOWN and is not sent again: the rules of the run decide this when the effect is claimed.
#[derive(Clone, Debug)]
pub struct Outbox(Worker);

impl Outbox {
    /// The outbox of a worker.
    #[must_use]
    pub const fn new(worker: Worker) -> Self {
        Self(worker)
    }

    /// Claims an attempt. Returns its number, or that there is nothing to send.
    async fn claim(&self, call: &Call) -> Result<Claimed, JournalError> {
        let claim = WorkerCommand::ClaimEffect {
            effect: call.effect.clone(),
            holder: self.0.holder(),
            claim_ms: self.0.claim_ms(),
        };
        match self.0.claim(call, claim).await {
            Ok(None) => Ok(Claimed::Nothing),
            Ok(Some(reply)) => Ok(match reply.result {
                ReplyResult::Effect {
                    status: Status::Started,
                    attempt,
                    ..
                } => Claimed::Attempt(attempt),
                // Its worker had vanished: the effect belongs to the reconciler now.
                _ => Claimed::Seen,
            }),
            // Another worker was faster, or the run no longer wants the effect.
            Err(JournalError::Rejected(_)) => Ok(Claimed::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn dispatch(&self, due: TheEffect<'_>) -> Result<Reaction, ReactionError> {
        let (run, effect) = (due.run, due.effect);
        let spec = self.0.spec(run, due.begun).await?;
        let call = call(&self.0, run, effect, &spec);
        let attempt = match self.claim(&call).await? {
            Claimed::Attempt(attempt) => attempt,
            Claimed::Seen => return Ok(Reaction::Done),
            Claimed::Nothing => return Ok(Reaction::Nothing),
        };
        let call = call.begun(&self.0, attempt);
        if spec.args.bytes().is_none() {
            // Nothing was sent. The run's rules let the effect wait for a person.
            let (error, after_ms) = (ARGUMENTS_ERASED.to_owned(), None);
            self.finish(&call, AttemptOutcome::Retry { error, after_ms })
                .await?;
            return Ok(Reaction::Done);
        }
        let renew = self.0.renew_effect(effect, Held::Attempt(attempt));
        let ending = match self.0.call(&call, renew, due.connector.dispatch(&call)).await {
            Waited::Answered(ending) => fitted(ending, self.0.chance()),
            Waited::TooLong => AttemptOutcome::Unknown {
                cause: format!("no answer within {:?}", self.0.timeout()),
            },
            Waited::Lost => return Ok(Reaction::Done),
        };
        if let AttemptOutcome::Unreached { error } = &ending {
            self.0.outages().lost(&spec.connector, error);
        } else {
            self.0.outages().back(&spec.connector);
            tell!(info, call, attempt, ending = word(&ending), "dispatched");
        }
        self.finish(&call, ending).await?;
        Ok(Reaction::Done)
    }

    async fn finish(&self, call: &Call, ending: AttemptOutcome) -> Result<(), JournalError> {
        let known = matches!(ending, AttemptOutcome::Confirmed { .. });
        let bare = ending.without_cost();
        match self.record(call, ending).await {
            Err(JournalError::Rejected(Rejection::ClaimLost { .. })) => {
                tell!(
                    warn,
                    call,
                    attempt = call.attempt,
                    "the answer came after the claim had lapsed"
                );
                Ok(())
            }
            // The effect happened, even if the connector's answer cannot be recorded: that fact must not be lost.
            Err(JournalError::Rejected(rejection)) if known => {
                if let Some(bare) = bare
                    && self.record(call, bare).await.is_ok()
                {
                    tell!(warn, call, %rejection, "what it cost was refused: what was set aside counts");
                    return Ok(());
                }
                let cause = text(format!(
                    "it happened, but what came of it was refused: {rejection}"
                ));
                match self.record(call, AttemptOutcome::Unknown { cause }).await {
                    Err(JournalError::Rejected(_)) => Ok(()),
                    other => other,
                }
            }
            other => other,
        }
    }

    async fn record(&self, call: &Call, ending: AttemptOutcome) -> Result<(), JournalError> {
        let finish = WorkerCommand::FinishClaimed {
            effect: call.effect.clone(),
            holder: self.0.holder(),
            attempt: call.attempt,
            ending,
        };
        self.0.ask(&call.run, finish).await.map(drop)
    }
}

enum Claimed {
    /// An attempt is started.
    Attempt(u32),
    /// The claim changed something, and there is nothing more to do.
    Seen,
    /// There is nothing to do.
    Nothing,
}

#[async_trait]
impl Reactor for Outbox {
    fn name(&self) -> &'static str {
        "outbox"
    }

    fn queue(&self) -> Queue {
        Queue::Outbox
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        let Some(due) = self.0.effect(work).await? else {
            return Ok(Task::nothing());
        };
        Ok(Task::limited(due.limit.clone(), self.dispatch(due)))
    }
}

/// A call for an effect as it was begun, before anything is claimed.
pub(crate) fn call(worker: &Worker, run: &RunId, effect: &EffectId, spec: &EffectSpec) -> Call {
    Call {
        run: run.clone(),
        effect: effect.clone(),
        connector: spec.connector.clone(),
        operation: spec.operation.clone(),
        args: spec.args.clone(),
        key: effect.idempotency_key(run),
        business_key: spec.business_key.clone(),
        semantics: spec.semantics,
        attempt: 1,
        unwanted: false,
        deadline: worker.deadline(),
    }
}

impl Call {
    /// The call of a claimed attempt or observation, whose time begins now.
    pub(crate) fn begun(self, worker: &Worker, attempt: u32) -> Self {
        Self {
            attempt,
            deadline: worker.deadline(),
            ..self
        }
    }
}

/// An ending as an entry can carry it. How long the policy waits is the run's to say; what the upstream wishes is spread out by `chance`.
fn fitted(ending: AttemptOutcome, chance: f64) -> AttemptOutcome {
    let wait = |wish| wait(wish, chance);
    match ending {
        AttemptOutcome::Confirmed { .. } => ending,
        AttemptOutcome::Failed { error, detail } => AttemptOutcome::Failed {
            error: text(error),
            detail,
        },
        AttemptOutcome::Refused { error, detail } => AttemptOutcome::Refused {
            error: text(error),
            detail,
        },
        AttemptOutcome::Retry { error, after_ms } => AttemptOutcome::Retry {
            error: text(error),
            after_ms: after_ms.map(wait),
        },
        AttemptOutcome::Repeat { cause, after_ms } => AttemptOutcome::Repeat {
            cause: text(cause),
            after_ms: after_ms.map(wait),
        },
        AttemptOutcome::Unknown { cause } => AttemptOutcome::Unknown { cause: text(cause) },
        AttemptOutcome::Unreached { error } => AttemptOutcome::Unreached { error: text(error) },
    }
}

/// The wait that an upstream wishes, in milliseconds, and up to a quarter more by chance.
fn wait(wish: u64, chance: f64) -> u64 {
    let wait = spread(Duration::from_millis(wish.min(BACKOFF_MS_MAX)), chance);
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

const fn word(ending: &AttemptOutcome) -> &'static str {
    match ending {
        AttemptOutcome::Confirmed { .. } => "confirmed",
        AttemptOutcome::Failed { .. } => "failed",
        AttemptOutcome::Refused { .. } => "refused",
        AttemptOutcome::Retry { .. } => "retry",
        AttemptOutcome::Repeat { .. } => "repeat",
        AttemptOutcome::Unknown { .. } => "unknown",
        AttemptOutcome::Unreached { .. } => "unreached",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_ms(wish: Option<u64>, chance: f64) -> Option<u64> {
        let error = "busy".to_owned();
        let retry = AttemptOutcome::Retry {
            error,
            after_ms: wish,
        };
        match fitted(retry, chance) {
            AttemptOutcome::Retry { after_ms, .. } => after_ms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_attempt_comes_no_earlier_than_the_upstream_wishes() {
        for (wish, least) in [(0, 0), (7_000, 7_000), (u64::MAX, BACKOFF_MS_MAX)] {
            let waits = [0.0, 1.0].map(|chance| wait_ms(Some(wish), chance).unwrap());
            assert_eq!(waits, [least, least + least / 4], "{wish}");
        }
        // Without a wish, the run waits as its policy says: it knows which attempts count.
        assert_eq!(wait_ms(None, 0.5), None);
    }
}
