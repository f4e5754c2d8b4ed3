//! Replay: answers a re-drive from the journal, without I/O.
//!
//! A re-drive runs the agent again from its start. Everything it asks for is looked up here first: what is recorded comes back
//! as it was, what is not recorded yet is to be done live, and what differs from the record is [`Drift`]. Entries
//! are folded once, in order, also those that arrive while the agent runs; each question costs at most a search in a
//! map, whatever the length of the journal.

mod drift;
mod effect;
mod scope;
#[cfg(test)]
mod tests;

pub use drift::{Drift, Place};
pub use effect::{EffectRecord, Settled};

use crate::budget::Currency;
use crate::effect::EffectSpec;
use crate::entry::decision::Recorded as Decision;
use crate::entry::gate::AnsweredBy;
use crate::entry::run::{Begun, Unhappy};
use crate::entry::{Entry, EntryBody, budget};
use crate::fingerprint::Fingerprint;
use crate::id::{BudgetName, EffectId, Epoch, GateName, Key, Position, SampleName, Scope, Seq, TimerName};
use crate::payload::Payload;
use crate::reply::Ended;
use crate::stream::ReplayError;
use crate::time::Timestamp;
use scope::ScopeReplay;
use std::collections::{BTreeMap, BTreeSet};

/// A run's journal, folded for its driver.
///
/// ```
/// use tape_core::fingerprint::Fingerprint;
/// use tape_core::id::Scope;
/// use tape_core::replay::Replay;
/// let mut replay = Replay::default();
/// let next = replay.decide(&Scope::root(), &Fingerprint::of_bytes(b"pay Ann?")).unwrap();
/// assert_eq!(next.position.to_string(), "#0");
/// assert!(next.recorded.is_none(), "an empty journal answers nothing: ask the model");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Replay {
    seq: Seq,
    at: Timestamp,
    epoch: Epoch,
    begun: Option<Box<Begun>>,
    standing: Standing,
    cancel: Option<String>,
    scopes: BTreeMap<Scope, ScopeReplay>,
    gates: BTreeMap<GateName, GateRecord>,
    /// What signals carry whose gates are not open yet.
    signals: BTreeMap<GateName, Payload>,
    timers: BTreeMap<TimerName, TimerRecord>,
    budgets: BTreeMap<BudgetName, budget::Opened>,
    checkpoints: BTreeMap<Key, Checkpoints>,
    asked_gates: BTreeSet<GateName>,
    asked_timers: BTreeSet<TimerName>,
    asked_budgets: BTreeSet<BudgetName>,
}

/// The next decision of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its position.
    pub position: Position,
    /// What the model answered; none where it is still to be asked.
    pub recorded: Option<Box<Decision>>,
}

/// The next sample of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextSample {
    /// Its number.
    pub n: u32,
    /// Its value; none where it is still to be taken.
    pub recorded: Option<Payload>,
}

/// A recorded gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateRecord {
    /// The wait ends here without a signal.
    pub deadline: Option<Timestamp>,
    /// What ended the wait, and what it carried.
    pub answer: Option<(AnsweredBy, Payload)>,
}

/// A recorded timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerRecord {
    /// When it is due.
    pub due_at: Timestamp,
    /// Whether it waits, has fired or was cancelled.
    pub state: TimerState,
}

/// Where a timer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerState {
    /// It waits.
    Waiting,
    /// It fired.
    Fired,
    /// It was cancelled.
    Cancelled,
}

/// Where a run stands, as far as its journal was folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// A driver may go on.
    #[default]
    Open,
    /// It waits without a driver.
    Suspended,
    /// What it did is being undone; then it ends like this.
    Compensating(Unhappy),
    /// It waits for a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// It has ended; where it ended well, with this output.
    Ended(Ended, Option<Payload>),
}

#[derive(Clone, Debug, Default)]
struct Checkpoints {
    recorded: u32,
    asked: u32,
}

impl Replay {
    /// Folds the next entry of the run.
    ///
    /// # Errors
    /// [`ReplayError`] where the entry cannot follow the ones before it: stored bytes can be wrong.
    pub fn apply(&mut self, entry: Entry) -> Result<(), ReplayError> {
        let (seq, kind) = (entry.seq, entry.body.kind());
        // It stands for all entries before it, which may be dropped.
        let stands = matches!(entry.body, EntryBody::RunRetired(_)) && seq > self.seq.next();
        if seq != self.seq.next() && !stands {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: seq,
            });
        }
        (self.seq, self.at) = (seq, entry.at);
        self.fold(entry)
            .map_err(|problem| ReplayError::Impossible { seq, kind, problem })
    }

    fn fold(&mut self, entry: Entry) -> Result<(), String> {
        match entry.body {
            EntryBody::DecisionRecorded(recorded) => self
                .scope(&recorded.position.scope.clone())
                .record_decision(recorded),
            EntryBody::SampleRecorded(sample) => self.scope(&sample.scope.clone()).record_sample(sample),
            EntryBody::EffectBegun(begun) => {
                let record = EffectRecord::begun(begun.spec, entry.at);
                self.scope(&begun.effect.position.scope)
                    .begin_effect(&begun.effect, record)
            }
            EntryBody::BudgetOpened(opened) => {
                self.budgets.insert(opened.budget.clone(), opened);
                Ok(())
            }
            EntryBody::BudgetReserved(reserved) => {
                self.scope(&reserved.position.scope).reserve(reserved.position.k);
                Ok(())
            }
            EntryBody::BudgetReleased(released) => {
                self.scope(&released.position.scope).release(released.position.k);
                Ok(())
            }
            EntryBody::SignalReceived(_) | EntryBody::GateOpened(_) | EntryBody::GateAnswered(_) => {
                self.fold_gate(entry.body);
                Ok(())
            }
            EntryBody::TimerSet(_) | EntryBody::TimerFired(_) | EntryBody::TimerCancelled(_) => {
                self.fold_timer(entry.body)
            }
            _ => match about_effect(&entry.body) {
                Some(effect) => self.fold_effect(&effect.clone(), entry),
                None => {
                    self.fold_life(entry.body);
                    Ok(())
                }
            },
        }
    }

    fn scope(&mut self, scope: &Scope) -> &mut ScopeReplay {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.clone(), ScopeReplay::default());
        }
        self.scopes
            .get_mut(scope)
            .expect("it was inserted where it was missing")
    }

    fn fold_effect(&mut self, effect: &EffectId, entry: Entry) -> Result<(), String> {
        let record = self
            .scopes
            .get_mut(&effect.position.scope)
            .and_then(|scope| scope.effect_mut(effect));
        record
            .ok_or_else(|| format!("effect {effect} has not begun"))?
            .fold(entry);
        Ok(())
    }

    fn fold_gate(&mut self, body: EntryBody) {
        match body {
            EntryBody::SignalReceived(signal) => {
                self.signals.insert(signal.gate, signal.answer);
            }
            EntryBody::GateOpened(opened) => {
                self.gates.entry(opened.gate).or_default().deadline = opened.deadline;
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

    fn fold_timer(&mut self, body: EntryBody) -> Result<(), String> {
        let (timer, state) = match body {
            EntryBody::TimerSet(set) => {
                let record = TimerRecord {
                    due_at: set.due_at,
                    state: TimerState::Waiting,
                };
                self.timers.insert(set.timer, record);
                return Ok(());
            }
            EntryBody::TimerFired(fired) => (fired.timer, TimerState::Fired),
            EntryBody::TimerCancelled(cancelled) => (cancelled.timer, TimerState::Cancelled),
            _ => return Ok(()),
        };
        self.timers
            .get_mut(&timer)
            .ok_or_else(|| format!("timer '{timer}' was not set"))?
            .state = state;
        Ok(())
    }

    fn fold_life(&mut self, body: EntryBody) {
        match body {
            EntryBody::RunBegun(begun) => self.begun = Some(Box::new(begun)),
            EntryBody::RunCheckpoint(checkpoint) => {
                self.checkpoints.entry(checkpoint.label).or_default().recorded += 1;
            }
            EntryBody::LeaseAcquired(acquired) => {
                self.epoch = acquired.epoch;
                self.standing = Standing::Open;
            }
            EntryBody::RunCancelRequested(request) => self.cancel = Some(request.reason),
            EntryBody::RunSuspended(_) => self.standing = Standing::Suspended,
            EntryBody::RunCompensating(compensating) => {
                self.standing = Standing::Compensating(compensating.then);
            }
            EntryBody::RunStuck(stuck) => self.standing = Standing::Stuck { reason: stuck.reason },
            EntryBody::RunRetried(_) => self.standing = Standing::Open,
            EntryBody::RunCompleted(completed) => {
                self.standing = Standing::Ended(Ended::Completed, Some(completed.output));
            }
            EntryBody::RunFailed(failed) => {
                self.standing = Standing::Ended(Ended::Failed { error: failed.error }, None);
            }
            EntryBody::RunCancelled(cancelled) => {
                self.standing = Standing::Ended(
                    Ended::Cancelled {
                        reason: cancelled.reason,
                    },
                    None,
                );
            }
            EntryBody::RunRetired(retired) => {
                self.epoch = retired.epoch;
                self.standing = Standing::Ended(retired.ending, retired.output.or(retired.output_erased));
            }
            _ => {}
        }
    }

    /// The last entry folded.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// When the last entry folded was decided, by the server's clock.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The epoch of the last driver, as far as folded.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the run began with.
    #[must_use]
    pub fn begun(&self) -> Option<&Begun> {
        self.begun.as_deref()
    }

    /// Where the run stands.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why the run is to be cancelled, where somebody asked for it.
    #[must_use]
    pub fn cancel_requested(&self) -> Option<&str> {
        self.cancel.as_deref()
    }

    /// The next decision of a scope. A recorded one is handed out and the scope moves on; else the model is to be
    /// asked, and [`Replay::decided`] moves the scope on once its answer is recorded.
    ///
    /// # Errors
    /// [`Drift`] where the request differs from the recorded one, or where effects of earlier decisions of the scope were
    /// not asked for again before a new decision is made.
    pub fn decide(&mut self, scope: &Scope, asked: &Fingerprint) -> Result<Next, Box<Drift>> {
        self.scope(scope).decide(scope, asked)
    }

    /// The driver recorded the decision at `position` itself.
    pub fn decided(&mut self, position: &Position) {
        self.scope(&position.scope).decided(position.k);
    }

    /// Whether parts of budgets are set aside for the decision to be asked at `position`.
    #[must_use]
    pub fn is_reserved(&self, position: &Position) -> bool {
        self.scopes
            .get(&position.scope)
            .is_some_and(|scope| scope.is_reserved(position.k))
    }

    /// A recorded effect that the agent asks for; none where it is to be begun.
    ///
    /// # Errors
    /// [`Drift`] where the recorded effect is another, or where the journal went on without it.
    pub fn ask_effect(
        &mut self,
        effect: &EffectId,
        asked: &EffectSpec,
    ) -> Result<Option<&EffectRecord>, Box<Drift>> {
        self.scope(&effect.position.scope).ask_effect(effect, asked)
    }

    /// Where a recorded effect stands, for a driver that asked for it before.
    #[must_use]
    pub fn effect(&self, effect: &EffectId) -> Option<&EffectRecord> {
        self.scopes.get(&effect.position.scope)?.effect(effect)
    }

    /// All effects, by scope and then by decision.
    pub fn effects(&self) -> impl Iterator<Item = (EffectId, &EffectRecord)> {
        self.scopes.iter().flat_map(|(name, scope)| scope.effects(name))
    }

    /// All gates that were opened, by name.
    pub const fn gates(&self) -> &BTreeMap<GateName, GateRecord> {
        &self.gates
    }

    /// The next sample of a scope. A recorded one is handed out and the scope moves on; else it is to be taken, and
    /// [`Replay::sampled`] moves the scope on once it is recorded.
    ///
    /// # Errors
    /// [`Drift`] where the recorded sample has another name.
    pub fn sample(&mut self, scope: &Scope, name: &SampleName) -> Result<NextSample, Box<Drift>> {
        self.scope(scope).sample(scope, name)
    }

    /// The driver recorded sample `n` of a scope itself.
    pub fn sampled(&mut self, scope: &Scope, n: u32) {
        self.scope(scope).sampled(n);
    }

    /// A recorded gate that the agent asks for; none where it is to be opened.
    pub fn ask_gate(&mut self, gate: &GateName) -> Option<&GateRecord> {
        if !self.asked_gates.contains(gate) {
            self.asked_gates.insert(gate.clone());
        }
        self.gates.get(gate)
    }

    /// A recorded gate, for a driver that asked for it before.
    #[must_use]
    pub fn gate(&self, gate: &GateName) -> Option<&GateRecord> {
        self.gates.get(gate)
    }

    /// A recorded timer that the agent asks for; none where it is to be set.
    pub fn ask_timer(&mut self, timer: &TimerName) -> Option<&TimerRecord> {
        if !self.asked_timers.contains(timer) {
            self.asked_timers.insert(timer.clone());
        }
        self.timers.get(timer)
    }

    /// A recorded timer, for a driver that asked for it before.
    #[must_use]
    pub fn timer(&self, timer: &TimerName) -> Option<&TimerRecord> {
        self.timers.get(timer)
    }

    /// Whether a budget that the agent asks for is open; else it is to be opened.
    ///
    /// # Errors
    /// [`Drift`] where it is open with another limit, currency or parent.
    pub fn ask_budget(
        &mut self,
        budget: &BudgetName,
        parent: Option<&BudgetName>,
        currency: &Currency,
        limit: u64,
    ) -> Result<bool, Box<Drift>> {
        self.asked_budgets.insert(budget.clone());
        let Some(open) = self.budgets.get(budget) else {
            return Ok(false);
        };
        let text = |parent: Option<&BudgetName>, currency: &Currency, limit: u64| {
            let parent = parent
                .map(|parent| format!(" within '{parent}'"))
                .unwrap_or_default();
            format!("{limit} {currency:?}{parent}")
        };
        let recorded = text(open.parent.as_ref(), &open.currency, open.limit);
        let asked = text(parent, currency, limit);
        if recorded == asked {
            return Ok(true);
        }
        Err(Drift::new(
            Place::Budget(budget.clone()),
            format!("recorded {recorded}, asked {asked}"),
        ))
    }

    /// Whether the checkpoint that the agent has come to is recorded; else it is to be recorded. The n-th time a label is
    /// asked for stands for the n-th record of it.
    pub fn ask_checkpoint(&mut self, label: &Key) -> bool {
        let checkpoints = self.checkpoints.entry(label.clone()).or_default();
        checkpoints.asked += 1;
        checkpoints.asked <= checkpoints.recorded
    }

    /// Whether nothing that the journal has is left for the agent to ask for: everything from here on is new.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.leftover().is_none()
    }

    /// The first thing that the journal has and the agent has not asked for. At the end of a drive there is none, or the
    /// agent has drifted.
    #[must_use]
    pub fn leftover(&self) -> Option<Box<Drift>> {
        let scopes = self.scopes.iter().find_map(|(name, scope)| scope.leftover(name));
        let gate = || self.gates.keys().find(|gate| !self.asked_gates.contains(*gate));
        let timer = || {
            self.timers
                .keys()
                .find(|timer| !self.asked_timers.contains(*timer))
        };
        let budget = || {
            self.budgets
                .keys()
                .find(|budget| !self.asked_budgets.contains(*budget))
        };
        let checkpoint = || {
            self.checkpoints
                .iter()
                .find(|(_, n)| n.asked < n.recorded)
                .map(|(label, _)| label)
        };
        scopes
            .or_else(|| gate().map(|gate| Drift::unasked(Place::Gate(gate.clone()))))
            .or_else(|| timer().map(|timer| Drift::unasked(Place::Timer(timer.clone()))))
            .or_else(|| budget().map(|budget| Drift::unasked(Place::Budget(budget.clone()))))
            .or_else(|| checkpoint().map(|label| Drift::unasked(Place::Checkpoint(label.clone()))))
    }
}

/// The effect that an entry changes the standing of.
const fn about_effect(body: &EntryBody) -> Option<&EffectId> {
    match body {
        EntryBody::EffectStarted(body) => Some(&body.effect),
        EntryBody::EffectConfirmed(body) => Some(&body.effect),
        EntryBody::EffectFailed(body) => Some(&body.effect),
        EntryBody::EffectDeferred(body) => Some(&body.effect),
        EntryBody::EffectUnknown(body) => Some(&body.effect),
        EntryBody::EffectObserved(body) => Some(&body.effect),
        EntryBody::EffectResendAllowed(body) => Some(&body.effect),
        _ => None,
    }
}
