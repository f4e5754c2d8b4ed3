//! What is on record of a relay in one tenant: refusals, what was sent again, receipts.
//!
//! A relay that crashes between a refusal and the move of its place meets the same entry again. So the stream remembers its last refusals and
//! receipts, and answers one that comes again with the first. What it remembers is bounded and has neither names nor texts: of an entry it
//! keeps a digest.

use crate::agenda::Agenda;
use crate::command::{Command, RelayCommand};
use crate::decider::{Decider, ReplayError};
use crate::entry::relay::{Receipt, RecordedErasure, Redelivered, Refused, SentEntry};
use crate::entry::{Entry, EntryBody};
use crate::erasure::{ErasureCommand, Erasures};
use crate::id::{Seq, StreamId, SubscriberName};
use crate::limits::{NUMBER_MAX, RECEIPTS_MAX, REFUSALS_MAX};
use crate::payload::ContentDigest;
use crate::replies::Replies;
use crate::reply::{Decided, Field, Missing, Rejection, ReplyResult, already, decided};
use crate::run::check::text;
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The folded stream of a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRecord {
    seq: Seq,
    /// The last refusals, oldest first.
    refusals: VecDeque<Refusal>,
    /// The last refusal that is no longer among them.
    forgotten: Seq,
    /// The last receipts, oldest first.
    receipts: VecDeque<Known>,
    replies: Replies,
    erasures: Erasures,
}

/// A refusal that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    known: Known,
    /// The entry that says that it was sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redelivered: Option<Seq>,
}

/// Something that is on record, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    what: ContentDigest,
    entry: Seq,
}

impl RelayRecord {
    /// The refusals among the remembered ones that were not sent again, by their entries, oldest first.
    pub fn open(&self) -> impl Iterator<Item = Seq> {
        let open = self
            .refusals
            .iter()
            .filter(|refusal| refusal.redelivered.is_none());
        open.map(|refusal| refusal.known.entry)
    }

    /// The last refusal that is no longer remembered; zero where all are. Whether it, and those before it, were sent again is in the entries
    /// alone.
    #[must_use]
    pub const fn forgotten(&self) -> Seq {
        self.forgotten
    }

    fn refuse(&self, entry: &SentEntry, attempts: u32, reason: &str) -> Result<Decided, Rejection> {
        check_entry(&entry.stream, entry.seq)?;
        if attempts == 0 {
            return Err(Rejection::Invalid {
                field: Field::Attempts,
                problem: "counts from 1".to_owned(),
            });
        }
        text(Field::Reason, reason)?;
        let what = of_entry(entry);
        let mut open = self.refusals.iter().rev();
        if let Some(first) = open.find(|refusal| refusal.known.what == what && refusal.redelivered.is_none())
        {
            return Ok(already(first.known.entry, ReplyResult::Recorded));
        }
        let refused = Refused {
            entry: entry.clone(),
            attempts,
            reason: reason.to_owned(),
        };
        Ok(decided(self.seq, vec![refused.into()]))
    }

    fn redeliver(&self, refusal: Seq) -> Result<Decided, Rejection> {
        let known = self.refusals.iter().find(|known| known.known.entry == refusal);
        match known.map(|known| known.redelivered) {
            Some(Some(seq)) => Err(Rejection::Redelivered { refusal, seq }),
            // The stream no longer knows what became of those before.
            None if refusal == Seq::ZERO || refusal > self.forgotten => {
                Err(Rejection::none_named(Missing::Refusal, refusal))
            }
            _ => Ok(decided(self.seq, vec![Redelivered { refusal }.into()])),
        }
    }

    fn confirm(&self, subscriber: &SubscriberName, erasure: &RecordedErasure) -> Result<Decided, Rejection> {
        check_entry(&erasure.stream, erasure.seq)?;
        let what = of_receipt(subscriber, erasure);
        if let Some(first) = self.receipts.iter().find(|known| known.what == what) {
            return Ok(already(first.entry, ReplyResult::Recorded));
        }
        let receipt = Receipt {
            subscriber: subscriber.clone(),
            erasure: erasure.clone(),
        };
        Ok(decided(self.seq, vec![receipt.into()]))
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.body {
            EntryBody::RelayRefused(refused) => {
                let known = Known {
                    what: of_entry(&refused.entry),
                    entry: entry.seq,
                };
                let redelivered = None;
                if let Some(oldest) = push(&mut self.refusals, Refusal { known, redelivered }, REFUSALS_MAX) {
                    self.forgotten = oldest.known.entry;
                }
            }
            EntryBody::RelayRedelivered(redelivered) => {
                self.fold_redelivered(redelivered.refusal, entry.seq)?
            }
            EntryBody::RelayReceipt(receipt) => {
                let known = Known {
                    what: of_receipt(&receipt.subscriber, &receipt.erasure),
                    entry: entry.seq,
                };
                push(&mut self.receipts, known, RECEIPTS_MAX);
            }
            EntryBody::PayloadErased(erased) => self.erasures.fold_erased(erased, entry.seq, entry.at),
            EntryBody::ErasureFinished(finished) => self.erasures.fold_finished(finished),
            _ => return Err("it does not belong into the record of a relay".to_owned()),
        }
        Ok(())
    }

    fn fold_redelivered(&mut self, refusal: Seq, seq: Seq) -> Result<(), String> {
        let mut refusals = self.refusals.iter_mut();
        match refusals.find(|known| known.known.entry == refusal) {
            Some(Refusal {
                redelivered: Some(before),
                ..
            }) => Err(format!("refusal {refusal} was sent again in entry {before}")),
            Some(known) => {
                known.redelivered = Some(seq);
                Ok(())
            }
            None if refusal > self.forgotten => Err(format!("there is no refusal {refusal}")),
            None => Ok(()),
        }
    }
}

/// Appends to a window, and returns what it forgets for that.
fn push<T>(window: &mut VecDeque<T>, item: T, max: usize) -> Option<T> {
    window.push_back(item);
    if window.len() > max {
        window.pop_front()
    } else {
        None
    }
}

fn of_entry(entry: &SentEntry) -> ContentDigest {
    ContentDigest::of(entry)
}

fn of_receipt(subscriber: &SubscriberName, erasure: &RecordedErasure) -> ContentDigest {
    ContentDigest::of(&(subscriber, erasure))
}

/// Checks what is said to be an entry that a relay sends. An entry of a relay's stream is not on record: the entry that says so would be sent
/// and refused in its turn, without end.
fn check_entry(stream: &StreamId, seq: Seq) -> Result<(), Rejection> {
    let invalid = |field, problem: &str| {
        let problem = problem.to_owned();
        Err(Rejection::Invalid { field, problem })
    };
    match (stream, seq) {
        (StreamId::Relay(_), _) => invalid(
            Field::Stream,
            "is that of a relay, whose entries are not on record",
        ),
        (_, Seq(1..=NUMBER_MAX)) => Ok(()),
        _ => invalid(Field::Entry, "is not the number of an entry"),
    }
}

impl Decider for RelayRecord {
    type Command = RelayCommand;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Relay(_))
    }

    fn decide(&self, command: &Command<RelayCommand>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        if let Some(first) = self.replies.recall(command, now.into().at())? {
            return Ok(first);
        }
        match &command.body {
            RelayCommand::Refuse {
                entry,
                attempts,
                reason,
            } => self.refuse(entry, *attempts, reason),
            RelayCommand::Redelivered { refusal } => self.redeliver(*refusal),
            RelayCommand::Receipt { subscriber, erasure } => self.confirm(subscriber, erasure),
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        self.fold(entry).map_err(|problem| ReplayError::Impossible {
            seq: entry.seq,
            kind: entry.body.kind(),
            problem,
        })?;
        self.seq = entry.seq;
        self.replies.note(entry);
        Ok(())
    }

    fn decide_erasure(
        &self,
        command: &Command<ErasureCommand>,
        now: impl Into<Now>,
    ) -> Result<Decided, Rejection> {
        match self.replies.recall(command, now.into().at())? {
            Some(first) => Ok(first),
            None => self.erasures.decide(&command.body, self.seq, |_| Vec::new()),
        }
    }

    fn erasures(&self) -> Option<&Erasures> {
        Some(&self.erasures)
    }

    fn agenda(&self) -> Agenda {
        let mut agenda = Agenda::default();
        self.erasures.add_to(&mut agenda);
        agenda
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}
