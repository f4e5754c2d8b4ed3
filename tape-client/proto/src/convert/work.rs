//! Commands of a worker.

use super::command::{RunCall, requests};
use super::field::{InvalidField, convert, known, name, optional, repeated, required};
use crate::v1;
use tape_core::command::{Held, UndoOutcome, WorkerCommand};

requests! {
    Work:
    ClaimEffectRequest(wire) => WorkerCommand::ClaimEffect {
        effect: required("effect", wire.effect)?,
        holder: name("holder", &wire.holder)?,
        claim_ms: wire.claim_ms,
    };
    ClaimObservationRequest(wire) => WorkerCommand::ClaimObservation {
        effect: required("effect", wire.effect)?,
        holder: name("holder", &wire.holder)?,
        claim_ms: wire.claim_ms,
    };
    RenewEffectClaimRequest(wire) => WorkerCommand::RenewEffectClaim {
        effect: required("effect", wire.effect)?,
        holder: name("holder", &wire.holder)?,
        held: wire.held.map(Into::into),
        claim_ms: wire.claim_ms,
    };
    FinishEffectRequest(wire) => WorkerCommand::FinishClaimed {
        effect: required("effect", wire.effect)?,
        holder: name("holder", &wire.holder)?,
        attempt: wire.attempt,
        ending: required("ending", wire.ending)?,
    };
    LapseEffectRequest(wire) => WorkerCommand::LapseEffect {
        effect: required("effect", wire.effect)?,
    };
    RecordObservationRequest(wire) => WorkerCommand::RecordObservation {
        effect: required("effect", wire.effect)?,
        holder: name("holder", &wire.holder)?,
        observation: wire.observation,
        outcome: known::<v1::Outcome, _>("outcome", wire.outcome)?,
        result: required("result", wire.result)?,
        undo: optional("undo", wire.undo)?,
        undo_duplicates: repeated("undo_duplicates", wire.undo_duplicates)?,
        why: wire.why,
    };
    ClaimObligationRequest(wire) => WorkerCommand::ClaimObligation {
        obligation: required("obligation", wire.obligation)?,
        holder: name("holder", &wire.holder)?,
        claim_ms: wire.claim_ms,
    };
    RenewObligationClaimRequest(wire) => WorkerCommand::RenewObligationClaim {
        obligation: required("obligation", wire.obligation)?,
        holder: name("holder", &wire.holder)?,
        attempt: wire.attempt,
        claim_ms: wire.claim_ms,
    };
    FinishObligationRequest(wire) => WorkerCommand::FinishObligation {
        obligation: required("obligation", wire.obligation)?,
        holder: name("holder", &wire.holder)?,
        attempt: wire.attempt,
        ending: read_undo_outcome(wire.outcome)?,
    };
}

fn read_undo_outcome(
    outcome: Option<v1::finish_obligation_request::Outcome>,
) -> Result<UndoOutcome, InvalidField> {
    use v1::finish_obligation_request::Outcome;
    Ok(match outcome.ok_or_else(|| InvalidField::missing("outcome"))? {
        Outcome::Done(result) => UndoOutcome::Done {
            result: convert("done", result)?,
        },
        Outcome::Unknown(cause) => UndoOutcome::Unknown { cause },
        Outcome::Deferred(error) => UndoOutcome::Retry { error },
        Outcome::Stuck(reason) => UndoOutcome::Stuck { reason },
        Outcome::Unreached(error) => UndoOutcome::Unreached { error },
    })
}

fn write_undo_outcome(ending: UndoOutcome) -> v1::finish_obligation_request::Outcome {
    use v1::finish_obligation_request::Outcome;
    match ending {
        UndoOutcome::Done { result } => Outcome::Done(result.into()),
        UndoOutcome::Unknown { cause } => Outcome::Unknown(cause),
        UndoOutcome::Retry { error } => Outcome::Deferred(error),
        UndoOutcome::Stuck { reason } => Outcome::Stuck(reason),
        UndoOutcome::Unreached { error } => Outcome::Unreached(error),
    }
}

impl From<v1::renew_effect_claim_request::Held> for Held {
    fn from(wire: v1::renew_effect_claim_request::Held) -> Self {
        use v1::renew_effect_claim_request::Held as Wire;
        match wire {
            Wire::Attempt(attempt) => Self::Attempt(attempt),
            Wire::Observation(observation) => Self::Observation(observation),
        }
    }
}

impl From<Held> for v1::renew_effect_claim_request::Held {
    fn from(held: Held) -> Self {
        match held {
            Held::Attempt(attempt) => Self::Attempt(attempt),
            Held::Observation(observation) => Self::Observation(observation),
        }
    }
}

/// The call that sends a worker's command.
pub(super) fn call(
    run: Option<v1::RunId>,
    context: Option<v1::RequestContext>,
    command: WorkerCommand,
) -> RunCall {
    match command {
        WorkerCommand::ClaimEffect {
            effect,
            holder,
            claim_ms,
        } => v1::ClaimEffectRequest {
            run,
            context,
            effect: Some(effect.into()),
            holder: holder.into(),
            claim_ms,
        }
        .into(),
        WorkerCommand::ClaimObservation {
            effect,
            holder,
            claim_ms,
        } => v1::ClaimObservationRequest {
            run,
            context,
            effect: Some(effect.into()),
            holder: holder.into(),
            claim_ms,
        }
        .into(),
        WorkerCommand::RenewEffectClaim {
            effect,
            holder,
            held,
            claim_ms,
        } => v1::RenewEffectClaimRequest {
            run,
            context,
            effect: Some(effect.into()),
            holder: holder.into(),
            claim_ms,
            held: held.map(Into::into),
        }
        .into(),
        WorkerCommand::FinishClaimed {
            effect,
            holder,
            attempt,
            ending,
        } => v1::FinishEffectRequest {
            run,
            context,
            effect: Some(effect.into()),
            holder: holder.into(),
            attempt,
            ending: Some(ending.into()),
        }
        .into(),
        WorkerCommand::LapseEffect { effect } => v1::LapseEffectRequest {
            run,
            context,
            effect: Some(effect.into()),
        }
        .into(),
        WorkerCommand::RecordObservation {
            effect,
            holder,
            observation,
            outcome,
            result,
            undo,
            undo_duplicates,
            why,
        } => v1::RecordObservationRequest {
            run,
            context,
            effect: Some(effect.into()),
            holder: holder.into(),
            observation,
            outcome: v1::Outcome::from(outcome).into(),
            result: Some(result.into()),
            undo: undo.map(Into::into),
            undo_duplicates: undo_duplicates.into_iter().map(Into::into).collect(),
            why,
        }
        .into(),
        WorkerCommand::ClaimObligation {
            obligation,
            holder,
            claim_ms,
        } => v1::ClaimObligationRequest {
            run,
            context,
            obligation: Some(obligation.into()),
            holder: holder.into(),
            claim_ms,
        }
        .into(),
        WorkerCommand::RenewObligationClaim {
            obligation,
            holder,
            attempt,
            claim_ms,
        } => v1::RenewObligationClaimRequest {
            run,
            context,
            obligation: Some(obligation.into()),
            holder: holder.into(),
            claim_ms,
            attempt,
        }
        .into(),
        WorkerCommand::FinishObligation {
            obligation,
            holder,
            attempt,
            ending,
        } => v1::FinishObligationRequest {
            run,
            context,
            obligation: Some(obligation.into()),
            holder: holder.into(),
            attempt,
            outcome: Some(write_undo_outcome(ending)),
        }
        .into(),
    }
}
