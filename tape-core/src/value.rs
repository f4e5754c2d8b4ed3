//! Watchable values: versions, compare-and-set, tombstones.

use crate::command::{Command, ValueCommand};
use crate::entry::value::{Deleted, Put};
use crate::entry::{Entry, EntryBody};
use crate::id::{Seq, StreamId};
use crate::payload::Payload;
use crate::replies::Replies;
use crate::reply::{Decided, Rejection};
use crate::stream::{ReplayError, Stream, decided};
use crate::time::Now;
use serde::{Deserialize, Serialize};

/// A value and its version. Each change raises the version by one, deletion too, so no version ever comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    seq: Seq,
    version: u64,
    current: Option<Kept>,
    replies: Replies,
}

/// A payload with its bytes, which the next change records as the previous value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    payload: Payload,
    #[serde(with = "hex")]
    bytes: Vec<u8>,
}

impl Value {
    /// The value now; none where there never was one or it was deleted.
    #[must_use]
    pub fn current(&self) -> Option<Payload> {
        self.current.as_ref().and_then(Kept::payload)
    }

    /// Its version; zero where there never was a value.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    fn check(&self, expected: Option<u64>) -> Result<(), Rejection> {
        let current = if self.current.is_some() { self.version } else { 0 };
        match expected {
            Some(expected) if expected != current => Err(Rejection::VersionConflict {
                what: "value",
                expected,
                current,
            }),
            _ => Ok(()),
        }
    }
}

impl Kept {
    fn new(payload: &Payload) -> Option<Self> {
        let bytes = payload.bytes()?.to_vec();
        Some(Self {
            payload: payload.erased(),
            bytes,
        })
    }

    /// None where a snapshot was damaged so that its bytes are not the payload's any more.
    fn payload(&self) -> Option<Payload> {
        let mut payload = self.payload.clone();
        payload.restore(self.bytes.clone().into()).ok()?;
        Some(payload)
    }
}

impl Stream for Value {
    type Command = ValueCommand;
    const SNAPSHOT_VERSION: u32 = 2;

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
                    previous: self.current(),
                })
            }
            ValueCommand::Delete { expected } => {
                self.check(*expected)?;
                let previous = self.current().ok_or(Rejection::NotFound { what: "value" })?;
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
            // A value whose bytes were erased is gone, as if it had been deleted; its version stays.
            EntryBody::ValuePut(put) => (put.version, Kept::new(&put.value)),
            EntryBody::ValueDeleted(deleted) => (deleted.version, None),
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

    fn seq(&self) -> Seq {
        self.seq
    }
}
