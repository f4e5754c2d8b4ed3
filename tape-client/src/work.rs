//! A server as those see it who work off its agenda.

use crate::backend::remote::Remote;
use crate::backend::{Backend as _, Failure};
use crate::error::{Error, Source};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{Connector, EffectId, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::reply::{Rejection, Reply};

/// About how long the leases and claims of workers last.
const LEASE: Duration = Duration::from_secs(30);

/// The longest wait for an answer: longer than a server waits for its store.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What workers ask of a server: what is due, what is to be done, and commands. Cheap to clone. Nothing is tried again here. A call
/// that is not answered within 30 s is [unavailable](WorkError::Unavailable).
#[derive(Clone, Debug)]
pub struct Workbench(Arc<Remote>);

/// A piece of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueHint {
    /// Of which stream.
    pub stream: StreamId,
    /// Which of its items.
    pub item: Item,
}

/// A page of due work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueHints {
    /// The pieces.
    pub hints: Vec<DueHint>,
    /// Where the next page begins; none at the end. Opaque.
    pub next: Option<String>,
}

/// What undoes an effect, as far as a worker has to know before it claims that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inverse {
    /// The upstream.
    pub connector: Connector,
    /// The entry that says how.
    pub source: Seq,
    /// The entry that began the effect; none for a duplicate of it.
    pub begun: Option<Seq>,
}

/// Why a server did not do what a worker asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The rules refuse it; nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is out of reach, or nobody knows what became of the command: repeat it later with its request id.
    #[error("the server did not answer")]
    Unavailable(#[source] Source),
    /// It does not take the request, or answers what makes no sense.
    #[error("the server does not take the request")]
    Refused(#[source] Source),
}

impl Workbench {
    /// The server at `HOST:PORT`, connected to when it is first needed. Wants a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that is no address.
    pub fn new(authority: &str) -> Result<Self, Error> {
        let authority = crate::url::server(authority)?;
        Ok(Self(Arc::new(Remote::new(authority, LEASE)?)))
    }

    /// An answer that is waited for no longer than a worker can wait. A server that gives none hangs, although the connection may seem
    /// well: a proxy answers for it. What is asked next goes over another connection.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, WorkError> {
        Ok(self.0.within(ANSWER_PATIENCE, asked).await?)
    }

    /// A page of what is due now, at most `limit` of each of the server's shards.
    ///
    /// # Errors
    /// [`WorkError`] says why there is no answer.
    pub async fn due(&self, queue: Queue, from: Option<&str>, limit: u32) -> Result<DueHints, WorkError> {
        self.answer(self.0.due_page(queue, from, limit)).await
    }

    /// What is due, as it becomes due. The first error is the end.
    pub fn pushed(&self, queue: Queue, limit: u32) -> BoxStream<'static, Result<Vec<DueHint>, WorkError>> {
        let pages = self.0.due_pushed(queue, limit);
        pages.map(|page| Ok(page?)).boxed()
    }

    /// A new name for a request. Where the server refused one for its age, the next ones have learned its time.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.0.request_id()
    }

    /// Asks something of a run.
    ///
    /// # Errors
    /// [`WorkError`] says what became of it.
    pub async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, WorkError> {
        self.answer(self.0.run(run, command)).await
    }

    /// Entries of a run after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`WorkError`] says why there is no answer.
    pub async fn entries(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, WorkError> {
        self.answer(self.0.page(run, after, limit)).await
    }

    /// The connector of an effect that is not settled, and the entry that began it.
    ///
    /// # Errors
    /// [`WorkError`] says why there is no answer.
    pub async fn effect(
        &self,
        run: &RunId,
        effect: &EffectId,
    ) -> Result<Option<(Connector, Seq)>, WorkError> {
        self.answer(self.0.effect(run, effect)).await
    }

    /// What undoes an effect that is not undone.
    ///
    /// # Errors
    /// [`WorkError`] says why there is no answer.
    pub async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<Inverse>, WorkError> {
        self.answer(self.0.obligation(run, obligation)).await
    }

    /// Has the server carry changes of shared state over that a session recorded.
    ///
    /// # Errors
    /// [`WorkError`] says why that did not work out.
    pub async fn merge(&self, session: &SessionId) -> Result<(), WorkError> {
        // Who asks for a session's state gets it with what it shares, so the server sees to that first.
        self.answer(self.0.session_view(session, 0)).await?;
        Ok(())
    }

    /// Gets rid of payloads of a stream that were erased and that the store still has.
    ///
    /// # Errors
    /// [`WorkError`] says why that did not work out.
    pub async fn finish_erasures(&self, stream: &StreamId) -> Result<(), WorkError> {
        self.answer(self.0.finish_erasures(stream)).await
    }
}

impl From<Failure> for WorkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => Self::Rejected(rejection),
            Failure::Retryable(source) => Self::Unavailable(source),
            Failure::Invalid(problem) => Self::Refused(problem.into()),
            Failure::Fatal(source) => Self::Refused(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WorkError, Workbench};

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_out_of_reach_and_another_connection_is_taken() {
        let workbench = Workbench::new("127.0.0.1:1").unwrap();
        let before = workbench.0.connection();
        let told = workbench.answer(std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(told, Err(WorkError::Unavailable(_))), "{told:?}");
        assert_eq!(workbench.0.connection(), before + 1);
    }
}
