//! The predicted replies to commands from outside.

use super::super::history::{Door, History, Life};
use super::{Expected, effect_is, held, need, no, owed};
use tape_core::command::{ExternalCommand as O, Verdict};
use tape_core::effect::Status;
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::run::RunOutcome;
use tape_core::reply::ReplyResult as R;
use tape_core::time::Timestamp;

impl History<'_> {
    pub(super) fn tell(self, told: &O, now: Timestamp) -> Expected {
        match told {
            O::Signal { gate, id, .. } => {
                self.alive()?;
                match self.door(gate) {
                    Some(Door::Signalled(there, _)) => {
                        need(there == *id, "GateAnswered")?;
                        Ok(R::SignalBuffered)
                    }
                    Some(Door::Answered(by)) => {
                        let same = match &by {
                            AnsweredBy::Signal { id: there, .. }
                            | AnsweredBy::EarlierSignal { id: there, .. } => there == id,
                            AnsweredBy::Deadline => false,
                        };
                        need(same, "GateAnswered")?;
                        Ok(R::GateAnswered { by })
                    }
                    door => {
                        need(self.open(), "Closing")?;
                        let by = AnsweredBy::Signal {
                            id: id.clone(),
                            who: None,
                        };
                        Ok(door.map_or(R::SignalBuffered, |_| R::GateAnswered { by }))
                    }
                }
            }
            O::ExpireGate { gate } => {
                self.counts()?;
                match self.door(gate) {
                    None | Some(Door::Signalled(..)) => no("NotFound"),
                    Some(Door::Open(deadline)) => {
                        need(deadline.is_some_and(|deadline| deadline <= now), "TooEarly")?;
                        Ok(R::GateAnswered {
                            by: AnsweredBy::Deadline,
                        })
                    }
                    Some(Door::Answered(by)) => {
                        need(by == AnsweredBy::Deadline, "GateAnswered")?;
                        Ok(R::GateAnswered { by })
                    }
                }
            }
            O::FireTimer { timer } => {
                self.counts()?;
                match self.timer(timer) {
                    None => no("NotFound"),
                    Some(Ok(due)) => {
                        need(due <= now, "TooEarly")?;
                        Ok(R::Recorded)
                    }
                    Some(Err(fired)) => {
                        need(fired, "TimerDone")?;
                        Ok(R::Recorded)
                    }
                }
            }
            O::Cancel { reason } => {
                if let Life::Ended(ending @ RunOutcome::Cancelled { .. }) = self.life() {
                    return Ok(R::Ended { ending });
                }
                self.counts()?;
                if self.driver(now).is_some() {
                    return Ok(R::Recorded);
                }
                let first = self.cancelling().then(|| self.why());
                let reason = first.unwrap_or_else(|| reason.clone());
                Ok(self.closing(RunOutcome::Cancelled { reason }))
            }
            O::DriverVanished { .. } => {
                need(self.life() != Life::New, "NotFound")?;
                Ok(R::Recorded)
            }
            O::SettleEffect { effect, verdict, .. } => {
                self.alive()?;
                let act = self.there(effect)?;
                need(
                    matches!(act.status, Status::Unknown | Status::Stuck),
                    "WrongStatus",
                )?;
                need(!held(&act.claim, now), "Claimed")?;
                match verdict {
                    Verdict::Confirmed { undo, .. } => {
                        let result = effect_is(Status::Confirmed, 0, None);
                        let arms = act.spec.undo.is_some() || undo.is_some();
                        Ok(self.unwinding(result, Some(effect), arms, false))
                    }
                    Verdict::Failed => {
                        Ok(self.unwinding(effect_is(Status::Failed, 0, None), Some(effect), false, false))
                    }
                    Verdict::Resend => {
                        need(self.open(), "Closing")?;
                        Ok(effect_is(Status::Pending, 0, None))
                    }
                }
            }
            O::SettleObligation {
                obligation, retry, ..
            } => {
                self.alive()?;
                let debt = self.debt(obligation)?;
                need(!held(&debt.claim, now), "Claimed")?;
                need(debt.stuck || !*retry, "Invalid")?;
                if !debt.stuck {
                    need(debt.due.is_some() || debt.claim.is_some(), "Invalid")?;
                    need(self.turn().is_some_and(|turn| turn.id == *obligation), "NotNext")?;
                }
                if *retry {
                    return Ok(owed(None, false, false));
                }
                Ok(self.unwinding(owed(None, true, false), None, false, true))
            }
            O::Retire { .. } => match self.life() {
                Life::New => no("NotFound"),
                Life::Ended(ending) => Ok(R::Ended { ending }),
                _ => no("NotEnded"),
            },
            O::ReleaseClaim { .. } => unreachable!("no history has a claim released"),
            O::RetryRun { .. } => {
                self.alive()?;
                no("Invalid")
            }
        }
    }
}
