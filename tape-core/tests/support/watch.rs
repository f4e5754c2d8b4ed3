//! A witness of a run's journal: it sees only the entries, and panics where a guarantee is broken.

use std::collections::{BTreeMap, BTreeSet};
use tape_core::effect::{Mode, Outcome, Semantics, SettledBy};
use tape_core::entry::effect::{AfterObservation, Observed};
use tape_core::entry::obligation::ObligationId;
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{BudgetName, EffectId, GateName, Position, TimerName};
use tape_core::time::Timestamp;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It has not been sent.
    None,
    /// It is under way, until a time where a worker has it.
    Running(Option<Timestamp>),
    /// It did not act.
    DidNot,
    /// Its outcome is unknown.
    Lost,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    semantics: Semantics,
    mode: Mode,
    attempts: u32,
    pub(crate) attempt: Attempt,
    /// An earlier attempt may have acted.
    doubt: bool,
    /// When its next attempt is due, where it waits for one.
    due: Option<Timestamp>,
    undo: bool,
    pub(crate) settled: bool,
    reserved: Vec<(BudgetName, u64)>,
    observations_max: u32,
    /// Observations since one was answered.
    unanswered: u32,
    /// Inconclusive answers since it was sent.
    inconclusive: u32,
}

impl Seen {
    /// Counts observations without a result: a person is asked at the bound, and not before.
    fn observed(&mut self, e: &Observed) {
        let unanswered = std::mem::take(&mut self.unanswered);
        if e.outcome != Outcome::Inconclusive {
            return;
        }
        self.inconclusive += 1;
        let (most, stuck) = (
            self.observations_max,
            matches!(e.then, AfterObservation::Stuck { .. }),
        );
        assert!(stuck || self.inconclusive < most, "a person is asked");
        let often = self.inconclusive >= most || unanswered >= most;
        assert!(!stuck || often, "it is asked about often enough");
    }

    fn sent_again(&mut self) {
        (self.attempt, self.doubt, self.due) = (Attempt::DidNot, false, None);
        (self.unanswered, self.inconclusive) = (0, 0);
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    parent: Option<BudgetName>,
    limit: u64,
    reserved: u64,
    spent: u64,
}

/// The state that the entries imply so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    epoch: u64,
    decisions: BTreeSet<Position>,
    pub(crate) effects: BTreeMap<EffectId, Seen>,
    /// The obligations, in the order of their confirmation; whether each is released; the claim on it.
    pub(crate) undo: Vec<(ObligationId, bool, Option<Timestamp>)>,
    pub(crate) open_gates: BTreeSet<GateName>,
    pub(crate) pending_timers: BTreeSet<TimerName>,
    accounts: BTreeMap<BudgetName, Account>,
    set_aside: BTreeMap<Position, Vec<(BudgetName, u64)>>,
    pub(crate) cancelling: bool,
    pub(crate) compensating: bool,
    pub(crate) suspended: bool,
    pub(crate) stuck: bool,
    /// How often an agent had the run since a person last looked at it.
    driven: u32,
    pub(crate) ended: bool,
    retired: bool,
}

impl Watch {
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (&EffectId, &Seen)> {
        self.effects.iter().filter(|(_, seen)| !seen.settled)
    }

    pub(crate) fn see(&mut self, entry: &Entry) {
        let retires = matches!(entry.body, EntryBody::RunRetired(_));
        assert_eq!(self.ended, retires, "only retirement follows the end");
        assert!(!self.retired, "nothing follows retirement");
        self.retired = retires;
        let at = entry.at;
        match &entry.body {
            EntryBody::RunSuspended(e) => {
                let woken = e.resume_at.is_some()
                    || self.unsettled().next().is_some()
                    || !self.open_gates.is_empty()
                    || !self.pending_timers.is_empty();
                assert!(woken, "something wakes a run that waits");
                let inline = |(_, seen): &(&EffectId, &Seen)| {
                    seen.mode == Mode::Inline && seen.attempt != Attempt::Lost
                };
                for (_, seen) in self.unsettled().filter(inline) {
                    let due = seen.due.expect("nobody runs an inline effect but the driver");
                    assert!(due > entry.decided_at, "what is due is not waited for");
                    let resumes = e.resume_at.is_some_and(|resume| resume <= due);
                    assert!(resumes, "nobody but a driver makes the next attempt");
                }
                (self.suspended, self.driven) = (true, self.driven + 1);
            }
            EntryBody::RunCancelRequested(_) => self.cancelling = true,
            EntryBody::RunCompensating(_) => {
                assert!(!self.compensating);
                (self.compensating, self.cancelling, self.stuck) = (true, false, false);
                self.suspended = false;
                self.undo.iter_mut().for_each(|(_, released, _)| *released = true);
            }
            EntryBody::RunStuck(_) => {
                assert!(self.driven >= 20, "an agent had it that often");
                self.stuck = true;
            }
            EntryBody::RunRetried(_) => (self.stuck, self.driven) = (false, 0),
            EntryBody::RunCompleted(_) => {
                assert!(!self.compensating, "what is undone does not end well");
                assert!(
                    self.unsettled().next().is_none(),
                    "a run completes over settled effects only"
                );
                assert!(
                    self.undo.iter().all(|(_, released, _)| !released),
                    "no duplicate is left"
                );
                self.ended = true;
            }
            EntryBody::RunFailed(_) | EntryBody::RunCancelled(_) => {
                assert!(
                    self.unsettled().next().is_none(),
                    "a run ends over settled effects only"
                );
                assert!(self.undo.is_empty(), "a run that ends badly is undone first");
                self.ended = true;
            }
            EntryBody::LeaseAcquired(e) => {
                assert_eq!(e.epoch.0, self.epoch + 1, "epochs count");
                assert!(!self.compensating && !self.stuck);
                (self.epoch, self.suspended) = (e.epoch.0, false);
                self.driven += u32::from(!e.recovery);
            }
            EntryBody::DecisionRecorded(e) => {
                let new = self.decisions.insert(e.position.clone());
                assert!(new, "a position is answered once");
                self.new_work();
                let freed = self.set_aside.remove(&e.position).unwrap_or_default();
                self.free(&freed);
                self.charge(e.spent.iter().map(|spend| (spend.budget.clone(), spend.amount)));
            }
            EntryBody::EffectBegun(e) => {
                self.new_work();
                assert!(
                    self.decisions.contains(&e.effect.position),
                    "a decision authorises it"
                );
                let spends = e.spec.reserve.iter();
                let reserved: Vec<_> = spends.map(|spend| (spend.budget.clone(), spend.amount)).collect();
                self.reserve(&reserved);
                let inline = e.spec.mode == Mode::Inline;
                assert!(!inline || e.spec.semantics != Semantics::NonIdempotent);
                let seen = Seen {
                    semantics: e.spec.semantics,
                    mode: e.spec.mode,
                    attempts: u32::from(inline),
                    attempt: if inline {
                        Attempt::Running(None)
                    } else {
                        Attempt::None
                    },
                    doubt: false,
                    due: None,
                    undo: e.spec.undo.is_some(),
                    settled: false,
                    reserved,
                    observations_max: e.spec.policy.observations_max,
                    unanswered: 0,
                    inconclusive: 0,
                };
                assert!(
                    self.effects.insert(e.effect.clone(), seen).is_none(),
                    "an effect begins once"
                );
            }
            EntryBody::EffectStarted(e) => {
                assert!(!self.compensating, "nothing of a run that is undone is sent");
                let seen = self.unsettled_mut(&e.effect);
                assert_eq!(e.attempt, seen.attempts + 1);
                if let Attempt::Running(Some(until)) = seen.attempt {
                    assert!(until <= at, "a worker's claim is its own until it ends");
                }
                let unsure = matches!(seen.attempt, Attempt::Running(_) | Attempt::Lost);
                let blind = unsure && seen.semantics == Semantics::NonIdempotent;
                assert!(!blind, "no blind retry");
                seen.doubt |= unsure && seen.semantics != Semantics::ReadOnly;
                seen.attempts += 1;
                seen.due = None;
                seen.attempt = Attempt::Running(e.claim.as_ref().map(|claim| claim.until));
                assert_eq!(e.claim.is_some(), seen.mode == Mode::Outbox);
            }
            EntryBody::EffectClaimRenewed(e) => {
                let seen = self.unsettled_mut(&e.effect);
                if let Attempt::Running(until) = &mut seen.attempt {
                    assert!(
                        until.is_some_and(|until| until > at),
                        "a claim that ended is not kept"
                    );
                    *until = Some(e.until);
                }
            }
            EntryBody::EffectConfirmed(e) => {
                let seen = self.unsettled_mut(&e.effect);
                if let (SettledBy::Worker { .. }, Attempt::Running(until)) = (&e.by, &seen.attempt) {
                    assert!(
                        until.is_some_and(|until| until > at),
                        "a worker whose claim ended says nothing"
                    );
                }
                assert_ne!(seen.attempt, Attempt::None, "what was never sent did not happen");
                seen.settled = true;
                let (undo, reserved) = (seen.undo || e.undo.is_some(), std::mem::take(&mut seen.reserved));
                self.free(&reserved);
                match &e.spent {
                    Some(spent) => {
                        self.charge(spent.iter().map(|spend| (spend.budget.clone(), spend.amount)));
                    }
                    None => self.charge(reserved.into_iter()),
                }
                if undo {
                    let id = ObligationId {
                        effect: e.effect.clone(),
                        copy: 0,
                    };
                    self.undo.push((id, self.compensating, None));
                }
            }
            EntryBody::EffectFailed(e) => {
                let seen = self.unsettled_mut(&e.effect);
                let read = seen.semantics == Semantics::ReadOnly;
                match &e.by {
                    SettledBy::Rule { .. } => {
                        let known = matches!(seen.attempt, Attempt::None | Attempt::DidNot) && !seen.doubt;
                        assert!(known || read, "the rules fail only what certainly did not act");
                    }
                    SettledBy::Worker { .. } => {
                        let Attempt::Running(Some(until)) = seen.attempt else {
                            panic!("a worker fails what it has")
                        };
                        assert!(until > at, "a worker whose claim ended says nothing");
                    }
                    SettledBy::Driver | SettledBy::Observer { .. } | SettledBy::Person { .. } => {}
                }
                seen.settled = true;
                let reserved = std::mem::take(&mut seen.reserved);
                self.free(&reserved);
            }
            EntryBody::EffectDeferred(e) => {
                let compensating = self.compensating;
                let seen = self.unsettled_mut(&e.effect);
                assert!(!compensating, "nothing of a run that is undone waits to be sent");
                if e.lapsed {
                    assert_ne!(seen.semantics, Semantics::NonIdempotent, "no blind retry");
                    seen.doubt = true;
                }
                (seen.attempt, seen.due) = (Attempt::DidNot, Some(e.next_at));
            }
            EntryBody::EffectUnknown(e) => self.unsettled_mut(&e.effect).attempt = Attempt::Lost,
            EntryBody::EffectObserving(e) => {
                let seen = self.unsettled_mut(&e.effect);
                assert_eq!(seen.attempt, Attempt::Lost, "what is unknown is asked about");
                seen.unanswered += 1;
                assert!(
                    seen.unanswered <= seen.observations_max,
                    "it is not asked about for ever"
                );
            }
            EntryBody::EffectObserved(e) => {
                let compensating = self.compensating;
                let seen = self.unsettled_mut(&e.effect);
                assert_eq!(seen.attempt, Attempt::Lost);
                seen.observed(e);
                if let AfterObservation::Resend { at } = e.then {
                    assert!(!compensating);
                    assert_eq!(e.outcome, Outcome::Absent, "only what is absent is sent again");
                    seen.sent_again();
                    seen.due = Some(at);
                }
            }
            EntryBody::EffectResendAllowed(e) => {
                assert!(!self.compensating);
                let seen = self.unsettled_mut(&e.effect);
                assert_eq!(seen.attempt, Attempt::Lost);
                seen.sent_again();
            }
            EntryBody::ObligationArmed(e) => {
                assert!(e.obligation.copy > 0);
                self.undo.push((e.obligation.clone(), true, None));
            }
            EntryBody::ObligationStarted(e) => self.undoing(&e.obligation, e.claim.until, at),
            EntryBody::ObligationClaimRenewed(e) => {
                let (_, _, claim) = self.undo_mut(&e.obligation);
                assert!(
                    claim.is_some_and(|until| until > at),
                    "a claim that ended is not kept"
                );
                *claim = Some(e.until);
            }
            EntryBody::ObligationDone(e) => {
                let (_, released, claim) = self.undo_mut(&e.obligation);
                assert!(*released);
                if let SettledBy::Worker { .. } = e.by {
                    assert!(
                        claim.is_some_and(|until| until > at),
                        "a worker whose claim ended says nothing"
                    );
                }
                self.undo.retain(|(id, _, _)| *id != e.obligation);
            }
            EntryBody::ObligationDeferred(e) => self.undo_mut(&e.obligation).2 = None,
            EntryBody::ObligationStuck(e) => self.undo_mut(&e.obligation).2 = None,
            EntryBody::ObligationRetried(_) => {}
            EntryBody::GateOpened(e) => {
                self.new_work();
                self.open_gates.insert(e.gate.clone());
            }
            EntryBody::GateAnswered(e) => assert!(self.open_gates.remove(&e.gate), "a gate is answered once"),
            EntryBody::TimerSet(e) => {
                self.new_work();
                self.pending_timers.insert(e.timer.clone());
            }
            EntryBody::TimerFired(e) => assert!(self.pending_timers.remove(&e.timer), "a timer fires once"),
            EntryBody::TimerCancelled(e) => assert!(self.pending_timers.remove(&e.timer)),
            EntryBody::BudgetOpened(e) => {
                let account = Account {
                    parent: e.parent.clone(),
                    limit: e.limit,
                    ..Account::default()
                };
                self.accounts.insert(e.budget.clone(), account);
            }
            EntryBody::BudgetReserved(e) => {
                let reserved = e.spends.iter().map(|spend| (spend.budget.clone(), spend.amount));
                let reserved: Vec<_> = reserved.collect();
                self.reserve(&reserved);
                assert!(self.set_aside.insert(e.position.clone(), reserved).is_none());
            }
            EntryBody::BudgetReleased(e) => {
                let freed = self.set_aside.remove(&e.position).expect("what was set aside");
                self.free(&freed);
            }
            _ => {}
        }
    }

    /// Checks that nothing new begins once the run is ending.
    fn new_work(&self) {
        assert!(
            !self.compensating && !self.cancelling,
            "a run that ends begins nothing"
        );
        assert!(
            !self.suspended && !self.stuck,
            "a run without a driver begins nothing"
        );
    }

    fn unsettled_mut(&mut self, id: &EffectId) -> &mut Seen {
        let seen = self.effects.get_mut(id).expect("intent before act");
        assert!(!seen.settled, "what is settled stays settled");
        seen
    }

    fn undo_mut(&mut self, id: &ObligationId) -> &mut (ObligationId, bool, Option<Timestamp>) {
        self.undo
            .iter_mut()
            .find(|(there, _, _)| there == id)
            .expect("it is armed")
    }

    /// Undos are one at a time and last in, first out. A healthy run undoes only duplicates.
    fn undoing(&mut self, id: &ObligationId, until: Timestamp, at: Timestamp) {
        assert!(
            self.compensating || id.copy > 0,
            "a healthy run undoes duplicates only"
        );
        if id.copy == 0 {
            assert!(
                self.unsettled().next().is_none(),
                "nothing is undone while something may still happen"
            );
        }
        let place = self
            .undo
            .iter()
            .position(|(there, _, _)| there == id)
            .expect("it is armed");
        let (_, released, mine) = self.undo[place].clone();
        assert!(released);
        assert!(
            mine.is_none_or(|until| until <= at),
            "a worker's claim is its own until it ends"
        );
        for (i, (_, released, claim)) in self.undo.iter().enumerate() {
            assert!(i == place || claim.is_none(), "one at a time");
            assert!(i <= place || !released || mine.is_some(), "last in, first out");
        }
        self.undo[place].2 = Some(until);
    }

    fn line(&self, name: &BudgetName) -> Vec<BudgetName> {
        let mut line = vec![name.clone()];
        while let Some(parent) = self.accounts[line.last().unwrap()].parent.clone() {
            line.push(parent);
        }
        line
    }

    fn each(&mut self, spends: &[(BudgetName, u64)], change: impl Fn(&mut Account, u64)) {
        for (name, amount) in spends {
            for name in self.line(name) {
                change(self.accounts.get_mut(&name).unwrap(), *amount);
            }
        }
    }

    fn reserve(&mut self, spends: &[(BudgetName, u64)]) {
        self.each(spends, |account, amount| account.reserved += amount);
        for (name, _) in spends {
            for name in self.line(name) {
                let account = &self.accounts[&name];
                let within = account.reserved + account.spent <= account.limit;
                assert!(
                    within,
                    "what is reserved and spent stays within the limit of {name}"
                );
            }
        }
    }

    fn free(&mut self, spends: &[(BudgetName, u64)]) {
        self.each(spends, |account, amount| account.reserved -= amount);
    }

    fn charge(&mut self, spends: impl Iterator<Item = (BudgetName, u64)>) {
        let spends: Vec<_> = spends.collect();
        self.each(&spends, |account, amount| account.spent += amount);
    }

    /// The expected amounts of every budget: reserved and spent.
    pub(crate) fn budgets(&self) -> BTreeMap<BudgetName, (u64, u64)> {
        let accounts = self.accounts.iter();
        accounts
            .map(|(name, account)| (name.clone(), (account.reserved, account.spent)))
            .collect()
    }
}
