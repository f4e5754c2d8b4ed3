//! The predicted replies to workers.

use super::super::debt::Brings as _;
use super::super::history::{History, ms};
use super::{Expected, effect_is, held, need, no, owed, owned};
use tape_core::command::WorkerCommand as W;
use tape_core::command::{Held, RunCommand, UndoOutcome};
use tape_core::effect::{Mode, Status};
use tape_core::reply::ReplyResult as R;
use tape_core::time::Timestamp;

impl History<'_> {
    pub(super) fn work(self, work: &W, now: Timestamp) -> Expected {
        match work {
            W::ClaimEffect { effect, claim_ms, .. } => {
                let act = self.act(effect).ok_or("NotFound")?;
                need(act.spec.mode == Mode::Outbox, self.wrong(effect))?;
                match act.status {
                    Status::Pending => {
                        need(self.open(), "Closing")?;
                        need(act.due <= now, "TooEarly")?;
                    }
                    Status::Started => {
                        need(!held(&act.claim, now), "Claimed")?;
                        if !act.again(self.open()) {
                            return Ok(effect_is(Status::Unknown, 0, Some(now)));
                        }
                    }
                    _ => return no(self.wrong(effect)),
                }
                Ok(effect_is(
                    Status::Started,
                    act.attempt + 1,
                    Some(ms(now, *claim_ms)),
                ))
            }
            W::FinishClaimed {
                effect,
                holder,
                attempt,
                ending,
            } => {
                let act = self.there(effect)?;
                let mine = act.status == Status::Started
                    && act.attempt == *attempt
                    && owned(&act.claim, holder, now);
                need(mine, "ClaimLost")?;
                self.finished(effect, &act, ending, now)
            }
            W::LapseEffect { effect } => {
                let act = self.there(effect)?;
                need(
                    act.spec.mode == Mode::Outbox && act.status == Status::Started,
                    "WrongStatus",
                )?;
                need(!held(&act.claim, now), "Claimed")?;
                let status = if act.again(self.open()) {
                    Status::Pending
                } else {
                    Status::Unknown
                };
                Ok(effect_is(status, 0, Some(now)))
            }
            W::ClaimObservation { effect, claim_ms, .. } => {
                let act = self.there(effect)?;
                need(act.status == Status::Unknown, "WrongStatus")?;
                need(!held(&act.claim, now), "Claimed")?;
                need(act.due <= now, "TooEarly")?;
                if act.in_vain() {
                    return Ok(effect_is(Status::Stuck, 0, None));
                }
                Ok(R::Observing {
                    observation: act.observations + 1,
                    until: ms(now, *claim_ms),
                    unwanted: !self.open(),
                })
            }
            W::RecordObservation {
                effect,
                holder,
                observation,
                outcome,
                undo,
                undo_duplicates,
                ..
            } => {
                let act = self.there(effect)?;
                let mine = act.status == Status::Unknown && act.observations == *observation;
                need(mine && owned(&act.claim, holder, now), "ClaimLost")?;
                let mut after = act.clone();
                after.seen(*outcome, !undo_duplicates.is_empty(), now, self.open());
                let until = matches!(after.status, Status::Pending | Status::Unknown).then_some(after.due);
                let settles = after.status.is_settled().then_some(effect);
                let undone = act.spec.undo.is_some() || undo.is_some();
                let arms = after.status == Status::Confirmed
                    && (undone || !RunCommand::Work(work.clone()).duplicates().is_empty());
                Ok(self.unwinding(effect_is(after.status, 0, until), settles, arms, false))
            }
            W::RenewEffectClaim {
                effect,
                holder,
                held,
                claim_ms,
            } => {
                let act = self.there(effect)?;
                let mine = match held {
                    None => true,
                    Some(Held::Attempt(n)) => act.status == Status::Started && act.attempt == *n,
                    Some(Held::Observation(n)) => act.status == Status::Unknown && act.observations == *n,
                };
                need(mine && owned(&act.claim, holder, now), "ClaimLost")?;
                Ok(effect_is(act.status, 0, Some(ms(now, *claim_ms))))
            }
            W::ClaimObligation {
                obligation, claim_ms, ..
            } => {
                let debt = self.debt(obligation)?;
                need(
                    self.turn().is_some_and(|turn| turn.id == *obligation) && !debt.stuck,
                    "NotNext",
                )?;
                need(!held(&debt.claim, now), "Claimed")?;
                need(debt.due.is_none_or(|due| due <= now), "TooEarly")?;
                if debt.spent() {
                    return Ok(owed(None, false, true));
                }
                Ok(R::Obligation {
                    attempt: debt.attempt + 1,
                    until: Some(ms(now, *claim_ms)),
                    in_doubt: debt.doubt || debt.claim.is_some(),
                    done: false,
                    stuck: false,
                })
            }
            W::RenewObligationClaim {
                obligation,
                holder,
                attempt,
                claim_ms,
            } => {
                let debt = self.debt(obligation)?;
                let mine = attempt.is_none_or(|attempt| attempt == debt.attempt);
                need(mine && owned(&debt.claim, holder, now), "ClaimLost")?;
                Ok(owed(Some(ms(now, *claim_ms)), false, false))
            }
            W::FinishObligation {
                obligation,
                holder,
                attempt,
                ending,
            } => {
                let debt = self.debt(obligation)?;
                need(
                    debt.attempt == *attempt && owned(&debt.claim, holder, now),
                    "ClaimLost",
                )?;
                if matches!(ending, UndoOutcome::Done { .. }) {
                    return Ok(self.unwinding(owed(None, true, false), None, false, true));
                }
                let mut after = debt;
                after.happen(&RunCommand::Work(work.clone()), now);
                Ok(owed(after.due, false, after.stuck))
            }
        }
    }
}
