//! How much work is due, by which an operator sees whether the reactors keep up.

use super::{Engine, Parts};
use crate::journal::failure::of_store;
use tape_api::JournalError;
use tape_api::query::{DueFilter, QueueSummary};
use tape_core::agenda::Queue;
use tape_core::id::Tenant;
use tape_core::limits::HINTS_COUNTED_MAX;
use tape_core::time::Timestamp;
use tape_store::contract::Shard;
use tape_store::error::StoreError;

impl Engine {
    /// How much work of each queue is due, of all tenants or of one.
    ///
    /// Looks at the [`HINTS_COUNTED_MAX`] pieces of each queue and shard that are due longest, of all tenants. So where other tenants have
    /// as much due work, the count of one tenant is too small, and [`QueueSummary::more`] says so. Work is counted by its hints: some of it
    /// may just have been done.
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
            let hints = self
                .store
                .due(queue, shard, until, None, HINTS_COUNTED_MAX)
                .await?;
            summary.more |= hints.len() >= HINTS_COUNTED_MAX as usize;
            for hint in hints.iter().filter(|hint| filter.fits(&hint.stream)) {
                summary.due += 1;
                let oldest = summary.oldest_due.map_or(hint.due, |oldest| oldest.min(hint.due));
                summary.oldest_due = Some(oldest);
            }
        }
        Ok(summary)
    }
}
