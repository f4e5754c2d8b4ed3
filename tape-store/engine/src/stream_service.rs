//! The stream service: one stream at a time, load, decide, commit.
//!
//! Commands that arrive for a stream while its last commit is in flight wait for it. Then they are decided one after the other on one
//! working state and committed as one batch. So a stream with many callers costs one commit for all waiting callers, and the streams of a
//! process share physical commits through the [`Committer`].
//!
//! The states of recently used streams are cached. That is safe with any number of processes on one store, because the commit itself
//! refuses what was decided on an old state. An answer that needs no commit (a rejection, a repeated request) is given only after a check
//! whether the stream has moved on.

mod cache;
mod loaded;
mod pages;
mod places;
mod stream_worker;

pub(crate) use loaded::damaged;
pub use pages::page_to_end;

use crate::committer::Committer;
use cache::Cache;
use places::{Place, Places};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use stream_worker::{Request, StreamWorker};
use tape_core::command::Command;
use tape_core::decider::Decider;
use tape_core::erasure::ErasureCommand;
use tape_core::id::StreamId;
use tape_core::reply::{Field, Rejection, Reply};
use tape_store::clock::Clock;
use tape_store::contract::JournalStore;
use tape_store::error::{Source, StoreError};
use tokio::sync::oneshot;

/// Why a command failed, or why its outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The rules refuse the command; nothing was written.
    #[error(transparent)]
    Rejected(Rejection),
    /// The store failed; nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others changed the stream each time before the command could be committed; nothing was written. Try again later.
    #[error("{stream} changed each of the {attempts} times the command was decided")]
    Contended {
        /// The stream.
        stream: StreamId,
        /// The number of attempts.
        attempts: u32,
    },
    /// The command may have been committed. Repeat it with its request id: it is then executed once, or returns its first outcome.
    #[error("it is unknown whether the command on {stream} was taken")]
    OutcomeUnknown {
        /// The stream.
        stream: StreamId,
        /// What happened to the answer.
        #[source]
        source: Source,
    },
    /// The stored entries of the stream do not fit together; a person must look.
    #[error("the journal of {stream} is damaged")]
    Damaged {
        /// The stream.
        stream: StreamId,
        /// What does not fit.
        #[source]
        source: Source,
    },
}

impl EngineError {
    /// Whether what is stored is not what was written. Lists pass over a stream with damage, and name it.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Store(StoreError::Corrupt { .. })
        )
    }
}

impl From<Rejection> for EngineError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            // The command itself is valid: it can be taken once the time is known again, or by another server.
            unsure @ Rejection::TimeUnsure { .. } => {
                Self::Store(StoreError::unavailable("judges a lease or claim", unsure))
            }
            other => Self::Rejected(other),
        }
    }
}

/// Decides commands for all streams of one kind. Cheap to clone.
pub struct StreamService<S: Decider>(Arc<Service<S>>);

impl<S: Decider> Clone for StreamService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Decider> std::fmt::Debug for StreamService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamService")
            .field("streams", &std::any::type_name::<S>())
            .finish_non_exhaustive()
    }
}

impl<S: Decider> StreamService<S> {
    /// A service on `store`, which commits through `committer` and caches about `cache_bytes` of states.
    #[must_use]
    pub fn new(
        store: Arc<dyn JournalStore>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        cache_bytes: usize,
    ) -> Self {
        let desks = Mutex::new(Desks {
            waiting: HashMap::new(),
            cache: Cache::new(cache_bytes),
        });
        Self(Arc::new(Service {
            desk: StreamWorker {
                store,
                committer,
                clock,
            },
            desks,
            places: Places::new(),
        }))
    }

    /// Decides a command and makes what follows durable. Dropping the future does not take the command back.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn command(
        &self,
        stream: &StreamId,
        command: Command<S::Command>,
    ) -> Result<Reply, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.submit(stream, Request::Command { command, answer }).await?;
        answered.await.map_err(|_| lost(stream))?
    }

    /// Decides a command about the payloads of a stream and makes what follows durable, in the same way.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn erase(
        &self,
        stream: &StreamId,
        command: Command<ErasureCommand>,
    ) -> Result<Reply, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.submit(stream, Request::Erasure { command, answer }).await?;
        answered.await.map_err(|_| lost(stream))?
    }

    /// The state of a stream as it is now; none where it has no entries.
    ///
    /// # Errors
    /// [`EngineError`] where the stream cannot be read.
    pub async fn state(&self, stream: &StreamId) -> Result<Option<Arc<S>>, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.submit(stream, Request::State { answer }).await?;
        answered.await.map_err(|_| lost(stream))?
    }

    async fn submit(&self, stream: &StreamId, request: Request<S>) -> Result<(), EngineError> {
        if !S::accepts(stream) {
            let problem = format!("{stream} is of another kind");
            return Err(Rejection::Invalid {
                field: Field::Stream,
                problem,
            }
            .into());
        }
        let place = self.0.places.take(stream).await;
        let Some(cached) = self.0.enqueue(
            stream,
            Waiting {
                request,
                _place: place,
            },
        ) else {
            return Ok(());
        };
        tokio::spawn(Arc::clone(&self.0).work(stream.clone(), cached.0));
        Ok(())
    }
}

/// The task that worked on the stream is gone, by a panic or with its runtime.
fn lost(stream: &StreamId) -> EngineError {
    let source: Box<dyn std::error::Error + Send + Sync> = "the task that decided it is gone".into();
    EngineError::OutcomeUnknown {
        stream: stream.clone(),
        source: source.into(),
    }
}

struct Service<S: Decider> {
    desk: StreamWorker,
    desks: Mutex<Desks<S>>,
    places: Places,
}

struct Desks<S: Decider> {
    /// Requests by stream. A stream is here as long as a task works on it.
    waiting: HashMap<StreamId, VecDeque<Waiting<S>>>,
    /// The states of streams that no task works on.
    cache: Cache<S>,
}

struct Waiting<S: Decider> {
    request: Request<S>,
    /// Bounds the number of waiting requests; freed when the request is taken up.
    _place: Place,
}

/// The state that a new task for a stream starts from.
struct Cached<S>(Option<loaded::Loaded<S>>);

impl<S: Decider> Service<S> {
    fn desks(&self) -> MutexGuard<'_, Desks<S>> {
        self.desks
            .lock()
            .expect("no code panics while it holds the desks")
    }

    /// Queues a request. Where no task works on the stream, the caller must start one.
    fn enqueue(&self, stream: &StreamId, waiting: Waiting<S>) -> Option<Cached<S>> {
        let mut desks = self.desks();
        if let Some(queue) = desks.waiting.get_mut(stream) {
            queue.push_back(waiting);
            return None;
        }
        desks.waiting.insert(stream.clone(), VecDeque::from([waiting]));
        Some(Cached(desks.cache.take(stream)))
    }

    async fn work(self: Arc<Self>, stream: StreamId, mut loaded: Option<loaded::Loaded<S>>) {
        use futures::FutureExt as _;
        loop {
            let (left, requests) = self.next(&stream, loaded);
            if requests.is_empty() {
                return;
            }
            let served =
                std::panic::AssertUnwindSafe(self.desk.serve(&stream, left, requests)).catch_unwind();
            // After a panic, which is a bug of a decider, the callers get an unknown outcome; the stream continues.
            loaded = served.await.unwrap_or(None);
        }
    }

    /// Takes the waiting requests. Where there are none, the task of the stream ends and its state goes to the cache.
    fn next(
        &self,
        stream: &StreamId,
        loaded: Option<loaded::Loaded<S>>,
    ) -> (Option<loaded::Loaded<S>>, VecDeque<Request<S>>) {
        let mut desks = self.desks();
        let queue = desks
            .waiting
            .get_mut(stream)
            .map(std::mem::take)
            .unwrap_or_default();
        if !queue.is_empty() {
            return (loaded, queue.into_iter().map(|waiting| waiting.request).collect());
        }
        desks.waiting.remove(stream);
        let evicted = loaded.map(|loaded| desks.cache.put(stream.clone(), loaded));
        drop(desks);
        // Large states are freed outside the lock.
        drop(evicted);
        (None, VecDeque::new())
    }
}
