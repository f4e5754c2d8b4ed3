//! The one interface of a journal.

use crate::due::{DueEffect, DueObligation, DuePage, PendingPage};
use crate::error::JournalError;
use crate::query::{
    FeedPage, GatePage, GateQuery, IndexPage, KeyOwnership, OlderEvents, QueueSummary, RetiredPage,
    Retirement, RunCounts, RunPage, RunQuery, SessionEvents, SessionPage, SessionQuery, SessionView,
    StreamEnd, StreamPage, Tail, Transition, Until, ValuePage, ValueQuery, Versioned,
};
use crate::relays::Relays;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::erasure::Erasure;
use tape_core::id::{
    BusinessKey, ConnectorName, EffectId, Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant,
    ValueName,
};
use tape_core::payload::Digest;
use tape_core::reply::Reply;
use tape_core::run::Driver;
use tape_environment::Environment;
use tokio::sync::watch;

/// Entries in pages. An error is the last item, unless a method says otherwise.
pub type Pages = BoxStream<'static, Result<Vec<StoredEntry>, JournalError>>;

/// A journal: the engine over a store in this process, or a server.
///
/// A command may be sent again with its request id. It then returns its first outcome, or is refused if the stream has forgotten requests
/// of that age ([`RequestTooOld`](tape_core::reply::Rejection::RequestTooOld)). A journal retries nothing: the caller decides.
///
/// Arguments are checked once, in [`argument`](crate::argument), so that every journal takes and refuses the same. A page of size zero has the
/// usual size, and one that is larger than the largest has the largest. An empty token is that of the first page.
///
/// # Errors
/// Every method returns [`JournalError`], whose variants say what the caller does next. A method that only reads returns
/// [`Rejected`](JournalError::Rejected) only in the cases that its documentation names.
#[async_trait]
pub trait Journal: Debug + Send + Sync + 'static {
    /// What the process on this side of the journal takes from outside: the time of its machine and randomness. Callers take theirs from
    /// here, too.
    fn environment(&self) -> Arc<dyn Environment>;

    // Commands.

    /// A new request id. After the journal has refused an id of this process for its age, later ids are dated by the journal's time.
    fn request_id(&self) -> RequestId;

    /// Executes a command on a run.
    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError>;

    /// Executes a command on a session, except a rewind, which has [`Journal::rewind`].
    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError>;

    /// Puts a session back to how it was after an entry. The state of that time is read from the journal.
    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError>;

    /// Executes a command on a watchable value.
    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError>;

    /// Erases payloads of a stream. Returns the entry that records the principal, the time and the reason.
    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError>;

    // State.

    /// The last entry of a run and the chain digest there, by the journal's own account; none if there is no such run.
    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, JournalError>;

    /// The driver of a run, by the journal's time; none if there is no such run.
    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, JournalError>;

    /// A session with its state and at most `events_max` of its newest events, zero for its state alone; none if it was never created or is
    /// deleted.
    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError>;

    /// At most `events_max` events of a session that are older than those of an earlier page.
    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError>;

    /// A value with its version; none if it was never set.
    async fn value_state(&self, tenant: &Tenant, name: &ValueName)
    -> Result<Option<Versioned>, JournalError>;

    // Entries.

    /// At most `limit` entries of a run after `after`, oldest first; none at the end, and of a run that is not there.
    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError>;

    /// Entries of a run after `after`, in pages; none of a run that is not there. The journal accounts for all entries up to [`Until::End`]: if some are gone, the
    /// last item is [`Damaged`](JournalError::Damaged).
    fn entries(&self, run: &RunId, after: Seq, until: Until) -> Pages;

    /// All entries of a stream of any kind as they are stored, in pages; none if it is not there.
    fn stream_entries(&self, stream: &StreamId) -> Pages;

    /// Where a stream ends by the journal's own account, with its snapshot; none if it is not there.
    async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, JournalError>;

    /// Transitions of a value after a version, once and in order, including future ones.
    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, JournalError>>;

    /// The feed: entries of all streams whose subjects match, in order within each stream. Pages may be empty. After
    /// [`Unavailable`](JournalError::Unavailable) the feed continues at the same place when it is polled again.
    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>>;

    // Due work.

    /// A page of the work of a queue that is due, at most `limit` pieces of each of the journal's shards, those that are due longest
    /// first. A reader that pages from the first page to the last sees every piece that is due throughout exactly once. Work that
    /// becomes due `within` a time may be among it.
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError>;

    /// A page of the work of a queue that is due or becomes due at any later time, at most `limit` pieces of each of the journal's shards,
    /// those that are due first. A reader that pages from the first page to the last sees every piece that is there throughout exactly
    /// once.
    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError>;

    /// Completes when something may have become due in a queue since the call; may wake spuriously. A caller that calls this first,
    /// then looks and then waits misses nothing that is written. Work that becomes due by time alone, and that a page
    /// announced by [`DueWork::due_in`](crate::due::DueWork::due_in), need not complete it.
    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()>;

    /// What a worker needs to know of an effect before it claims it. None if the effect is settled, was never begun or is claimed.
    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError>;

    /// What a worker needs to know of an obligation before it claims it. None if it is done, was never armed or is claimed.
    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError>;

    /// Merges the changes of shared state that a session recorded.
    async fn merge(&self, session: &SessionId) -> Result<(), JournalError>;

    /// Removes payloads of a stream that were erased and that the store still has.
    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError>;

    // Lists and upkeep.

    /// A page of at most `limit` runs, newest first.
    async fn runs(&self, query: &RunQuery, from: Option<&str>, limit: u32) -> Result<RunPage, JournalError>;

    /// How many runs there are, a page at a time: each page looks at a bounded number of runs.
    async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError>;

    /// A page of the gates that wait, over the unfinished runs of a tenant.
    async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError>;

    /// A page of sessions, in the order of their names.
    async fn sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError>;

    /// A page of values, without their bytes, in the order of their names.
    async fn values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError>;

    /// The effect that has a business key; none where the key is not taken.
    async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError>;

    /// How much work of each queue is due, of a tenant or of all.
    async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError>;

    /// A page of the existing streams, of all tenants and kinds.
    async fn streams(&self, from: Option<&str>) -> Result<StreamPage, JournalError>;

    /// Retires a page of runs that ended long ago, on behalf of a principal. The reason is checked before the token.
    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        from: Option<&str>,
    ) -> Result<RetiredPage, JournalError>;

    /// Frees part of the space that dropped entries still take. Returns whether there is more to do.
    async fn reclaim(&self) -> Result<bool, JournalError>;

    /// Compares a page of the indexes with what the streams imply, and corrects them if asked to.
    async fn check_index(&self, from: Option<&str>, correct: bool) -> Result<IndexPage, JournalError>;

    /// The part of the journal that keeps where relays are.
    fn relays(&self) -> &dyn Relays;

    // The connection.

    /// Counts the connections that were lost. A server that sees one close may release the leases of the runs that were driven on it.
    fn lost_connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
