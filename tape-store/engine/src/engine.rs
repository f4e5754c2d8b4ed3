//! The facade over a store: runs, sessions and values, by their names.
//!
//! One command changes one stream. Work across streams is done here, as a recorded intent that is finished later and is safe at every crash
//! point: a business key is claimed before the effect that wants it begins, and changes of shared state stand in the session's event until
//! they are carried over.

mod agenda;
mod audit;
mod business_keys;
mod erasure;
mod events;
mod gate_list;
mod looks;
mod name_lists;
mod outlived;
pub(crate) mod places;
mod queues;
mod relay_count;
mod relays;
mod retention;
mod run_list;
mod run_scan;
mod sessions;
mod upkeep;

pub use agenda::DuePage;
pub use events::{EventsFrom, EventsPage};
pub use retention::{RetiredPage, Retirement};
pub use sessions::SessionState;
pub use upkeep::{IndexFinding, IndexPage, IndexProblem};

use crate::committer::Committer;
use crate::stream_service::{EngineError, StreamService};
use audit::Audits;
use outlived::Outlived;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tape_api::query::DueFilter;
use tape_core::agenda::Queue;
use tape_core::command::{Command, ExternalCommand, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::erasure::Erasure;
use tape_core::id::{RequestClock, RequestId, RunId, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::key_owner::KeyOwner;
use tape_core::relay_record::RelayRecord;
use tape_core::reply::{Field, Rejection, Reply};
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::time::{Now, Timestamp};
use tape_core::value::Value;
use tape_environment::{Environment, machine};
use tape_store::clock::{Clock, JournalClock, Skew};
use tape_store::contract::{Hint, JournalStore, PageToken};
use tape_store::error::StoreError;

/// About how many bytes of the states of runs are kept in memory.
const RUNS_CACHE_BYTES: usize = 64 << 20;
/// The same for each of sessions, shared state, values, claims and records of relays.
const OTHERS_CACHE_BYTES: usize = 16 << 20;

/// Everything that can be asked of a journal, over any store. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use tape_core::command::{Command, ValueCommand};
/// use tape_core::id::{Tenant, ValueName};
/// use tape_core::payload::Payload;
/// use tape_engine::Engine;
/// use tape_store::memory::MemoryStore;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let engine = Engine::start(Arc::new(MemoryStore::new()));
/// let (tenant, name) = (Tenant::new("acme").unwrap(), ValueName::new("rate").unwrap());
/// let value = Payload::json(&serde_json::json!(42));
/// let put = |expected| Command::new(engine.request_id(), ValueCommand::Put { value: value.clone(), expected });
/// engine.value(&tenant, &name, put(Some(0))).await.unwrap();
/// assert_eq!(engine.value_state(&tenant, &name).await.unwrap().unwrap().version(), 1);
/// // The value has moved on: a second caller that still expects none is told so.
/// assert!(engine.value(&tenant, &name, put(Some(0))).await.is_err());
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Engine(Arc<Parts>);

struct Parts {
    store: Arc<dyn JournalStore>,
    clock: Arc<dyn Clock>,
    runs: StreamService<Run>,
    sessions: StreamService<Session>,
    shared: StreamService<Shared>,
    values: StreamService<Value>,
    claims: StreamService<KeyOwner>,
    relays: StreamService<RelayRecord>,
    outlived: Outlived,
    places: places::Places,
    audits: Audits,
    /// Dates the requests that this process makes itself.
    requests: Mutex<RequestClock>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("store", &self.store.capabilities())
            .finish_non_exhaustive()
    }
}

impl Parts {
    fn requests(&self) -> MutexGuard<'_, RequestClock> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// An engine over a store, by the time of the journal: that of the store, whatever the clock of this machine shows.
    ///
    /// # Panics
    /// Outside a tokio runtime: the engine commits in a task of its own.
    #[must_use]
    pub fn start(store: Arc<dyn JournalStore>) -> Self {
        Self::start_in(store, machine())
    }

    /// The same in another environment than the machine's.
    ///
    /// # Panics
    /// Those of [`Engine::start`].
    #[must_use]
    pub fn start_in(store: Arc<dyn JournalStore>, environment: Arc<dyn Environment>) -> Self {
        let clock = Arc::new(JournalClock::start(&store, environment));
        Self::new(store, clock)
    }

    /// An engine by another clock, for tests: all engines of a journal have to share it.
    ///
    /// # Panics
    /// Outside a tokio runtime: the engine commits in a task of its own.
    #[must_use]
    pub fn new(store: Arc<dyn JournalStore>, clock: Arc<dyn Clock>) -> Self {
        let committer = Committer::start(Arc::clone(&store));
        let own = || (Arc::clone(&store), committer.clone(), Arc::clone(&clock));
        Self(Arc::new(Parts {
            runs: journal(own(), RUNS_CACHE_BYTES),
            sessions: journal(own(), OTHERS_CACHE_BYTES),
            shared: journal(own(), OTHERS_CACHE_BYTES),
            values: journal(own(), OTHERS_CACHE_BYTES),
            claims: journal(own(), OTHERS_CACHE_BYTES),
            relays: journal(own(), OTHERS_CACHE_BYTES),
            outlived: Outlived::default(),
            places: places::Places::default(),
            audits: Audits::default(),
            requests: Mutex::default(),
            store,
            clock,
        }))
    }

    /// The time of the journal: the latest that it can be now.
    ///
    /// # Errors
    /// [`StoreError`] where it was never measured yet and cannot be.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.read_clock().await?.at())
    }

    /// Work that was due by this time is due whatever the time is: the earliest that it can be now.
    ///
    /// # Errors
    /// Those of [`Engine::now`].
    pub async fn due_until(&self) -> Result<Timestamp, StoreError> {
        Ok(self.read_clock().await?.earliest())
    }

    /// The time of the journal, with how well it is known.
    ///
    /// # Errors
    /// Those of [`Engine::now`].
    pub async fn read_clock(&self) -> Result<Now, StoreError> {
        if let Some(settle) = self.0.clock.unsettled() {
            settle.await?;
        }
        Ok(self.0.clock.read())
    }

    /// The time of the journal; none before it was measured.
    #[must_use]
    pub fn known_time(&self) -> Option<Timestamp> {
        let unmeasured = self.0.clock.unsettled().is_some();
        (!unmeasured).then(|| self.0.clock.now())
    }

    /// How the time of the journal is known here; none before it was measured, and for a clock that is not measured.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        self.0.clock.skew()
    }

    /// What the process of this engine takes from outside, beside the journal's time.
    #[must_use]
    pub fn environment(&self) -> Arc<dyn Environment> {
        self.0.clock.environment()
    }

    /// A new name for a request that is made now. Where the journal refused one of this engine for its age, the next ones have learned
    /// from that.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        let random = self.environment().random();
        self.0.requests().next(self.requests_now(), random)
    }

    /// Asks something of a run. An effect with a business key gets the key before it begins; a run that is to be retired keeps what its
    /// last entry says.
    ///
    /// Dropping the future does not take the command back; repeated with its request id, it returns its first outcome, or is refused as
    /// too old to know ([`Rejection::RequestTooOld`]).
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, EngineError> {
        self.learn(self.ask_run(run, command).await)
    }

    async fn ask_run(&self, run: &RunId, mut command: Command<RunCommand>) -> Result<Reply, EngineError> {
        command.request.check_ordered()?;
        if let RunCommand::Begin(begin) = &command.body
            && begin.run != *run
        {
            return Err(misaddressed(Field::Run));
        }
        if let Some(wanted) = business_keys::Wanted::by(&command) {
            self.0.take_business_key(run, &command, wanted).await?;
        }
        let stream = StreamId::Run(run.clone());
        if let RunCommand::External(ExternalCommand::Retire { last, ended, .. }) = &mut command.body {
            (*last, *ended) = self.0.ends(&stream).await?;
        }
        self.0.runs.command(&stream, command).await
    }

    /// The state of a run as it is now; none where it never began.
    ///
    /// # Errors
    /// [`EngineError`] where it cannot be read.
    pub async fn run_state(&self, run: &RunId) -> Result<Option<Arc<Run>>, EngineError> {
        self.0.runs.state(&StreamId::Run(run.clone())).await
    }

    /// Retires runs that ended before a time, and drops their entries: of each an entry stays that says how the run ended, so that
    /// beginning it again still returns that. Looks at one page of runs, at most `limit` and at most
    /// [`RETIRED_PER_PAGE_MAX`](tape_core::limits::RETIRED_PER_PAGE_MAX); a page may come to nothing and not be the last.
    ///
    /// It may be broken off anywhere, repeated, and done by several at once: what was begun is found again. Of each run that would go all
    /// entries are read and verified first, also where it only looks: a run that is damaged stays as it is.
    ///
    /// # Errors
    /// [`EngineError`] where the list cannot be read or the entries cannot be dropped. What is wrong with a single run stands in the
    /// page, and does not hold up the others.
    pub async fn retire_page(
        &self,
        retirement: &Retirement,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RetiredPage, EngineError> {
        self.0.retire_page(retirement, from, limit).await
    }

    /// Gives back a piece of the space that dropped entries still take. Whether there is more to do.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot do it now.
    pub async fn reclaim(&self) -> Result<bool, StoreError> {
        self.0.store.reclaim().await
    }

    /// Asks something of a session, and carries changes of `app:` and `user:` state over to the streams that sessions share. Where that
    /// fails now, the command stands; the changes are carried over with the next command, when the state is next read, or by a worker of
    /// the agenda.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, EngineError> {
        command.request.check_ordered()?;
        self.learn(self.0.ask_session(session, command).await)
    }

    /// Rewinds a session to its state after the entry `to`. What later events changed in shared state stays changed.
    ///
    /// The state of that time is read from the entries, in pages; it is the same however often the command is repeated.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn rewind_session(
        &self,
        session: &SessionId,
        to: Command<Rewind>,
    ) -> Result<Reply, EngineError> {
        to.request.check_ordered()?;
        self.learn(self.0.rewind_session(session, to).await)
    }

    /// The state of a session with what it shares with others; none where it never was or is deleted.
    ///
    /// # Errors
    /// [`EngineError`] where it cannot be read, or changes of shared state that it recorded cannot be carried over.
    pub async fn session_state(&self, session: &SessionId) -> Result<Option<SessionState>, EngineError> {
        self.0.session_state(session).await
    }

    /// Carries changes of shared state over that a session recorded: the work of an agenda's
    /// [`Merge`](tape_core::agenda::Item::Merge).
    ///
    /// # Errors
    /// [`EngineError`] where that cannot be done now.
    pub async fn merge_session(&self, session: &SessionId) -> Result<(), EngineError> {
        self.0.merge(session).await
    }

    /// Events of a session that count, the newest first in pages of at most `max` events and about `bytes_max` bytes, each page
    /// oldest first; from the end, or from where the page before says. Begins with those after the entry `after`.
    ///
    /// # Errors
    /// [`EngineError`] where they cannot be read.
    pub async fn session_events(
        &self,
        session: &SessionId,
        from: EventsFrom,
        after: Seq,
        max: u32,
        bytes_max: usize,
    ) -> Result<EventsPage, EngineError> {
        self.0.session_events(session, from, after, max, bytes_max).await
    }

    /// Erases payloads of a stream on request: the given payloads, and every copy of them that the journal keeps. An entry of the stream
    /// records the principal, the time and the reason; then the bytes are erased. Erasing a session's event also erases its changes of
    /// shared state.
    ///
    /// Repeated with its request id, an interrupted erasure continues; [`Engine::finish_erasures`] continues it too.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] where there is no such entry or nothing to erase. [`EngineError::Damaged`] where an entry is not what was
    /// written: it keeps its bytes as the proof. [`EngineError::OutcomeUnknown`] also where the entry may be recorded and the bytes not
    /// erased yet.
    pub async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Reply, EngineError> {
        command.request.check_ordered()?;
        self.learn(self.0.erase(stream, command).await)
    }

    /// Deletes payloads that were erased and that the store still has: the work of an agenda's
    /// [`Erasure`](tape_core::agenda::Item::Erasure).
    ///
    /// # Errors
    /// [`EngineError`] where that cannot be done now.
    pub async fn finish_erasures(&self, stream: &StreamId) -> Result<(), EngineError> {
        self.0.finish_erasures(stream).await
    }

    /// Asks something of a watchable value.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, EngineError> {
        command.request.check_ordered()?;
        self.learn(self.0.values.command(&value_stream(tenant, name), command).await)
    }

    /// A watchable value as it is now, with its bytes. It may be deleted or erased; none where it was never written.
    ///
    /// # Errors
    /// [`EngineError`] where it cannot be read.
    pub async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Arc<Value>>, EngineError> {
        self.0.value_state(&value_stream(tenant, name)).await
    }

    /// Work of a queue that is due until a time, of all shards: of each at most `limit`, and at most
    /// [`PAGE_ENTRIES_MAX`](tape_core::limits::PAGE_ENTRIES_MAX). A reader that pages through sees everything that is due throughout
    /// exactly once. The first page also has some work of [`Engine::outlived`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where the token is none of this journal's; otherwise as the store says.
    pub async fn due_page(
        &self,
        queue: Queue,
        until: Timestamp,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        self.due_page_of(queue, &DueFilter::default(), until, from, limit)
            .await
    }

    /// The same for the work that fits a filter. A page looks at [`PAGE_ENTRIES_MAX`](tape_core::limits::PAGE_ENTRIES_MAX) pieces of each
    /// shard, and at more only where all of them are due in one microsecond. So it may be short, or empty, and not be the last; and all
    /// pages cost the due work of all tenants. A token is of this queue and filter, and names no work that does not fit.
    ///
    /// # Errors
    /// Those of [`Engine::due_page`].
    pub async fn due_page_of(
        &self,
        queue: Queue,
        filter: &DueFilter,
        until: Timestamp,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        let mut page = self.0.due_page(queue, filter, until, from, limit).await?;
        if from.is_none() {
            self.read_clock().await?;
            page.hints.extend(self.0.outlived(queue, filter).await?);
        }
        Ok(page)
    }

    /// Work of a queue whose lease or claim ends later than any could, and so is over. It was written while the clock was ahead, its worker
    /// vanished, and its time on the agenda lies as far ahead. It is returned as due now. The engine looks for a part of it once a minute,
    /// at a bounded cost; in between it returns none.
    ///
    /// # Errors
    /// Those of [`Engine::now`].
    pub async fn outlived(&self, queue: Queue) -> Result<Vec<Hint>, StoreError> {
        self.read_clock().await?;
        self.0.outlived(queue, &DueFilter::default()).await
    }

    /// The time that requests are dated by: before the journal's was measured, the machine's.
    fn requests_now(&self) -> Timestamp {
        match self.0.clock.unsettled() {
            None => self.0.clock.now(),
            Some(_) => self.environment().wall(),
        }
    }

    /// Corrects the clock of request ids by a refusal.
    fn learn(&self, outcome: Result<Reply, EngineError>) -> Result<Reply, EngineError> {
        if let Err(EngineError::Rejected(rejection)) = &outcome {
            self.0.requests().learn(self.requests_now(), rejection);
        }
        outcome
    }

    /// The store, for reading entries, the feed, due work and lists.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn JournalStore> {
        &self.0.store
    }
}

impl Parts {
    /// The state of a value with the bytes, which only its entry has.
    async fn value_state(&self, stream: &StreamId) -> Result<Option<Arc<Value>>, EngineError> {
        let Some(value) = self.values.state(stream).await? else {
            return Ok(None);
        };
        let Some(seq) = value.current_in() else {
            return Ok(Some(value));
        };
        let entry = self.entry(stream, seq).await?;
        Ok(Some(match entry {
            Some(entry) => Arc::new(Value::clone(&value).with_current(&entry)),
            None => value,
        }))
    }
}

/// A command that names another stream than the one it is sent to.
fn misaddressed(field: Field) -> EngineError {
    let problem = "is not the one that the command is sent to".to_owned();
    Rejection::Invalid { field, problem }.into()
}

fn journal<S: tape_core::decider::Decider>(
    (store, committer, clock): (Arc<dyn JournalStore>, Committer, Arc<dyn Clock>),
    cache_bytes: usize,
) -> StreamService<S> {
    StreamService::new(store, committer, clock, cache_bytes)
}

fn value_stream(tenant: &Tenant, name: &ValueName) -> StreamId {
    StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    }
}
