//! Erasure: payloads that are erased on request, whatever kind of stream has them.
//!
//! An [`Erased`] entry takes effect at once: a stream that folds it is as if the bytes had never been there. Removing the bytes from the
//! store is due work on the agenda until a [`Finished`] entry says that it is done. Any worker may do it; it may stop anywhere and be
//! repeated.

use crate::agenda::{Agenda, Item, Queue};
use crate::command::CommandBody;
use crate::entry::EntryBody;
use crate::entry::erasure::{Erased, Finished};
use crate::id::Seq;
use crate::limits::{ERASED_AT_ONCE_MAX, ERASURES_MAX};
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult};
use crate::reply::{already, decided};
use crate::run::check::text;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// A request to erase payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The entries, at least one and at most [`ERASED_AT_ONCE_MAX`].
    pub entries: Vec<Seq>,
    /// Why, for the record; it is erasable itself.
    pub reason: String,
}

/// What can be asked about the payloads of any stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ErasureCommand {
    /// Erases the payloads of entries and of entries that repeat them.
    Erase {
        /// The entries.
        entries: Vec<Seq>,
        /// Further entries that repeat the contents of these, found by the caller. The folded state does not show such repetitions; only
        /// the entries do.
        #[serde(skip)]
        copies: Vec<Seq>,
        /// The last entry that the caller has searched for such copies.
        #[serde(skip)]
        seen: Seq,
        /// Why.
        reason: String,
    },
    /// Records that the store has removed the erased bytes.
    Finish {
        /// The last [`Erased`] entry that this holds for.
        through: Seq,
    },
}

impl CommandBody for ErasureCommand {
    fn is_idempotent(&self) -> bool {
        matches!(self, Self::Finish { .. })
    }
}

/// The erasures of a stream that the store still has to carry out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasures {
    pending: VecDeque<PendingErasure>,
    last: Seq,
}

/// An erasure that the store has not carried out yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingErasure {
    /// The entry that recorded it.
    pub entry: Seq,
    /// When.
    pub at: Timestamp,
    /// The entries whose payloads are to go.
    pub entries: Vec<Seq>,
}

impl Erasures {
    /// What is still to be carried out, oldest first.
    #[must_use]
    pub const fn pending(&self) -> &VecDeque<PendingErasure> {
        &self.pending
    }

    /// The last entry that erased something.
    #[must_use]
    pub const fn last(&self) -> Seq {
        self.last
    }

    pub(crate) fn fold_erased(&mut self, erased: &Erased, entry: Seq, at: Timestamp) {
        self.last = entry;
        self.pending.push_back(PendingErasure {
            entry,
            at,
            entries: erased.entries.clone(),
        });
    }

    pub(crate) fn fold_finished(&mut self, finished: &Finished) {
        self.pending.retain(|pending| pending.entry > finished.through);
    }

    pub(crate) fn add_to(&self, agenda: &mut Agenda) {
        if let Some(pending) = self.pending.front() {
            agenda.add(Queue::Timers, Item::Erasure, pending.at);
        }
    }

    /// What a command means for a stream that ends with entry `end`. `repeats` returns further entries that the stream's own rules erase
    /// with the given ones.
    pub(crate) fn decide(
        &self,
        command: &ErasureCommand,
        end: Seq,
        repeats: impl FnOnce(&BTreeSet<Seq>) -> Vec<Seq>,
    ) -> Result<Decided, Rejection> {
        let (entries, copies, reason) = match command {
            ErasureCommand::Finish { through } => return Ok(self.finish(*through, end)),
            ErasureCommand::Erase {
                entries,
                copies,
                reason,
                ..
            } => (entries, copies, reason),
        };
        text(Field::Reason, reason)?;
        self.check(entries, end)?;
        let mut all: BTreeSet<Seq> = entries.iter().chain(copies).copied().collect();
        let more = repeats(&all);
        all.extend(more);
        let erased = Erased {
            entries: all.into_iter().collect(),
            reason: reason.clone(),
        };
        Ok(decided(end, vec![erased.into()]))
    }

    fn check(&self, entries: &[Seq], end: Seq) -> Result<(), Rejection> {
        if entries.is_empty() {
            return Err(Rejection::Invalid {
                field: Field::Entries,
                problem: "names no entry".to_owned(),
            });
        }
        if entries.iter().any(|entry| *entry == Seq::ZERO || *entry > end) {
            return Err(Rejection::not_found(Missing::Entry));
        }
        let over = |limit, max: usize, given: usize| Rejection::LimitExceeded {
            limit,
            max: max as u64,
            given: given as u64,
        };
        if entries.len() > ERASED_AT_ONCE_MAX {
            return Err(over(Limit::ErasedAtOnce, ERASED_AT_ONCE_MAX, entries.len()));
        }
        if self.pending.len() >= ERASURES_MAX {
            return Err(over(
                Limit::ErasuresUnderWay,
                ERASURES_MAX,
                self.pending.len() + 1,
            ));
        }
        Ok(())
    }

    fn finish(&self, through: Seq, end: Seq) -> Decided {
        if self.pending.front().is_none_or(|pending| pending.entry > through) {
            return already(end, ReplyResult::Recorded);
        }
        decided(end, vec![EntryBody::from(Finished { through })])
    }
}

/// The rejection for a stream that holds names only.
pub(crate) fn nothing_to_erase() -> Rejection {
    Rejection::Invalid {
        field: Field::Stream,
        problem: "has nothing that can be erased".to_owned(),
    }
}
