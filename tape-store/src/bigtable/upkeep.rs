//! Verifies and corrects what the table has beside entries.
//!
//! A stream's own row has its due work and its row in lists; hints say where to look. A correction works like a commit: first the hints,
//! then the row, with a raised generation and only if it still ends where it did.

use super::append::{AGENDA, agenda_cell, due_in};
use super::end::{self, End, Listed};
use super::hint::{self, Seen};
use super::table::{self, Change, Rows};
use super::{BigtableStore, ROWS_MAX, keys, named};
use crate::contract::{Hint, PageToken};
use crate::error::StoreError;
use crate::group::page;
use crate::upkeep::{self, Correction, Indexed, StreamPage, Upkeep};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use tape_core::id::StreamId;

const DOING: &str = "looks over its indexes";
/// The column of the version, in a row of its own.
const VERSION: &[u8] = b"v";

#[async_trait]
impl Upkeep for BigtableStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        let (first, before) = keys::all_streams();
        let begin = match from {
            None => first,
            Some(token) => keys::right_after(&read_token(token, &(first..before.clone()))?),
        };
        let limit = (page(limit) as usize).min(ROWS_MAX);
        let range = Rows::Range(begin, before);
        let cells = table::without_values(end::head_cells());
        let rows = self.context.table.read(range, cells, limit).await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        let mut found = StreamPage {
            next: rows
                .last()
                .filter(|_| rows.len() == limit)
                .map(|row| PageToken(hex::encode(&row.key))),
            ..StreamPage::default()
        };
        for row in &rows {
            match keys::read_stream(&row.key) {
                Some(stream) => found.streams.push(stream),
                None => found.unreadable.push(row.key.escape_ascii().to_string()),
            }
        }
        Ok(found)
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        let cells = table::any_of([end::cells(), table::family(AGENDA)]);
        let row = self.context.read_stream(DOING, stream, cells).await?;
        let listed = End::read(stream, &row)?.listed;
        let shard = self.context.shard_of(stream);
        let key = |hint: &Hint| keys::due(shard, hint.queue, hint.due, stream, &hint.item);
        let listings = self.listings(stream, listed.as_deref());
        let name = named::hint_of(shard, stream);
        let wanted = hints.iter().map(key).chain(listings.clone()).chain(name.clone());
        let wanted: Vec<Bytes> = wanted.collect();
        let there = self.hints_there(wanted).await?;
        let due = hints
            .iter()
            .map(|hint| due_in(&row, hint.queue, &hint.item) == Some(hint.due) && there.contains(&key(hint)));
        let is_listed = listings.iter().all(|key| there.contains(key));
        Ok(Indexed {
            due: due.collect(),
            summary: listed.filter(|_| is_listed).map(|listed| listed.summary.clone()),
            named: name.is_none_or(|key| there.contains(&key)),
        })
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: upkeep::End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        let context = &self.context;
        let cells = table::any_of([end::cells()]);
        let row = context.read_stream(DOING, stream, cells).await?;
        let now = End::read(stream, &row)?;
        if now.stated() != end {
            return Ok(false);
        }
        let listed = self.listed_as(stream, &now, correction);
        let shard = context.shard_of(stream);
        let new = correction
            .agenda
            .iter()
            .filter_map(|change| Some(keys::due(shard, change.queue, change.due?, stream, &change.item)));
        let name = named::hint_of(shard, stream).filter(|_| correction.named);
        let hints = new.chain(self.listings(stream, listed.as_deref())).chain(name);
        let written_at = context.environment.wall();
        let hints: Vec<Change> = hints.map(|key| hint::write(key, &now, written_at)).collect();
        context.change_all(DOING, hints).await?;
        let raised = End {
            listed: listed.clone().or_else(|| now.listed.clone()),
            ..now.raised()
        };
        let mut mutations = vec![raised.head_cell()];
        mutations.extend(correction.agenda.iter().map(agenda_cell));
        mutations.extend(listed.as_ref().map(|listed| listed.cell()));
        let made = now
            .check(keys::stream(stream), mutations)
            .make(context.table.as_ref())
            .await;
        let made = made.map_err(|failure| failure.store_error(DOING))?;
        if made {
            context.ends.note(stream, &raised);
        } else {
            context.ends.forget(stream);
        }
        Ok(made)
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        let key = Rows::Keys(vec![Bytes::from_static(keys::INDEX)]);
        let rows = self
            .context
            .table
            .read(key, table::any_of([hint::cells()]), 1)
            .await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        let cell = rows.first().and_then(|row| row.cell(hint::HINTS, VERSION));
        let version = cell.and_then(|cell| cell.value.as_ref().try_into().ok());
        Ok(version.map_or(0, u32::from_be_bytes))
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        // Of two cells, that with the greater version is read.
        let value = version.to_be_bytes().to_vec();
        let cell = table::set_at(hint::HINTS, VERSION, version.into(), value);
        let change = Change {
            key: Bytes::from_static(keys::INDEX),
            mutations: vec![cell],
        };
        self.context.change_all(DOING, vec![change]).await
    }
}

impl BigtableStore {
    fn listings(&self, stream: &StreamId, listed: Option<&Listed>) -> Vec<Bytes> {
        let shard = self.context.shard_of(stream);
        let run = stream.as_run().zip(listed);
        run.map_or_else(Vec::new, |(run, listed)| keys::listings(shard, run, listed))
    }

    /// The corrected row of a run in lists, where it must be corrected.
    fn listed_as(&self, stream: &StreamId, now: &End, correction: &Correction) -> Option<Arc<Listed>> {
        let summary = correction.summary.clone().filter(|_| stream.as_run().is_some())?;
        let stored_at = now.listed.as_ref().map(|listed| listed.stored_at);
        let stored_at = stored_at.unwrap_or_else(|| self.context.next_moment());
        Some(Arc::new(Listed { stored_at, summary }))
    }

    /// Which of the hints with these keys exist.
    async fn hints_there(&self, keys: Vec<Bytes>) -> Result<HashSet<Bytes>, StoreError> {
        let mut there = HashSet::new();
        for keys in keys.chunks(ROWS_MAX) {
            let rows = Rows::Keys(keys.to_vec());
            let cells = table::any_of([hint::cells()]);
            let rows = self.context.table.read(rows, cells, keys.len()).await;
            let rows = rows.map_err(|failure| failure.store_error(DOING))?;
            there.extend(
                rows.into_iter()
                    .filter(|row| Seen::read(row).is_some())
                    .map(|row| row.key),
            );
        }
        Ok(there)
    }
}

fn read_token(token: &PageToken, streams: &Range<Bytes>) -> Result<Bytes, StoreError> {
    let key = hex::decode(&token.0).ok().map(Bytes::from);
    let key = key.filter(|key| streams.contains(key) && hex::encode(key) == token.0);
    key.ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made by this store".to_owned(),
    })
}
