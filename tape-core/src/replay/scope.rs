//! One scope's decisions, effects, samples and checkpoints, and how far a re-drive has come in it.

use super::drift::{Differences, Drift, Place};
use super::effect::EffectRecord;
use super::patch::is_patch;
use super::{Next, NextSample, Patch};
use crate::effect::EffectSpec;
use crate::entry::decision::Recorded as Decision;
use crate::entry::sample::Recorded as Sample;
use crate::fingerprint::Fingerprint;
use crate::id::{EffectId, Key, Position, SampleName, Scope, Seq};
use crate::payload::Payload;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct ScopeReplay {
    /// The k-th decision; none once it was returned to the agent, since it is asked for only once.
    decisions: Vec<Option<Box<Decision>>>,
    next_decision: u32,
    effects: BTreeMap<(u32, u16), EffectRecord>,
    /// Effects that the journal has and the agent has not asked for.
    unasked: BTreeSet<(u32, u16)>,
    /// Effects that the agent asked for before the journal had them.
    live: BTreeSet<(u32, u16)>,
    /// The n-th sample; none once it was returned to the agent, and for a sample that records a patch.
    samples: Vec<Option<Sample>>,
    next_sample: u32,
    /// Patches, and whether this scope takes them.
    patches: BTreeMap<SampleName, bool>,
    /// Decisions with a reservation.
    reserved: BTreeSet<u32>,
    /// Gates, timers, budgets and checkpoints that the journal has and the agent has not asked for.
    unasked_names: BTreeSet<Place>,
    checkpoints: BTreeMap<Key, Checkpoints>,
    /// Whether the agent has asked for anything here, or within.
    entered: bool,
    /// Scopes within this one that the journal has and the agent has not entered.
    unentered: BTreeSet<Scope>,
}

/// The checkpoints of one label.
#[derive(Clone, Debug, Default)]
struct Checkpoints {
    /// What they recorded, without bytes.
    recorded: Vec<Payload>,
    asked: usize,
}

fn place<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}

impl ScopeReplay {
    /// Takes a recorded decision; refuses one that is not the next.
    pub(super) fn record_decision(&mut self, recorded: Decision) -> Result<(), String> {
        let k = place(&self.decisions);
        if recorded.position.k != k {
            return Err(format!("decision {k} of its scope comes next"));
        }
        self.reserved.remove(&k);
        // The driver's own decisions also arrive with the journal. The agent has them already.
        self.decisions
            .push((k >= self.next_decision).then(|| Box::new(recorded)));
        Ok(())
    }

    pub(super) fn decide(&mut self, scope: &Scope, asked: &Fingerprint) -> Result<Next, Box<Drift>> {
        let k = self.next_decision;
        let position = Position {
            scope: scope.clone(),
            k,
        };
        let slot = self.decisions.get_mut(usize::try_from(k).unwrap_or(usize::MAX));
        let Some(slot) = slot else {
            self.all_asked(scope, &Place::Decision(position.clone()))?;
            return Ok(Next {
                position,
                recorded: None,
            });
        };
        if let Some(difference) = slot
            .as_ref()
            .and_then(|recorded| recorded.fingerprint.difference(asked))
        {
            return Err(Drift::new(Place::Decision(position), difference));
        }
        self.next_decision += 1;
        Ok(Next {
            position,
            recorded: slot.take(),
        })
    }

    pub(super) const fn next_decision(&self) -> u32 {
        self.next_decision
    }

    /// The driver recorded decision `k` itself.
    pub(super) fn decided(&mut self, k: u32) {
        if self.next_decision <= k {
            self.next_decision = k + 1;
            self.reserved.remove(&k);
            if let Some(slot) = self.decisions.get_mut(usize::try_from(k).unwrap_or(usize::MAX)) {
                *slot = None;
            }
        }
    }

    /// A new item is allowed only after the agent has asked for everything that the journal has in this scope, and has entered every scope
    /// within it that the journal has.
    pub(super) fn all_asked(&self, scope: &Scope, asked: &Place) -> Result<(), Box<Drift>> {
        let within = || self.unentered.first().cloned().map(Place::Scope);
        match self.unasked(scope).or_else(within) {
            Some(place) => Err(Drift::skipped(place, asked)),
            None => Ok(()),
        }
    }

    /// The agent asks for something in this scope or within it. Returns whether that is the first time.
    pub(super) fn enter(&mut self) -> bool {
        !std::mem::replace(&mut self.entered, true)
    }

    pub(super) const fn is_entered(&self) -> bool {
        self.entered
    }

    /// Notes that the journal has `scope` within this one, and the agent has not entered it.
    pub(super) fn expect_entry(&mut self, scope: Scope) {
        self.unentered.insert(scope);
    }

    pub(super) fn entered(&mut self, scope: &Scope) {
        self.unentered.remove(scope);
    }

    pub(super) fn expect_name(&mut self, place: Place) {
        self.unasked_names.insert(place);
    }

    pub(super) fn asked_name(&mut self, place: &Place) {
        self.unasked_names.remove(place);
    }

    pub(super) fn record_checkpoint(&mut self, label: Key, state: &Payload) {
        let checkpoints = self.checkpoints.entry(label.clone()).or_default();
        checkpoints.recorded.push(state.erased());
        if checkpoints.asked < checkpoints.recorded.len() {
            self.unasked_names.insert(Place::Checkpoint(label));
        }
    }

    /// Whether the checkpoint of a label that the agent has reached is recorded. If it is, it counts as asked for.
    pub(super) fn ask_checkpoint(
        &mut self,
        scope: &Scope,
        label: &Key,
        state: &Payload,
    ) -> Result<bool, Box<Drift>> {
        let place = || Place::Checkpoint(label.clone());
        let next = self
            .checkpoints
            .get(label)
            .and_then(|all| all.recorded.get(all.asked));
        let Some(recorded) = next else {
            self.all_asked(scope, &place())?;
            return Ok(false);
        };
        let mut differences = Differences::default();
        differences.compare_payloads("state", recorded, state);
        differences.at(place)?;
        self.checkpointed(label);
        Ok(true)
    }

    /// The driver recorded a checkpoint itself.
    pub(super) fn checkpointed(&mut self, label: &Key) {
        let checkpoints = self.checkpoints.entry(label.clone()).or_default();
        checkpoints.asked += 1;
        if checkpoints.asked >= checkpoints.recorded.len() {
            self.unasked_names.remove(&Place::Checkpoint(label.clone()));
        }
    }

    pub(super) fn begin_effect(&mut self, effect: &EffectId, record: EffectRecord) -> Result<(), String> {
        let key = (effect.position.k, effect.call);
        if effect.position.k >= place(&self.decisions) {
            return Err(format!("effect {effect} has no decision"));
        }
        if !self.live.remove(&key) {
            self.unasked.insert(key);
        }
        match self.effects.insert(key, record) {
            None => Ok(()),
            Some(_) => Err(format!("effect {effect} began before")),
        }
    }

    pub(super) fn effect(&self, effect: &EffectId) -> Option<&EffectRecord> {
        self.effects.get(&(effect.position.k, effect.call))
    }

    pub(super) fn effect_mut(&mut self, effect: &EffectId) -> Option<&mut EffectRecord> {
        self.effects.get_mut(&(effect.position.k, effect.call))
    }

    pub(super) fn is_late(&self, effect: &EffectId) -> bool {
        self.next_decision > effect.position.k.saturating_add(1) && self.effect(effect).is_none()
    }

    /// Folds that payloads of entries were erased.
    pub(super) fn erase(&mut self, entries: &[Seq]) {
        self.effects.values_mut().for_each(|effect| effect.erase(entries));
    }

    pub(super) fn ask_effect(
        &mut self,
        effect: &EffectId,
        asked: &EffectSpec,
    ) -> Result<Option<&EffectRecord>, Box<Drift>> {
        let key = (effect.position.k, effect.call);
        match self.effects.get(&key) {
            Some(record) => {
                record.compare(effect, asked)?;
                self.unasked.remove(&key);
                Ok(Some(record))
            }
            None if place(&self.decisions) > effect.position.k.saturating_add(1) => {
                let difference = "the journal has no such effect and went on to a later decision";
                Err(Drift::new(Place::Effect(effect.clone()), difference))
            }
            None => {
                self.all_asked(&effect.position.scope, &Place::Effect(effect.clone()))?;
                self.live.insert(key);
                Ok(None)
            }
        }
    }

    pub(super) fn record_sample(&mut self, sample: Sample) -> Result<(), String> {
        let n = place(&self.samples);
        if sample.n != n {
            return Err(format!("sample {n} of its scope comes next"));
        }
        if is_patch(&sample) {
            self.patches.insert(sample.name, true);
            self.samples.push(None);
        } else {
            self.samples.push((n >= self.next_sample).then_some(sample));
        }
        Ok(())
    }

    /// Whether the scope takes the path of a patch: if that is recorded, or if the agent has asked for everything that the journal has
    /// here.
    pub(super) fn patched(&mut self, scope: &Scope, name: &SampleName) -> Result<Patch, Box<Drift>> {
        if let Some(known) = self.patches.get(name) {
            return Ok(Patch::Known(*known));
        }
        self.pass_patches();
        let n = self.next_sample;
        let (of, name) = (scope.clone(), name.clone());
        self.all_asked(scope, &Place::Sample { scope: of, n, name })?;
        Ok(Patch::New { n })
    }

    /// The scope came further before the change.
    pub(super) fn keep_old_path(&mut self, name: SampleName) {
        self.patches.entry(name).or_insert(false);
    }

    /// The driver recorded a patch as sample `n` itself.
    pub(super) fn patch_recorded(&mut self, name: SampleName, n: u32) {
        self.patches.insert(name, true);
        self.sampled(n);
    }

    /// Samples that record patches are not asked for one by one.
    fn pass_patches(&mut self) {
        while let Some(None) = self
            .samples
            .get(usize::try_from(self.next_sample).unwrap_or(usize::MAX))
        {
            self.next_sample += 1;
        }
    }

    pub(super) fn sample(&mut self, scope: &Scope, asked: &SampleName) -> Result<NextSample, Box<Drift>> {
        self.pass_patches();
        let n = self.next_sample;
        let slot = self.samples.get_mut(usize::try_from(n).unwrap_or(usize::MAX));
        let Some(slot) = slot else {
            let (scope, name) = (scope.clone(), asked.clone());
            self.all_asked(&scope.clone(), &Place::Sample { scope, n, name })?;
            return Ok(NextSample { n, recorded: None });
        };
        if let Some(recorded) = slot.as_ref().filter(|recorded| recorded.name != *asked) {
            let at = Place::Sample {
                scope: scope.clone(),
                n,
                name: recorded.name.clone(),
            };
            return Err(Drift::new(
                at,
                format!("name: recorded {}, asked {asked}", recorded.name),
            ));
        }
        self.next_sample += 1;
        Ok(NextSample {
            n,
            recorded: slot.take().map(|sample| sample.value),
        })
    }

    /// The driver recorded sample `n` itself.
    pub(super) fn sampled(&mut self, n: u32) {
        if self.next_sample <= n {
            self.next_sample = n + 1;
            if let Some(slot) = self.samples.get_mut(usize::try_from(n).unwrap_or(usize::MAX)) {
                *slot = None;
            }
        }
    }

    pub(super) fn reserve(&mut self, k: u32) {
        if k >= self.next_decision {
            self.reserved.insert(k);
        }
    }

    pub(super) fn release(&mut self, k: u32) {
        self.reserved.remove(&k);
    }

    pub(super) fn is_reserved(&self, k: u32) -> bool {
        self.reserved.contains(&k)
    }

    /// All effects, oldest decision first.
    pub(super) fn effects<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (EffectId, &'a EffectRecord)> + 'a {
        self.effects
            .iter()
            .map(|(&(k, call), record)| (effect_id(scope, k, call), record))
    }

    /// The first thing that the journal has in this scope and the agent never asked for.
    pub(super) fn unasked(&self, scope: &Scope) -> Option<Place> {
        if place(&self.decisions) > self.next_decision {
            let position = Position {
                scope: scope.clone(),
                k: self.next_decision,
            };
            return Some(Place::Decision(position));
        }
        if let Some(&(k, call)) = self.unasked.first() {
            return Some(Place::Effect(effect_id(scope, k, call)));
        }
        if let Some(name) = self.unasked_names.first() {
            return Some(name.clone());
        }
        let left = self
            .samples
            .iter()
            .skip(usize::try_from(self.next_sample).unwrap_or(usize::MAX));
        let sample = left.flatten().next()?;
        Some(Place::Sample {
            scope: scope.clone(),
            n: sample.n,
            name: sample.name.clone(),
        })
    }
}

fn effect_id(scope: &Scope, k: u32, call: u16) -> EffectId {
    EffectId {
        position: Position {
            scope: scope.clone(),
            k,
        },
        call,
    }
}
