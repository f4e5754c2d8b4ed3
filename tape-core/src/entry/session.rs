//! Sessions and the state they share.

use super::has_payloads;
use super::words::{HasWords, Words, has_words};
use crate::id::{EventId, Invocation, Key, Seq, SessionId};
use crate::payload::Payload;
use crate::state::{Delta, StateScope};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The session, so that a journal names itself wherever it is found.
    pub session: SessionId,
    /// Its first state.
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub state: Delta,
}
has_words!(Created: state);

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
has_words!(EventAppended: delta);

/// The shared state changes of events up to `through` have reached their streams, or were refused there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The last such event.
    pub through: Seq,
    /// Those that were refused, and are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedMerge>,
}

impl HasWords for Merged {
    fn words_mut(&mut self) -> Vec<&mut dyn Words> {
        let refused = self.refused.iter_mut();
        refused
            .map(|refused| &mut refused.problem as &mut dyn Words)
            .collect()
    }
}

/// A change that the stream of the shared state refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMerge {
    /// The event's entry.
    pub source: Seq,
    /// Which of the shared states.
    pub scope: StateScope,
    /// Why.
    pub problem: String,
}

/// The session is as it was after the entry `to`; later events no longer count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// The last entry that counts.
    pub to: Seq,
    /// The session's own state as it was then.
    pub state: Delta,
    /// The entry in which each key's value first appeared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<Key, Seq>,
}
has_words!(Rewound: state);

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
has_words!(SharedMerged: delta);
