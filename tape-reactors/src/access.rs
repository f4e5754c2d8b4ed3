//! What reactors need of the journal.

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{Connector, EffectId, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::reply::{Rejection, Reply};
use tape_core::run::Run;
use tape_store::engine::Engine;
use tape_store::journal::JournalError;

/// The journal as a reactor sees it: a server or a store of the process's own.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Work of a queue that is due within a time, the longest due first, at most `limit`.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn due(&self, queue: Queue, within: Duration, limit: u32) -> Result<Vec<DueWork>, AccessError>;

    /// Waits until something may have become due in a queue since the call; may return without reason. Who calls this first, then looks
    /// and then waits, misses nothing that was written; of what becomes due by time alone, [`DueWork::due_in`] may say so before.
    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()>;

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

    /// Where an effect stands; none where it is settled and forgotten, or never was.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] where the journal is out of reach for now.
    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError>;

    /// Where an obligation stands; none where it is done, or never was.
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

/// A request id of its own for each command.
pub(crate) fn request() -> RequestId {
    RequestId(uuid::Uuid::new_v4())
}

#[async_trait]
impl Access for Engine {
    async fn due(&self, queue: Queue, within: Duration, limit: u32) -> Result<Vec<DueWork>, AccessError> {
        let now = self.now();
        let until = now.plus_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let mut work = Vec::new();
        for shard in 0..self.store().capabilities().shards {
            let shard = tape_store::contract::Shard(shard);
            let hints = self
                .store()
                .due(queue, shard, until, limit)
                .await
                .map_err(unavailable)?;
            work.extend(hints.into_iter().map(|hint| {
                let micros = hint.due.as_micros().saturating_sub(now.as_micros());
                let due_in = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
                DueWork {
                    stream: hint.stream,
                    item: hint.item,
                    due_in,
                }
            }));
        }
        Ok(work)
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        self.store().changed()
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
        Ok(state.and_then(|run| effect_at(&run, effect)))
    }

    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError> {
        let state = self.run_state(run).await.map_err(refused)?;
        Ok(state.and_then(|run| obligation_at(&run, obligation)))
    }

    async fn merge(&self, session: &SessionId) -> Result<(), AccessError> {
        self.merge_session(session).await.map_err(refused)
    }
}

fn effect_at(run: &Run, id: &EffectId) -> Option<EffectAt> {
    let effect = run
        .effects()
        .get(id)
        .filter(|effect| !effect.status.is_settled())?;
    Some(EffectAt {
        connector: effect.connector.clone(),
        begun: effect.begun,
    })
}

fn obligation_at(run: &Run, id: &ObligationId) -> Option<ObligationAt> {
    let obligation = run.obligations().iter().find(|obligation| obligation.id == *id)?;
    Some(ObligationAt {
        connector: obligation.connector.clone(),
        source: obligation.source,
    })
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
