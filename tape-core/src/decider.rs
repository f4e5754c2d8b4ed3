//! What runs, sessions, shared state, values and claims have in common: each is a small decider over a stream.

use crate::agenda::Agenda;
use crate::command::{Command, CommandBody};
use crate::entry::Entry;
use crate::erasure::{ErasureCommand, Erasures, nothing_to_erase};
use crate::id::{Epoch, Key, Seq, StreamId};
use crate::reply::{Decided, Rejection};
use crate::time::{Now, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The folded state of a stream, and the rules over it. `Default` is the state before the first entry.
pub trait Decider: Clone + Default + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// What can be asked of the stream.
    type Command: CommandBody + Clone + Send + Sync + 'static;

    /// Raised whenever the serialized form of the state changes; snapshots of another version are not used.
    const SNAPSHOT_VERSION: u32;

    /// Whether this type decides the stream of that name.
    fn accepts(stream: &StreamId) -> bool;

    /// What a command means for the stream now. Pure; a repeated command returns its first reply with no entries, or is refused as
    /// too old to know.
    ///
    /// # Errors
    /// [`Rejection`] says why the command is refused; nothing changes.
    fn decide(&self, command: &Command<Self::Command>, now: impl Into<Now>) -> Result<Decided, Rejection>;

    /// What a command about the payloads of the stream means for it now. Pure; a repeated command returns its first reply with no
    /// entries.
    ///
    /// # Errors
    /// [`Rejection`] says why the command is refused; nothing changes.
    fn decide_erasure(
        &self,
        command: &Command<ErasureCommand>,
        now: impl Into<Now>,
    ) -> Result<Decided, Rejection> {
        let _ = (command, now);
        Err(nothing_to_erase())
    }

    /// What of the stream was erased and is still to be got rid of; none where it has nothing that can be erased.
    fn erasures(&self) -> Option<&Erasures> {
        None
    }

    /// Folds one stored entry.
    ///
    /// # Errors
    /// [`ReplayError`] where the entry cannot follow this state: stored bytes can be wrong.
    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError>;

    /// The due work that this state implies.
    fn agenda(&self) -> Agenda {
        Agenda::default()
    }

    /// The fencing token of the stream's driver; zero for streams that have none.
    fn epoch(&self) -> Epoch {
        Epoch::default()
    }

    /// The last entry folded.
    fn seq(&self) -> Seq;

    /// The stream whose journal this is by its own word, where its entries say so. One that is found under another name was
    /// moved there.
    fn named(&self) -> Option<StreamId> {
        None
    }

    /// What lists of runs show; none for streams that are not listed.
    fn summary(&self) -> Option<Summary> {
        None
    }
}

/// A stored entry cannot follow the state before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The entry is not the next.
    #[error("entry {found} follows entry {after}")]
    OutOfOrder {
        /// The last entry folded.
        after: Seq,
        /// The entry that came.
        found: Seq,
    },
    /// The entries are those of another stream.
    #[error("the entries are those of {named}")]
    OtherStream {
        /// The stream that they name.
        named: StreamId,
    },
    /// The entry contradicts the state.
    #[error("entry {seq} ({kind}) cannot follow: {problem}")]
    Impossible {
        /// The entry.
        seq: Seq,
        /// Its kind.
        kind: &'static str,
        /// Why.
        problem: String,
    },
}

/// What lists of runs show, and what runs are found by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Where the run stands.
    pub status: RunStatus,
    /// Its labels.
    pub labels: BTreeMap<Key, String>,
    /// When it began.
    pub begun_at: Timestamp,
    /// When its status last changed, or a person last settled something of it.
    pub changed_at: Timestamp,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A driver works on it, or recovery will see to it.
    Running,
    /// It waits for a gate, a timer or an effect.
    Suspended,
    /// What it did is being undone.
    Compensating,
    /// Something of it waits for a person, whoever drives it meanwhile.
    Stuck,
    /// It ended well.
    Completed,
    /// It ended in failure.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Suspended,
        Self::Compensating,
        Self::Stuck,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Serializes a snapshot of `state`.
///
/// # Panics
/// Never: every state has a JSON form.
#[must_use]
pub fn snapshot<S: Decider>(state: &S) -> Vec<u8> {
    serde_json::to_vec(&(S::SNAPSHOT_VERSION, state)).expect("every state has a JSON form")
}

/// Reads a snapshot; none where it has another version or is damaged, since the entries are there to fold instead.
#[must_use]
pub fn restore<S: Decider>(bytes: &[u8]) -> Option<S> {
    let (version,): (u32,) = serde_json::from_slice::<(u32, serde::de::IgnoredAny)>(bytes)
        .ok()
        .map(|(v, _)| (v,))?;
    if version != S::SNAPSHOT_VERSION {
        return None;
    }
    serde_json::from_slice::<(u32, S)>(bytes)
        .ok()
        .map(|(_, state)| state)
}

/// What a command that appends these entries after `last` replies: the same as a repeat of it will be told.
pub(crate) fn decided(last: Seq, entries: Vec<crate::entry::EntryBody>) -> Decided {
    use crate::reply::{Reply, ReplyResult};
    let result = entries
        .iter()
        .filter_map(ReplyResult::of)
        .next_back()
        .unwrap_or(ReplyResult::Recorded);
    let reply = Reply {
        seq: Seq(last.0 + entries.len() as u64),
        result,
    };
    Decided { entries, reply }
}

/// A command that changes nothing, since what it asks for is so already.
pub(crate) const fn already(seq: Seq, result: crate::reply::ReplyResult) -> Decided {
    Decided {
        entries: Vec::new(),
        reply: crate::reply::Reply { seq, result },
    }
}
