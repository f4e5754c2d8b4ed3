//! Attempts at an effect: started before the call, claimed by one worker, ended by the upstream's answer.

use super::Run;
use super::check::{follows, lease_length, text, wrong_status};
use super::effect::{Effect, check_undo, due, free, unknown};
use crate::command::{AttemptOutcome, Held};
use crate::effect::{Semantics, SettledBy, Status};
use crate::entry::EntryBody;
use crate::entry::effect::{ClaimRenewed, Confirmed, Deferred, Failed, Started, Unknown, WorkLease};
use crate::id::{EffectId, Holder, Seq};
use crate::limits::{BACKOFF_MS_MAX, TEXT_BYTES_MAX};
use crate::reply::{Decided, Field, Rejection};
use crate::time::{Now, Timestamp};

/// A retryable failure.
struct Retry<'a> {
    error: &'a str,
    /// The wait that the upstream asks for.
    after_ms: Option<u64>,
    /// Whether the attempt may have acted nevertheless.
    doubt: bool,
    /// Whether the upstream was not reached.
    unreached: bool,
}

impl<'a> Retry<'a> {
    const fn not_done(error: &'a str, after_ms: Option<u64>) -> Self {
        Self {
            error,
            after_ms,
            doubt: false,
            unreached: false,
        }
    }

    const fn unreached(error: &'a str) -> Self {
        Self {
            unreached: true,
            ..Self::not_done(error, None)
        }
    }
}

impl Run {
    pub(super) fn restart_effect(&self, id: &EffectId) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        let again = matches!(effect.status, Status::Pending | Status::Started | Status::Unknown);
        if !effect.is_inline() || !again {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        self.append(Started {
            effect: id.clone(),
            attempt: effect.attempt + 1,
            claim: None,
        })
    }

    pub(super) fn finish_effect(
        &self,
        id: &EffectId,
        attempt: u32,
        ending: &AttemptOutcome,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        if !effect.is_inline() || effect.status != Status::Started || effect.attempt != attempt {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        self.finish(id, effect, ending, SettledBy::Driver, now)
    }

    pub(super) fn claim_effect(
        &self,
        id: &EffectId,
        holder: &Holder,
        claim_ms: u64,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let until = now.at().plus_millis(lease_length(claim_ms)?);
        let effect = self.effect(id)?;
        if effect.is_inline() {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        match effect.status {
            Status::Pending => self.open().and_then(|()| due(id, effect, now.at()))?,
            Status::Started => {
                free(id, effect, now)?;
                if effect.erased || !self.sends_again(effect) {
                    return self.lapse_effect(id, now);
                }
            }
            Status::Confirmed | Status::Failed | Status::Unknown | Status::Stuck => {
                return Err(wrong_status(id, effect.status, effect.attempt));
            }
        }
        let claim = WorkLease {
            holder: holder.clone(),
            until,
        };
        self.append(Started {
            effect: id.clone(),
            attempt: effect.attempt + 1,
            claim: Some(claim),
        })
    }

    pub(super) fn finish_claimed(
        &self,
        id: &EffectId,
        holder: &Holder,
        attempt: u32,
        ending: &AttemptOutcome,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        let started = effect.status == Status::Started && effect.attempt == attempt;
        if !started || !effect.claimed_by(holder, now) {
            return Err(Rejection::ClaimLost {
                holder: holder.clone(),
                what: format!("effect {id}"),
            });
        }
        self.finish(
            id,
            effect,
            ending,
            SettledBy::Worker {
                holder: holder.clone(),
            },
            now.at(),
        )
    }

    pub(super) fn renew_effect_claim(
        &self,
        id: &EffectId,
        holder: &Holder,
        held: Option<Held>,
        claim_ms: u64,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let until = now.at().plus_millis(lease_length(claim_ms)?);
        let effect = self.effect(id)?;
        if !effect.claimed_by(holder, now) || !held.is_none_or(|held| effect.is_held_for(held)) {
            return Err(Rejection::ClaimLost {
                holder: holder.clone(),
                what: format!("effect {id}"),
            });
        }
        self.append(ClaimRenewed {
            effect: id.clone(),
            observing: effect.status == Status::Unknown,
            until,
        })
    }

    /// The worker vanished during the call. An idempotent effect may be sent again; any other becomes UNKNOWN.
    pub(super) fn lapse_effect(&self, id: &EffectId, now: Now) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        if effect.is_inline() || effect.status != Status::Started {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        free(id, effect, now)?;
        self.lapsed(id, effect, "the claim of its worker lapsed".to_owned(), now.at())
    }

    /// The entry for an effect whose worker vanished.
    pub(super) fn lapsed(
        &self,
        id: &EffectId,
        effect: &Effect,
        cause: String,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        if self.sends_again(effect) {
            return self.append(Deferred {
                effect: id.clone(),
                error: cause,
                lapsed: true,
                unreached: false,
                next_at: now,
            });
        }
        self.append(unknown(id.clone(), cause, now))
    }

    /// Whether an effect of the outbox is sent again after its worker vanished, without asking what happened first.
    fn sends_again(&self, effect: &Effect) -> bool {
        effect.semantics != Semantics::NonIdempotent && effect.may_fail_again() && self.open().is_ok()
    }

    fn finish(
        &self,
        id: &EffectId,
        effect: &Effect,
        ending: &AttemptOutcome,
        by: SettledBy,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let id = id.clone();
        match ending {
            AttemptOutcome::Confirmed { result, undo, spent } => {
                check_undo(effect.semantics, undo.as_ref())?;
                self.check_spends(spent.as_deref().unwrap_or_default())?;
                let (result, undo, spent) = (result.clone(), undo.clone(), spent.clone());
                self.append(Confirmed {
                    effect: id,
                    by,
                    result,
                    undo,
                    spent,
                })
            }
            AttemptOutcome::Refused { error, .. } if effect.doubt => {
                let cause = AttemptOutcome::unknown(error);
                self.finish(&id, effect, &cause, by, now)
            }
            AttemptOutcome::Failed { error, detail } | AttemptOutcome::Refused { error, detail } => {
                text(Field::Error, error)?;
                self.append(Failed {
                    effect: id,
                    by,
                    error: error.clone(),
                    detail: detail.clone(),
                })
            }
            AttemptOutcome::Retry { error, after_ms } => {
                text(Field::Error, error)?;
                self.append(self.retry(id, effect, &Retry::not_done(error, *after_ms), by, now))
            }
            AttemptOutcome::Unreached { error } => {
                text(Field::Error, error)?;
                self.append(self.retry(id, effect, &Retry::unreached(error), by, now))
            }
            AttemptOutcome::Repeat { cause, after_ms } if effect.semantics != Semantics::NonIdempotent => {
                text(Field::Cause, cause)?;
                let doubt = effect.semantics == Semantics::Idempotent;
                let retry = Retry {
                    doubt,
                    ..Retry::not_done(cause, *after_ms)
                };
                self.append(self.retry(id, effect, &retry, by, now))
            }
            AttemptOutcome::Unknown { cause } | AttemptOutcome::Repeat { cause, .. } => {
                text(Field::Cause, cause)?;
                if effect.semantics == Semantics::ReadOnly {
                    // A read-only effect changes nothing, so there is nothing to ask the upstream about.
                    return self.append(self.retry(id, effect, &Retry::not_done(cause, None), by, now));
                }
                let observe_at = now.plus_millis(effect.policy.backoff_after(1));
                self.append(Unknown {
                    effect: id,
                    cause: cause.clone(),
                    observe_at,
                })
            }
        }
    }

    /// The entry for a retryable failure.
    fn retry(
        &self,
        id: EffectId,
        effect: &Effect,
        retry: &Retry<'_>,
        by: SettledBy,
        now: Timestamp,
    ) -> EntryBody {
        let error = retry.error;
        // No effect is dispatched from the outbox of a run that is ending.
        let wanted = effect.is_inline() || self.open().is_ok();
        if wanted && (retry.unreached || effect.may_fail_again()) {
            // An upstream that asks for a retry at once would use up all attempts in a row.
            let backoff = if retry.unreached {
                let times = effect.unreached.in_a_row.saturating_add(1);
                effect.policy.backoff_unreached(times)
            } else {
                effect.policy.backoff_after(effect.failures + 1)
            };
            let wait = retry
                .after_ms
                .unwrap_or_default()
                .max(backoff)
                .min(BACKOFF_MS_MAX);
            return Deferred {
                effect: id,
                error: error.to_owned(),
                lapsed: retry.doubt,
                unreached: retry.unreached,
                next_at: now.plus_millis(wait),
            }
            .into();
        }
        let error = match effect.failures + 1 {
            _ if !wanted => format!("not sent again since the run is ending: {error}"),
            failures => format!("gave up after {failures} failures, the last: {error}"),
        };
        let error = error[..error.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        if effect.doubt || retry.doubt {
            return unknown(id, error, now);
        }
        Failed {
            effect: id,
            by,
            error,
            detail: None,
        }
        .into()
    }

    pub(super) fn fold_started(&mut self, e: &Started) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        follows("attempt", effect.attempt, e.attempt)?;
        effect.doubt |= effect.semantics != Semantics::ReadOnly
            && matches!(effect.status, Status::Started | Status::Unknown);
        let lapsed = effect.status == Status::Started && effect.claim.is_some();
        effect.failures = effect.failures.saturating_add(u32::from(lapsed));
        effect.status = Status::Started;
        effect.attempt = e.attempt;
        effect.claim.clone_from(&e.claim);
        effect.due = None;
        Ok(())
    }

    pub(super) fn fold_effect_claim_renewed(&mut self, e: &ClaimRenewed) -> Result<(), String> {
        let claim = self.effect_mut(&e.effect)?.claim.as_mut();
        claim
            .ok_or_else(|| format!("effect {} is not claimed", e.effect))?
            .until = e.until;
        Ok(())
    }

    pub(super) fn fold_deferred(&mut self, e: &Deferred, seq: Seq) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        effect.status = Status::Pending;
        if e.unreached {
            effect.unreached.attempt(&e.error, seq);
        } else {
            effect.failures = effect.failures.saturating_add(1);
            effect.unreached.over();
        }
        effect.doubt |= e.lapsed;
        (effect.claim, effect.due) = (None, Some(e.next_at));
        Ok(())
    }
}
