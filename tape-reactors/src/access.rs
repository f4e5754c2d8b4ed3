//! What reactors need of the journal.

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::effect::Claim;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{Connector, EffectId, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::reply::{Rejection, Reply};
use tape_core::run::{ObligationStatus, Run};
use tape_core::time::Now;
use tape_store::contract::{Hint, PageToken};
use tape_store::engine::Engine;
use tape_store::journal::JournalError;

/// The journal as a reactor sees it: a server or a store of the process's own.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// A page of the work of a queue that is due within a time: of each of the journal's shards the longest due first, at most `limit`
    /// pieces. Whoever reads on from page to page is given all that is due the whole while.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, AccessError>;

    /// Waits until something may have become due in a queue since the call; may return without reason. Who calls this first, then looks
    /// and then waits, misses nothing that was written; of what becomes due by time alone, [`DueWork::due_in`] may say so before.
    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()>;

    /// A new name for a request. Where the journal refused one for its age, the next ones have learned its time.
    fn request_id(&self) -> RequestId;

    /// A command on a run. It may be repeated with its request id.
    ///
    /// # Errors
    /// [`AccessError`] says what became of it.
    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, AccessError>;

    /// Entries of a run after `after`, oldest first; an empty page is the end.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, AccessError>;

    /// What an effect is; none where it is settled and forgotten, never was, or is not for any worker now, as far as the journal can
    /// tell without being asked for a claim.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError>;

    /// What undoes an effect; none where that is done or never was, or is not for any worker now, in the same way.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError>;

    /// Carries changes of shared state over that a session recorded.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where that does not work out for now.
    async fn merge(&self, session: &SessionId) -> Result<(), AccessError>;

    /// Gets rid of payloads of a stream that were erased and that the store still has.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where that does not work out for now.
    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), AccessError>;

    /// Whether it says itself when the journal is out of reach, as [`Watched`](crate::Watched) does.
    fn is_watched(&self) -> bool {
        false
    }
}

/// An effect, as far as a worker has to know before it claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectAt {
    /// The upstream.
    pub connector: Connector,
    /// The entry that began it, which says what it is.
    pub begun: Seq,
}

/// An obligation, as far as a worker has to know before it claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObligationAt {
    /// The upstream.
    pub connector: Connector,
    /// The entry that says how it is undone.
    pub source: Seq,
    /// The entry that began the effect; none for a duplicate of it.
    pub begun: Option<Seq>,
}

/// A page of due work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuePage {
    /// The pieces.
    pub work: Vec<DueWork>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// A piece of work and when it is due. A hint: the command that takes it up says whether it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWork {
    /// Of which stream.
    pub stream: StreamId,
    /// Which of its items.
    pub item: Item,
    /// Due in so much time; zero where it is due.
    pub due_in: Duration,
}

/// Why the journal did not do what a reactor asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The rules refuse it; nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is out of reach, or nobody knows what became of the command: repeat it later with its request id.
    #[error("the journal is out of reach")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored does not fit together: a person must look.
    #[error("the journal is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Most new ids that one command gets because its id was refused.
const FRESH_IDS_MAX: u32 = 8;

/// One command of a reactor, which is sent until there is an answer.
///
/// Refused for the age of its id when it is sent for the first time, it was not executed, and gets a new id at once. Once an
/// earlier send may have arrived, it keeps its id.
pub(crate) struct Sending<'a> {
    access: &'a dyn Access,
    run: &'a RunId,
    command: Command<RunCommand>,
    /// Whether an earlier send may have arrived.
    doubtful: bool,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(access: &'a dyn Access, run: &'a RunId, body: RunCommand) -> Self {
        Self {
            access,
            run,
            command: Command::new(access.request_id(), body),
            doubtful: false,
        }
    }

    /// Sends it, the first time or again.
    pub(crate) async fn send(&mut self) -> Result<Reply, AccessError> {
        let mut refused = 0;
        loop {
            let doubtful = std::mem::replace(&mut self.doubtful, true);
            match self.access.run(self.run, self.command.clone()).await {
                Err(AccessError::Rejected(rejection)) if !doubtful && rejection.is_for_its_age() => {
                    refused += 1;
                    if refused > FRESH_IDS_MAX {
                        return Err(rejection.into());
                    }
                    (self.command.request, self.doubtful) = (self.access.request_id(), false);
                }
                // The id was dated by another server's clock: this one takes it once its own has come so far.
                Err(AccessError::Rejected(rejection @ Rejection::RequestFromFuture { .. })) => {
                    return Err(AccessError::Unavailable(rejection.into()));
                }
                answer => return answer,
            }
        }
    }
}

/// Sends a command once.
pub(crate) async fn ask(access: &dyn Access, run: &RunId, body: RunCommand) -> Result<Reply, AccessError> {
    Sending::new(access, run, body).send().await
}

#[async_trait]
impl Access for Engine {
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, AccessError> {
        let now = self.due_until().await.map_err(unavailable)?;
        let until = now.plus_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let page = self.due_page(queue, until, from, limit).await;
        let page = page.map_err(unavailable)?;
        let work = |hint: Hint| {
            let micros = hint.due.as_micros().saturating_sub(now.as_micros());
            DueWork {
                stream: hint.stream,
                item: hint.item,
                due_in: Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
            }
        };
        Ok(DuePage {
            work: page.hints.into_iter().map(work).collect(),
            next: page.next,
        })
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        self.store().changed()
    }

    fn request_id(&self) -> RequestId {
        Self::request_id(self)
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, AccessError> {
        Self::run(self, run, command).await.map_err(refused)
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, AccessError> {
        self.store()
            .read(&StreamId::Run(run.clone()), after, limit)
            .await
            .map_err(unavailable)
    }

    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError> {
        let state = self.run_state(run).await.map_err(refused)?;
        let now = self.read_clock().await.map_err(unavailable)?;
        Ok(state.and_then(|run| effect_at(&run, effect, now)))
    }

    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError> {
        let state = self.run_state(run).await.map_err(refused)?;
        let now = self.read_clock().await.map_err(unavailable)?;
        Ok(state.and_then(|run| obligation_at(&run, obligation, now)))
    }

    async fn merge(&self, session: &SessionId) -> Result<(), AccessError> {
        self.merge_session(session).await.map_err(refused)
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), AccessError> {
        Self::finish_erasures(self, stream).await.map_err(refused)
    }
}

fn effect_at(run: &Run, id: &EffectId, now: Now) -> Option<EffectAt> {
    let effect = run.effects().get(id)?;
    if effect.status.is_settled() || is_claimed(effect.claim.as_ref(), now) {
        return None;
    }
    Some(EffectAt {
        connector: effect.connector.clone(),
        begun: effect.begun,
    })
}

fn obligation_at(run: &Run, id: &ObligationId, now: Now) -> Option<ObligationAt> {
    let obligation = run.obligations().iter().find(|obligation| obligation.id == *id)?;
    let claim = match &obligation.status {
        ObligationStatus::Started { claim } => Some(claim),
        ObligationStatus::Armed | ObligationStatus::Due { .. } | ObligationStatus::Stuck { .. } => None,
    };
    if is_claimed(claim, now) {
        return None;
    }
    Some(ObligationAt {
        connector: obligation.connector.clone(),
        source: obligation.source,
        begun: obligation.begun,
    })
}

/// Whether another worker is on it: asking for a claim would only be refused.
fn is_claimed(claim: Option<&Claim>, now: Now) -> bool {
    claim.is_some_and(|claim| now.outlived(claim.until) != Some(true))
}

fn refused(error: JournalError) -> AccessError {
    match error {
        JournalError::Rejected(rejection) => AccessError::Rejected(rejection),
        JournalError::Damaged { .. } => AccessError::Damaged(error.into()),
        other => unavailable(other),
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> AccessError {
    AccessError::Unavailable(Box::new(error))
}
