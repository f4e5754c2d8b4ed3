//! Commands of a run's workers.

use super::{AttemptOutcome, UndoOutcome};
use crate::effect::{Outcome, Undo};
use crate::entry::obligation::ObligationId;
use crate::id::{EffectId, Holder};
use crate::payload::Payload;
use serde::Serialize;

/// What a worker can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum WorkerCommand {
    /// Takes a due effect from the outbox and starts an attempt.
    ClaimEffect {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Records how a claimed attempt ended.
    FinishClaimed {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        ending: AttemptOutcome,
    },
    /// Takes an effect away from a worker whose claim has lapsed. A non-idempotent effect becomes UNKNOWN.
    LapseEffect {
        /// Which.
        effect: EffectId,
    },
    /// Takes a due UNKNOWN effect, to ask the upstream about it.
    ClaimObservation {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Records what the upstream says.
    RecordObservation {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// The observation, as numbered by the claim.
        observation: u32,
        /// What the upstream says.
        outcome: Outcome,
        /// What it answered.
        result: Payload,
        /// How to undo the act, if the answer tells. Otherwise the undo given when the effect began holds.
        undo: Option<Undo>,
        /// How to undo each duplicate, where some were found, at most [`DUPLICATES_MAX`](crate::limits::DUPLICATES_MAX); without any, the
        /// effect is stuck.
        undo_duplicates: Vec<Undo>,
        /// Why the upstream could not say or was not reached; otherwise empty.
        why: String,
    },
    /// Renews the claim on an effect that the worker is dispatching or observing.
    RenewEffectClaim {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// The attempt or observation, as numbered by the claim; a later one is not renewed. Without it, whatever the holder has claimed.
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
        /// Milliseconds from now.
        claim_ms: u64,
    },
    /// Takes the obligation that is next to be undone.
    ClaimObligation {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Renews the claim on an obligation that the worker is carrying out.
    RenewObligationClaim {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// The attempt, as numbered by the claim; a later one is not renewed. Without it, whatever the holder has claimed.
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// Milliseconds from now.
        claim_ms: u64,
    },
    /// Records how an attempt at undoing ended.
    FinishObligation {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        ending: UndoOutcome,
    },
}

/// What a worker has claimed an effect for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Held {
    /// To dispatch it: the attempt.
    Attempt(u32),
    /// To ask the upstream about it: the observation.
    Observation(u32),
}
