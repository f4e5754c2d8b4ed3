//! Observations: the upstream is asked about an effect whose answer was lost.

use super::check::{follows, lease_length, text, wrong_status};
use super::effect::{Effect, due, free};
use super::{Phase, Run};
use crate::effect::{Outcome, Semantics, SettledBy, Status, Undo};
use crate::entry::EntryBody;
use crate::entry::effect::{AfterObservation, Confirmed, Failed, Observed, Observing, WorkLease};
use crate::entry::obligation::{Armed, ObligationId};
use crate::id::{EffectId, Holder, Seq};
use crate::limits::{DUPLICATES_MAX, OBLIGATIONS_MAX, TEXT_BYTES_MAX};
use crate::payload::Payload;
use crate::reply::decided;
use crate::reply::{Decided, Field, Rejection};
use crate::time::{Now, Timestamp};

/// The upstream's answer about an effect.
pub(super) struct Seen<'a> {
    pub(super) outcome: Outcome,
    pub(super) result: &'a Payload,
    pub(super) undo: Option<&'a Undo>,
    pub(super) undo_duplicates: &'a [Undo],
    pub(super) why: &'a str,
}

/// A worker and the observation it claimed.
pub(super) struct Observer<'a> {
    pub(super) holder: &'a Holder,
    pub(super) observation: u32,
}

impl Run {
    pub(super) fn claim_observation(
        &self,
        id: &EffectId,
        holder: &Holder,
        claim_ms: u64,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let until = now.at().plus_millis(lease_length(claim_ms)?);
        let effect = self.effect(id)?;
        if effect.status != Status::Unknown {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        free(id, effect, now)?;
        // An effect that is claimed was due when it was claimed.
        if effect.claim.is_none() {
            due(id, effect, now.at())?;
        }
        if effect.erased {
            return self.cannot_be_asked(id);
        }
        if effect.claim.is_some() && effect.vanished + 1 >= effect.policy.observations_max {
            return self.observers_vanish(id, effect);
        }
        let claim = WorkLease {
            holder: holder.clone(),
            until,
        };
        self.append(Observing {
            effect: id.clone(),
            observation: effect.observations + 1,
            claim,
            unwanted: self.is_ending(),
        })
    }

    /// The observer vanished, and the upstream cannot be asked again without the arguments.
    fn cannot_be_asked(&self, id: &EffectId) -> Result<Decided, Rejection> {
        self.append(Observed {
            effect: id.clone(),
            outcome: Outcome::Inconclusive,
            why: String::new(),
            then: AfterObservation::Stuck {
                reason: super::ARGUMENTS_ERASED.to_owned(),
            },
        })
    }

    /// Its observers keep vanishing, for example because of what the upstream answers: a person must find out why.
    fn observers_vanish(&self, id: &EffectId, effect: &Effect) -> Result<Decided, Rejection> {
        let vanished = effect.vanished + 1;
        self.append(Observed {
            effect: id.clone(),
            outcome: Outcome::Inconclusive,
            why: String::new(),
            then: AfterObservation::Stuck {
                reason: format!("the claims of {vanished} observations in a row lapsed"),
            },
        })
    }

    pub(super) fn record_observation(
        &self,
        id: &EffectId,
        by: &Observer<'_>,
        seen: &Seen<'_>,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        let claimed = effect.status == Status::Unknown && effect.observations == by.observation;
        if !claimed || !effect.claimed_by(by.holder, now) {
            return Err(Rejection::ClaimLost {
                holder: by.holder.clone(),
                what: format!("effect {id}"),
            });
        }
        if !seen.why.is_empty() {
            text(Field::Why, seen.why)?;
        }
        let then = self.after(effect, seen, now.at());
        let mut entries: Vec<EntryBody> = vec![
            Observed {
                effect: id.clone(),
                outcome: seen.outcome,
                why: seen.why.to_owned(),
                then: then.clone(),
            }
            .into(),
        ];
        if then == AfterObservation::Settle {
            entries.extend(self.settle(id, effect, by, seen, now.at()));
        }
        Ok(decided(self.seq, entries))
    }

    fn after(&self, effect: &Effect, seen: &Seen<'_>, now: Timestamp) -> AfterObservation {
        let stuck = |reason: &str| AfterObservation::Stuck {
            reason: reason.to_owned(),
        };
        match seen.outcome {
            Outcome::Found => AfterObservation::Settle,
            Outcome::Duplicate if seen.undo_duplicates.is_empty() => {
                stuck("it happened more than once and nothing says how to undo it")
            }
            Outcome::Duplicate if !self.has_room_for(seen.undo_duplicates.len()) => {
                let duplicates = seen.undo_duplicates.len();
                stuck(&format!(
                    "it has {duplicates} duplicates: more than can be undone without a person"
                ))
            }
            Outcome::Duplicate => AfterObservation::Settle,
            // A run that is ending does not want it any more.
            Outcome::Absent if self.is_ending() => AfterObservation::Settle,
            Outcome::Absent
                if effect.semantics != Semantics::NonIdempotent || effect.policy.resend_absent =>
            {
                resend(effect, now)
            }
            Outcome::Absent => stuck("it did not happen and may not be sent again without a person"),
            Outcome::Inconclusive if effect.inconclusive + 1 >= effect.policy.observations_max => {
                let why = if seen.why.is_empty() { "" } else { ": " };
                let mut reason = format!("the upstream could not say what happened{why}{}", seen.why);
                reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
                stuck(&reason)
            }
            Outcome::Unreached => {
                let times = effect.unreached.in_a_row.saturating_add(1);
                AfterObservation::ObserveAgain {
                    at: now.plus_millis(effect.policy.backoff_unreached(times)),
                }
            }
            Outcome::Inconclusive => AfterObservation::ObserveAgain {
                at: now.plus_millis(effect.policy.backoff_after(effect.inconclusive + 1)),
            },
        }
    }

    /// Whether there is room for the obligations of so many duplicates, besides those that the other effects under way may still arm.
    fn has_room_for(&self, duplicates: usize) -> bool {
        let open = self.effects.values().filter(|effect| !effect.status.is_settled());
        // This effect is among them, with one obligation of its own and the duplicates instead of one.
        let reserved = self.obligations.len() + 2 * open.count();
        duplicates <= DUPLICATES_MAX && reserved + duplicates <= OBLIGATIONS_MAX + 1
    }

    const fn is_ending(&self) -> bool {
        self.cancel.is_some() || matches!(self.phase, Phase::Compensating { .. })
    }

    /// The entries that settle an observed effect.
    fn settle(
        &self,
        id: &EffectId,
        effect: &Effect,
        by: &Observer<'_>,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Vec<EntryBody> {
        let settled_by = SettledBy::Observer {
            holder: by.holder.clone(),
        };
        if seen.outcome == Outcome::Absent {
            let error = if self.is_ending() {
                "it did not happen, and the run is ending".to_owned()
            } else {
                format!("it did not happen in {} attempts", effect.attempts_made())
            };
            return vec![
                Failed {
                    effect: id.clone(),
                    by: settled_by,
                    error,
                    detail: None,
                }
                .into(),
            ];
        }
        happened(id, effect, settled_by, seen, now)
    }

    pub(super) fn fold_observing(&mut self, e: &Observing) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        follows("observation", effect.observations, e.observation)?;
        // A claim that is still there has lapsed.
        effect.vanished = effect.vanished.saturating_add(u32::from(effect.claim.is_some()));
        effect.observations = e.observation;
        effect.claim = Some(e.claim.clone());
        Ok(())
    }

    pub(super) fn fold_observed(&mut self, e: &Observed, seq: Seq, at: Timestamp) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        (effect.claim, effect.vanished) = (None, 0);
        let inconclusive = u32::from(e.outcome == Outcome::Inconclusive);
        effect.inconclusive = effect.inconclusive.saturating_add(inconclusive);
        if e.outcome == Outcome::Unreached {
            effect.unreached.observation(&e.why, seq);
        } else {
            effect.unreached.over();
        }
        match &e.then {
            AfterObservation::Settle => effect.due = Some(at),
            AfterObservation::Resend { at } => effect.resend(*at),
            AfterObservation::ObserveAgain { at } => effect.due = Some(*at),
            AfterObservation::Stuck { reason } => {
                (effect.status, effect.due, effect.stuck) = (Status::Stuck, None, Some(reason.clone()));
                effect.stuck_in = seq;
                self.changed_at = at;
                return Ok(());
            }
        }
        if effect.is_drivers() {
            self.wake(seq, at);
        }
        Ok(())
    }
}

/// An effect that did not happen is sent again: the first time at once, then with a growing wait, until its attempts are used up.
fn resend(effect: &Effect, now: Timestamp) -> AfterObservation {
    let attempts = effect.attempts_made();
    if attempts >= effect.policy.attempts_max {
        return AfterObservation::Settle;
    }
    let wait = match attempts {
        0 | 1 => 0,
        n => effect.policy.backoff_after(n - 1),
    };
    AfterObservation::Resend {
        at: now.plus_millis(wait),
    }
}

fn happened(
    id: &EffectId,
    effect: &Effect,
    by: SettledBy,
    seen: &Seen<'_>,
    now: Timestamp,
) -> Vec<EntryBody> {
    let confirmed = Confirmed {
        effect: id.clone(),
        by,
        result: seen.result.clone(),
        undo: seen.undo.cloned(),
        spent: None,
    };
    let duplicates = match seen.outcome {
        Outcome::Duplicate => seen.undo_duplicates,
        Outcome::Found | Outcome::Absent | Outcome::Inconclusive | Outcome::Unreached => &[],
    };
    let armed = (1..).zip(duplicates).map(|(copy, undo)| {
        EntryBody::from(Armed {
            obligation: ObligationId {
                effect: id.clone(),
                copy,
            },
            connector: effect.connector.clone(),
            policy: effect.policy,
            operation: undo.operation.clone(),
            args: undo.args.clone(),
            due_at: now,
        })
    });
    std::iter::once(confirmed.into()).chain(armed).collect()
}
