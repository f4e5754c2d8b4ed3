//! Retirement: what a run that has ended leaves behind once its entries are dropped.

use super::check::text;
use super::{Identity, Phase, Run};
use crate::entry::run::Retired;
use crate::entry::{Entry, EntryBody};
use crate::payload::Payload;
use crate::reply::{Decided, Ended, Rejection, ReplyResult};

impl Run {
    /// Whether the run is retired: its last entry stands for all before it.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.retired
    }

    pub(super) fn retire(&self, reason: &str, last: Option<&Entry>) -> Result<Decided, Rejection> {
        let (Some(identity), Phase::Ended { ending }) = (&self.begun, &self.phase) else {
            return Err(self.not_ended());
        };
        if self.retired {
            return Ok(self.already(ReplyResult::Ended {
                ending: ending.clone(),
            }));
        }
        text("reason", reason)?;
        let ended = |last: &&Entry| last.seq == self.seq && ending_of(&last.body).as_ref() == Some(ending);
        let last = last.filter(ended).ok_or_else(|| Rejection::Invalid {
            field: "last entry",
            problem: format!("is not entry {}, which ended the run", self.seq),
        })?;
        let (output, output_erased) = output_of(&last.body);
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
        })
    }

    fn not_ended(&self) -> Rejection {
        match self.phase {
            Phase::New => Rejection::NotFound { what: "run" },
            _ => Rejection::NotEnded {
                status: self.status(),
            },
        }
    }

    /// Whether an entry stands for all before it, of which some were dropped before they were folded.
    pub(super) fn is_stood_for(&self, entry: &Entry) -> bool {
        matches!(entry.body, EntryBody::RunRetired(_)) && entry.seq > self.seq.next()
    }

    /// The state is the same whether the entries before were folded or are dropped.
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
            retired: true,
            ..Self::default()
        };
        let says_the_same = if self.is_stood_for(entry) {
            self.id().is_none_or(|run| *run == e.run)
        } else {
            (&self.begun, &self.phase) == (&after.begun, &after.phase)
                && (self.changed_at, self.epoch) == (after.changed_at, after.epoch)
        };
        if !says_the_same {
            return Err("it does not say what the entries before it say".to_owned());
        }
        *self = after;
        Ok(())
    }
}

/// How a run ends with an entry, where it does.
fn ending_of(body: &EntryBody) -> Option<Ended> {
    match ReplyResult::of(body) {
        Some(ReplyResult::Ended { ending }) => Some(ending),
        _ => None,
    }
}

/// What came of a run that ends well with an entry: with its bytes, or what is left where they are erased.
fn output_of(body: &EntryBody) -> (Option<Payload>, Option<Payload>) {
    match body {
        EntryBody::RunCompleted(completed) if completed.output.bytes().is_some() => {
            (Some(completed.output.clone()), None)
        }
        EntryBody::RunCompleted(completed) => (None, Some(completed.output.clone())),
        _ => (None, None),
    }
}
