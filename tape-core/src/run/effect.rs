//! Effects: intent before act, started before the call, never sent twice blindly.

use super::check::{no_effect, room, text, wrong_status};
use super::verdict::effect_standing;
use super::{Obligation, Run};
use crate::agenda::Queue;
use crate::budget::Spend;
use crate::command::{Held, Verdict};
use crate::effect::{EffectPolicy, EffectSpec, Mode, Semantics, SettledBy, Status, Undo, Unreached};
use crate::entry::EntryBody;
use crate::entry::effect::{Begun, Confirmed, Failed, ResendAllowed, Unknown, WorkLease};
use crate::id::{BusinessKey, ConnectorName, EffectId, Holder, Operation, Seq};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_MS_MAX, CALLS_PER_DECISION_MAX, OBLIGATIONS_MAX, OPEN_EFFECTS_MAX,
};
use crate::reply::{Decided, Field, Limit, Missing, Rejection};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};

/// An effect of a run. Its arguments and results are only in its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The entry that began it, which has the arguments.
    pub begun: Seq,
    /// The upstream.
    pub connector: ConnectorName,
    /// What is asked of it.
    pub operation: Operation,
    /// What happens if it is sent twice.
    pub semantics: Semantics,
    /// How it is run.
    pub mode: Mode,
    /// The business operation's own name.
    pub business_key: Option<BusinessKey>,
    /// What undoes it, where that was known at the beginning.
    pub undo: Option<Operation>,
    /// What is reserved for it.
    pub reserved: Vec<Spend>,
    /// How often it is tried and asked about.
    pub policy: EffectPolicy,
    /// Where it stands.
    pub status: Status,
    /// Its attempts so far.
    pub attempt: u32,
    /// How many of them ended in a retryable failure.
    pub failures: u32,
    /// Whether the outcome of an earlier attempt is unknown: then the effect may have happened, whatever a later attempt reports.
    pub doubt: bool,
    /// Its observations so far.
    pub observations: u32,
    /// How many of them ended inconclusive since the effect was last sent: the first time, or again after it was found absent.
    pub inconclusive: u32,
    /// How many of them, in a row up to the one under way, ended because their workers vanished.
    pub vanished: u32,
    /// How often the upstream was not reached.
    pub unreached: Unreached,
    /// The claim of the worker that dispatches or observes it.
    pub claim: Option<WorkLease>,
    /// When the next attempt or observation is due.
    pub due: Option<Timestamp>,
    /// Why a person must decide.
    pub stuck: Option<String>,
    /// The last entry that changed where it stands. Claims to observe it and their renewals do not.
    pub changed: Seq,
    /// Whether its arguments are erased: it can be neither sent nor asked about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The entry that says why it is stuck, where one does.
    #[serde(default)]
    pub(super) stuck_in: Seq,
}

impl Effect {
    pub(super) fn is_inline(&self) -> bool {
        self.mode == Mode::Inline
    }

    /// Whether it waits for the driver: only the driver runs an inline effect.
    pub(super) fn is_drivers(&self) -> bool {
        self.is_inline() && matches!(self.status, Status::Pending | Status::Started)
    }

    /// Whether the driver is running it or is to send it now.
    pub(super) fn is_drivers_now(&self, now: Timestamp) -> bool {
        let waits = self.status == Status::Pending && self.due.is_some_and(|due| due > now);
        self.is_drivers() && !waits
    }

    /// The queue in which it is due, and from when.
    pub(super) fn due(&self) -> Option<(Queue, Timestamp)> {
        let due = self.claimed_until().or(self.due);
        match self.status {
            Status::Pending | Status::Started if !self.is_inline() => Some((Queue::Outbox, due?)),
            Status::Unknown => Some((Queue::Reconcile, due?)),
            Status::Pending | Status::Started | Status::Confirmed | Status::Failed | Status::Stuck => None,
        }
    }

    /// The end of the claim on it, if a worker has one.
    pub(super) fn claimed_until(&self) -> Option<Timestamp> {
        self.claim.as_ref().map(|claim| claim.until)
    }

    /// Whether `holder` has a claim on it at `now`.
    pub(super) fn claimed_by(&self, holder: &Holder, now: Now) -> bool {
        self.claim
            .as_ref()
            .is_some_and(|claim| claim.holder == *holder && now.holds(claim.until))
    }

    /// Whether it is claimed for this attempt or observation.
    pub(super) const fn is_held_for(&self, held: Held) -> bool {
        match held {
            Held::Attempt(attempt) => matches!(self.status, Status::Started) && self.attempt == attempt,
            Held::Observation(observation) => {
                matches!(self.status, Status::Unknown) && self.observations == observation
            }
        }
    }

    /// Whether it is tried again after another failure.
    pub(super) const fn may_fail_again(&self) -> bool {
        self.failures + 1 < self.policy.attempts_max
    }

    /// Notes that it did not happen and waits for its next attempt.
    pub(super) fn resend(&mut self, at: Timestamp) {
        (self.status, self.doubt) = (Status::Pending, false);
        (self.claim, self.due, self.stuck) = (None, Some(at), None);
        // A later UNKNOWN counts its observations anew.
        (self.inconclusive, self.vanished) = (0, 0);
        self.unreached.over();
    }

    /// The attempts that count towards the bound on them.
    pub(super) const fn attempts_made(&self) -> u32 {
        self.attempt.saturating_sub(self.unreached.attempts)
    }

    /// Whether it never left the outbox: no attempt was started, so it cannot have happened.
    pub(crate) const fn was_never_sent(&self) -> bool {
        matches!(self.mode, Mode::Outbox) && self.attempt == 0
    }
}

impl Run {
    pub(super) fn effect(&self, id: &EffectId) -> Result<&Effect, Rejection> {
        self.effects.get(id).ok_or(Rejection::not_found(Missing::Effect))
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
            Limit::DecisionCalls,
            usize::from(id.call),
            usize::from(CALLS_PER_DECISION_MAX),
        )?;
        let open = self
            .effects
            .values()
            .filter(|effect| !effect.status.is_settled())
            .count();
        room(Limit::EffectsUnderWay, open, OPEN_EFFECTS_MAX)?;
        // Reserves room for the obligations that the effects under way may still arm: one each for itself and one for a duplicate.
        room(
            Limit::Obligations,
            self.obligations.len() + 2 * open,
            OBLIGATIONS_MAX,
        )?;
        self.check_reservation(&spec.reserve)?;
        self.append(Begun {
            effect: id.clone(),
            spec: spec.clone(),
        })
    }

    pub(super) fn settle_effect(
        &self,
        id: &EffectId,
        verdict: &Verdict,
        reason: &str,
        seen: Seq,
        now: Now,
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        text(Field::Reason, reason)?;
        let there = self.effect(id)?;
        let what = || format!("effect {id}");
        self.as_seen(what, there.changed, seen, || effect_standing(there))?;
        if !matches!(there.status, Status::Unknown | Status::Stuck) {
            return Err(wrong_status(id, there.status, there.attempt));
        }
        free(id, there, now)?;
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
                if there.erased && !there.is_inline() {
                    return Err(Rejection::Erased {
                        what: format!("effect {id}"),
                    });
                }
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
            inconclusive: 0,
            vanished: 0,
            unreached: Unreached::default(),
            claim: None,
            due: if inline { None } else { Some(at) },
            stuck: None,
            changed: seq,
            erased: false,
            stuck_in: Seq::ZERO,
        };
        if self.effects.insert(e.effect.clone(), effect).is_some() {
            return Err(format!("effect {} was begun before", e.effect));
        }
        self.progress();
        self.set_aside(&spec.reserve);
        Ok(())
    }

    /// The effect that an entry is about, which must not be settled.
    pub(super) fn effect_mut(&mut self, id: &EffectId) -> Result<&mut Effect, String> {
        let effect = self.effects.get_mut(id).ok_or_else(|| no_effect(id))?;
        if effect.status.is_settled() {
            Err(format!("effect {id} is settled"))
        } else {
            Ok(effect)
        }
    }

    /// Whether an effect was settled. Settled effects are dropped once a later decision of their scope is recorded.
    pub(super) fn was_settled(&self, id: &EffectId) -> bool {
        let next = self.next_position(&id.position.scope).k;
        let dropped = || id.position.k.checked_add(1).is_some_and(|later| later < next);
        self.effects
            .get(id)
            .map_or_else(dropped, |effect| effect.status.is_settled())
    }

    pub(super) fn fold_confirmed(&mut self, e: &Confirmed, seq: Seq, at: Timestamp) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        let reserved = std::mem::take(&mut effect.reserved);
        let undo = e.undo.as_ref().map(|undo| (undo.operation.clone(), seq));
        let undo = undo.or_else(|| effect.undo.clone().map(|operation| (operation, effect.begun)));
        let obligation = undo.map(|(operation, source)| Obligation::of(&e.effect, effect, operation, source));
        self.free(&reserved);
        self.charge(e.spent.as_ref().unwrap_or(&reserved));
        if let Some(obligation) = obligation {
            self.arm(obligation, seq, at);
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
            effect.unreached.over();
        }
        // Once the scope has a later decision, the effect cannot be asked about again.
        if self.next_position(&id.position.scope).k > id.position.k + 1 {
            self.effects.remove(id);
        }
        match by {
            SettledBy::Driver => self.progress(),
            SettledBy::Worker { .. } | SettledBy::Observer { .. } | SettledBy::Rule { .. } => {
                self.wake(seq, at);
            }
            SettledBy::Person { .. } => {
                self.wake(seq, at);
                self.changed_at = at;
            }
        }
    }

    pub(super) fn fold_unknown(&mut self, e: &Unknown) -> Result<(), String> {
        let effect = self.effect_mut(&e.effect)?;
        effect.status = Status::Unknown;
        (effect.claim, effect.due) = (None, Some(e.observe_at));
        effect.unreached.over();
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
        return invalid(Field::Mode, "a read-only effect runs inline");
    }
    check_undo(spec.semantics, spec.undo.as_ref())?;
    let policy = spec.policy;
    if !(1..=ATTEMPTS_MAX).contains(&policy.attempts_max)
        || !(1..=ATTEMPTS_MAX).contains(&policy.observations_max)
    {
        return invalid(
            Field::Policy,
            "attempts and observations must be between 1 and 1000",
        );
    }
    if policy.backoff_ms > policy.backoff_max_ms || policy.backoff_max_ms > BACKOFF_MS_MAX {
        return invalid(
            Field::Policy,
            "the first backoff must not be over the longest, which is at most a day",
        );
    }
    Ok(())
}

pub(super) fn check_undo(semantics: Semantics, undo: Option<&Undo>) -> Result<(), Rejection> {
    if semantics == Semantics::ReadOnly && undo.is_some() {
        let problem = "a read-only effect has nothing to undo".to_owned();
        return Err(Rejection::Invalid {
            field: Field::Undo,
            problem,
        });
    }
    Ok(())
}

/// The entry that makes an effect UNKNOWN; the upstream is to be asked at once.
pub(super) fn unknown(effect: EffectId, cause: String, now: Timestamp) -> EntryBody {
    Unknown {
        effect,
        cause,
        observe_at: now,
    }
    .into()
}

/// Refuses an effect that is not due yet.
pub(super) fn due(id: &EffectId, effect: &Effect, now: Timestamp) -> Result<(), Rejection> {
    match effect.due {
        Some(due) if due > now => Err(Rejection::TooEarly {
            what: format!("effect {id}"),
            due,
        }),
        _ => Ok(()),
    }
}

/// Refuses an effect that another worker has claimed.
pub(super) fn free(id: &EffectId, effect: &Effect, now: Now) -> Result<(), Rejection> {
    let Some(WorkLease { holder, until }) = &effect.claim else {
        return Ok(());
    };
    let what = || format!("effect {id}");
    if now.judge(*until, what)? {
        return Ok(());
    }
    Err(Rejection::Claimed {
        what: what(),
        holder: holder.clone(),
        until: *until,
    })
}
