//! Acts on the outside world.

use super::has_payloads;
use super::words::{Words, has_words};
use crate::budget::Spend;
use crate::effect::{EffectSpec, Outcome, SettledBy, Undo};
use crate::id::{EffectId, Holder};
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An effect is about to be run. Inline, the first attempt starts with this entry; in the outbox it is due now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Which.
    pub effect: EffectId,
    /// What.
    pub spec: EffectSpec,
}

impl super::HasPayloads for Begun {
    fn payloads(&self) -> Vec<&Payload> {
        std::iter::once(&self.spec.args)
            .chain(self.spec.undo.as_ref().map(|undo| &undo.args))
            .collect()
    }
    fn payloads_mut(&mut self) -> Vec<&mut Payload> {
        std::iter::once(&mut self.spec.args)
            .chain(self.spec.undo.as_mut().map(|undo| &mut undo.args))
            .collect()
    }
}

/// A worker or the driver is about to call the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which.
    pub effect: EffectId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The worker that dispatches it; none where the driver runs it inline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<WorkLease>,
}

/// The right of one worker to one piece of work until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkLease {
    /// The worker.
    pub holder: Holder,
    /// The claim lapses here unless renewed.
    pub until: Timestamp,
}

/// A worker renews its claim on an effect that it is dispatching or observing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRenewed {
    /// Which.
    pub effect: EffectId,
    /// Whether it is being observed; else dispatched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observing: bool,
    /// The new end of the claim.
    pub until: Timestamp,
}

/// The effect happened. If it can be undone, its obligation is armed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Which.
    pub effect: EffectId,
    /// Who says so.
    pub by: SettledBy,
    /// What the upstream answered.
    pub result: Payload,
    /// How to undo it, where that became known only with the answer; else the way given when the effect was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// What it cost; none where the reserved amounts were spent as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Vec<Spend>>,
}
has_payloads!(Confirmed: result; within undo);
has_words!(Confirmed: ; within by);

/// The effect did not happen and will not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub effect: EffectId,
    /// Who says so.
    pub by: SettledBy,
    /// What went wrong.
    pub error: String,
    /// What the upstream answered, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Payload>,
}
has_payloads!(Failed: ; optional detail);
has_words!(Failed: error; within by);

/// The effect will be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which.
    pub effect: EffectId,
    /// What went wrong.
    pub error: String,
    /// Whether the outcome of the attempt is unknown, for example because its worker vanished; otherwise it did not act.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lapsed: bool,
    /// Whether the upstream was not reached: then the attempt does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
    /// The next attempt is due here.
    pub next_at: Timestamp,
}
has_words!(Deferred: error);

/// It is unknown whether the effect happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// Which.
    pub effect: EffectId,
    /// Why its outcome is unknown.
    pub cause: String,
    /// The upstream is to be asked here.
    pub observe_at: Timestamp,
}
has_words!(Unknown: cause);

/// A worker is about to ask the upstream what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observing {
    /// Which.
    pub effect: EffectId,
    /// Which observation, from 1.
    pub observation: u32,
    /// The worker.
    pub claim: WorkLease,
    /// Whether the run is ending and no longer wants the effect: then asking must not make it happen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwanted: bool,
}

/// The upstream was asked. If the effect was found, once or more than once, the entries that follow in the same commit have the
/// consequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which.
    pub effect: EffectId,
    /// What the upstream says.
    pub outcome: Outcome,
    /// Why the upstream could not say or was not reached; otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What follows.
    pub then: AfterObservation,
}

/// What follows from an observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum AfterObservation {
    /// The effect is settled by the next entry.
    Settle,
    /// The effect did not happen; it is due again.
    Resend {
        /// When.
        at: Timestamp,
    },
    /// Nothing is known yet; ask again.
    ObserveAgain {
        /// When.
        at: Timestamp,
    },
    /// A person must decide.
    Stuck {
        /// Why.
        reason: String,
    },
}

has_words!(Observed: why; within then);

impl AfterObservation {
    pub(crate) fn words_mut(&mut self) -> Option<&mut dyn Words> {
        match self {
            Self::Stuck { reason } => Some(reason),
            Self::Settle | Self::Resend { .. } | Self::ObserveAgain { .. } => None,
        }
    }
}

/// A person allowed the effect to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendAllowed {
    /// Which.
    pub effect: EffectId,
    /// Why.
    pub reason: String,
}
has_words!(ResendAllowed: reason);
