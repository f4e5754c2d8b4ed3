//! How much work is due, by which an operator sees whether the reactors keep up.

use super::agenda::Start;
use super::{Engine, Parts};
use crate::journal::failure::of_store;
use tape_api::JournalError;
use tape_api::query::{DueFilter, QueueSummary};
use tape_core::agenda::Queue;
use tape_core::id::Tenant;
use tape_core::limits::{HINTS_COUNTED_MAX, HINTS_LOOKED_AT_MAX};
use tape_core::time::Timestamp;
use tape_store::contract::Shard;
use tape_store::error::StoreError;

impl Engine {
    /// How much work of each queue is due, of all tenants or of one.
    ///
    /// Counts the [`HINTS_COUNTED_MAX`] pieces of each queue and shard that are due longest, of those that are asked for. To find those of
    /// one tenant, it looks at [`HINTS_LOOKED_AT_MAX`] pieces of all tenants. Where either bound ends the count, [`QueueSummary::more`] says
    /// so. Work is counted by its hints: some of it may just have been done.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`] where the store cannot be read now.
    pub async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError> {
        let until = self.due_until().await.map_err(of_store)?;
        let filter = DueFilter {
            tenant: tenant.cloned(),
            app: None,
        };
        let mut queues = Vec::with_capacity(Queue::ALL.len());
        for queue in Queue::ALL {
            let summary = self.0.queue_summary(queue, until, &filter).await;
            queues.push(summary.map_err(of_store)?);
        }
        Ok(queues)
    }
}

impl Parts {
    async fn queue_summary(
        &self,
        queue: Queue,
        until: Timestamp,
        filter: &DueFilter,
    ) -> Result<QueueSummary, StoreError> {
        let mut summary = QueueSummary {
            queue,
            due: 0,
            more: false,
            oldest_due: None,
        };
        for shard in (0..self.store.capabilities().shards).map(Shard) {
            // One more than is counted says whether there are more.
            let bounds = (HINTS_COUNTED_MAX + 1, HINTS_LOOKED_AT_MAX);
            let found = self
                .due_of((queue, shard), until, filter, Start::BEGINNING, bounds)
                .await?;
            let counted = found.hints.len().min(HINTS_COUNTED_MAX as usize);
            summary.due += counted as u64;
            summary.more |= found.next.is_some() || counted < found.hints.len();
            // They are in the order of their times.
            let oldest = found.hints.first().map(|hint| hint.due);
            summary.oldest_due = [summary.oldest_due, oldest].into_iter().flatten().min();
        }
        Ok(summary)
    }
}
