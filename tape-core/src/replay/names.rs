//! The named items of a run: gates, timers, budgets and checkpoints. A name means one item in the whole run; the journal records which
//! scope asked for it.

use super::drift::{Differences, Drift, Place};
use super::{GateRecord, Replay, TimerRecord, TimerState};
use crate::budget::Currency;
use crate::entry::gate::AnsweredBy;
use crate::entry::{EntryBody, budget, timer};
use crate::id::{BudgetName, GateName, Key, Scope, TimerName};
use crate::payload::Payload;
use crate::time::Deadline;
use std::collections::BTreeMap;

impl Replay {
    pub(super) fn fold_gate(&mut self, body: EntryBody) {
        match body {
            EntryBody::SignalReceived(signal) => {
                self.signals.insert(signal.gate, signal.answer);
            }
            EntryBody::GateOpened(opened) => {
                self.expect_name(&opened.scope, Place::Gate(opened.gate.clone()));
                let record = self.gates.entry(opened.gate).or_default();
                (record.asked, record.deadline) = (opened.asked, opened.deadline);
            }
            EntryBody::GateAnswered(answered) => {
                let earlier = self.signals.remove(&answered.gate);
                let answer = match answered.by {
                    AnsweredBy::EarlierSignal { .. } => earlier.unwrap_or(answered.answer),
                    AnsweredBy::Signal { .. } | AnsweredBy::Deadline => answered.answer,
                };
                self.gates.entry(answered.gate).or_default().answer = Some((answered.by, answer));
            }
            _ => {}
        }
    }

    pub(super) fn fold_timer(&mut self, body: EntryBody) -> Result<(), String> {
        match body {
            EntryBody::TimerSet(set) => {
                self.fold_timer_set(set);
                Ok(())
            }
            EntryBody::TimerFired(fired) => {
                self.recorded_timer(&fired.timer)?.state = TimerState::Fired;
                Ok(())
            }
            EntryBody::TimerCancelled(cancelled) => {
                let timer = cancelled.timer;
                let record = self.recorded_timer(&timer)?;
                record.state = TimerState::Cancelled;
                let scope = record.scope.clone();
                self.refusals.go_on(&scope);
                self.expect_name(&scope, Place::CancelledTimer(timer));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fold_timer_set(&mut self, set: timer::Set) {
        self.expect_name(&set.scope, Place::Timer(set.timer.clone()));
        let record = TimerRecord {
            asked: set.asked,
            note: set.note.erased(),
            due_at: set.due_at,
            state: TimerState::Waiting,
            scope: set.scope,
        };
        self.timers.insert(set.timer, record);
    }

    fn recorded_timer(&mut self, timer: &TimerName) -> Result<&mut TimerRecord, String> {
        self.timers
            .get_mut(timer)
            .ok_or_else(|| format!("timer '{timer}' was not set"))
    }

    pub(super) fn fold_budget(&mut self, opened: budget::Opened) {
        self.expect_name(&opened.scope, Place::Budget(opened.budget.clone()));
        self.budgets.insert(opened.budget.clone(), opened);
    }

    /// The journal has `place`, as `scope` asked for it.
    fn expect_name(&mut self, scope: &Scope, place: Place) {
        // An item that this driver asked for before the journal had it is this driver's own.
        if !self.asked_names.contains(&place) {
            self.recorded_in(scope).expect_name(place.clone());
            self.unasked_names.insert(place, scope.clone());
        }
    }

    /// The agent asked for `place`.
    fn asked_name(&mut self, place: Place) {
        if let Some(scope) = self.unasked_names.remove(&place) {
            self.scope(&scope).asked_name(&place);
        }
        self.asked_names.insert(place);
    }

    /// The recorded gate that the agent asks for; none where it is to be opened.
    ///
    /// # Errors
    /// [`Drift`] where it was opened with another deadline, or where it is new and something that the scope has in the journal was
    /// not asked for.
    pub fn ask_gate(
        &mut self,
        scope: &Scope,
        gate: &GateName,
        deadline: Option<Deadline>,
    ) -> Result<Option<&GateRecord>, Box<Drift>> {
        let place = Place::Gate(gate.clone());
        match self.gates.get(gate) {
            Some(record) => compare_deadline(record, deadline).at(|| place.clone())?,
            None => self.entered(scope).all_asked(scope, &place)?,
        }
        self.entered(scope);
        self.asked_name(place);
        Ok(self.gates.get(gate))
    }

    /// A recorded gate, for a driver that asked for it before.
    #[must_use]
    pub fn gate(&self, gate: &GateName) -> Option<&GateRecord> {
        self.gates.get(gate)
    }

    /// All gates that were opened, by name.
    pub const fn gates(&self) -> &BTreeMap<GateName, GateRecord> {
        &self.gates
    }

    /// The recorded timer that the agent asks for; none where it is to be set.
    ///
    /// # Errors
    /// [`Drift`] where it was set to another time or carries something else, or where it is new and something that the scope has in
    /// the journal was not asked for.
    pub fn ask_timer(
        &mut self,
        scope: &Scope,
        timer: &TimerName,
        due: Deadline,
        note: &Payload,
    ) -> Result<Option<&TimerRecord>, Box<Drift>> {
        let place = Place::Timer(timer.clone());
        match self.timers.get(timer) {
            Some(record) => {
                let mut differences = Differences::default();
                let asked = record.asked.unwrap_or(due);
                differences.compare("time", &asked, &due, deadline_text);
                differences.compare_payloads("note", &record.note, note);
                differences.at(|| place.clone())?;
            }
            None => self.entered(scope).all_asked(scope, &place)?,
        }
        self.entered(scope);
        self.asked_name(place);
        Ok(self.timers.get(timer))
    }

    /// Whether a timer that the agent cancels is cancelled already; otherwise it is to be cancelled.
    ///
    /// # Errors
    /// [`Drift`] where it is not, and something that the scope has in the journal was not asked for.
    pub fn ask_cancel(&mut self, scope: &Scope, timer: &TimerName) -> Result<bool, Box<Drift>> {
        let place = Place::CancelledTimer(timer.clone());
        let cancelled = self
            .timers
            .get(timer)
            .is_some_and(|record| record.state == TimerState::Cancelled);
        if !cancelled {
            self.entered(scope).all_asked(scope, &place)?;
        }
        self.entered(scope);
        self.asked_name(place);
        Ok(cancelled)
    }

    /// A recorded timer, for a driver that asked for it before.
    #[must_use]
    pub fn timer(&self, timer: &TimerName) -> Option<&TimerRecord> {
        self.timers.get(timer)
    }

    /// Whether a budget that the agent asks for is open; otherwise it is to be opened.
    ///
    /// # Errors
    /// [`Drift`] where it is open with another limit, currency or parent, or where it is new and something that the scope has in the
    /// journal was not asked for.
    pub fn ask_budget(
        &mut self,
        scope: &Scope,
        budget: &BudgetName,
        parent: Option<&BudgetName>,
        currency: &Currency,
        limit: u64,
    ) -> Result<bool, Box<Drift>> {
        let place = Place::Budget(budget.clone());
        let open = match self.budgets.get(budget) {
            Some(open) => {
                let mut differences = Differences::default();
                differences.compare("limit", &open.limit, &limit, ToString::to_string);
                differences.compare("currency", &open.currency, currency, ToString::to_string);
                differences.compare("parent", &open.parent.as_ref(), &parent, |parent| {
                    parent.map_or_else(|| "none".to_owned(), |parent| format!("'{parent}'"))
                });
                differences.at(|| place.clone())?;
                true
            }
            None => {
                self.entered(scope).all_asked(scope, &place)?;
                false
            }
        };
        self.entered(scope);
        self.asked_name(place);
        Ok(open)
    }

    /// Whether the checkpoint that the agent has reached is recorded. Otherwise it is to be recorded, and [`Replay::checkpointed`] counts
    /// it once it is. The n-th request for a label in a scope matches the n-th record of that label there.
    ///
    /// # Errors
    /// [`Drift`] where another state was recorded, or where it is new and something that the scope has in the journal was not asked
    /// for.
    pub fn ask_checkpoint(
        &mut self,
        scope: &Scope,
        label: &Key,
        state: &Payload,
    ) -> Result<bool, Box<Drift>> {
        self.entered(scope).ask_checkpoint(scope, label, state)
    }

    /// The driver recorded a checkpoint itself.
    pub fn checkpointed(&mut self, scope: &Scope, label: &Key) {
        self.scope(scope).checkpointed(label);
    }
}

fn compare_deadline(record: &GateRecord, asked: Option<Deadline>) -> Differences {
    // An entry that does not record the request shows only whether there was a deadline, and its time.
    let recorded = record.asked.or(match (record.deadline, asked) {
        (Some(at), Some(Deadline::At(_)) | None) => Some(Deadline::At(at)),
        (Some(_), waits) => waits,
        (None, _) => None,
    });
    let mut differences = Differences::default();
    differences.compare("deadline", &recorded, &asked, |deadline| {
        deadline.as_ref().map_or_else(|| "none".to_owned(), deadline_text)
    });
    differences
}

fn deadline_text(deadline: &Deadline) -> String {
    match deadline {
        Deadline::At(at) => format!("at {at}"),
        Deadline::InMs(ms) => format!("after {ms} ms"),
    }
}
