//! Erased payloads: which parts of a run must forget them, and which cannot continue without them.

use super::effect::Effect;
use super::{Obligation, ObligationStatus, Phase, Run};
use crate::agent_version;
use crate::command::Command;
use crate::effect::Status;
use crate::entry::erasure::Erased;
use crate::entry::run::UnhappyOutcome;
use crate::erasure::ErasureCommand;
use crate::id::{EffectId, Seq};
use crate::payload::ERASED;
use crate::reply::{Decided, Missing, Rejection};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why an effect or undo that still had to be sent waits for a person.
pub const ARGUMENTS_ERASED: &str = "its arguments were erased";

/// The entries that have the reason for the end of a run. They repeat each other and are erased together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndingSaid {
    /// The entries, oldest first.
    pub(super) entries: Vec<Seq>,
    /// Whether they are erased.
    pub(super) erased: bool,
}

impl EndingSaid {
    /// Adds an entry that has the reason for the run's end. If it does not repeat the earlier entries, they no longer count.
    pub(super) fn say(&mut self, entry: Seq, repeats: bool) {
        if !repeats {
            *self = Self::default();
        }
        self.entries.push(entry);
    }

    /// The first entry that has the reason.
    pub(super) fn first(&self) -> Option<Seq> {
        self.entries.first().copied()
    }
}

impl Run {
    pub(super) fn decide_erasing(&self, command: &Command<ErasureCommand>) -> Result<Decided, Rejection> {
        if self.phase == Phase::New {
            return Err(Rejection::not_found(Missing::Run));
        }
        self.erasures
            .decide(&command.body, self.seq, |entries| self.repeats(entries))
    }

    /// The entries that repeat the contents of the erased ones.
    fn repeats(&self, entries: &BTreeSet<Seq>) -> Vec<Seq> {
        let mut together = self.ending_said.entries.clone();
        if let Some(retired) = &self.retired {
            together.extend(&retired.repeats);
            together.push(retired.entry);
        }
        if together.iter().any(|entry| entries.contains(entry)) {
            together
        } else {
            Vec::new()
        }
    }

    pub(super) fn fold_erased(&mut self, e: &Erased, seq: Seq, at: Timestamp) {
        self.erasures.fold_erased(e, seq, at);
        let erased = |entry: Seq| e.entries.contains(&entry);
        let retired = self.retired.as_ref().is_some_and(|retired| erased(retired.entry));
        if let Some(identity) = &mut self.begun
            && (retired || erased(Seq(1)))
        {
            identity.labels = agent_version::erased();
        }
        if retired || self.ending_said.entries.iter().any(|entry| erased(*entry)) {
            self.forget_ending();
        }
        for obligation in &mut self.obligations {
            obligation.erased |= erased(obligation.source);
            obligation.unreached.erase(&e.entries);
            if let ObligationStatus::Stuck { reason } = &mut obligation.status
                && erased(obligation.stuck_in)
            {
                ERASED.clone_into(reason);
            }
        }
        for effect in self.effects.values_mut() {
            effect.erased |= !effect.status.is_settled() && erased(effect.begun);
            effect.unreached.erase(&e.entries);
            if let Some(reason) = effect.stuck.as_mut().filter(|_| erased(effect.stuck_in)) {
                ERASED.clone_into(reason);
            }
        }
        self.hold_all(seq, at);
        self.replies.erase(&e.entries);
    }

    fn forget_ending(&mut self) {
        self.ending_said.erased = true;
        if let Some(reason) = &mut self.cancel {
            ERASED.clone_into(reason);
        }
        let words = match &mut self.phase {
            Phase::Compensating { then } => UnhappyOutcome::words_mut(then),
            Phase::Ended { ending } => ending.words_mut(),
            Phase::New | Phase::Running | Phase::Suspended { .. } => None,
        };
        if let Some(words) = words {
            words.erase();
        }
    }

    /// Makes an effect wait for a person if it cannot continue without its arguments.
    pub(super) fn hold(&mut self, id: &EffectId, seq: Seq, at: Timestamp) {
        if self.effects.get_mut(id).is_some_and(|effect| effect.hold(seq)) {
            self.changed_at = at;
        }
    }

    /// Makes every effect and obligation wait for a person that cannot continue without its arguments.
    pub(super) fn hold_all(&mut self, seq: Seq, at: Timestamp) {
        let mut held = false;
        for effect in self.effects.values_mut() {
            held |= effect.hold(seq);
        }
        for obligation in &mut self.obligations {
            held |= obligation.hold(seq);
        }
        if held {
            self.changed_at = at;
        }
    }
}

impl Obligation {
    /// Makes it wait for a person, by an entry, if it would have to be carried out without its arguments. Returns whether it did.
    pub(super) fn hold(&mut self, by: Seq) -> bool {
        if !self.erased || !matches!(self.status, ObligationStatus::Due { .. }) {
            return false;
        }
        self.status = ObligationStatus::Stuck {
            reason: ARGUMENTS_ERASED.to_owned(),
        };
        self.changed = by;
        true
    }
}

impl Effect {
    /// Makes it wait for a person, by an entry, if its arguments are erased and it would have to be sent or asked about. An attempt or
    /// observation that is under way may end first. Returns whether it did.
    fn hold(&mut self, by: Seq) -> bool {
        let waits = match self.status {
            Status::Pending => !self.is_inline(),
            Status::Unknown => self.claim.is_none(),
            Status::Started | Status::Confirmed | Status::Failed | Status::Stuck => false,
        };
        if !self.erased || !waits {
            return false;
        }
        self.doubt |= self.status == Status::Unknown;
        (self.status, self.due, self.changed) = (Status::Stuck, None, by);
        (self.stuck, self.stuck_in) = (Some(ARGUMENTS_ERASED.to_owned()), Seq::ZERO);
        true
    }

    /// Whether it waits for a person although it was never sent.
    pub(super) fn is_held_unsent(&self) -> bool {
        self.erased && !self.doubt && self.stuck.as_deref() == Some(ARGUMENTS_ERASED)
    }
}
