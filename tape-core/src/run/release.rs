//! Release of claims by a person, for workers that are gone for good.

use super::check::text;
use super::{ObligationStatus, Run};
use crate::command::Claimed;
use crate::effect::Status;
use crate::entry::effect::WorkLease;
use crate::entry::obligation::Deferred;
use crate::id::EffectId;
use crate::reply::{Decided, Field, Missing, Rejection};
use crate::time::Timestamp;

impl Run {
    pub(super) fn release_claim(
        &self,
        claimed: &Claimed,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        text(Field::Reason, reason)?;
        match claimed {
            Claimed::Effect(id) => self.release_effect(id, until, reason, now),
            Claimed::Obligation(id) => {
                let obligation = self.obligation(id)?;
                let ObligationStatus::Started { claim } = &obligation.status else {
                    return Err(unclaimed());
                };
                seen(claim, until)?;
                self.append(Deferred {
                    obligation: id.clone(),
                    error: reason.to_owned(),
                    not_done: false,
                    unreached: false,
                    next_at: now,
                })
            }
        }
    }

    fn release_effect(
        &self,
        id: &EffectId,
        until: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        seen(effect.claim.as_ref().ok_or_else(unclaimed)?, until)?;
        match effect.status {
            Status::Started => self.lapsed(id, effect, reason.to_owned(), now),
            // The upstream is asked again.
            _ => self.append(super::effect::unknown(id.clone(), reason.to_owned(), now)),
        }
    }
}

fn unclaimed() -> Rejection {
    Rejection::not_found(Missing::Claim)
}

/// Refuses if the claim is a different one or was renewed.
fn seen(claim: &WorkLease, until: Timestamp) -> Result<(), Rejection> {
    if claim.until == until {
        return Ok(());
    }
    let problem = format!(
        "the claim is held by {} until {} now: look again",
        claim.holder, claim.until
    );
    Err(Rejection::Invalid {
        field: Field::Until,
        problem,
    })
}
