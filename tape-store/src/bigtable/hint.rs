//! Hints: rows that say where to look. A hint is written before the commit that makes it true, and is valid only if the stream's row
//! confirms it.
//!
//! The cell of a hint has an ordinal as its timestamp: the one after the ordinal that its commit starts from. Where a stream's row is at
//! ordinal *o* and does not confirm a hint, the hint's cells up to *o* belong to commits that later ones undid or that can no longer
//! succeed. Later cells may belong to a pending commit. So a hint that is needed is never deleted, in any interleaving.

use super::TableContext;
use super::end::{self, End};
use super::table::{self, Change, Row, RowFilter};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Mutex;
use tape_core::id::StreamId;
use tape_core::time::Timestamp;

/// The family of hints.
pub(super) const HINTS: &str = "i";
/// The column that says when a hint was written, by the clock of the writer.
const WRITTEN: &[u8] = b"w";

/// Most generations that one call raises for hints that were given up.
const SETTLED_MAX: usize = 16;
/// Most changes that wait for a later commit, which makes all of them; beyond that, readers clean up. A commit of many batches leaves some
/// for each batch, and the next commit must keep up.
const DEFERRED_MAX: usize = 4_096;

/// A hint as it was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    key: Bytes,
    ordinal: u64,
    written_at: Timestamp,
}

impl Seen {
    pub(super) fn read(row: &Row) -> Option<Self> {
        let cell = row.cell(HINTS, WRITTEN)?;
        let written_at = cell.value.as_ref().try_into().map_or(0, i64::from_be_bytes);
        Some(Self {
            key: row.key.clone(),
            ordinal: cell.ordinal,
            written_at: Timestamp::from_micros(written_at),
        })
    }
}

pub(super) fn cells() -> RowFilter {
    table::family(HINTS)
}

/// Writes a hint for a commit that leads away from `end`, at a time by this server's clock.
pub(super) fn write(key: Bytes, end: &End, now: Timestamp) -> Change {
    let written_at = now.as_micros().to_be_bytes().to_vec();
    let cell = table::set_at(HINTS, WRITTEN, end.ordinal().saturating_add(1), written_at);
    Change {
        key,
        mutations: vec![cell],
    }
}

/// Deletes the cells of a hint up to an ordinal at which the stream's row did not confirm it.
pub(super) fn forget(key: Bytes, ordinal: u64) -> Change {
    let cells = table::unset_up_to(HINTS, WRITTEN, ordinal);
    Change {
        key,
        mutations: vec![cells],
    }
}

/// Deletes hints that the rows of their streams, read after them, do not confirm. A hint that cannot be deleted is left to its next reader.
pub(super) async fn clean(context: &TableContext, stale: Vec<(Seen, StreamId, End)>) {
    let mut changes = Vec::with_capacity(stale.len());
    let now = context.environment.wall();
    let mut settled = 0;
    for (seen, stream, end) in stale {
        if seen.ordinal <= end.ordinal() {
            changes.push(forget(seen.key, end.ordinal()));
            continue;
        }
        let age = now.as_micros().saturating_sub(seen.written_at.as_micros());
        let given_up = age >= context.given_up_after_micros && settled < SETTLED_MAX;
        // Its writer may be dead. Raising the generation makes a pending commit fail.
        if given_up {
            settled += 1;
            if let Ok(true) = end::raise_generation(context, &stream, &end).await {
                changes.push(forget(seen.key, end.ordinal() + 1));
            }
        }
    }
    if !changes.is_empty() {
        for failure in context
            .table
            .mutate(changes)
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::debug!(error = %failure, "a stale hint was not deleted");
        }
    }
}

/// Deletions of hints that commits made obsolete; a later commit makes them.
#[derive(Default)]
pub(super) struct DeferredDeletes(Mutex<VecDeque<Change>>);

impl DeferredDeletes {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Change>> {
        self.0.lock().expect("no code panics while it holds the deferred")
    }

    pub(super) fn add(&self, changes: impl IntoIterator<Item = Change>) {
        let mut deferred = self.lock();
        for change in changes {
            if deferred.len() == DEFERRED_MAX {
                deferred.pop_front();
            }
            deferred.push_back(change);
        }
    }

    pub(super) fn take(&self) -> Vec<Change> {
        self.lock().drain(..).collect()
    }
}
