//! The naive model: it keeps the accepted commands, and answers every question by reading all of them again.

use super::act::Act;
use super::debt::{Brings as _, Debt};
use std::collections::{BTreeMap, BTreeSet};
use tape_core::budget::Spend;
use tape_core::command::{Begin, WorkerCommand as W};
use tape_core::command::{DriverCommand as D, ExternalCommand as O, RunCommand};
use tape_core::effect::{Mode, Status};
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{BudgetName, EffectId, Epoch, GateName, Position, Scope, Seq, SignalId, TimerName};
use tape_core::reply::ReplyResult;
use tape_core::time::Deadline;
use tape_core::time::Timestamp;

/// A command that changed the run.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) at: Timestamp,
    pub(crate) command: RunCommand,
    pub(crate) result: ReplyResult,
    /// The entry it ended with.
    pub(crate) seq: Seq,
}

/// What happened up to some point.
#[derive(Clone, Copy)]
pub(crate) struct History<'a>(pub(crate) &'a [Past]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    New,
    Running,
    Suspended,
    Compensating,
    Ended(RunOutcome),
}

/// Until when a driver has the run, and when recovery may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) until: Option<Timestamp>,
    pub(crate) due: Timestamp,
    /// Whether the driver released it itself.
    pub(crate) given_up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Signalled(SignalId, Seq),
    Open(Option<Timestamp>),
    Answered(AnsweredBy),
}

pub(crate) fn ms(at: Timestamp, millis: u64) -> Timestamp {
    at.plus_millis(millis)
}

impl<'a> History<'a> {
    fn before(self, i: usize) -> Self {
        Self(&self.0[..i])
    }

    fn events(self) -> impl DoubleEndedIterator<Item = (usize, &'a Past)> {
        self.0.iter().enumerate()
    }

    pub(crate) fn life(self) -> Life {
        let ended = self.0.iter().find_map(|past| match &past.result {
            ReplyResult::Ended { ending } => Some(Life::Ended(ending.clone())),
            _ => None,
        });
        let compensating = self.0.iter().any(|past| past.result == ReplyResult::Compensating);
        let last = self.0.iter().rev().find_map(|past| match &past.command {
            RunCommand::Begin(_) => Some(Life::Running),
            RunCommand::Drive(_, D::Suspend { .. }) => Some(Life::Suspended),
            _ => None,
        });
        let compensating = compensating.then_some(Life::Compensating);
        ended.or(compensating).or(last).unwrap_or(Life::New)
    }

    /// Whether the run is retired: only its end is remembered.
    pub(crate) fn retired(self) -> bool {
        self.0
            .iter()
            .any(|past| matches!(past.command, RunCommand::External(O::Retire { .. })))
    }

    pub(crate) fn cancelling(self) -> bool {
        let asked = |past: &Past| {
            matches!(past.command, RunCommand::External(O::Cancel { .. }))
                && past.result == ReplyResult::Recorded
        };
        matches!(self.life(), Life::Running | Life::Suspended) && self.0.iter().any(asked)
    }

    pub(crate) fn open(self) -> bool {
        matches!(self.life(), Life::Running | Life::Suspended) && !self.cancelling()
    }

    pub(crate) fn epoch(self) -> Epoch {
        let leased = |past: &&Past| {
            matches!(
                (&past.command, &past.result),
                (RunCommand::Begin(_), ReplyResult::Leased { .. })
            )
        };
        Epoch(self.0.iter().filter(leased).count() as u64)
    }

    /// Re-drives since the last progress.
    pub(crate) fn redrives(self) -> u32 {
        let mut count = 0;
        for (i, past) in self.events() {
            match &past.command {
                RunCommand::Begin(begin) => count += u32::from(self.before(i).redrive(begin)),
                RunCommand::Drive(_, drive) if self.progress(i, drive) => count = 0,
                _ => {}
            }
        }
        count
    }

    fn redrive(self, begin: &Begin) -> bool {
        begin.recovery && self.life() == Life::Running
    }

    fn progress(self, i: usize, drive: &D) -> bool {
        match drive {
            D::RecordDecision(_)
            | D::BeginEffect { .. }
            | D::OpenGate { .. }
            | D::SetTimer { .. }
            | D::OpenBudget { .. }
            | D::RecordSample { .. }
            | D::Checkpoint { .. } => true,
            D::Within { command, .. } => self.progress(i, command),
            D::FinishEffect { effect, .. } => {
                let after = History(&self.0[..=i]).act(effect);
                after.is_some_and(|act| act.status.is_settled())
            }
            _ => false,
        }
    }

    pub(crate) fn backoff(redrives: u32) -> u64 {
        match redrives {
            0 => 0,
            n => (1_000 << (n - 1)).min(300_000),
        }
    }

    pub(crate) fn lease(self) -> Option<Lease> {
        self.events().rev().find_map(|(i, past)| {
            let backoff = Self::backoff(History(&self.0[..=i]).redrives());
            let held = |lease_ms| {
                let until = ms(past.at, lease_ms);
                Some(Lease {
                    until: Some(until),
                    due: ms(until, backoff),
                    given_up: false,
                })
            };
            let free = |after: u64, given_up| {
                Some(Lease {
                    until: None,
                    due: ms(past.at, after.max(backoff)),
                    given_up,
                })
            };
            match &past.command {
                RunCommand::Begin(begin) => held(begin.lease_ms),
                RunCommand::Drive(_, D::RenewLease { lease_ms }) => held(*lease_ms),
                RunCommand::Drive(_, D::ReleaseLease { .. }) if self.before(i).cancelling() => Some(Lease {
                    until: None,
                    due: past.at,
                    given_up: true,
                }),
                RunCommand::Drive(_, D::ReleaseLease { redrive_in_ms, .. }) => free(*redrive_in_ms, true),
                RunCommand::External(O::DriverVanished { grace_ms, .. }) => free(*grace_ms, false),
                _ => None,
            }
        })
    }

    /// Until when a driver has the run now.
    pub(crate) fn driver(self, now: Timestamp) -> Option<Timestamp> {
        let until = self.lease()?.until?;
        (self.life() == Life::Running && until > now).then_some(until)
    }

    /// The last entry that wakes a waiting driver, and its time.
    pub(crate) fn news(self) -> Option<(Seq, Timestamp)> {
        self.events().rev().find_map(|(i, past)| {
            let (before, after) = (self.before(i), History(&self.0[..=i]));
            let settled = |id: &EffectId| after.act(id).is_some_and(|act| act.status.is_settled());
            let drivers = |id: &EffectId| {
                let inline = |act: Act| act.spec.mode == Mode::Inline && act.status == Status::Pending;
                after.act(id).is_some_and(inline)
            };
            let news = match &past.command {
                RunCommand::Work(
                    W::FinishClaimed { effect, .. }
                    | W::ClaimEffect { effect, .. }
                    | W::LapseEffect { effect },
                ) => settled(effect),
                RunCommand::Work(W::RecordObservation { effect, .. })
                | RunCommand::External(O::SettleEffect { effect, .. }) => settled(effect) || drivers(effect),
                RunCommand::External(O::Signal { gate, .. }) => before.door(gate).is_some(),
                RunCommand::External(O::Cancel { .. } | O::ExpireGate { .. } | O::FireTimer { .. }) => true,
                RunCommand::Drive(_, D::OpenGate { gate, .. }) => before.door(gate).is_some(),
                _ => false,
            };
            // The obligations of duplicates are the entries after the one that settles the effect.
            let armed = past.command.duplicates().len() as u64;
            let seq = Seq(past.seq.0 - armed);
            news.then_some((seq, past.at))
        })
    }

    pub(crate) fn recovery_due(self) -> Option<Timestamp> {
        match self.life() {
            Life::Running => Some(self.lease()?.due),
            Life::Suspended => {
                let (i, past, resume) = self.events().rev().find_map(|(i, past)| match &past.command {
                    RunCommand::Drive(_, D::Suspend { resume, .. }) => Some((i, past, *resume)),
                    _ => None,
                })?;
                let resume = resume.map(|resume| resume.resolve(past.at));
                // The first such entry after it was suspended.
                let woken = (i + 1..=self.0.len()).find_map(|n| {
                    let (seq, at) = self.before(n).news()?;
                    (seq > past.seq).then_some(at)
                });
                let acts = self.before(i).acts().into_values();
                let attempts = acts.filter(Act::is_drivers).map(|act| act.due);
                resume.into_iter().chain(woken).chain(attempts).min()
            }
            _ => None,
        }
    }

    pub(crate) fn next(self, scope: &Scope) -> u32 {
        let mine = |past: &&Past| match &past.command {
            RunCommand::Drive(_, D::RecordDecision(decision)) => decision.position.scope == *scope,
            _ => false,
        };
        u32::try_from(self.0.iter().filter(mine).count()).unwrap()
    }

    pub(crate) fn samples(self, of: &Scope) -> u32 {
        let mine = |past: &&Past| match &past.command {
            RunCommand::Drive(_, D::RecordSample { scope, .. }) => scope == of,
            _ => false,
        };
        u32::try_from(self.0.iter().filter(mine).count()).unwrap()
    }

    pub(crate) fn acts(self) -> BTreeMap<EffectId, Act> {
        let begun = self.0.iter().filter_map(|past| match &past.command {
            RunCommand::Drive(_, D::BeginEffect { effect, .. }) => Some(effect),
            _ => None,
        });
        begun.map(|id| (id.clone(), self.act(id).unwrap())).collect()
    }

    pub(crate) fn unsettled(self) -> bool {
        self.acts().values().any(|act| !act.status.is_settled())
    }

    pub(crate) fn act(self, id: &EffectId) -> Option<Act> {
        let mut act: Option<Act> = None;
        for (i, past) in self.events() {
            let closes = past.result == ReplyResult::Compensating
                || matches!(
                    past.command,
                    RunCommand::Drive(_, D::Fail { .. } | D::AcceptCancel)
                )
                || matches!(
                    (&past.command, &past.result),
                    (
                        RunCommand::External(O::Cancel { .. }) | RunCommand::Begin(_),
                        ReplyResult::Ended { .. }
                    )
                );
            if let Some(act) = act.as_mut() {
                if closes {
                    act.break_off(past.at);
                }
                act.happen(id, &past.command, past.at, self.before(i).open());
            } else if let RunCommand::Drive(_, D::BeginEffect { effect, spec }) = &past.command
                && effect == id
            {
                act = Some(Act::new(spec, past.at));
            }
        }
        act
    }

    pub(crate) fn debts(self) -> Vec<Debt> {
        let mut debts: Vec<Debt> = Vec::new();
        for (i, past) in self.events() {
            let (before, after) = (self.before(i), History(&self.0[..=i]));
            if past.result == ReplyResult::Compensating {
                debts
                    .iter_mut()
                    .filter(|debt| debt.due.is_none() && debt.id.copy == 0)
                    .for_each(|debt| debt.due = Some(past.at));
            }
            debts
                .iter_mut()
                .for_each(|debt| debt.happen(&past.command, past.at));
            debts.retain(|debt| !debt.is_paid(&past.command));
            for (id, act) in after.acts() {
                let was = before.act(&id).is_some_and(|act| act.status == Status::Confirmed);
                if was || act.status != Status::Confirmed {
                    continue;
                }
                let released = (before.life() == Life::Compensating).then_some(past.at);
                if act.spec.undo.is_some() || past.command.brings_undo() {
                    debts.push(Debt::new(&id, 0, &act.spec, released));
                }
                let copies = (1..).zip(past.command.duplicates());
                debts.extend(copies.map(|(copy, _)| Debt::new(&id, copy, &act.spec, Some(past.at))));
            }
        }
        debts
    }

    /// The next debt to be undone.
    pub(crate) fn turn(self) -> Option<Debt> {
        let debts = self.debts();
        if let Some(begun) = debts.iter().rev().find(|debt| debt.claim.is_some()) {
            return Some(begun.clone());
        }
        let last = debts.iter().rev().find(|debt| debt.due.is_some() || debt.stuck)?;
        let waits = self.life() == Life::Compensating && self.unsettled() && last.id.copy == 0;
        (!waits).then(|| last.clone())
    }

    pub(crate) fn door(self, name: &GateName) -> Option<Door> {
        let mut door = None;
        for past in self.0 {
            match &past.command {
                RunCommand::Drive(_, D::OpenGate { gate, deadline }) if gate == name => {
                    door = Some(match door {
                        Some(Door::Signalled(id, received)) => Door::Answered(AnsweredBy::EarlierSignal {
                            id,
                            who: None,
                            received,
                        }),
                        _ => Door::Open(deadline.map(|deadline: Deadline| deadline.resolve(past.at))),
                    });
                }
                RunCommand::External(O::Signal { gate, id, .. }) if gate == name => {
                    door = Some(match door {
                        None => Door::Signalled(id.clone(), past.seq),
                        Some(_) => Door::Answered(AnsweredBy::Signal {
                            id: id.clone(),
                            who: None,
                        }),
                    });
                }
                RunCommand::External(O::ExpireGate { gate }) if gate == name => {
                    door = Some(Door::Answered(AnsweredBy::Deadline));
                }
                _ => {}
            }
        }
        door
    }

    /// When a timer is due; or whether it fired, else it was cancelled.
    pub(crate) fn timer(self, name: &TimerName) -> Option<Result<Timestamp, bool>> {
        self.0.iter().rev().find_map(|past| match &past.command {
            RunCommand::Drive(_, D::SetTimer { timer, due, .. }) if timer == name => {
                Some(Ok(due.resolve(past.at)))
            }
            RunCommand::Drive(_, D::CancelTimer { timer }) if timer == name => Some(Err(false)),
            RunCommand::External(O::FireTimer { timer }) if timer == name => Some(Err(true)),
            _ => None,
        })
    }

    /// Whether something is under way that wakes a run.
    pub(crate) fn hopes(self) -> bool {
        let open = self.0.iter().any(|past| match &past.command {
            RunCommand::Drive(_, D::OpenGate { gate, .. }) => matches!(self.door(gate), Some(Door::Open(_))),
            RunCommand::Drive(_, D::SetTimer { timer, .. }) => matches!(self.timer(timer), Some(Ok(_))),
            _ => false,
        });
        open || self.unsettled()
    }

    pub(crate) fn budget(self, name: &BudgetName) -> Option<(Option<BudgetName>, u64)> {
        self.0.iter().find_map(|past| match &past.command {
            RunCommand::Drive(
                _,
                D::OpenBudget {
                    budget,
                    parent,
                    limit,
                    ..
                },
            ) if budget == name => Some((parent.clone(), *limit)),
            _ => None,
        })
    }

    /// How much of `spends` counts for a budget: its own and that of its parts.
    pub(crate) fn share(self, name: &BudgetName, spends: &[Spend]) -> u64 {
        let within = |spend: &&Spend| {
            let mut at = Some(spend.budget.clone());
            while let Some(budget) = at {
                if budget == *name {
                    return true;
                }
                at = self.budget(&budget).and_then(|(parent, _)| parent);
            }
            false
        };
        spends.iter().filter(within).map(|spend| spend.amount).sum()
    }

    /// The reservation for a decision that is not settled.
    pub(crate) fn set_aside(self, of: &Position) -> Option<Vec<Spend>> {
        let mut found = None;
        for past in self.0 {
            match &past.command {
                RunCommand::Drive(_, D::ReserveForDecision { position, spends }) if position == of => {
                    found = Some(spends.clone());
                }
                RunCommand::Drive(_, D::ReleaseReservation { position }) if position == of => found = None,
                RunCommand::Drive(_, D::RecordDecision(decision)) if decision.position == *of => found = None,
                _ => {}
            }
        }
        found
    }

    /// What is reserved and what is spent of a budget.
    pub(crate) fn books(self, name: &BudgetName) -> (u64, u64) {
        let (mut reserved, mut spent) = (0, 0);
        let mut positions = BTreeSet::new();
        for past in self.0 {
            match &past.command {
                RunCommand::Drive(_, D::ReserveForDecision { position, .. }) => {
                    positions.insert(position);
                }
                RunCommand::Drive(_, D::RecordDecision(decision)) => {
                    spent += self.share(name, &decision.spent)
                }
                _ => {}
            }
        }
        for position in positions {
            reserved += self
                .set_aside(position)
                .map_or(0, |spends| self.share(name, &spends));
        }
        for (id, act) in self.acts() {
            let share = self.share(name, &act.spec.reserve);
            if !act.status.is_settled() {
                reserved += share;
            } else if act.status == Status::Confirmed {
                let stated = self.0.iter().find_map(|past| past.command.stated_cost(&id));
                spent += stated.map_or(share, |spends| self.share(name, spends));
            }
        }
        (reserved, spent)
    }
}
