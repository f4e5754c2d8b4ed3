//! Due work, as workers see it.

use std::time::Duration;
use tape_core::agenda::Item;
use tape_core::id::{ConnectorName, Seq, StreamId};
use tape_core::time::Timestamp;

/// A page of due work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuePage {
    /// The pieces.
    pub work: Vec<DueWork>,
    /// Where the next page begins; none at the end. Opaque.
    pub next: Option<String>,
}

/// A piece of work and when it is due. It is a hint: the command that takes it up says whether it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWork {
    /// Its stream.
    pub stream: StreamId,
    /// The item of the stream.
    pub item: Item,
    /// The time until it is due; zero if it is due.
    pub due_in: Duration,
}

/// A page of work that is due or becomes due later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingPage {
    /// The pieces.
    pub work: Vec<PendingWork>,
    /// Where the next page begins; none at the end. Opaque.
    pub next: Option<String>,
    /// The journal's time, by which work is due. None where the journal does not tell it: a server of an earlier build.
    pub now: Option<Timestamp>,
}

/// A piece of work and the time that it is due at. It is a hint, as [`DueWork`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingWork {
    /// Its stream.
    pub stream: StreamId,
    /// The item of the stream.
    pub item: Item,
    /// When it is due, by the journal's time.
    pub due: Timestamp,
}

/// What a worker needs to know of an effect before it claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueEffect {
    /// The upstream.
    pub connector: ConnectorName,
    /// The entry that began the effect, which has its arguments.
    pub begun: Seq,
}

/// What a worker needs to know of an obligation before it claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueObligation {
    /// The upstream.
    pub connector: ConnectorName,
    /// The entry that says how the effect is undone.
    pub source: Seq,
    /// The entry that began the effect; none for a duplicate of it.
    pub begun: Option<Seq>,
}
