//! Records of readers of the feed in a broken store.

use super::{BrokenStore, Defect};
use async_trait::async_trait;
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::StoreError;

impl BrokenStore {
    fn records_within(&self) -> &dyn CursorStore {
        self.inner.cursors()
    }

    /// Makes a change whatever the version is. The store within takes only greater versions, so the record is removed and made again.
    async fn force(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        loop {
            if let Some(found) = self.records_within().record(name).await? {
                let expected = found.version;
                self.records_within()
                    .swap_record(name, &Swap::Remove { expected })
                    .await?;
            }
            let Some(next) = swap.next() else { return Ok(true) };
            let make = Swap::Make(next.clone());
            if self.records_within().swap_record(name, &make).await? {
                return Ok(true);
            }
        }
    }

    async fn compare_and_force(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        let found = self.records_within().record(name).await?;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if found.map(|found| found.version) == swap.expected() {
            return self.force(name, swap).await;
        }
        Ok(false)
    }

    /// Makes a change only once the next one comes.
    async fn swap_later(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        let before = self.state().swap.replace((name.to_owned(), swap.clone()));
        if let Some((name, swap)) = before {
            self.records_within().swap_record(&name, &swap).await?;
        }
        Ok(true)
    }
}

#[async_trait]
impl CursorStore for BrokenStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        self.records_within().record(name).await
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        match self.defect {
            Defect::IgnoresVersion => self.force(name, swap).await,
            Defect::ComparesBeforehand => self.compare_and_force(name, swap).await,
            Defect::AnswersEarly => self.swap_later(name, swap).await,
            _ => match self.records_within().swap_record(name, swap).await {
                Err(StoreError::Invalid { .. }) if self.is(Defect::TakesAnything) => Ok(true),
                answer => answer,
            },
        }
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let shorter = |prefix: &str| {
            let mut chars = prefix.chars();
            chars.next_back();
            chars.as_str().to_owned()
        };
        let prefix = match self.defect {
            Defect::ListsBeyondPrefix => shorter(prefix),
            _ => prefix.to_owned(),
        };
        let after = after.filter(|_| !self.is(Defect::BeginsPagesAnew));
        let mut page = self.records_within().records(&prefix, after, limit).await?;
        if self.is(Defect::ListsBackwards) {
            page.reverse();
        }
        Ok(page)
    }
}
