//! Replay: answers a re-drive from the journal, without I/O.
//!
//! A re-drive runs the agent again from its start. Everything it asks for is looked up here first. A recorded outcome is returned as
//! recorded. An outcome that is not recorded yet is to be produced live. A request that differs from the record is [`Drift`]. Entries are
//! folded once, in order, also those that arrive while the agent runs; each lookup costs at most a search in a map, whatever the length of
//! the journal.

mod drift;
mod effect;
mod names;
mod patch;
mod refusal;
mod scope;
#[cfg(test)]
mod tests;

pub use drift::{Drift, Place, Versions};
pub use effect::{EffectRecord, Settled};
pub use patch::{Patch, patch_name};
pub use refusal::{Refusal, Refused};

use crate::decider::ReplayError;
use crate::effect::EffectSpec;
use crate::entry::decision::Recorded as Decision;
use crate::entry::gate::AnsweredBy;
use crate::entry::run::RunOutcome;
use crate::entry::run::{Begun, UnhappyOutcome};
use crate::entry::{Entry, EntryBody, budget};
use crate::fingerprint::Fingerprint;
use crate::id::{BudgetName, EffectId, Epoch, GateName, Key, Position, SampleName, Scope, Seq, TimerName};
use crate::payload::{ContentDigest, Payload};
use crate::time::Deadline;

use crate::time::Timestamp;
use drift::Differences;
use refusal::Refusals;
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
    /// Whether the first entry was erased, and the labels with it.
    labels_are_erased: bool,
    standing: Standing,
    cancel: Option<String>,
    scopes: BTreeMap<Scope, ScopeReplay>,
    gates: BTreeMap<GateName, GateRecord>,
    /// The answers of signals whose gates are not open yet.
    signals: BTreeMap<GateName, Payload>,
    timers: BTreeMap<TimerName, TimerRecord>,
    budgets: BTreeMap<BudgetName, budget::Opened>,
    /// Gates, timers and budgets that the agent asked for, whether the journal has them or not.
    asked_names: BTreeSet<Place>,
    /// Those that the journal has and the agent has not asked for, with the scope that did.
    unasked_names: BTreeMap<Place, Scope>,
    refusals: Refusals,
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
    /// The deadline as it was asked for; none where there is no deadline, or the entry does not record the request.
    pub asked: Option<Deadline>,
    /// When the wait ends without a signal.
    pub deadline: Option<Timestamp>,
    /// What ended the wait, and what it carried.
    pub answer: Option<(AnsweredBy, Payload)>,
}

/// A recorded timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerRecord {
    /// The time as it was asked for; none where the entry does not record it.
    pub asked: Option<Deadline>,
    /// What it carries, without its bytes.
    pub note: Payload,
    /// When it is due.
    pub due_at: Timestamp,
    /// Whether it waits, has fired or was cancelled.
    pub state: TimerState,
    /// The scope that set it.
    pub scope: Scope,
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
    /// A driver may continue it.
    #[default]
    Open,
    /// It waits without a driver.
    Suspended,
    /// Its effects are being undone; then it ends like this.
    Compensating(UnhappyOutcome),
    /// It waits for a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// It has ended; with this output if it completed.
    Ended(RunOutcome, Option<Payload>),
}

impl Replay {
    /// Folds the next entry of the run.
    ///
    /// # Errors
    /// [`ReplayError`] where the entry cannot follow the ones before it: stored bytes can be wrong.
    pub fn apply(&mut self, entry: Entry) -> Result<(), ReplayError> {
        let (seq, kind) = (entry.seq, entry.body.kind());
        // It replaces all entries before it, which may be dropped.
        let stands = matches!(entry.body, EntryBody::RunRetired(_)) && seq > self.seq.next();
        if seq != self.seq.next() && !stands {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: seq,
            });
        }
        (self.seq, self.at) = (seq, entry.decided_at);
        self.fold(entry)
            .map_err(|problem| ReplayError::Impossible { seq, kind, problem })
    }

    fn fold(&mut self, entry: Entry) -> Result<(), String> {
        if let Some(scope) = refusal::asked_in(&entry.body) {
            self.refusals.go_on(scope);
        }
        match entry.body {
            EntryBody::DecisionRecorded(recorded) => self
                .recorded_in(&recorded.position.scope.clone())
                .record_decision(recorded),
            EntryBody::SampleRecorded(sample) if Refusals::is_one(&sample) => {
                self.refusals.fold(&sample);
                Ok(())
            }
            EntryBody::SampleRecorded(sample) => {
                self.recorded_in(&sample.scope.clone()).record_sample(sample)
            }
            EntryBody::EffectBegun(begun) => {
                let record = EffectRecord::begun(begun.spec, entry.seq, entry.decided_at);
                self.recorded_in(&begun.effect.position.scope)
                    .begin_effect(&begun.effect, record)
            }
            EntryBody::BudgetOpened(opened) => {
                self.fold_budget(opened);
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
            EntryBody::PayloadErased(erased) => {
                self.labels_are_erased |= erased.entries.contains(&Seq::ZERO.next());
                let scopes = self.scopes.values_mut();
                scopes.for_each(|scope| scope.erase(&erased.entries));
                Ok(())
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

    /// A scope that the journal has entries in. Unless the agent has entered it, the scopes around it expect the agent to.
    fn recorded_in(&mut self, scope: &Scope) -> &mut ScopeReplay {
        let mut inner = scope.clone();
        while !self.scope(&inner).is_entered() {
            let Some(parent) = inner.parent() else { break };
            self.scope(&parent).expect_entry(inner);
            inner = parent;
        }
        self.scope(scope)
    }

    /// A scope in which the agent asks for something.
    fn entered(&mut self, scope: &Scope) -> &mut ScopeReplay {
        let mut inner = scope.clone();
        while self.scope(&inner).enter() {
            let Some(parent) = inner.parent() else { break };
            self.scope(&parent).entered(&inner);
            inner = parent;
        }
        self.scope(scope)
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

    fn fold_life(&mut self, body: EntryBody) {
        match body {
            EntryBody::RunBegun(begun) => self.begun = Some(Box::new(begun)),
            EntryBody::RunCheckpoint(checkpoint) => {
                self.recorded_in(&checkpoint.scope)
                    .record_checkpoint(checkpoint.label, &checkpoint.state);
            }
            EntryBody::LeaseAcquired(acquired) => {
                self.epoch = acquired.epoch;
                self.standing = Standing::Open;
                self.refusals.drive_again();
            }
            EntryBody::RunCancelRequested(request) => self.cancel = Some(request.reason),
            EntryBody::RunSuspended(_) => self.standing = Standing::Suspended,
            EntryBody::RunCompensating(compensating) => {
                self.standing = Standing::Compensating(compensating.then);
            }
            EntryBody::RunStuck(stuck) => self.standing = Standing::Stuck { reason: stuck.reason },
            EntryBody::RunRetried(_) => self.standing = Standing::Open,
            EntryBody::RunCompleted(completed) => {
                self.standing = Standing::Ended(RunOutcome::Completed, Some(completed.output));
            }
            EntryBody::RunFailed(failed) => {
                self.standing = Standing::Ended(RunOutcome::Failed { error: failed.error }, None);
            }
            EntryBody::RunCancelled(cancelled) => {
                self.standing = Standing::Ended(
                    RunOutcome::Cancelled {
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

    /// When the last entry folded was decided, by the journal's time.
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

    /// Where the run stands, as far as folded.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why the run is to be cancelled, if a cancellation was requested.
    #[must_use]
    pub fn cancel_requested(&self) -> Option<&str> {
        self.cancel.as_deref()
    }

    /// The next decision of a scope. A recorded one is returned, and the scope advances. Otherwise the model is to be asked, and
    /// [`Replay::decided`] advances the scope once its answer is recorded.
    ///
    /// # Errors
    /// [`Drift`] where the request differs from the recorded one, or where something else that the scope has in the journal was
    /// not asked for again before a new decision is made.
    pub fn decide(&mut self, scope: &Scope, asked: &Fingerprint) -> Result<Next, Box<Drift>> {
        self.entered(scope).decide(scope, asked)
    }

    /// The place of the next decision of a scope.
    #[must_use]
    pub fn next_decision(&self, scope: &Scope) -> Place {
        let k = self.scopes.get(scope).map_or(0, ScopeReplay::next_decision);
        let scope = scope.clone();
        Place::Decision(Position { scope, k })
    }

    /// The driver recorded the decision at `position` itself.
    pub fn decided(&mut self, position: &Position) {
        self.scope(&position.scope).decided(position.k);
    }

    /// Whether parts of budgets are reserved for the decision to be asked at `position`.
    #[must_use]
    pub fn is_reserved(&self, position: &Position) -> bool {
        self.scopes
            .get(&position.scope)
            .is_some_and(|scope| scope.is_reserved(position.k))
    }

    /// A recorded effect that the agent asks for; none where it is to be begun.
    ///
    /// # Errors
    /// [`Drift`] where the recorded effect is another, where the journal went on without it, or where it is new and something that
    /// the scope has in the journal was not asked for.
    pub fn ask_effect(
        &mut self,
        effect: &EffectId,
        asked: &EffectSpec,
    ) -> Result<Option<&EffectRecord>, Box<Drift>> {
        self.entered(&effect.position.scope).ask_effect(effect, asked)
    }

    /// Whether an effect that is not recorded in the folded part of the journal comes too late: the agent has asked for a later decision of
    /// its scope, and effects begin under the newest decision. That is not drift, since it does not depend on what is recorded.
    #[must_use]
    pub fn is_late(&self, effect: &EffectId) -> bool {
        self.scopes
            .get(&effect.position.scope)
            .is_some_and(|scope| scope.is_late(effect))
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

    /// The next sample of a scope. A recorded one is returned, and the scope advances. Otherwise it is to be taken, and [`Replay::sampled`]
    /// advances the scope once it is recorded.
    ///
    /// # Errors
    /// [`Drift`] where the recorded sample has another name, or where it is new and something that the scope has in the journal
    /// was not asked for.
    pub fn sample(&mut self, scope: &Scope, name: &SampleName) -> Result<NextSample, Box<Drift>> {
        self.entered(scope).sample(scope, name)
    }

    /// The driver recorded sample `n` of a scope itself.
    pub fn sampled(&mut self, scope: &Scope, n: u32) {
        self.scope(scope).sampled(n);
    }

    /// Whether a scope takes the path of a change of the agent's code; `name` is that of [`patch_name`]. The first answer holds for the scope. A
    /// new one counts once it is recorded: [`Replay::patch_recorded`].
    ///
    /// # Errors
    /// [`Drift`] where the scope has something in the journal that was not asked for. If no parallel branch asks for it, the run came further
    /// before the change: [`Replay::keep_old_path`].
    pub fn patched(&mut self, scope: &Scope, name: &SampleName) -> Result<Patch, Box<Drift>> {
        self.entered(scope).patched(scope, name)
    }

    /// The scope came further before a change of the agent's code, and does not take its path in this drive.
    pub fn keep_old_path(&mut self, scope: &Scope, name: SampleName) {
        self.scope(scope).keep_old_path(name);
    }

    /// The driver itself recorded that a scope takes the path of a change.
    pub fn patch_recorded(&mut self, scope: &Scope, name: SampleName, n: u32) {
        self.scope(scope).patch_recorded(name, n);
    }

    /// The recorded refusal of a request at a place, returned once; none where the request is to be sent to the journal.
    pub fn refused(&mut self, at: &Place, of: ContentDigest) -> Option<Refusal> {
        self.refusals.tell(at, of)
    }

    /// The number of the next refusal to be recorded.
    #[must_use]
    pub const fn next_refusal(&self) -> u32 {
        self.refusals.next()
    }

    /// The driver recorded a refusal itself.
    pub fn refusal_recorded(&mut self, n: u32) {
        self.refusals.recorded(n);
    }

    /// Whether the agent has asked for everything that the journal has: everything from here on is new.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.leftover().is_none()
    }

    /// The first thing that the journal has and the agent has not asked for. At the end of a drive there is none, or the
    /// agent has drifted.
    #[must_use]
    pub fn leftover(&self) -> Option<Box<Drift>> {
        self.scopes
            .iter()
            .find_map(|(name, scope)| scope.unasked(name))
            .map(Drift::unasked)
    }

    /// Whether the run began with what the agent gives it now.
    ///
    /// # Errors
    /// [`Drift`] where it began with another input, or where labels are given and are not those it began with. Labels that were erased
    /// are equal to any.
    pub fn check_beginning(
        &self,
        input: Option<&Payload>,
        labels: &BTreeMap<Key, String>,
    ) -> Result<(), Box<Drift>> {
        let Some(begun) = self.begun() else { return Ok(()) };
        let mut differences = Differences::default();
        if let Some(input) = input {
            differences.compare_payloads("input", &begun.input, input);
        }
        for (key, value) in labels.iter().filter(|_| !self.labels_are_erased) {
            let recorded = begun.labels.get(key);
            differences.compare(&format!("label '{key}'"), &recorded, &Some(value), |value| {
                value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
            });
        }
        differences.at(|| Place::Beginning)
    }

    /// Checks that a run which this driver completed has the output that it gives now.
    ///
    /// # Errors
    /// [`Drift`] where it ended with another.
    pub fn check_output(recorded: &Payload, asked: &Payload) -> Result<(), Box<Drift>> {
        let mut differences = Differences::default();
        differences.compare_payloads("output", recorded, asked);
        differences.at(|| Place::End)
    }
}

/// The effect whose standing an entry changes.
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
