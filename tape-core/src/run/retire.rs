//! Retirement: one entry replaces the dropped entries of a run that has ended.

use super::check::text;
use super::{Identity, Phase, Run};
use crate::agent_version;
use crate::entry::run::Retired;
use crate::entry::run::RunOutcome;
use crate::entry::{Entry, EntryBody};
use crate::id::Seq;
use crate::payload::{ERASED, Payload};
use crate::reply::{Decided, Field, Missing, Rejection, ReplyResult};
use serde::{Deserialize, Serialize};

/// The entry that retired a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetiredIn {
    /// The entry.
    pub(super) entry: Seq,
    /// The earlier entries whose contents it repeats.
    pub(super) repeats: Vec<Seq>,
}

/// The entries of a journal that are needed to retire its run.
#[derive(Clone, Copy)]
pub(super) struct RetireWith<'a> {
    /// The last entry.
    pub(super) last: Option<&'a Entry>,
    /// The entry that ended the run, if it is not the last.
    pub(super) ended: Option<&'a Entry>,
}

impl RetiredIn {
    fn by(e: &Retired, entry: Seq) -> Self {
        // Entries of version 1 do not record them.
        let repeats = match e.repeats.as_slice() {
            [] => vec![Seq(1), Seq(e.dropped)],
            repeats => repeats.to_vec(),
        };
        Self { entry, repeats }
    }
}

impl Run {
    /// Whether the run is retired: one entry replaces all before it.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.retired.is_some()
    }

    /// The entry that replaces all before it, if the run is retired.
    #[must_use]
    pub fn retired_in(&self) -> Option<Seq> {
        self.retired.as_ref().map(|retired| retired.entry)
    }

    /// The entry that ended the run, where it has ended and is not retired.
    #[must_use]
    pub fn ended_in(&self) -> Option<Seq> {
        matches!(self.phase, Phase::Ended { .. })
            .then(|| self.ending_said.entries.last().copied())
            .flatten()
    }

    pub(super) fn retire(&self, reason: &str, with: RetireWith<'_>) -> Result<Decided, Rejection> {
        let (Some(identity), Phase::Ended { ending }) = (&self.begun, &self.phase) else {
            return Err(self.not_ended());
        };
        if self.is_retired() {
            return Ok(self.already(ReplyResult::Ended {
                ending: ending.clone(),
            }));
        }
        text(Field::Reason, reason)?;
        if !self.erasures.pending().is_empty() {
            return Err(Rejection::Unsettled {
                what: "an erasure".to_owned(),
            });
        }
        let RetireWith { last, ended } = with;
        let last = last
            .filter(|last| last.seq == self.seq)
            .ok_or_else(|| Rejection::Invalid {
                field: Field::LastEntry,
                problem: format!("is not entry {}, at which the journal ends", self.seq),
            })?;
        let ends = |entry: &&Entry| {
            Some(entry.seq) == self.ended_in()
                && ending_of(&entry.body).is_some_and(|said| said.is_like(ending))
        };
        let ended = ended
            .or(Some(last))
            .filter(ends)
            .ok_or_else(|| Rejection::Invalid {
                field: Field::LastEntry,
                problem: "is not the entry that ended the run".to_owned(),
            })?;
        let (output, output_erased) = output_of(&ended.body, self.ending_said.erased);
        let mut repeats = self.ending_said.entries.clone();
        repeats.insert(0, Seq(1));
        self.append(Retired {
            run: identity.run.clone(),
            labels: identity.labels.clone(),
            epoch: self.epoch,
            begun_at: identity.at,
            ended_at: self.changed_at,
            ending: ending.clone(),
            output,
            output_erased,
            dropped: self.seq.0,
            previous: last.digest,
            reason: reason.to_owned(),
            repeats,
        })
    }

    fn not_ended(&self) -> Rejection {
        match self.phase {
            Phase::New => Rejection::not_found(Missing::Run),
            _ => Rejection::NotEnded {
                status: self.status(),
            },
        }
    }

    /// Whether an entry replaces all before it, some of which were dropped before they were folded.
    pub(super) fn is_stood_for(&self, entry: &Entry) -> bool {
        matches!(entry.body, EntryBody::RunRetired(_)) && entry.seq > self.seq.next()
    }

    /// Folds retirement. The state becomes the same whether the entries before it were folded or dropped.
    pub(super) fn fold_retired(&mut self, e: &Retired, entry: &Entry) -> Result<(), String> {
        if e.dropped == 0 || e.dropped.checked_add(1) != Some(entry.seq.0) {
            return Err(format!("it counts {} entries before it", e.dropped));
        }
        let after = Self {
            begun: Some(Identity {
                run: e.run.clone(),
                labels: e.labels.clone(),
                at: e.begun_at,
            }),
            phase: Phase::Ended {
                ending: e.ending.clone(),
            },
            changed_at: e.ended_at,
            epoch: e.epoch,
            retired: Some(RetiredIn::by(e, entry.seq)),
            ..Self::default()
        };
        let says_the_same = if self.is_stood_for(entry) {
            self.id().is_none_or(|run| *run == e.run)
        } else {
            self.says_as_much_as(&after, e.reason == ERASED)
                && (self.changed_at, self.epoch) == (after.changed_at, after.epoch)
        };
        if !says_the_same {
            return Err("it does not say what the entries before it say".to_owned());
        }
        *self = after;
        Ok(())
    }
}

impl Run {
    /// Whether the retiring entry agrees with the folded state on how the run began and ended. Erased texts are not compared.
    fn says_as_much_as(&self, other: &Self, other_is_erased: bool) -> bool {
        let begun = match (&self.begun, &other.begun) {
            (Some(mine), Some(theirs)) => {
                let erased =
                    other_is_erased || mine.labels.is_empty() || agent_version::is_erased(&mine.labels);
                (&mine.run, mine.at) == (&theirs.run, theirs.at) && (erased || mine.labels == theirs.labels)
            }
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        let ending = match (&self.phase, &other.phase) {
            (Phase::Ended { ending: mine }, Phase::Ended { ending: theirs }) => mine.is_like(theirs),
            (mine, theirs) => mine == theirs,
        };
        begun && ending
    }
}

/// How a run ends with this entry, if it does.
fn ending_of(body: &EntryBody) -> Option<RunOutcome> {
    match ReplyResult::of(body) {
        Some(ReplyResult::Ended { ending }) => Some(ending),
        _ => None,
    }
}

/// The output of a run that completes with this entry: with its bytes, or the reference that is left of erased ones.
fn output_of(body: &EntryBody, erased: bool) -> (Option<Payload>, Option<Payload>) {
    match body {
        EntryBody::RunCompleted(completed) if completed.output.bytes().is_some() && !erased => {
            (Some(completed.output.clone()), None)
        }
        EntryBody::RunCompleted(completed) => (None, Some(completed.output.erased())),
        _ => (None, None),
    }
}
