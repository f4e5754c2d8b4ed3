//! Commands of a worker.

use super::field::{InvalidField, convert, known, name, optional, repeated, required};
use crate::v1;
use crate::v1::work::Command as Wire;
use crate::v1::work::{
    ClaimEffect, ClaimObligation, FinishClaimed, FinishObligation, LapseEffect, RecordObservation,
    RenewEffectClaim, RenewObligationClaim, renew_effect_claim,
};
use tape_core::command::{Held, UndoOutcome, WorkerCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, Holder};

impl TryFrom<Wire> for WorkerCommand {
    type Error = InvalidField;
    fn try_from(wire: Wire) -> Result<Self, InvalidField> {
        let field = field(&wire);
        read(wire).map_err(|error| error.within(field))
    }
}

const fn field(wire: &Wire) -> &'static str {
    match wire {
        Wire::ClaimEffect(_) => "claim_effect",
        Wire::FinishClaimed(_) => "finish_claimed",
        Wire::LapseEffect(_) => "lapse_effect",
        Wire::ClaimObservation(_) => "claim_observation",
        Wire::RecordObservation(_) => "record_observation",
        Wire::RenewEffectClaim(_) => "renew_effect_claim",
        Wire::ClaimObligation(_) => "claim_obligation",
        Wire::RenewObligationClaim(_) => "renew_obligation_claim",
        Wire::FinishObligation(_) => "finish_obligation",
    }
}

fn read(wire: Wire) -> Result<WorkerCommand, InvalidField> {
    Ok(match wire {
        Wire::ClaimEffect(c) => {
            let (effect, holder, claim_ms) = effect_claim(c)?;
            WorkerCommand::ClaimEffect {
                effect,
                holder,
                claim_ms,
            }
        }
        Wire::ClaimObservation(c) => {
            let (effect, holder, claim_ms) = effect_claim(c)?;
            WorkerCommand::ClaimObservation {
                effect,
                holder,
                claim_ms,
            }
        }
        Wire::RenewEffectClaim(c) => WorkerCommand::RenewEffectClaim {
            effect: required("effect", c.effect)?,
            holder: name("holder", &c.holder)?,
            held: c.held.map(Into::into),
            claim_ms: c.claim_ms,
        },
        Wire::FinishClaimed(c) => WorkerCommand::FinishClaimed {
            effect: required("effect", c.effect)?,
            holder: name("holder", &c.holder)?,
            attempt: c.attempt,
            ending: required("ending", c.ending)?,
        },
        Wire::LapseEffect(c) => WorkerCommand::LapseEffect {
            effect: required("effect", c.effect)?,
        },
        Wire::RecordObservation(c) => WorkerCommand::RecordObservation {
            effect: required("effect", c.effect)?,
            holder: name("holder", &c.holder)?,
            observation: c.observation,
            outcome: known::<v1::Outcome, _>("outcome", c.outcome)?,
            result: required("result", c.result)?,
            undo: optional("undo", c.undo)?,
            undo_duplicates: repeated("undo_duplicates", c.undo_duplicates)?,
            why: c.why,
        },
        Wire::ClaimObligation(c) => {
            let (obligation, holder, claim_ms) = obligation_claim(c)?;
            WorkerCommand::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            }
        }
        Wire::RenewObligationClaim(c) => WorkerCommand::RenewObligationClaim {
            obligation: required("obligation", c.obligation)?,
            holder: name("holder", &c.holder)?,
            attempt: c.attempt,
            claim_ms: c.claim_ms,
        },
        Wire::FinishObligation(c) => finish_obligation(c)?,
    })
}

fn effect_claim(wire: ClaimEffect) -> Result<(EffectId, Holder, u64), InvalidField> {
    Ok((
        required("effect", wire.effect)?,
        name("holder", &wire.holder)?,
        wire.claim_ms,
    ))
}

fn obligation_claim(wire: ClaimObligation) -> Result<(ObligationId, Holder, u64), InvalidField> {
    Ok((
        required("obligation", wire.obligation)?,
        name("holder", &wire.holder)?,
        wire.claim_ms,
    ))
}

fn finish_obligation(wire: FinishObligation) -> Result<WorkerCommand, InvalidField> {
    use v1::work::finish_obligation::Outcome;
    Ok(WorkerCommand::FinishObligation {
        obligation: required("obligation", wire.obligation)?,
        holder: name("holder", &wire.holder)?,
        attempt: wire.attempt,
        ending: match wire.outcome.ok_or_else(|| InvalidField::missing("outcome"))? {
            Outcome::Done(result) => UndoOutcome::Done {
                result: convert("done", result)?,
            },
            Outcome::Unknown(cause) => UndoOutcome::Unknown { cause },
            Outcome::Retry(error) => UndoOutcome::Retry { error },
            Outcome::Stuck(reason) => UndoOutcome::Stuck { reason },
            Outcome::Unreached(error) => UndoOutcome::Unreached { error },
        },
    })
}

impl From<WorkerCommand> for Wire {
    fn from(command: WorkerCommand) -> Self {
        match command {
            WorkerCommand::ClaimEffect {
                effect,
                holder,
                claim_ms,
            } => Self::ClaimEffect(write_effect_claim(effect, holder, claim_ms)),
            WorkerCommand::ClaimObservation {
                effect,
                holder,
                claim_ms,
            } => Self::ClaimObservation(write_effect_claim(effect, holder, claim_ms)),
            WorkerCommand::RenewEffectClaim {
                effect,
                holder,
                held,
                claim_ms,
            } => Self::RenewEffectClaim(RenewEffectClaim {
                effect: Some(effect.into()),
                holder: holder.into(),
                claim_ms,
                held: held.map(Into::into),
            }),
            WorkerCommand::FinishClaimed {
                effect,
                holder,
                attempt,
                ending,
            } => Self::FinishClaimed(FinishClaimed {
                effect: Some(effect.into()),
                holder: holder.into(),
                attempt,
                ending: Some(ending.into()),
            }),
            WorkerCommand::LapseEffect { effect } => Self::LapseEffect(LapseEffect {
                effect: Some(effect.into()),
            }),
            WorkerCommand::RecordObservation {
                effect,
                holder,
                observation,
                outcome,
                result,
                undo,
                undo_duplicates,
                why,
            } => Self::RecordObservation(RecordObservation {
                effect: Some(effect.into()),
                holder: holder.into(),
                observation,
                outcome: v1::Outcome::from(outcome).into(),
                result: Some(result.into()),
                undo: undo.map(Into::into),
                undo_duplicates: undo_duplicates.into_iter().map(Into::into).collect(),
                why,
            }),
            WorkerCommand::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            } => Self::ClaimObligation(write_obligation_claim(obligation, holder, claim_ms)),
            WorkerCommand::RenewObligationClaim {
                obligation,
                holder,
                attempt,
                claim_ms,
            } => Self::RenewObligationClaim(RenewObligationClaim {
                obligation: Some(obligation.into()),
                holder: holder.into(),
                claim_ms,
                attempt,
            }),
            WorkerCommand::FinishObligation {
                obligation,
                holder,
                attempt,
                ending,
            } => Self::FinishObligation(FinishObligation {
                obligation: Some(obligation.into()),
                holder: holder.into(),
                attempt,
                outcome: Some(write_undo_outcome(ending)),
            }),
        }
    }
}

impl From<renew_effect_claim::Held> for Held {
    fn from(wire: renew_effect_claim::Held) -> Self {
        match wire {
            renew_effect_claim::Held::Attempt(attempt) => Self::Attempt(attempt),
            renew_effect_claim::Held::Observation(observation) => Self::Observation(observation),
        }
    }
}

impl From<Held> for renew_effect_claim::Held {
    fn from(held: Held) -> Self {
        match held {
            Held::Attempt(attempt) => Self::Attempt(attempt),
            Held::Observation(observation) => Self::Observation(observation),
        }
    }
}

fn write_undo_outcome(ending: UndoOutcome) -> v1::work::finish_obligation::Outcome {
    use v1::work::finish_obligation::Outcome;
    match ending {
        UndoOutcome::Done { result } => Outcome::Done(result.into()),
        UndoOutcome::Unknown { cause } => Outcome::Unknown(cause),
        UndoOutcome::Retry { error } => Outcome::Retry(error),
        UndoOutcome::Stuck { reason } => Outcome::Stuck(reason),
        UndoOutcome::Unreached { error } => Outcome::Unreached(error),
    }
}

fn write_effect_claim(effect: EffectId, holder: Holder, claim_ms: u64) -> ClaimEffect {
    ClaimEffect {
        effect: Some(effect.into()),
        holder: holder.into(),
        claim_ms,
    }
}

fn write_obligation_claim(obligation: ObligationId, holder: Holder, claim_ms: u64) -> ClaimObligation {
    ClaimObligation {
        obligation: Some(obligation.into()),
        holder: holder.into(),
        claim_ms,
    }
}
