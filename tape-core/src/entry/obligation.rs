//! Undoing what was done.

use super::effect::WorkLease;
use super::has_payloads;
use super::words::has_words;
use crate::effect::{EffectPolicy, SettledBy};
use crate::id::{ConnectorName, EffectId, Operation, RunId};
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A duplicate of an effect was found at the upstream; it is to be undone now, whatever becomes of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The obligation.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// The upstream.
    pub connector: ConnectorName,
    /// What undoes it.
    pub operation: Operation,
    /// With which arguments.
    pub args: Payload,
    /// How often it is tried.
    #[serde(default)]
    pub policy: EffectPolicy,
    /// When it is due.
    pub due_at: Timestamp,
}
has_payloads!(Armed: args);

/// Names an obligation: the one of the effect itself (copy 0) or of one of its duplicates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObligationId {
    /// The effect that is undone.
    pub effect: EffectId,
    /// Zero for the effect itself, from 1 for its duplicates.
    #[serde(default, deserialize_with = "crate::number::unsigned")]
    pub copy: u16,
}

impl ObligationId {
    /// The key under which it is undone: different for each duplicate, and never the key of the effect itself.
    #[must_use]
    pub fn key(&self, run: &RunId) -> String {
        let key = self.effect.undo_key(run);
        match self.copy {
            0 => key,
            n => format!("{key}-{n}"),
        }
    }
}

/// A worker is about to undo an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The worker.
    pub claim: WorkLease,
    /// Whether an earlier attempt may have undone it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
}

/// A worker renews its claim on an obligation that it is carrying out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRenewed {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// The new end of the claim.
    pub until: Timestamp,
}

/// The effect is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// Who says so.
    pub by: SettledBy,
    /// What the upstream answered.
    pub result: Payload,
}
has_payloads!(Done: result);
has_words!(Done: ; within by);

/// An attempt at undoing failed, or may have undone it and its answer was lost. It will be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// What went wrong.
    pub error: String,
    /// Whether it is known that the attempt undid nothing; else it may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_done: bool,
    /// Whether the upstream was not reached: then the attempt does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreached: bool,
    /// The next attempt is due here.
    pub next_at: Timestamp,
}
has_words!(Deferred: error);

/// Undoing needs a person. No earlier effect is undone until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// Why.
    pub reason: String,
}
has_words!(Stuck: reason);

/// A person asked for another attempt at undoing, and confirms that no earlier attempt undid it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Which.
    #[serde(flatten)]
    pub obligation: ObligationId,
    /// Why.
    pub reason: String,
}
has_words!(Retried: reason);
