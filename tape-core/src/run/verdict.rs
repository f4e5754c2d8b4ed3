//! Verdicts of people. Each is about what the person has seen; a newer change refuses it.

use super::{Effect, Obligation, ObligationStatus, Run};
use crate::entry::EntryBody;
use crate::entry::obligation::ObligationId;
use crate::id::{EffectId, Seq};
use crate::reply::{Field, Rejection};

impl Run {
    /// Refuses a verdict on something that changed after the last entry that the person has seen.
    pub(super) fn as_seen(
        &self,
        what: impl FnOnce() -> String,
        changed: Seq,
        seen: Seq,
        standing: impl FnOnce() -> String,
    ) -> Result<(), Rejection> {
        self.is_there(seen)?;
        if changed <= seen {
            return Ok(());
        }
        Err(Rejection::Changed {
            what: what(),
            seen,
            changed,
            standing: standing(),
        })
    }

    /// Refuses a `seen` entry that does not exist yet: all entries up to it would count as seen.
    pub(super) fn is_there(&self, seen: Seq) -> Result<(), Rejection> {
        if seen <= self.seq {
            return Ok(());
        }
        let problem = format!("is entry {seen}, and the run ends with entry {}", self.seq);
        Err(Rejection::Invalid {
            field: Field::Seen,
            problem,
        })
    }

    /// Notes the entry as the last change of the effect or obligation that it is about.
    pub(super) fn note_change(&mut self, body: &EntryBody, seq: Seq) {
        if let Some(effect) = effect_of(body).and_then(|id| self.effects.get_mut(id)) {
            effect.changed = seq;
        }
        let obligation = obligation_of(body);
        let changed = |o: &&mut Obligation| Some(&o.id) == obligation;
        if let Some(obligation) = self.obligations.iter_mut().find(changed) {
            obligation.changed = seq;
        }
    }
}

/// The status of an effect, for people.
pub(super) fn effect_standing(effect: &Effect) -> String {
    format!("{} in attempt {}", effect.status.as_str(), effect.attempt)
}

/// The status of an obligation, for people.
pub(super) fn obligation_standing(obligation: &Obligation) -> String {
    let status = match &obligation.status {
        ObligationStatus::Armed => "armed",
        ObligationStatus::Due { .. } => "due",
        ObligationStatus::Started { .. } => "started",
        ObligationStatus::Stuck { .. } => "stuck",
    };
    format!("{status} in attempt {}", obligation.attempt)
}

/// The effect whose status an entry changes. Claims to observe and renewals change nothing that a verdict is about.
const fn effect_of(body: &EntryBody) -> Option<&EffectId> {
    match body {
        EntryBody::EffectBegun(e) => Some(&e.effect),
        EntryBody::EffectStarted(e) => Some(&e.effect),
        EntryBody::EffectConfirmed(e) => Some(&e.effect),
        EntryBody::EffectFailed(e) => Some(&e.effect),
        EntryBody::EffectDeferred(e) => Some(&e.effect),
        EntryBody::EffectUnknown(e) => Some(&e.effect),
        EntryBody::EffectObserved(e) => Some(&e.effect),
        EntryBody::EffectResendAllowed(e) => Some(&e.effect),
        _ => None,
    }
}

/// The obligation whose status an entry changes.
const fn obligation_of(body: &EntryBody) -> Option<&ObligationId> {
    match body {
        EntryBody::ObligationArmed(e) => Some(&e.obligation),
        EntryBody::ObligationStarted(e) => Some(&e.obligation),
        EntryBody::ObligationDeferred(e) => Some(&e.obligation),
        EntryBody::ObligationStuck(e) => Some(&e.obligation),
        EntryBody::ObligationRetried(e) => Some(&e.obligation),
        _ => None,
    }
}
