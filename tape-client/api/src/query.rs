//! The queries of a journal, and their answers.

mod gates;
mod names;
mod runs;
mod work;

pub use gates::{GatePage, GateQuery, OpenGate};
pub use names::{
    DamagedStream, SessionPage, SessionQuery, SessionSummary, ValuePage, ValueQuery, ValueSummary,
};
pub use runs::{RunCounts, RunPage, RunQuery};
pub use work::{DueFilter, KeyOwnership, QueueSummary};

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::entry::session::EventAppended;
use tape_core::id::{RunId, Seq, StreamId, Tenant};
use tape_core::payload::{Digest, Payload};
use tape_core::state::Json;
use tape_core::subject::Pattern;
use tape_core::time::Timestamp;

/// How far to read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the last entry there is now.
    End,
    /// For ever: future entries follow.
    Forever,
}

/// An event of a session, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place.
    pub seq: Seq,
    /// What was recorded.
    pub event: EventAppended,
}

/// A session as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its last entry.
    pub seq: Seq,
    /// Its state, with the state it shares under `app:` and `user:`.
    pub state: BTreeMap<String, Json>,
    /// Its newest events that count (that no rewind removed), as many as were asked for, oldest first.
    pub events: Vec<RecordedEvent>,
    /// Where the events before those are; none where there are none.
    pub older: Option<OlderEvents>,
}

/// The place in the events of a session before which older ones are read. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderEvents(pub String);

/// Events of a session that count, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvents {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// Where the events before those are; none where there are none.
    pub older: Option<OlderEvents>,
}

/// A value with its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The version, from 1; it counts deletions too.
    pub version: u64,
    /// The value; none where it is deleted.
    pub value: Option<Payload>,
}

/// One change of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The version it came to.
    pub version: u64,
    /// The new value; none where it was deleted, or its bytes were erased since.
    pub value: Option<Payload>,
    /// Whether it was set to a value whose bytes were erased since.
    pub erased: bool,
    /// The old value; none where it was not set, or its bytes were erased since.
    pub previous: Option<Payload>,
    /// When.
    pub at: Timestamp,
}

/// A page of the existing streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPage {
    /// The streams, of all kinds.
    pub streams: Vec<StreamId>,
    /// Names in the store that are not names of streams.
    pub unreadable: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// The end of a stream, and its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its last entry.
    pub seq: Seq,
    /// The chain digest there.
    pub digest: Digest,
    /// The snapshot: after which entry it was taken, and its bytes.
    pub snapshot: Option<(Seq, Bytes)>,
}

/// The differences found in a page of the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexPage {
    /// The number of streams and pieces of due work that were compared.
    pub looked_at: u64,
    /// The differences between the indexes and the streams.
    pub findings: Vec<IndexFinding>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A difference between the indexes and a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFinding {
    /// The path of the stream.
    pub stream: String,
    /// `missing`, `stale`, `listed`, `unreadable` or `busy`.
    pub kind: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was corrected.
    pub corrected: bool,
}

/// Which runs to retire, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Runs of this tenant.
    pub tenant: Tenant,
    /// Runs that ended longer ago than this, by the journal's clock.
    pub older_than: Duration,
    /// Why, for the record.
    pub reason: String,
    /// Whether to count only and change nothing.
    pub dry_run: bool,
}

/// The result for a page of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredPage {
    /// How many runs were retired, or would be.
    pub runs: u64,
    /// How many of their entries were dropped, or would be.
    pub entries: u64,
    /// Runs that were due and could not be retired, and why.
    pub left: Vec<(RunId, String)>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A page of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPage {
    /// Entries with their streams, in order within each stream; may be none.
    pub entries: Vec<(StreamId, StoredEntry)>,
    /// Entries that cannot be read: they are damaged, or of a newer build. The feed continues after them; a person must look at them.
    pub damaged: Vec<DamagedEntry>,
    /// The shard of the feed that the page is of.
    pub shard: u16,
    /// Where a reader goes on that is done with the page. Opaque.
    pub cursor: Bytes,
    /// How many shards the feed has.
    pub shards: u16,
}

/// An entry of the feed that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its stream, where that is known.
    pub stream: Option<StreamId>,
    /// Where it is, and what does not fit.
    pub problem: String,
}

/// Which part of the feed to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Entries of this tenant; of all tenants where none is named.
    pub tenant: Option<Tenant>,
    /// Entries with these subjects. A subject begins with the tenant.
    pub pattern: Pattern,
    /// Where to go on, by shard: the cursors of earlier pages. Other shards begin where `from_start` says.
    pub cursors: BTreeMap<u16, Bytes>,
    /// The shards to read; all where none is named.
    pub shards: BTreeSet<u16>,
    /// Whether to begin with the first existing entry, instead of with new ones.
    pub from_start: bool,
    /// Whether to wait for future entries, instead of stopping at the end.
    pub follow: bool,
}

impl Tail {
    /// New entries with these subjects, of the tenant that the pattern names or of all, without an end.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        Self {
            tenant: pattern.tenant(),
            pattern,
            cursors: BTreeMap::new(),
            shards: BTreeSet::new(),
            from_start: false,
            follow: true,
        }
    }
}
