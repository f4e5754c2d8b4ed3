//! What runs, sessions, shared state, values, claims and the records of relays have in common: each is a small decider over a stream.

use crate::agenda::Agenda;
use crate::command::{Command, CommandBody};
use crate::entry::Entry;
use crate::erasure::{ErasureCommand, Erasures, nothing_to_erase};
use crate::id::{Epoch, Seq, StreamId};
use crate::reply::{Decided, Rejection};
use crate::status::Summary;
use crate::time::Now;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The folded state of a stream, and the rules over it. `Default` is the state before the first entry.
pub trait Decider: Clone + Default + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// What can be asked of the stream.
    type Command: CommandBody + Clone + Send + Sync + 'static;

    /// The version of the serialized form of the state. It is raised with every change of that form; snapshots of another version are not
    /// used.
    const SNAPSHOT_VERSION: u32;

    /// Whether this type decides the stream of that name.
    fn accepts(stream: &StreamId) -> bool;

    /// Whether a command is most likely the first of its stream. It is then decided without a look at the stream, and the commit is refused
    /// where the stream is there.
    fn begins(command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// What a command means for the stream now. Pure. A repeated command returns its first reply with no entries, or is refused if the
    /// stream has forgotten requests of that age.
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

    /// The stream's erasures, with those that the store still has to carry out; none for streams without erasable payloads.
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

    /// The stream that the entries themselves name, if they name one. A journal that is found under another name was moved there.
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
