//! Obligations: armed by confirmation, released when the run ends badly, undone last in, first out, one at a time.

use super::check::{follows, lease_length, text};
use super::verdict::obligation_standing;
use super::{Effect, Phase, Run};
use crate::command::UndoOutcome;
use crate::effect::{EffectPolicy, SettledBy, Unreached};
use crate::entry::effect::WorkLease;
use crate::entry::obligation::{Armed, ClaimRenewed, Deferred, Done, ObligationId, Retried, Started, Stuck};
use crate::id::{ConnectorName, EffectId, Holder, Operation, Seq};
use crate::limits::TEXT_BYTES_MAX;
use crate::payload::Payload;
use crate::reply::{Decided, Field, Missing, Rejection};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};

/// The recorded way to undo one act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// What is undone.
    pub id: ObligationId,
    /// The upstream.
    pub connector: ConnectorName,
    /// What is asked of it.
    pub operation: Operation,
    /// The entry that has the arguments.
    pub source: Seq,
    /// The entry that began the effect; none for a duplicate, since the effect's own record does not hold for it.
    pub begun: Option<Seq>,
    /// How often it is tried.
    pub policy: EffectPolicy,
    /// Where it stands.
    pub status: ObligationStatus,
    /// Its attempts so far, including those before a person let it be tried again: each has a number of its own.
    pub attempt: u32,
    /// How many of them were made before that.
    forgiven: u32,
    /// Whether the outcome of one of them is unknown: then it may be undone, whatever a later attempt reports.
    pub doubt: bool,
    /// How often the upstream was not reached.
    pub unreached: Unreached,
    /// The last entry that changed its status, except the release of all obligations when the run ends badly.
    pub changed: Seq,
    /// Whether the arguments are erased: it cannot be carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    /// The entry that has the reason why it is stuck, if it is.
    #[serde(default)]
    pub(super) stuck_in: Seq,
}

/// Where an obligation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ObligationStatus {
    /// Nothing happens unless the run ends badly.
    Armed,
    /// To be carried out from a time on.
    Due {
        /// The time.
        at: Timestamp,
    },
    /// A worker carries it out.
    Started {
        /// The worker.
        claim: WorkLease,
    },
    /// A person must decide.
    Stuck {
        /// Why.
        reason: String,
    },
}

impl Obligation {
    /// The obligation that undoes a confirmed effect.
    pub(super) fn of(id: &EffectId, effect: &Effect, operation: Operation, source: Seq) -> Self {
        Self {
            id: ObligationId {
                effect: id.clone(),
                copy: 0,
            },
            connector: effect.connector.clone(),
            operation,
            source,
            begun: Some(effect.begun),
            policy: effect.policy,
            status: ObligationStatus::Armed,
            attempt: 0,
            forgiven: 0,
            doubt: false,
            unreached: Unreached::default(),
            changed: source,
            erased: effect.erased && source == effect.begun,
            stuck_in: Seq::ZERO,
        }
    }

    /// The attempts that count towards the bound on them.
    const fn attempts_made(&self) -> u32 {
        self.attempt
            .saturating_sub(self.forgiven)
            .saturating_sub(self.unreached.attempts)
    }

    /// Counts the attempt with this number. Earlier builds numbered the attempts after a person's word from 1 again.
    fn count(&mut self, attempt: u32) -> Result<(), String> {
        if attempt == 1 && self.attempt == self.forgiven {
            self.forgiven = 0;
        } else {
            follows("attempt", self.attempt, attempt)?;
        }
        self.attempt = attempt;
        Ok(())
    }

    pub(super) fn stuck(&self) -> Option<&str> {
        if let ObligationStatus::Stuck { reason } = &self.status {
            Some(reason)
        } else {
            None
        }
    }

    pub(super) const fn due(&self) -> Option<Timestamp> {
        match &self.status {
            ObligationStatus::Armed | ObligationStatus::Stuck { .. } => None,
            ObligationStatus::Due { at } => Some(*at),
            ObligationStatus::Started { claim } => Some(claim.until),
        }
    }

    /// The end of the claim on it, if a worker has one.
    pub(super) const fn claimed_until(&self) -> Option<Timestamp> {
        match &self.status {
            ObligationStatus::Started { claim } => Some(claim.until),
            ObligationStatus::Armed | ObligationStatus::Due { .. } | ObligationStatus::Stuck { .. } => None,
        }
    }

    fn claimed_by(&self, holder: &Holder, now: Now) -> bool {
        matches!(&self.status, ObligationStatus::Started { claim } if claim.holder == *holder && now.holds(claim.until))
    }
}

impl Run {
    /// The one obligation that may be carried out now: one that was started, otherwise the last released one. While a run ends badly, the
    /// obligation of an effect waits until every effect is settled, since an effect under way may turn out to be the last one that
    /// happened. The obligation of a duplicate does not wait.
    pub(super) fn next_obligation(&self) -> Option<&Obligation> {
        let started = |o: &&Obligation| matches!(o.status, ObligationStatus::Started { .. });
        if let Some(started) = self.obligations.iter().rev().find(started) {
            return Some(started);
        }
        let settled = self.unsettled().is_none();
        let last = self
            .obligations
            .iter()
            .rev()
            .find(|o| o.status != ObligationStatus::Armed)?;
        let waits = matches!(self.phase, Phase::Compensating { .. }) && !settled && last.id.copy == 0;
        (!waits).then_some(last)
    }

    pub(super) fn obligation(&self, id: &ObligationId) -> Result<&Obligation, Rejection> {
        self.obligations
            .iter()
            .find(|o| o.id == *id)
            .ok_or(Rejection::not_found(Missing::Obligation))
    }

    pub(super) fn claim_obligation(
        &self,
        id: &ObligationId,
        holder: &Holder,
        claim_ms: u64,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let until = now.at().plus_millis(lease_length(claim_ms)?);
        let obligation = self.obligation(id)?;
        self.is_next(id)?;
        self.unclaimed(obligation, now)?;
        match &obligation.status {
            ObligationStatus::Due { at } if *at > now.at() => Err(Rejection::TooEarly {
                what: name(id),
                due: *at,
            }),
            ObligationStatus::Armed | ObligationStatus::Stuck { .. } => {
                Err(Rejection::NotNext { what: name(id) })
            }
            ObligationStatus::Started { .. } if obligation.erased => self.append(Stuck {
                obligation: id.clone(),
                reason: super::ARGUMENTS_ERASED.to_owned(),
            }),
            // Its workers keep vanishing: a person must find out why.
            ObligationStatus::Started { .. }
                if obligation.attempts_made() >= obligation.policy.attempts_max =>
            {
                let attempt = obligation.attempt;
                let reason = format!("the claim on attempt {attempt} to undo it lapsed: it may be done");
                self.append(Stuck {
                    obligation: id.clone(),
                    reason,
                })
            }
            ObligationStatus::Due { .. } | ObligationStatus::Started { .. } => {
                let claim = WorkLease {
                    holder: holder.clone(),
                    until,
                };
                let lapsed = matches!(obligation.status, ObligationStatus::Started { .. });
                self.append(Started {
                    obligation: id.clone(),
                    attempt: obligation.attempt + 1,
                    claim,
                    in_doubt: obligation.doubt || lapsed,
                })
            }
        }
    }

    pub(super) fn renew_obligation_claim(
        &self,
        id: &ObligationId,
        holder: &Holder,
        attempt: Option<u32>,
        claim_ms: u64,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let until = now.at().plus_millis(lease_length(claim_ms)?);
        let obligation = self.obligation(id)?;
        let other = attempt.is_some_and(|attempt| attempt != obligation.attempt);
        if other || !obligation.claimed_by(holder, now) {
            return Err(Rejection::ClaimLost {
                holder: holder.clone(),
                what: name(id),
            });
        }
        self.append(ClaimRenewed {
            obligation: id.clone(),
            until,
        })
    }

    pub(super) fn finish_obligation(
        &self,
        id: &ObligationId,
        holder: &Holder,
        attempt: u32,
        ending: &UndoOutcome,
        now: Now,
    ) -> Result<Decided, Rejection> {
        let obligation = self.obligation(id)?;
        if obligation.attempt != attempt || !obligation.claimed_by(holder, now) {
            return Err(Rejection::ClaimLost {
                holder: holder.clone(),
                what: name(id),
            });
        }
        match ending {
            UndoOutcome::Done { result } => self.append(Done {
                obligation: id.clone(),
                by: SettledBy::Worker {
                    holder: holder.clone(),
                },
                result: result.clone(),
            }),
            UndoOutcome::Retry { error } => self.defer(obligation, Field::Error, error, true, now.at()),
            UndoOutcome::Unknown { cause } => self.defer(obligation, Field::Cause, cause, false, now.at()),
            UndoOutcome::Unreached { error } => self.put_back(obligation, error, now.at()),
            UndoOutcome::Stuck { reason } => {
                text(Field::Reason, reason)?;
                let doubt = if obligation.doubt {
                    "an earlier attempt may have undone it: "
                } else {
                    ""
                };
                self.append(Stuck {
                    obligation: id.clone(),
                    reason: cut(format!("{doubt}{reason}")),
                })
            }
        }
    }

    /// The entries for an attempt that did not undo it, or may not have.
    fn defer(
        &self,
        obligation: &Obligation,
        field: Field,
        error: &str,
        not_done: bool,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        text(field, error)?;
        let (id, attempt) = (obligation.id.clone(), obligation.attempts_made());
        if attempt >= obligation.policy.attempts_max {
            let how = if obligation.doubt || !not_done {
                "may be done after"
            } else {
                "failed in"
            };
            let attempts = if attempt == 1 { "attempt" } else { "attempts" };
            let reason = cut(format!(
                "{} {how} {attempt} {attempts}, the last: {error}",
                name(&id)
            ));
            return self.append(Stuck {
                obligation: id,
                reason,
            });
        }
        self.append(Deferred {
            obligation: id,
            error: error.to_owned(),
            not_done,
            unreached: false,
            next_at: now.plus_millis(obligation.policy.backoff_after(attempt)),
        })
    }

    /// The entry for an attempt that did not reach the upstream.
    fn put_back(&self, obligation: &Obligation, error: &str, now: Timestamp) -> Result<Decided, Rejection> {
        text(Field::Error, error)?;
        let times = obligation.unreached.in_a_row.saturating_add(1);
        self.append(Deferred {
            obligation: obligation.id.clone(),
            error: error.to_owned(),
            not_done: true,
            unreached: true,
            next_at: now.plus_millis(obligation.policy.backoff_unreached(times)),
        })
    }

    pub(super) fn settle_obligation(
        &self,
        id: &ObligationId,
        retry: bool,
        reason: &str,
        seen: Seq,
        now: Now,
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        text(Field::Reason, reason)?;
        let reason = reason.to_owned();
        let obligation = self.obligation(id)?;
        self.as_seen(
            || name(id),
            obligation.changed,
            seen,
            || obligation_standing(obligation),
        )?;
        self.unclaimed(obligation, now)?;
        if retry {
            must_be_stuck(obligation)?;
            if obligation.erased {
                return Err(Rejection::Erased { what: name(id) });
            }
            return self.append(Retried {
                obligation: id.clone(),
                reason,
            });
        }
        self.undone_by_hand(obligation)?;
        let by = SettledBy::Person { reason };
        self.append(Done {
            obligation: id.clone(),
            by,
            result: Payload::empty(),
        })
    }

    /// Refuses an obligation that a worker has claimed.
    fn unclaimed(&self, obligation: &Obligation, now: Now) -> Result<(), Rejection> {
        let id = &obligation.id;
        match &obligation.status {
            ObligationStatus::Started { claim } if !now.judge(claim.until, || name(id))? => {
                Err(Rejection::Claimed {
                    what: name(id),
                    holder: claim.holder.clone(),
                    until: claim.until,
                })
            }
            _ => Ok(()),
        }
    }

    /// A person may have undone a stuck obligation, or the next one to be undone: people keep to the same order as workers.
    fn undone_by_hand(&self, obligation: &Obligation) -> Result<(), Rejection> {
        match obligation.status {
            ObligationStatus::Stuck { .. } => Ok(()),
            ObligationStatus::Armed => Err(settle_problem(ARMED)),
            ObligationStatus::Due { .. } | ObligationStatus::Started { .. } => self.is_next(&obligation.id),
        }
    }

    fn is_next(&self, id: &ObligationId) -> Result<(), Rejection> {
        match self.next_obligation() {
            Some(next) if next.id == *id => Ok(()),
            _ => Err(Rejection::NotNext { what: name(id) }),
        }
    }

    pub(super) fn arm(&mut self, mut obligation: Obligation, seq: Seq, at: Timestamp) {
        if matches!(self.phase, Phase::Compensating { .. }) {
            obligation.status = ObligationStatus::Due { at };
            if obligation.hold(seq) {
                self.changed_at = at;
            }
        }
        self.obligations.push(obligation);
    }

    pub(super) fn release_obligations(&mut self, at: Timestamp) {
        let armed = self
            .obligations
            .iter_mut()
            .filter(|o| o.status == ObligationStatus::Armed);
        armed.for_each(|o| o.status = ObligationStatus::Due { at });
    }

    pub(super) fn fold_armed(&mut self, e: &Armed, source: Seq, at: Timestamp) -> Result<(), String> {
        if self.obligations.iter().any(|o| o.id == e.obligation) {
            return Err(format!("{} is armed already", name(&e.obligation)));
        }
        if !self.was_settled(&e.obligation.effect) {
            return Err(format!(
                "{} is armed before the effect is settled",
                name(&e.obligation)
            ));
        }
        self.obligations.push(Obligation {
            id: e.obligation.clone(),
            connector: e.connector.clone(),
            operation: e.operation.clone(),
            source,
            begun: None,
            policy: e.policy,
            status: ObligationStatus::Due { at: e.due_at.max(at) },
            attempt: 0,
            forgiven: 0,
            doubt: false,
            unreached: Unreached::default(),
            changed: source,
            erased: false,
            stuck_in: Seq::ZERO,
        });
        Ok(())
    }

    fn obligation_mut(&mut self, id: &ObligationId) -> Result<&mut Obligation, String> {
        self.obligations
            .iter_mut()
            .find(|o| o.id == *id)
            .ok_or_else(|| format!("there is no {}", name(id)))
    }

    pub(super) fn fold_obligation_started(&mut self, e: &Started) -> Result<(), String> {
        let obligation = self.obligation_mut(&e.obligation)?;
        obligation.count(e.attempt)?;
        obligation.doubt |= matches!(obligation.status, ObligationStatus::Started { .. });
        obligation.status = ObligationStatus::Started {
            claim: e.claim.clone(),
        };
        Ok(())
    }

    pub(super) fn fold_obligation_claim_renewed(&mut self, e: &ClaimRenewed) -> Result<(), String> {
        match &mut self.obligation_mut(&e.obligation)?.status {
            ObligationStatus::Started { claim } => claim.until = e.until,
            _ => return Err(format!("{} is not claimed", name(&e.obligation))),
        }
        Ok(())
    }

    pub(super) fn fold_obligation_done(&mut self, e: &Done, at: Timestamp) -> Result<(), String> {
        if self.obligation_mut(&e.obligation)?.stuck().is_some() {
            self.changed_at = at;
        }
        self.obligations.retain(|o| o.id != e.obligation);
        Ok(())
    }

    pub(super) fn fold_obligation_deferred(&mut self, e: &Deferred, seq: Seq) -> Result<(), String> {
        let obligation = self.obligation_mut(&e.obligation)?;
        obligation.status = ObligationStatus::Due { at: e.next_at };
        obligation.doubt |= !e.not_done;
        if e.unreached {
            obligation.unreached.attempt(&e.error, seq);
        } else {
            obligation.unreached.over();
        }
        Ok(())
    }

    pub(super) fn fold_obligation_stuck(&mut self, e: &Stuck, seq: Seq, at: Timestamp) -> Result<(), String> {
        let obligation = self.obligation_mut(&e.obligation)?;
        obligation.status = ObligationStatus::Stuck {
            reason: e.reason.clone(),
        };
        obligation.stuck_in = seq;
        self.changed_at = at;
        Ok(())
    }

    pub(super) fn fold_obligation_retried(&mut self, e: &Retried, at: Timestamp) -> Result<(), String> {
        let obligation = self.obligation_mut(&e.obligation)?;
        obligation.status = ObligationStatus::Due { at };
        (obligation.forgiven, obligation.doubt) = (obligation.attempt, false);
        obligation.unreached = Unreached::default();
        self.changed_at = at;
        Ok(())
    }
}

/// A reason that an entry can carry.
fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
    reason
}

const ARMED: &str = "is armed: it is undone only where the run ends badly";

/// Only a stuck obligation can be tried again on a person's word.
fn must_be_stuck(obligation: &Obligation) -> Result<(), Rejection> {
    let problem = match obligation.status {
        ObligationStatus::Stuck { .. } => return Ok(()),
        ObligationStatus::Armed => ARMED,
        ObligationStatus::Due { .. } => "is due: a worker takes it up",
        ObligationStatus::Started { .. } => "has a claim that is over: a worker takes it up",
    };
    Err(settle_problem(problem))
}

fn settle_problem(problem: &str) -> Rejection {
    Rejection::Invalid {
        field: Field::Obligation,
        problem: problem.to_owned(),
    }
}

pub(super) fn name(id: &ObligationId) -> String {
    match id.copy {
        0 => format!("obligation of effect {}", id.effect),
        n => format!("obligation of duplicate {n} of effect {}", id.effect),
    }
}
