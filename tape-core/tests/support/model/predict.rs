//! What the naive model expects of a command: the reply, or the name of the rejection.

mod external;
mod work;

use super::act::Act;
use super::debt::Debt;
use super::history::{Door, History, Life, ms};
use std::collections::BTreeMap;
use tape_core::budget::Spend;
use tape_core::command::{AttemptOutcome, Begin, DriverCommand as D, ExternalCommand as O, RunCommand};
use tape_core::effect::{EffectSpec, Mode, Semantics, Status};
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{EffectId, Epoch, Holder, Seq};
use tape_core::reply::ReplyResult as R;
use tape_core::time::Timestamp;

pub(crate) type Expected = Result<R, &'static str>;

fn no<T>(rejection: &'static str) -> Result<T, &'static str> {
    Err(rejection)
}

fn need(holds: bool, rejection: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { no(rejection) }
}

impl History<'_> {
    /// The outcome of `command`; `next` is the next entry.
    pub(crate) fn expect(self, command: &RunCommand, now: Timestamp, next: Seq) -> Expected {
        match command {
            RunCommand::Begin(begin) => self.begin(begin, now),
            RunCommand::Drive(epoch, drive) => self.drive(*epoch, drive, now, next),
            RunCommand::Work(work) => {
                self.alive()?;
                self.work(work, now)
            }
            RunCommand::External(told) => self.tell(told, now),
        }
    }

    fn alive(self) -> Result<(), &'static str> {
        match self.life() {
            Life::New => no("NotFound"),
            Life::Ended(_) => no("RunEnded"),
            _ => Ok(()),
        }
    }

    fn counts(self) -> Result<(), &'static str> {
        self.alive()?;
        need(self.life() != Life::Compensating, "Closing")
    }

    /// The reply to a command that ends the run badly: it ends at once if nothing is left to undo.
    fn closing(self, ending: RunOutcome) -> R {
        let under_way = |act: &Act| {
            let mut act = act.clone();
            act.break_off(Timestamp::MIN);
            !act.status.is_settled()
        };
        if self.acts().values().any(under_way) || !self.debts().is_empty() {
            R::Compensating
        } else {
            R::Ended { ending }
        }
    }

    /// Once a run is being undone, it ends with the last effect that is settled or undone.
    fn unwinding(self, result: R, settles: Option<&EffectId>, arms: bool, pays: bool) -> R {
        if self.life() != Life::Compensating {
            return result;
        }
        let open = |(id, act): (&EffectId, &Act)| !act.status.is_settled() && Some(id) != settles;
        let left = self.debts().len() - usize::from(pays) + usize::from(arms);
        if self.acts().iter().any(open) || left > 0 {
            return result;
        }
        let ending = self.0.iter().find_map(|past| match &past.command {
            _ if past.result != R::Compensating => None,
            RunCommand::Drive(_, D::Fail { error }) => Some(RunOutcome::Failed { error: error.clone() }),
            _ => Some(RunOutcome::Cancelled { reason: self.why() }),
        });
        R::Ended {
            ending: ending.unwrap(),
        }
    }

    /// The first reason to cancel the run counts.
    fn why(self) -> String {
        let why = self.0.iter().find_map(|past| match &past.command {
            RunCommand::External(O::Cancel { reason }) => Some(reason.clone()),
            _ => None,
        });
        why.unwrap()
    }

    fn begin(self, begin: &Begin, now: Timestamp) -> Expected {
        let leased = R::Leased {
            epoch: Epoch(self.epoch().0 + 1),
            until: ms(now, begin.lease_ms),
        };
        match self.life() {
            Life::New if begin.create.is_some() && begin.adopt.is_none() => return Ok(leased),
            Life::New => return no("NotFound"),
            Life::Ended(ending) => return Ok(R::Ended { ending }),
            Life::Compensating => return Ok(R::Compensating),
            Life::Running | Life::Suspended => {}
        }
        match begin.adopt {
            Some(epoch) => {
                need(epoch == self.epoch(), "Fenced")?;
                let holds = self.lease().is_some_and(|lease| !lease.given_up);
                need(holds && self.life() == Life::Running, "NotFound")?;
            }
            None => need(self.driver(now).is_none(), "LeaseHeld")?,
        }
        if self.cancelling() {
            return Ok(self.closing(RunOutcome::Cancelled { reason: self.why() }));
        }
        need(
            !begin.recovery || self.recovery_due().is_some_and(|due| due <= now),
            "NotDue",
        )?;
        Ok(leased)
    }

    fn drive(self, epoch: Epoch, drive: &D, now: Timestamp, next: Seq) -> Expected {
        self.alive()?;
        need(epoch == self.epoch(), "Fenced")?;
        need(self.life() == Life::Running, "Closing")?;
        let ends_something = matches!(
            drive,
            D::RenewLease { .. }
                | D::ReleaseLease { .. }
                | D::ReleaseReservation { .. }
                | D::RestartEffect { .. }
                | D::FinishEffect { .. }
                | D::Complete { .. }
                | D::Fail { .. }
                | D::AcceptCancel
        );
        need(ends_something || !self.cancelling(), "Closing")?;
        match drive {
            D::RenewLease { lease_ms } => {
                need(self.lease().is_some_and(|lease| !lease.given_up), "NotFound")?;
                Ok(R::Leased {
                    epoch,
                    until: ms(now, *lease_ms),
                })
            }
            D::ReleaseLease { .. } | D::Checkpoint { .. } | D::ReleaseReservation { .. } => Ok(R::Recorded),
            D::RecordDecision(decision) => {
                need(
                    decision.position.k == self.next(&decision.position.scope),
                    "WrongPosition",
                )?;
                self.known(&decision.spent)?;
                Ok(R::Recorded)
            }
            D::ReserveForDecision { position, spends } => {
                need(position.k == self.next(&position.scope), "WrongPosition")?;
                match self.set_aside(position) {
                    Some(there) => need(there == *spends, "Exists")?,
                    None => self.affordable(spends)?,
                }
                Ok(R::Recorded)
            }
            D::BeginEffect { effect, spec } => self.begin_effect(effect, spec),
            D::RestartEffect { effect } => {
                let act = self.act(effect).ok_or("NotFound")?;
                let again = matches!(act.status, Status::Pending | Status::Started | Status::Unknown);
                need(
                    act.spec.mode == Mode::Inline && again && !self.forgotten(effect),
                    self.wrong(effect),
                )?;
                Ok(effect_is(Status::Started, act.attempt + 1, None))
            }
            D::FinishEffect {
                effect,
                attempt,
                ending,
            } => {
                let act = self.act(effect).ok_or("NotFound")?;
                let mine =
                    act.spec.mode == Mode::Inline && act.status == Status::Started && act.attempt == *attempt;
                need(mine, self.wrong(effect))?;
                self.finished(effect, &act, ending, now)
            }
            D::OpenGate { gate, deadline } => match self.door(gate) {
                None => Ok(R::GateOpen {
                    deadline: deadline.map(|deadline| deadline.resolve(now)),
                }),
                Some(Door::Signalled(id, received)) => Ok(R::GateAnswered {
                    by: AnsweredBy::EarlierSignal {
                        id,
                        who: None,
                        received,
                    },
                }),
                Some(_) => no("Exists"),
            },
            D::SetTimer { timer, due, .. } => {
                need(self.timer(timer).is_none(), "Exists")?;
                Ok(R::TimerSet {
                    due_at: due.resolve(now),
                })
            }
            D::CancelTimer { timer } => match self.timer(timer) {
                None => no("NotFound"),
                Some(Err(true)) => no("TimerDone"),
                Some(_) => Ok(R::Recorded),
            },
            D::OpenBudget {
                budget,
                parent,
                limit,
                ..
            } => {
                match self.budget(budget) {
                    Some(there) => need(there == (parent.clone(), *limit), "Exists")?,
                    None => need(
                        parent.as_ref().is_none_or(|parent| self.budget(parent).is_some()),
                        "NotFound",
                    )?,
                }
                Ok(R::Recorded)
            }
            D::Within { command, .. } => self.drive(epoch, command, now, next),
            D::RecordSample { scope, n, .. } => {
                need(*n == self.samples(scope), "WrongSample")?;
                Ok(R::Recorded)
            }
            D::Suspend { seen, resume } => {
                need(*seen < next, "Invalid")?;
                need(self.news().is_none_or(|(seq, _)| seq <= *seen), "Woken")?;
                let waits = |act: &Act| act.status == Status::Pending && act.due > now;
                let under_way = |act: &Act| act.is_drivers() && !waits(act);
                need(!self.acts().values().any(under_way), "Unsettled")?;
                need(resume.is_some() || self.hopes(), "Invalid")?;
                Ok(R::Recorded)
            }
            D::Complete { .. } => {
                let duplicate = self.debts().iter().any(|debt| debt.id.copy > 0);
                need(!self.unsettled() && !duplicate, "Unsettled")?;
                Ok(R::Ended {
                    ending: RunOutcome::Completed,
                })
            }
            D::Fail { error } => Ok(self.closing(RunOutcome::Failed { error: error.clone() })),
            D::AcceptCancel => {
                need(self.cancelling(), "Invalid")?;
                Ok(self.closing(RunOutcome::Cancelled { reason: self.why() }))
            }
        }
    }

    fn known(self, spends: &[Spend]) -> Result<(), &'static str> {
        need(
            spends.iter().all(|spend| self.budget(&spend.budget).is_some()),
            "NotFound",
        )
    }

    fn affordable(self, spends: &[Spend]) -> Result<(), &'static str> {
        self.known(spends)?;
        let mut names = BTreeMap::new();
        for spend in spends {
            let mut at = Some(spend.budget.clone());
            while let Some(name) = at {
                let (parent, limit) = self.budget(&name).unwrap();
                names.insert(name, limit);
                at = parent;
            }
        }
        for (name, limit) in names {
            let (reserved, spent) = self.books(&name);
            let asked = self.share(&name, spends);
            need(asked == 0 || reserved + spent + asked <= limit, "BudgetExhausted")?;
        }
        Ok(())
    }

    fn begin_effect(self, effect: &EffectId, spec: &EffectSpec) -> Expected {
        let newest = self.next(&effect.position.scope) == effect.position.k + 1;
        need(self.act(effect).is_none() || self.forgotten(effect), "Exists")?;
        need(newest, "NoDecision")?;
        let (inline, by) = (spec.mode == Mode::Inline, spec.semantics);
        need(!(inline && by == Semantics::NonIdempotent), "InlineNonIdempotent")?;
        need(inline || by != Semantics::ReadOnly, "Invalid")?;
        self.affordable(&spec.reserve)?;
        Ok(if inline {
            effect_is(Status::Started, 1, None)
        } else {
            effect_is(Status::Pending, 0, None)
        })
    }

    /// Settled effects of a decision that was followed by another are forgotten.
    pub(crate) fn forgotten(self, effect: &EffectId) -> bool {
        let settled = self.act(effect).is_some_and(|act| act.status.is_settled());
        settled && self.next(&effect.position.scope) > effect.position.k + 1
    }

    fn wrong(self, effect: &EffectId) -> &'static str {
        if self.forgotten(effect) {
            "NotFound"
        } else {
            "WrongStatus"
        }
    }

    /// The reply to an attempt's end.
    fn finished(self, id: &EffectId, act: &Act, ending: &AttemptOutcome, now: Timestamp) -> Expected {
        let mut after = act.clone();
        if let AttemptOutcome::Confirmed {
            spent: Some(spent), ..
        } = ending
        {
            self.known(spent)?;
        }
        after.ends(ending, now, self.open());
        let until = (!after.status.is_settled()).then_some(after.due);
        let settles = after.status.is_settled().then_some(id);
        let brings = matches!(ending, AttemptOutcome::Confirmed { undo: Some(_), .. });
        let arms = after.status == Status::Confirmed && (act.spec.undo.is_some() || brings);
        Ok(self.unwinding(effect_is(after.status, 0, until), settles, arms, false))
    }

    fn there(self, effect: &EffectId) -> Result<Act, &'static str> {
        need(!self.forgotten(effect), "NotFound")?;
        self.act(effect).ok_or("NotFound")
    }

    fn debt(self, id: &tape_core::entry::obligation::ObligationId) -> Result<Debt, &'static str> {
        let alive = !matches!(self.life(), Life::Ended(_));
        self.debts()
            .into_iter()
            .find(|debt| debt.id == *id && alive)
            .ok_or("NotFound")
    }
}

fn effect_is(status: Status, attempt: u32, until: Option<Timestamp>) -> R {
    R::Effect {
        status,
        attempt,
        until,
    }
}

fn owed(until: Option<Timestamp>, done: bool, stuck: bool) -> R {
    R::Obligation {
        attempt: 0,
        until,
        in_doubt: false,
        done,
        stuck,
    }
}

fn held(claim: &Option<(Holder, Timestamp)>, now: Timestamp) -> bool {
    claim.as_ref().is_some_and(|(_, until)| *until > now)
}

fn owned(claim: &Option<(Holder, Timestamp)>, by: &Holder, now: Timestamp) -> bool {
    claim
        .as_ref()
        .is_some_and(|(holder, until)| holder == by && *until > now)
}
