//! A store that takes its time, loses commits and loses answers, by chance.

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tape_environment::Environment;
use tape_store::contract::{Batch, BatchId, Committed, JournalStore};
use tape_store::error::{CommitError, StoreError};
use tape_store::layer::Layer;

/// Of so many commits one is refused, and one is made whose answers are lost.
const ONE_OF: f64 = 20.0;
/// The longest that a commit takes.
const TAKES_MAX: Duration = Duration::from_millis(20);

pub(crate) struct Unreliable {
    pub(crate) inner: Arc<dyn JournalStore>,
    pub(crate) environment: Arc<dyn Environment>,
}

fn lost(ids: &[BatchId]) -> Vec<Result<Committed, CommitError>> {
    let lost = |id: &BatchId| Err(CommitError::outcome_unknown(*id, "the answer was lost"));
    ids.iter().map(lost).collect()
}

#[async_trait]
impl Layer for Unreliable {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        tokio::time::sleep(TAKES_MAX.mul_f64(self.environment.chance())).await;
        let chance = self.environment.chance() * ONE_OF;
        if chance < 1.0 {
            let refused = |_| {
                Err(CommitError::Store(StoreError::unavailable(
                    "commits",
                    "it is away",
                )))
            };
            return batches.into_iter().map(refused).collect();
        }
        let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let answers = self.inner.commit(batches).await;
        if chance < 2.0 { lost(&ids) } else { answers }
    }
}
