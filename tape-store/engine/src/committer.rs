//! Group commit: batches that queue while commits are under way share the next one.
//!
//! A store says how many commits should be under way at once. Each commit takes its fair share of the batches under way or waiting. With
//! one commit at a time, that is every waiting batch; with many, a batch hardly ever waits for others.

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tape_core::id::StreamId;
use tape_store::contract::{Batch, BatchId, Committed, JournalStore};
use tape_store::error::CommitError;
use tokio::sync::{mpsc, oneshot};

/// Most batches that wait; further callers wait for a place.
const QUEUE_MAX: usize = 1024;
/// Most batches in one physical commit.
const GROUP_BATCHES_MAX: usize = 256;
/// Batches that are taken from the queue before they are committed.
const WAITING_MAX: usize = 2 * GROUP_BATCHES_MAX;
/// Bytes of entries after which a physical commit takes no further batch.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Commits batches to a store in groups, at most one batch per stream in each. Cheap to clone; its task ends with the last clone.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

impl Committer {
    /// Starts the task.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(store: Arc<dyn JournalStore>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let at_once = usize::from(store.capabilities().commits_at_once.max(1));
        let groups = Groups {
            store,
            at_once,
            queue: waiting,
            waiting: VecDeque::new(),
            closed: false,
            under_way: HashSet::new(),
            commits: FuturesUnordered::new(),
        };
        tokio::spawn(groups.run());
        Self { queue }
    }

    /// Commits a batch. Once the batch is queued, dropping the future does not take it back.
    ///
    /// # Errors
    /// Those of [`JournalStore::commit`].
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        let id = batch.id;
        let (answer, answered) = oneshot::channel();
        // The task ends only when every sender is gone, or with its runtime; then the outcome of the batch is unknown.
        let lost = |_| CommitError::outcome_unknown(id, "the committer is gone");
        self.queue
            .send(Waiting { batch, answer })
            .await
            .map_err(|_| lost(()))?;
        answered.await.map_err(|_| lost(()))?
    }
}

struct Groups {
    store: Arc<dyn JournalStore>,
    /// How many commits are under way at most.
    at_once: usize,
    queue: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    /// Whether every sender is gone.
    closed: bool,
    /// Streams of the batches under way: a later batch of the same stream waits for the one before.
    under_way: HashSet<StreamId>,
    /// The commits under way; each returns its streams.
    commits: FuturesUnordered<BoxFuture<'static, Vec<StreamId>>>,
}

impl Groups {
    async fn run(mut self) {
        while !(self.closed && self.commits.is_empty() && self.waiting.is_empty()) {
            tokio::select! {
                // Commits that are over make room for what waits. They are never more than are under way.
                biased;
                Some(streams) = self.commits.next() => {
                    for stream in streams {
                        self.under_way.remove(&stream);
                    }
                    // Callers that just got an answer mostly send the next batch at once. With these the next group is twice as large, and
                    // a commit costs nearly the same. Where no other task is ready to run, this takes no time.
                    tokio::task::yield_now().await;
                }
                next = self.queue.recv(), if !self.closed && self.waiting.len() < WAITING_MAX => match next {
                    Some(next) => self.waiting.push_back(next),
                    None => self.closed = true,
                },
            }
            self.start();
        }
    }

    /// Starts commits as long as there are enough batches for one.
    fn start(&mut self) {
        while self.waiting.len() < WAITING_MAX
            && let Ok(waiting) = self.queue.try_recv()
        {
            self.waiting.push_back(waiting);
        }
        while self.commits.len() < self.at_once {
            let share = (self.under_way.len() + self.waiting.len()).div_ceil(self.at_once);
            let group = if self.waiting.len() < share {
                Vec::new()
            } else {
                self.group(share.min(GROUP_BATCHES_MAX))
            };
            if group.is_empty() {
                return;
            }
            self.commits
                .push(commit_and_answer(Arc::clone(&self.store), group).boxed());
        }
    }

    /// Takes at most `batches` of the waiting batches, none for a stream that has one under way.
    fn group(&mut self, batches: usize) -> Vec<Waiting> {
        let mut group: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        // Streams whose first batch keeps waiting: their later batches stay behind it.
        let mut passed = HashSet::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let stream = &waiting.batch.stream;
            let fits = group.is_empty() || bytes + waiting.batch.size() <= GROUP_BYTES_MAX;
            let free = !passed.contains(stream) && !self.under_way.contains(stream);
            if group.len() < batches && fits && free {
                bytes += waiting.batch.size();
                self.under_way.insert(stream.clone());
                group.push(waiting);
            } else {
                passed.insert(stream.clone());
                self.waiting.push_back(waiting);
            }
        }
        group
    }
}

/// Commits a group, sends each caller the outcome of its batch, and returns the streams.
async fn commit_and_answer(store: Arc<dyn JournalStore>, group: Vec<Waiting>) -> Vec<StreamId> {
    let (batches, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.batch, w.answer)).unzip();
    let streams = batches.iter().map(|batch| batch.stream.clone()).collect();
    let outcomes = commit(store.as_ref(), batches).await;
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // A caller that is gone needs no answer.
        let _ = answer.send(outcome);
    }
    streams
}

/// Commits a group. A store that panics or answers for too few batches leaves the outcome unknown; it does not stop
/// the committer.
async fn commit(store: &dyn JournalStore, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
    let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
    let committed = AssertUnwindSafe(async { store.commit(batches).await })
        .catch_unwind()
        .await;
    match committed {
        Ok(answers) if answers.len() == ids.len() => answers,
        Ok(answers) => {
            let problem = format!(
                "the store answered for {} of {} batches",
                answers.len(),
                ids.len()
            );
            ids.into_iter()
                .map(|id| Err(CommitError::outcome_unknown(id, problem.clone())))
                .collect()
        }
        Err(_) => ids
            .into_iter()
            .map(|id| Err(CommitError::outcome_unknown(id, "the store panicked")))
            .collect(),
    }
}
