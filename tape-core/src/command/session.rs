//! What is asked of sessions, and of the state that they share.

use super::CommandBody;
use crate::entry::session::RefusedMerge;
use crate::id::{EventId, Invocation, Key, Seq, SessionId};
use crate::payload::Payload;
use crate::state::Delta;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a session is to be put back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rewind {
    /// The last entry that counts.
    pub to: Seq,
    /// The last entry the caller has seen, where it insists that nothing came after.
    pub expected: Option<Seq>,
}

/// What can be asked of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SessionCommand {
    /// Begins the session.
    Create {
        /// The session.
        session: SessionId,
        /// Its first state.
        state: Delta,
    },
    /// Appends an event.
    Append {
        /// The event; a repeated one returns the first's place.
        event: EventId,
        /// The last entry the caller has seen, where it insists that nothing came after.
        expected: Option<Seq>,
        /// The invocation it is part of.
        invocation: Option<Invocation>,
        /// Who speaks.
        author: String,
        /// The change of state; `temp:` keys are left out.
        delta: Delta,
        /// The event itself.
        content: Payload,
    },
    /// Records that shared state changes up to an event have reached their streams, or were refused there.
    MarkMerged {
        /// The last such event.
        through: Seq,
        /// Those that were refused.
        refused: Vec<RefusedMerge>,
    },
    /// Puts the session back to how it was after an entry. Where nothing was appended since it was last put back there, nothing
    /// changes.
    Rewind {
        /// The last entry that counts.
        to: Seq,
        /// The last entry the caller has seen, where it insists that nothing came after.
        expected: Option<Seq>,
        /// The session's own state as it was then, read from its entries by the caller.
        #[serde(skip)]
        state: Delta,
        /// The entry that each key's value first stood in.
        #[serde(skip)]
        origins: BTreeMap<Key, Seq>,
        /// The last entry there was before the caller began to read.
        #[serde(skip)]
        seen: Seq,
    },
    /// Deletes the session.
    Delete,
}

impl CommandBody for SessionCommand {
    fn is_idempotent(&self) -> bool {
        matches!(self, Self::MarkMerged { .. })
    }
}

/// What can be asked of shared state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SharedCommand {
    /// Carries the change of a session's event over, once: the session, the entry and its time name the change, not the request.
    Merge {
        /// The session.
        session: SessionId,
        /// The event's entry there.
        source: Seq,
        /// When that was recorded.
        recorded_at: Timestamp,
        /// The change, keys without their prefix.
        delta: Delta,
        /// The last entry of the shared state up to which the caller has looked, and found that the change is not there; zero where
        /// it has not looked.
        searched: Seq,
    },
}

impl CommandBody for SharedCommand {
    fn is_idempotent(&self) -> bool {
        true
    }
}
