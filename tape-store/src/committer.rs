//! Group commit: what queues while a commit is in flight shares the next one.

use crate::contract::{Batch, BatchId, Committed, JournalStore};
use crate::error::CommitError;
use futures::FutureExt as _;
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tape_core::id::StreamId;
use tokio::sync::{mpsc, oneshot};

/// Most batches that wait; further callers wait for a place.
const QUEUE_MAX: usize = 1024;
/// Most batches in one physical commit.
const GROUP_BATCHES_MAX: usize = 256;
/// Bytes of entries after which a physical commit takes no further batch.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Commits batches to a store in groups: one task takes everything that queued while its last commit was in flight, at most
/// one batch per stream, and commits it as one. Cheap to clone; the task ends with the last clone.
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
        tokio::spawn(
            Groups {
                store,
                waiting,
                deferred: VecDeque::new(),
            }
            .run(),
        );
        Self { queue }
    }

    /// Commits a batch. Once the batch is queued, dropping the future does not take it back.
    ///
    /// # Errors
    /// Those of [`JournalStore::commit`].
    pub async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        let id = batch.id;
        let (answer, answered) = oneshot::channel();
        // The task ends only when every sender is gone, or with its runtime; then nobody can tell what became of the batch.
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
    waiting: mpsc::Receiver<Waiting>,
    /// Batches whose stream was already in the group that was made last.
    deferred: VecDeque<Waiting>,
}

impl Groups {
    async fn run(mut self) {
        while let Some(group) = self.next().await {
            let (batches, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.batch, w.answer)).unzip();
            for (answer, outcome) in answers
                .into_iter()
                .zip(commit(self.store.as_ref(), batches).await)
            {
                // A caller that is gone does not want the answer.
                let _ = answer.send(outcome);
            }
            // Those who were answered mostly come again at once: with them the next group is twice as large, and a
            // commit costs nearly the same. Where nobody else is ready to run, this takes no time.
            tokio::task::yield_now().await;
        }
    }

    async fn next(&mut self) -> Option<Vec<Waiting>> {
        if self.deferred.is_empty() {
            let first = self.waiting.recv().await?;
            self.deferred.push_back(first);
        }
        while self.deferred.len() < GROUP_BATCHES_MAX
            && let Ok(waiting) = self.waiting.try_recv()
        {
            self.deferred.push_back(waiting);
        }
        Some(self.group())
    }

    fn group(&mut self) -> Vec<Waiting> {
        let mut group = Vec::new();
        let mut streams: HashSet<StreamId> = HashSet::new();
        let mut bytes = 0;
        for waiting in std::mem::take(&mut self.deferred) {
            let fits = group.is_empty() || bytes + waiting.batch.size() <= GROUP_BYTES_MAX;
            if fits && streams.insert(waiting.batch.stream.clone()) {
                bytes += waiting.batch.size();
                group.push(waiting);
            } else {
                streams.insert(waiting.batch.stream.clone());
                self.deferred.push_back(waiting);
            }
        }
        group
    }
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
