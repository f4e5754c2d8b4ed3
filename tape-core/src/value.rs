//! Watchable values: versions, compare-and-set, tombstones.

use crate::agenda::Agenda;
use crate::command::{Command, ValueCommand};
use crate::decider::{Decider, ReplayError};
use crate::entry::value::{Deleted, Put};
use crate::entry::{Entry, EntryBody};
use crate::erasure::{ErasureCommand, Erasures};
use crate::id::{Seq, StreamId};
use crate::payload::Payload;
use crate::replies::Replies;
use crate::reply::decided;
use crate::reply::{Decided, Missing, Rejection, Versioned};
use crate::time::Now;
use serde::{Deserialize, Serialize};

/// A value and its version. Each change raises the version by one, deletion too, so no version is ever used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    seq: Seq,
    version: u64,
    current: Option<Kept>,
    replies: Replies,
    erasures: Erasures,
}

/// A reference to the value. Only the entry has the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    payload: Payload,
    entry: Seq,
}

impl Value {
    /// The value now; none where there never was one, or it was deleted or erased. A folded state has no bytes. A caller with access to the
    /// journal reads them from the entry that [`Value::current_in`] names.
    #[must_use]
    pub fn current(&self) -> Option<Payload> {
        self.current.as_ref().map(|kept| kept.payload.clone())
    }

    /// The entry that has the bytes of the value, where there is one.
    #[must_use]
    pub fn current_in(&self) -> Option<Seq> {
        self.current.as_ref().map(|kept| kept.entry)
    }

    /// The state with the bytes of the value, from the entry that has them. They are part of no snapshot.
    #[must_use]
    pub fn with_current(mut self, entry: &Entry) -> Self {
        if let (Some(kept), EntryBody::ValuePut(put)) = (&mut self.current, &entry.body)
            && kept.entry == entry.seq
        {
            kept.payload = put.value.clone();
        }
        self
    }

    /// Its version; zero where there never was a value.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    fn check(&self, expected: Option<u64>) -> Result<(), Rejection> {
        match expected {
            Some(expected) if expected != self.version => Err(Rejection::VersionConflict {
                what: Versioned::Value,
                expected,
                current: self.version,
            }),
            _ => Ok(()),
        }
    }
}

impl Kept {
    fn new(payload: &Payload, entry: Seq) -> Self {
        Self {
            payload: payload.erased(),
            entry,
        }
    }
}

impl Value {
    /// A value whose bytes were erased is gone, as if it had been deleted; its version stays.
    fn fold_erasure(&mut self, entry: &Entry) {
        match &entry.body {
            EntryBody::PayloadErased(erased) => {
                self.current.take_if(|kept| erased.entries.contains(&kept.entry));
                self.erasures.fold_erased(erased, entry.seq, entry.at);
            }
            EntryBody::ErasureFinished(finished) => self.erasures.fold_finished(finished),
            _ => {}
        }
        self.seq = entry.seq;
        self.replies.note(entry);
    }
}

impl Decider for Value {
    type Command = ValueCommand;
    const SNAPSHOT_VERSION: u32 = 3;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Value { .. })
    }

    fn decide(&self, command: &Command<ValueCommand>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        if let Some(first) = self.replies.recall(command, now.into().at())? {
            return Ok(first);
        }
        let version = self.version + 1;
        let body = match &command.body {
            ValueCommand::Put { value, expected } => {
                self.check(*expected)?;
                EntryBody::from(Put {
                    version,
                    value: value.clone(),
                    previous: None,
                })
            }
            ValueCommand::Delete { expected } => {
                self.check(*expected)?;
                if self.current.is_none() {
                    return Err(Rejection::not_found(Missing::Value));
                }
                let previous = None;
                Deleted { version, previous }.into()
            }
        };
        Ok(decided(self.seq, vec![body]))
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let impossible = |problem: &str| ReplayError::Impossible {
            seq: entry.seq,
            kind: entry.body.kind(),
            problem: problem.to_owned(),
        };
        let (version, current) = match &entry.body {
            EntryBody::ValuePut(put) => (put.version, Some(Kept::new(&put.value, entry.seq))),
            EntryBody::ValueDeleted(deleted) => (deleted.version, None),
            EntryBody::PayloadErased(_) | EntryBody::ErasureFinished(_) => {
                self.fold_erasure(entry);
                return Ok(());
            }
            _ => return Err(impossible("it does not belong into a value")),
        };
        if version != self.version + 1 {
            return Err(impossible("its version is not the next"));
        }
        (self.version, self.current) = (version, current);
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
