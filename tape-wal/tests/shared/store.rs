//! A store that takes its time, holds entries up, cuts pages and fails, by chance.

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tape_environment::Environment;
use tape_store::contract::{Batch, BatchId, Committed, Cursor, JournalStore, Shard, TailPage};
use tape_store::error::{CommitError, StoreError};
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;
use tokio::sync::Notify;

/// The longest that a call takes to reach the store, and as long its answer.
const TAKES_MAX: Duration = Duration::from_millis(20);
/// The longest pause of a writer within a commit, and the longest that entries are held up.
const PAUSE_MAX: Duration = Duration::from_millis(400);

pub(crate) struct Adverse {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) environment: Arc<dyn Environment>,
    /// Durable entries that no reader of the feed may have yet, as behind a transaction that is still under way; none while nothing is
    /// held up.
    held_up: Mutex<Option<BTreeSet<(StreamId, Seq)>>>,
    released: Arc<Notify>,
}

impl Adverse {
    pub(crate) fn new(inner: Arc<MemoryStore>, environment: Arc<dyn Environment>) -> Self {
        Self {
            inner,
            environment,
            held_up: Mutex::default(),
            released: Arc::default(),
        }
    }

    fn one_of(&self, many: f64) -> bool {
        self.environment.chance() * many < 1.0
    }

    async fn takes(&self) {
        tokio::time::sleep(TAKES_MAX.mul_f64(self.environment.chance().powi(3))).await;
    }

    async fn fails(&self, many: f64) -> Result<(), StoreError> {
        self.takes().await;
        if self.one_of(many) {
            return Err(StoreError::unavailable("is tested", "it is away"));
        }
        Ok(())
    }

    /// Holds up what is committed from now on, for a while.
    pub(crate) async fn hold_up(&self) {
        *self.held_up.lock().unwrap() = Some(BTreeSet::new());
        tokio::time::sleep(PAUSE_MAX.mul_f64(self.environment.chance())).await;
        *self.held_up.lock().unwrap() = None;
        self.released.notify_waiters();
    }

    fn held(&self) -> Option<BTreeSet<(StreamId, Seq)>> {
        self.held_up.lock().unwrap().clone()
    }

    /// A page of at most `limit` entries that are not held up.
    async fn page(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        let page = self.inner.tail(shard, cursor, limit).await?;
        let Some(held) = self.held() else {
            return Ok(page);
        };
        let is_held =
            |fed: &tape_store::contract::FeedEntry| held.contains(&(fed.stream.clone(), fed.entry.seq));
        match page.entries.iter().position(is_held) {
            None => Ok(page),
            Some(0) => Ok(TailPage::end(cursor.clone())),
            Some(before) => {
                self.inner
                    .tail(shard, cursor, u32::try_from(before).unwrap())
                    .await
            }
        }
    }
}

#[async_trait]
impl Layer for Adverse {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        if self.one_of(4.0) {
            tokio::time::sleep(PAUSE_MAX.mul_f64(self.environment.chance())).await;
        }
        self.takes().await;
        let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        if self.one_of(20.0) {
            let refused = || CommitError::Store(StoreError::unavailable("is tested", "it is away"));
            return ids.iter().map(|_| Err(refused())).collect();
        }
        if let Some(held) = self.held_up.lock().unwrap().as_mut() {
            for batch in &batches {
                held.extend(
                    batch
                        .entries
                        .iter()
                        .map(|entry| (batch.stream.clone(), entry.seq)),
                );
            }
        }
        let answers = self.inner.commit(batches).await;
        if self.one_of(20.0) {
            let lost = |id: &BatchId| Err(CommitError::outcome_unknown(*id, "the answer was lost"));
            return ids.iter().map(lost).collect();
        }
        self.takes().await;
        answers
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.fails(40.0).await?;
        // A short page does not mean the end.
        let cut = 1 + u32::try_from(self.environment.random_u64() % 8).unwrap();
        let limit = if self.one_of(2.0) { limit.min(cut) } else { limit };
        let page = self.page(shard, cursor, limit).await?;
        self.fails(80.0).await?;
        Ok(page)
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.fails(40.0).await?;
        loop {
            let released = self.released.notified();
            if self.held().is_none() {
                break;
            }
            released.await;
        }
        self.inner.tail_end(shard).await
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let (changed, released) = (self.inner.changed(), Arc::clone(&self.released).notified_owned());
        Box::pin(async move {
            tokio::select! {
                biased;
                () = changed => {}
                () = released => {}
            }
        })
    }
}
