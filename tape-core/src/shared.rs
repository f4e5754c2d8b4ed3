//! State that sessions share: of an app (`app:`), or of one of its users (`user:`).

use crate::command::{Command, SharedCommand};
use crate::entry::session::SharedMerged;
use crate::entry::{Entry, EntryBody};
use crate::id::{Seq, SessionId, StreamId};
use crate::limits::PENDING_MERGES_MAX;
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::session::{State, check_size};
use crate::stream::{Remembered, ReplayError, Stream, already, decided};
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Shared state, and which sessions' changes it has.
///
/// A session's event records the change first; then it is carried over here, once, whoever does it. The last
/// [`PENDING_MERGES_MAX`] changes are remembered for that: a change must not stay uncarried for longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    seq: Seq,
    state: State,
    merged: VecDeque<(SessionId, Seq)>,
    replies: Remembered,
}

impl Shared {
    /// The state, keys without their prefix.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    fn has(&self, session: &SessionId, source: Seq) -> bool {
        self.merged
            .iter()
            .any(|(of, seq)| *seq == source && of == session)
    }
}

impl Stream for Shared {
    type Command = SharedCommand;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Shared { .. })
    }

    fn decide(&self, command: &Command<SharedCommand>, _now: impl Into<Now>) -> Result<Decided, Rejection> {
        if let Some(reply) = self.replies.get(command.request) {
            return Ok(Decided {
                entries: Vec::new(),
                reply,
            });
        }
        let SharedCommand::Merge {
            session,
            source,
            delta,
        } = &command.body;
        if self.has(session, *source) {
            return Ok(already(self.seq, ReplyResult::Recorded));
        }
        check_size(&self.state, delta)?;
        let merged = SharedMerged {
            session: session.clone(),
            source: *source,
            delta: delta.clone(),
        };
        Ok(decided(self.seq, vec![merged.into()]))
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let EntryBody::SharedMerged(merged) = &entry.body else {
            let problem = "it does not belong into shared state".to_owned();
            return Err(ReplayError::Impossible {
                seq: entry.seq,
                kind: entry.body.kind(),
                problem,
            });
        };
        self.state.change(&merged.delta);
        if self.merged.len() == PENDING_MERGES_MAX {
            self.merged.pop_front();
        }
        self.merged.push_back((merged.session.clone(), merged.source));
        self.seq = entry.seq;
        self.replies.note(entry);
        Ok(())
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}
