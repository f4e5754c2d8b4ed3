//! Effects: intent before act, started before the call, never sent twice blindly.

use super::{Run, follows, lease_length, no_effect, room, text, wrong_status};
use crate::agenda::Queue;
use crate::budget::Spend;
use crate::command::{Ending, Verdict};
use crate::effect::{EffectPolicy, EffectSpec, Mode, Semantics, SettledBy, Status, Undo};
use crate::entry::EntryBody;
use crate::entry::effect::{
    Begun, Claim, ClaimRenewed, Confirmed, Deferred, Failed, ResendAllowed, Started, Unknown,
};
use crate::id::{BusinessKey, Connector, EffectId, Holder, Operation, Seq};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_MS_MAX, CALLS_PER_DECISION_MAX, OBLIGATIONS_MAX, OPEN_EFFECTS_MAX, TEXT_BYTES_MAX,
};
use crate::reply::{Decided, Rejection};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An effect of a run. Arguments and results are not here but in its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The entry that began it, which has the arguments.
    pub begun: Seq,
    /// The upstream.
    pub connector: Connector,
    /// What is asked of it.
    pub operation: Operation,
    /// What happens if it is sent twice.
    pub semantics: Semantics,
    /// Who runs it.
    pub mode: Mode,
    /// The business operation's own name.
    pub business_key: Option<BusinessKey>,
    /// What undoes it, where that was known at the beginning.
    pub undo: Option<Operation>,
    /// What is set aside for it.
    pub reserved: Vec<Spend>,
    /// How often it is tried and asked about.
    pub policy: EffectPolicy,
    /// Where it stands.
    pub status: Status,
    /// Its attempts so far.
    pub attempt: u32,
    /// How many of them ended in a failure worth a retry.
    pub failures: u32,
    /// Whether an earlier attempt ended without anybody knowing how: it may have happened, whatever a later attempt says.
    pub doubt: bool,
    /// Its observations so far.
    pub observations: u32,
    /// Who is dispatching or observing it.
    pub claim: Option<Claim>,
    /// When the next attempt or observation is due.
    pub due: Option<Timestamp>,
    /// Why a person must decide.
    pub stuck: Option<String>,
}

impl Effect {
    pub(super) fn is_inline(&self) -> bool {
        self.mode == Mode::Inline
    }

    /// Whether it waits for the driver: nobody else runs an inline effect.
    pub(super) fn is_drivers(&self) -> bool {
        self.is_inline() && matches!(self.status, Status::Pending | Status::Started)
    }

    /// Whose work it is now, and from when.
    pub(super) fn due(&self) -> Option<(Queue, Timestamp)> {
        let due = self.claim.as_ref().map(|claim| claim.until).or(self.due);
        match self.status {
            Status::Pending | Status::Started if !self.is_inline() => Some((Queue::Outbox, due?)),
            Status::Unknown => Some((Queue::Reconcile, due?)),
            Status::Pending | Status::Started | Status::Confirmed | Status::Failed | Status::Stuck => None,
        }
    }

    /// Whether `holder` has the right to it at `now`.
    pub(super) fn claimed_by(&self, holder: &Holder, now: Timestamp) -> bool {
        self.claim
            .as_ref()
            .is_some_and(|claim| claim.holder == *holder && claim.until > now)
    }

    /// Whether it is tried again after one more failure.
    const fn may_fail_again(&self) -> bool {
        self.failures + 1 < self.policy.attempts_max
    }

    /// It is known not to have happened, and waits for its next attempt.
    pub(super) fn resend(&mut self, at: Timestamp) {
        (self.status, self.doubt) = (Status::Pending, false);
        (self.claim, self.due, self.stuck) = (None, Some(at), None);
    }

    fn claim_live(&self, now: Timestamp) -> Option<&Claim> {
        self.claim.as_ref().filter(|claim| claim.until > now)
    }
}

impl Run {
    pub(super) fn effect(&self, id: &EffectId) -> Result<&Effect, Rejection> {
        self.effects.get(id).ok_or(Rejection::NotFound { what: "effect" })
    }

    pub(super) fn begin_effect(&self, id: &EffectId, spec: &EffectSpec) -> Result<Decided, Rejection> {
        if self.effects.contains_key(id) {
            return Err(Rejection::Exists {
                what: format!("effect {id}"),
            });
        }
        if !self.is_newest(&id.position) {
            return Err(Rejection::NoDecision { effect: id.clone() });
        }
        check_spec(id, spec)?;
        room(
            "calls of a decision",
            usize::from(id.call),
            usize::from(CALLS_PER_DECISION_MAX),
        )?;
        let open = self
            .effects
            .values()
            .filter(|effect| !effect.status.is_settled())
            .count();
        room("effects under way", open, OPEN_EFFECTS_MAX)?;
        // Room for what the effects under way may still arm, each once for itself and once for a duplicate.
        room("obligations", self.obligations.len() + 2 * open, OBLIGATIONS_MAX)?;
        self.check_reservation(&spec.reserve)?;
        self.append(Begun {
            effect: id.clone(),
            spec: spec.clone(),
        })
    }

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
        ending: &Ending,
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
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let until = now.plus_millis(lease_length(claim_ms)?);
        let effect = self.effect(id)?;
        if effect.is_inline() {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        match effect.status {
            Status::Pending => self.open().and_then(|()| due(id, effect, now))?,
            Status::Started => {
                free(id, effect, now)?;
                if !self.sends_again(effect) {
                    return self.lapse_effect(id, now);
                }
            }
            Status::Confirmed | Status::Failed | Status::Unknown | Status::Stuck => {
                return Err(wrong_status(id, effect.status, effect.attempt));
            }
        }
        let claim = Claim {
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
        ending: &Ending,
        now: Timestamp,
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
            now,
        )
    }

    pub(super) fn renew_effect_claim(
        &self,
        id: &EffectId,
        holder: &Holder,
        claim_ms: u64,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let until = now.plus_millis(lease_length(claim_ms)?);
        let effect = self.effect(id)?;
        if !effect.claimed_by(holder, now) {
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

    /// A worker vanished in mid-call. What is idempotent may be sent again; of the rest nobody knows.
    pub(super) fn lapse_effect(&self, id: &EffectId, now: Timestamp) -> Result<Decided, Rejection> {
        let effect = self.effect(id)?;
        if effect.is_inline() || effect.status != Status::Started {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        free(id, effect, now)?;
        let cause = "the claim of its worker lapsed".to_owned();
        if self.sends_again(effect) {
            return self.append(Deferred {
                effect: id.clone(),
                error: cause,
                lapsed: true,
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
        ending: &Ending,
        by: SettledBy,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let id = id.clone();
        match ending {
            Ending::Confirmed { result, undo, spent } => {
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
            Ending::Failed { error, detail } => {
                text("error", error)?;
                self.append(Failed {
                    effect: id,
                    by,
                    error: error.clone(),
                    detail: detail.clone(),
                })
            }
            Ending::Retry { error, after_ms } => {
                text("error", error)?;
                self.append(self.retry(id, effect, error, *after_ms, by, now))
            }
            Ending::Unknown { cause } => {
                text("cause", cause)?;
                if effect.semantics == Semantics::ReadOnly {
                    // There is nothing to ask the upstream about.
                    return self.append(self.retry(id, effect, cause, None, by, now));
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

    /// What follows from a failure worth a retry.
    fn retry(
        &self,
        id: EffectId,
        effect: &Effect,
        error: &str,
        after_ms: Option<u64>,
        by: SettledBy,
        now: Timestamp,
    ) -> EntryBody {
        // Nothing is taken from the outbox of a run that ends.
        let wanted = effect.is_inline() || self.open().is_ok();
        if wanted && effect.may_fail_again() {
            let backoff = || effect.policy.backoff_after(effect.failures + 1);
            let wait = after_ms.unwrap_or_else(backoff).min(BACKOFF_MS_MAX);
            return Deferred {
                effect: id,
                error: error.to_owned(),
                lapsed: false,
                next_at: now.plus_millis(wait),
            }
            .into();
        }
        let error = match effect.failures + 1 {
            _ if !wanted => format!("not sent again since the run is ending: {error}"),
            failures => format!("gave up after {failures} failures, the last: {error}"),
        };
        let error = error[..error.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        if effect.doubt {
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

    pub(super) fn settle_effect(
        &self,
        id: &EffectId,
        verdict: &Verdict,
        reason: &str,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        text("reason", reason)?;
        let effect = self.effect(id)?;
        if !matches!(effect.status, Status::Unknown | Status::Stuck) {
            return Err(wrong_status(id, effect.status, effect.attempt));
        }
        free(id, effect, now)?;
        let (effect, reason) = (id.clone(), reason.to_owned());
        match verdict {
            Verdict::Confirmed { result, undo } => {
                let by = SettledBy::Person { reason };
                self.append(Confirmed {
                    effect,
                    by,
                    result: result.clone(),
                    undo: undo.clone(),
                    spent: None,
                })
            }
            Verdict::Failed => {
                let error = "settled by a person as not done".to_owned();
                self.append(Failed {
                    effect,
                    by: SettledBy::Person { reason },
                    error,
                    detail: None,
                })
            }
            Verdict::Resend => {
                self.open()?;
                self.append(ResendAllowed { effect, reason })
            }
        }
    }

    pub(super) fn fold_begun(&mut self, e: &Begun, seq: Seq, at: Timestamp) -> Result<(), String> {
        if !self.is_newest(&e.effect.position) {
            return Err(format!(
                "effect {} has no decision, or a later one came",
                e.effect
            ));
        }
        let spec = &e.spec;
        let inline = spec.mode == Mode::Inline;
        let effect = Effect {
            begun: seq,
            connector: spec.connector.clone(),
            operation: spec.operation.clone(),
            semantics: spec.semantics,
            mode: spec.mode,
            business_key: spec.business_key.clone(),
            undo: spec.undo.as_ref().map(|undo| undo.operation.clone()),
            reserved: spec.reserve.clone(),
            policy: spec.policy,
            status: if inline { Status::Started } else { Status::Pending },
            attempt: u32::from(inline),
            failures: 0,
            doubt: false,
            observations: 0,
            claim: None,
            due: if inline { None } else { Some(at) },
            stuck: None,
        };
        if self.effects.insert(e.effect.clone(), effect).is_some() {
            return Err(format!("effect {} was begun before", e.effect));
        }
        self.redrives = 0;
        self.set_aside(&spec.reserve);
        Ok(())
    }

    /// The effect an entry speaks of, which must not be settled.
    pub(super) fn effect_mut(&mut self, id: &EffectId) -> Result<&mut Effect, String> {
        let effect = self.effects.get_mut(id).ok_or_else(|| no_effect(id))?;
        if effect.status.is_settled() {
            Err(format!("effect {id} is settled"))
        } else {
            Ok(effect)
        }
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

    pub(super) fn fold_confirmed(&mut self, e: &Confirmed, seq: Seq, at: Timestamp) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        let reserved = std::mem::take(&mut effect.reserved);
        let undo = e.undo.as_ref().map(|undo| (undo.operation.clone(), seq));
        let undo = undo.or_else(|| effect.undo.clone().map(|operation| (operation, effect.begun)));
        let (connector, policy) = (effect.connector.clone(), effect.policy);
        self.free(&reserved);
        self.charge(e.spent.as_ref().unwrap_or(&reserved));
        if let Some((operation, source)) = undo {
            self.arm(&e.effect, connector, operation, source, policy, at);
        }
        self.settled(&e.effect, Status::Confirmed, &e.by, seq, at);
        Ok(())
    }

    pub(super) fn fold_failed(&mut self, e: &Failed, seq: Seq, at: Timestamp) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        let reserved = std::mem::take(&mut effect.reserved);
        self.free(&reserved);
        self.settled(&e.effect, Status::Failed, &e.by, seq, at);
        Ok(())
    }

    fn settled(&mut self, id: &EffectId, status: Status, by: &SettledBy, seq: Seq, at: Timestamp) {
        if let Some(effect) = self.effects.get_mut(id) {
            effect.status = status;
            (effect.claim, effect.due, effect.stuck) = (None, None, None);
        }
        // A later decision of the scope means that nobody will ask about the effect again.
        if self.next_position(&id.position.scope).k > id.position.k + 1 {
            self.effects.remove(id);
        }
        match by {
            SettledBy::Driver => self.redrives = 0,
            SettledBy::Worker { .. } | SettledBy::Observer { .. } | SettledBy::Rule { .. } => {
                self.wake(seq, at);
            }
            SettledBy::Person { .. } => {
                self.wake(seq, at);
                self.changed_at = at;
            }
        }
    }

    pub(super) fn fold_deferred(&mut self, e: &Deferred) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        effect.status = Status::Pending;
        effect.failures = effect.failures.saturating_add(1);
        effect.doubt |= e.lapsed;
        (effect.claim, effect.due) = (None, Some(e.next_at));
        Ok(())
    }

    pub(super) fn fold_unknown(&mut self, e: &Unknown) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        effect.status = Status::Unknown;
        (effect.claim, effect.due) = (None, Some(e.observe_at));
        Ok(())
    }

    pub(super) fn fold_resend_allowed(
        &mut self,
        e: &ResendAllowed,
        seq: Seq,
        at: Timestamp,
    ) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        effect.resend(at);
        if effect.is_drivers() {
            self.wake(seq, at);
        }
        self.changed_at = at;
        Ok(())
    }
}

fn check_spec(id: &EffectId, spec: &EffectSpec) -> Result<(), Rejection> {
    let invalid = |field, problem: &str| {
        Err(Rejection::Invalid {
            field,
            problem: problem.to_owned(),
        })
    };
    if spec.mode == Mode::Inline && spec.semantics == Semantics::NonIdempotent {
        return Err(Rejection::InlineNonIdempotent { effect: id.clone() });
    }
    if spec.mode == Mode::Outbox && spec.semantics == Semantics::ReadOnly {
        return invalid("mode", "a read-only effect runs inline");
    }
    check_undo(spec.semantics, spec.undo.as_ref())?;
    let policy = spec.policy;
    if !(1..=ATTEMPTS_MAX).contains(&policy.attempts_max)
        || !(1..=ATTEMPTS_MAX).contains(&policy.observations_max)
    {
        return invalid("policy", "attempts and observations must be between 1 and 1000");
    }
    if policy.backoff_ms > policy.backoff_max_ms || policy.backoff_max_ms > BACKOFF_MS_MAX {
        return invalid(
            "policy",
            "the first backoff must not be over the longest, which is at most a day",
        );
    }
    Ok(())
}

fn check_undo(semantics: Semantics, undo: Option<&Undo>) -> Result<(), Rejection> {
    if semantics == Semantics::ReadOnly && undo.is_some() {
        let problem = "a read-only effect has nothing to undo".to_owned();
        return Err(Rejection::Invalid {
            field: "undo",
            problem,
        });
    }
    Ok(())
}

/// The upstream is to be asked at once.
pub(super) fn unknown(effect: EffectId, cause: String, now: Timestamp) -> EntryBody {
    Unknown {
        effect,
        cause,
        observe_at: now,
    }
    .into()
}

/// Refuses what is not due yet.
pub(super) fn due(id: &EffectId, effect: &Effect, now: Timestamp) -> Result<(), Rejection> {
    match effect.due {
        Some(due) if due > now => Err(Rejection::TooEarly {
            what: format!("effect {id}"),
            due,
        }),
        _ => Ok(()),
    }
}

/// Refuses what another worker has.
pub(super) fn free(id: &EffectId, effect: &Effect, now: Timestamp) -> Result<(), Rejection> {
    match effect.claim_live(now) {
        Some(Claim { holder, until }) => Err(Rejection::Claimed {
            what: format!("effect {id}"),
            holder: holder.clone(),
            until: *until,
        }),
        None => Ok(()),
    }
}
