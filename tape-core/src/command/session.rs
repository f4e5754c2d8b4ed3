//! Commands of sessions and of the state that they share.

use super::CommandBody;
use crate::entry::session::RefusedMerge;
use crate::id::{EventId, Invocation, Key, Seq, SessionId};
use crate::payload::Payload;
use crate::state::Delta;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// The entry to rewind a session to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rewind {
    /// The last entry that counts.
    pub to: Seq,
    /// The last entry that the caller has seen, if the command must be refused when a newer event exists.
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
        /// The last entry that the caller has seen, if the command must be refused when a newer event exists.
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
    /// Rewinds the session to how it was after an entry. If the session was last rewound to the same entry and nothing was appended since,
    /// nothing changes.
    Rewind {
        /// The last entry that counts.
        to: Seq,
        /// The last entry that the caller has seen, if the command must be refused when a newer event exists.
        expected: Option<Seq>,
        /// The session's own state as it was then, read from its entries by the caller.
        #[serde(skip)]
        state: Delta,
        /// The entry in which each key's value first appeared.
        #[serde(skip)]
        origins: BTreeMap<Key, Seq>,
        /// The last entry of the session before the caller began to read.
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
    /// Merges the change of a session's event, once. The session, the entry and its time identify the change; the request id does not.
    Merge {
        /// The session.
        session: SessionId,
        /// The event's entry there.
        source: Seq,
        /// When that was recorded.
        recorded_at: Timestamp,
        /// The change, keys without their prefix.
        delta: Delta,
        /// The last entry of the shared state up to which the caller has looked for the change without finding it; zero where it has not
        /// looked.
        searched: Seq,
    },
}

impl CommandBody for SharedCommand {
    fn is_idempotent(&self) -> bool {
        true
    }
}
