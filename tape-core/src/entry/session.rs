//! Sessions and the state they share.

use super::has_payloads;
use crate::id::Seq;
use crate::id::{EventId, Invocation, SessionId};
use crate::payload::Payload;
use crate::session::Delta;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The session, so that a journal names itself wherever it is found.
    pub session: SessionId,
    /// Its first state.
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub state: Delta,
}

/// An event of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAppended {
    /// The event; unique within the session.
    pub event: EventId,
    /// The invocation it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<Invocation>,
    /// Who speaks: `user`, or the name of an agent.
    pub author: String,
    /// The change of state that comes with it; `temp:` keys are never recorded.
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub delta: Delta,
    /// The event itself.
    pub content: Payload,
}
has_payloads!(EventAppended: content);

/// The shared state changes of events up to `through` have reached their streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The last such event.
    pub through: Seq,
}

/// The session is as it was after the entry `to`; later events no longer count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// The last entry that counts.
    pub to: Seq,
    /// The session's own state as it was then.
    pub state: Delta,
}

/// The session was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {}

/// A session's event changed state shared beyond it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMerged {
    /// The session.
    pub session: SessionId,
    /// The event's entry there.
    pub source: Seq,
    /// When that was recorded; none in entries of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// The change, keys without their prefix.
    pub delta: Delta,
}
