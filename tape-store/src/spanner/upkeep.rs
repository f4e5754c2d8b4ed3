//! Verifies and corrects what the database has beside entries.

use super::SpannerStore;
use super::append::{self, StreamKey};
use super::link::{Link, Question};
use super::read::get;
use crate::contract::{Hint, PageToken};
use crate::error::StoreError;
use crate::group::page;
use crate::listing::{self, named_page};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use std::collections::HashSet;
use tape_core::id::StreamId;

const DOING: &str = "looks over its indexes";
/// The version stands in the index that it is about, as an item of a queue that does not exist.
const NO_QUEUE: i64 = 0;

#[async_trait]
impl Upkeep for SpannerStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        let limit = page(limit);
        let read = |token: &PageToken| {
            let id = hex::decode(&token.0).ok();
            id.filter(|id| !id.is_empty() && hex::encode(id) == token.0)
        };
        let after = from.map_or(Some(Vec::new()), read);
        let after = after.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made by this store".to_owned(),
        })?;
        let range = KeyRange::open_closed(key![after], key![vec![u8::MAX; 16]]);
        let request = ReadRequest::builder("tape_stream", ["id", "name"])
            .with_keys(KeySet::builder().add_range(range).build())
            .set_limit(limit.into());
        let named = |row: &Row| Ok((get::<Vec<u8>>(row, 0)?, get::<String>(row, 1)?));
        let rows = self
            .link
            .ask(DOING, Question::Keys(request.build()), named)
            .await?;
        let rows = rows
            .into_iter()
            .map(|(id, name)| (hex::encode(id), name))
            .collect();
        Ok(named_page(rows, limit))
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        let stream = self.stream(stream);
        let due = due(&self.link, &stream, hints).await?;
        let summary = listed(&self.link, &stream).await?;
        // The database keeps the index of names.
        let named = true;
        Ok(Indexed { due, summary, named })
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        let row = self.stream(stream);
        let mut mutations = vec![append::still_ends(&row, end)];
        mutations.extend(append::agenda(&row, &correction.agenda));
        if let (Some(summary), StreamId::Run(run)) = (&correction.summary, stream) {
            mutations.extend(append::list(&row, run, summary));
        }
        match self.link.write(mutations).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.is_unmet_condition() => Ok(false),
            Err(failure) => Err(failure.store_error(DOING)),
        }
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        let range = KeyRange::closed_closed(key![NO_QUEUE], key![NO_QUEUE]);
        let request = ReadRequest::builder("tape_agenda", ["due"])
            .with_keys(KeySet::builder().add_range(range).build());
        let versions = self
            .link
            .ask(DOING, Question::Keys(request.build()), |row| get::<i64>(row, 0));
        let version = versions.await?.into_iter().max().unwrap_or_default();
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        let row = Mutation::new_insert_or_update_builder("tape_agenda")
            .set("queue")
            .to(NO_QUEUE);
        let row = row.set("shard").to(0_i64).set("due").to(i64::from(version));
        let row = row.set("id").to(Vec::<u8>::new());
        let row = row.set("item").to("version".to_owned());
        let row = row.set("name").to(String::new()).build();
        let written = self.link.write(vec![row]).await;
        written.map_err(|failure| failure.store_error(DOING))
    }
}

/// Which of the hints exist.
async fn due(link: &Link, stream: &StreamKey, hints: &[Hint]) -> Result<Vec<bool>, StoreError> {
    if hints.is_empty() {
        return Ok(Vec::new());
    }
    let place = |hint: &Hint| {
        (
            i64::from(hint.queue.number()),
            hint.due.as_micros(),
            hint.item.to_string(),
        )
    };
    let keys = hints.iter().fold(KeySet::builder(), |keys, hint| {
        let (queue, due, item) = place(hint);
        keys.add_key(key![queue, stream.shard, due, stream.id, item])
    });
    let request = ReadRequest::builder("tape_agenda", ["queue", "due", "item"]).with_keys(keys.build());
    let read = |row: &Row| Ok((get::<i64>(row, 0)?, get::<i64>(row, 1)?, get::<String>(row, 2)?));
    let there = link.ask(DOING, Question::Keys(request.build()), read).await?;
    let there: HashSet<_> = there.into_iter().collect();
    Ok(hints.iter().map(|hint| there.contains(&place(hint))).collect())
}

/// The row of a run in lists.
async fn listed(link: &Link, stream: &StreamKey) -> Result<Option<tape_core::status::Summary>, StoreError> {
    let key = KeySet::builder().add_key(key![stream.id]).build();
    let columns = ["name", "status", "begun_at", "changed_at", "labels"];
    let request = ReadRequest::builder("tape_stream", columns).with_keys(key);
    let read = |row: &Row| {
        let (status, labels): (Option<String>, Option<String>) = (get(row, 1)?, get(row, 4)?);
        let (begun_at, changed_at): (Option<i64>, Option<i64>) = (get(row, 2)?, get(row, 3)?);
        let parts = status.zip(labels).zip(begun_at.zip(changed_at));
        let Some(((status, labels), (begun_at, changed_at))) = parts else {
            return Ok(None);
        };
        let row = listing::Row {
            begun_at,
            stream: 0,
            name: get(row, 0)?,
            status,
            changed_at,
            labels,
        };
        Ok(row.summary().ok())
    };
    let rows = link.ask(DOING, Question::Keys(request.build()), read).await?;
    Ok(rows.into_iter().next().flatten())
}
