//! Work that no worker has claimed, as far as a server can tell before a claim.

use super::{Effect, Obligation, ObligationStatus, Run};
use crate::entry::effect::WorkLease;
use crate::entry::obligation::ObligationId;
use crate::id::EffectId;
use crate::time::Now;

impl Run {
    /// An effect that is not settled and that no worker has claimed.
    #[must_use]
    pub fn claimable_effect(&self, id: &EffectId, now: Now) -> Option<&Effect> {
        let effect = self.effects.get(id)?;
        let free = is_free(effect.claim.as_ref(), now);
        (free && !effect.status.is_settled()).then_some(effect)
    }

    /// An obligation that no worker has claimed.
    #[must_use]
    pub fn claimable_obligation(&self, id: &ObligationId, now: Now) -> Option<&Obligation> {
        let obligation = self.obligations.iter().find(|obligation| obligation.id == *id)?;
        let claim = match &obligation.status {
            ObligationStatus::Started { claim } => Some(claim),
            ObligationStatus::Armed | ObligationStatus::Due { .. } | ObligationStatus::Stuck { .. } => None,
        };
        is_free(claim, now).then_some(obligation)
    }
}

/// Whether no other worker's claim would make a claim on it fail.
fn is_free(claim: Option<&WorkLease>, now: Now) -> bool {
    claim.is_none_or(|claim| now.outlived(claim.until) == Some(true))
}
