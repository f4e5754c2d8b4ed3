//! What a journal is to the client: a server, or a store in this process.

#[cfg(feature = "embedded")]
pub(crate) mod embedded;
#[cfg(feature = "remote")]
pub(crate) mod remote;

use crate::error::Source;
use crate::session::RecordedEvent;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::erasure::Erasure;
use tape_core::id::{App, Key, Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::payload::{Digest, Payload};
use tape_core::reply::{Rejection, Reply};
use tape_core::run::Driver;
use tape_core::session::Json;
use tape_core::stream::{RunStatus, Summary};
use tape_core::subject::Pattern;
use tape_core::time::Timestamp;
use tokio::sync::watch;

/// A journal that answers commands. A command may be sent again with its request id: it returns its first outcome, or is refused as
/// too old to know.
#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync + 'static {
    /// A new name for a request. Where the journal refused one for its age, the next ones have learned its time.
    fn request_id(&self) -> RequestId;
    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, Failure>;
    /// All session commands but a rewind, which has a method of its own: it needs more than the command says.
    async fn session(&self, session: &SessionId, command: Command<SessionCommand>) -> Result<Reply, Failure>;
    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, Failure>;
    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, Failure>;
    /// Events of a session that are older than those of a page before.
    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, Failure>;
    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, Failure>;
    async fn value_state(&self, tenant: &Tenant, name: &ValueName) -> Result<Option<Versioned>, Failure>;

    /// Transitions of a value after a version, for ever.
    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, Failure>>;

    /// The last entry of a run and the chain digest there, by the journal's own account.
    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, Failure>;

    /// Who drives a run; none where there is no such run.
    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, Failure>;

    /// Entries of a run after `after`, in pages; up to its end, or for ever.
    fn entries(
        &self,
        run: &RunId,
        after: Seq,
        until: Until,
    ) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>>;

    /// Entries of all streams whose subjects fit, with those that are still to come where asked. A failure that may pass is not
    /// the end: the next page is tried for again, from where the feed was.
    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, Failure>>;

    async fn runs(&self, query: &RunQuery, page: Option<String>, limit: u32) -> Result<RunPage, Failure>;
    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, Failure>;

    /// Retires a page of runs, in somebody's name.
    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        page: Option<String>,
    ) -> Result<RetiredPage, Failure>;
    async fn reclaim(&self) -> Result<bool, Failure>;

    /// A page of the streams there are, of all tenants and kinds.
    async fn streams(&self, page: Option<String>) -> Result<StreamPage, Failure>;
    /// Where a stream ends by the journal's own account; none where it is not there.
    async fn end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, Failure>;
    /// All entries of a stream of any kind, in pages; none where it is not there.
    fn stream_entries(&self, stream: &StreamId) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>>;
    /// Compares a page of the indexes with what the streams imply.
    async fn check_index(&self, page: Option<String>, correct: bool) -> Result<IndexPage, Failure>;

    /// Counts the connections that were lost. A server that sees one close may let the runs go that were driven on it.
    fn lost_connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the last entry there is now.
    End,
    /// For ever: entries that are still to come follow.
    Dropped,
}

/// Why a journal did not answer a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It refuses; nothing is written.
    Rejected(Rejection),
    /// It is out of reach, busy, or its answer was lost: send the same request again.
    Retryable(Source),
    /// It does not take the request as it is; nothing is written.
    #[cfg_attr(
        not(feature = "remote"),
        expect(dead_code, reason = "an engine takes only what was checked")
    )]
    Invalid(String),
    /// Sending it again does not help.
    Fatal(Source),
}

/// A session as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its last entry.
    pub seq: Seq,
    /// Its state, with the state it shares under `app:` and `user:`.
    pub state: BTreeMap<String, Json>,
    /// Its newest events that count, as many as were asked for, oldest first.
    pub events: Vec<RecordedEvent>,
    /// Where the events before those are; none where there are none.
    pub older: Option<OlderEvents>,
}

/// A place in the events of a session, for [`Session::older`](crate::Session::older).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderEvents(pub(crate) String);

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
    /// What it is; none where it was deleted.
    pub value: Option<Payload>,
    /// What it was; none where it was not set.
    pub previous: Option<Payload>,
    /// When.
    pub at: Timestamp,
}

/// Which runs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// Of this tenant.
    pub tenant: Tenant,
    /// Of this app.
    pub app: Option<App>,
    /// In this status.
    pub status: Option<RunStatus>,
    /// With this label.
    pub label: Option<(Key, String)>,
}

impl RunQuery {
    /// All runs of a tenant.
    #[must_use]
    pub const fn all(tenant: Tenant) -> Self {
        Self {
            tenant,
            app: None,
            status: None,
            label: None,
        }
    }
}

/// A page of a list of runs, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<(RunId, Summary)>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A page of the streams there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPage {
    /// The streams, of all kinds.
    pub streams: Vec<StreamId>,
    /// Names in the store that are those of no stream.
    pub unreadable: Vec<String>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// Where a stream ends, and what stands beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its last entry.
    pub seq: Seq,
    /// The chain digest there.
    pub digest: Digest,
    /// The snapshot: after which entry it was taken, and its bytes.
    pub snapshot: Option<(Seq, Bytes)>,
}

/// What was found in a page of the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexPage {
    /// Streams and pieces of due work that were looked at.
    pub looked_at: u64,
    /// What the indexes have otherwise than the streams.
    pub findings: Vec<IndexFinding>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// Something that the indexes have otherwise than a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFinding {
    /// The path of the stream.
    pub stream: String,
    /// `missing`, `stale`, `listed`, `unreadable` or `busy`.
    pub kind: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was put right.
    pub corrected: bool,
}

/// Which runs go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Runs of this tenant.
    pub tenant: Tenant,
    /// That ended longer ago than this, by the journal's clock.
    pub older_than: Duration,
    /// Why, for the record.
    pub reason: String,
    /// Whether to look only, and leave everything as it is.
    pub dry_run: bool,
}

/// What came of a page of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredPage {
    /// How many runs were retired, or would be.
    pub runs: u64,
    /// How many entries of them were dropped, or would be.
    pub entries: u64,
    /// Runs that are due and were left as they are, and why.
    pub left: Vec<(RunId, String)>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A page of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPage {
    /// Entries with their streams, in order within each stream; may be none.
    pub entries: Vec<(StreamId, StoredEntry)>,
    /// Entries that cannot be read: they are damaged, or of a newer build. The feed goes on after them; a person must look.
    pub damaged: Vec<DamagedEntry>,
}

/// An entry of the feed that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its stream, where that is known.
    pub stream: Option<StreamId>,
    /// Where it is, and what does not fit.
    pub problem: String,
}

/// What to read of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Entries with these subjects. A subject begins with the tenant.
    pub pattern: Pattern,
    /// Whether to begin with the first entry there is, instead of with those that come from now on.
    pub from_start: bool,
    /// Whether to wait for entries that are still to come, instead of stopping at the end.
    pub follow: bool,
}
