//! Drops entries: mostly one commit for each stream, several for long ones.
//!
//! The first commit says with which entry the stream begins from now on and deletes its snapshot. Entries are deleted from the oldest on,
//! so the rest has no gap, and a reader that misses older ones checks where the stream begins. The row in lists is deleted with the last of
//! them. Repeating a step has no effect.

use super::append::{self, StreamKey, signed};
use super::error::corrupt;
use super::link::{Link, Question};
use super::read::get;
use super::writer::ends;
use crate::error::StoreError;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use tape_core::id::{Seq, StreamId};

/// Entries that one commit drops, each with its row in the feed: far below what Spanner takes.
const ENTRIES_MAX: i64 = 5_000;
/// Streams that are dropped at the same time.
const STREAMS_MAX: usize = 256;
const DOING: &str = "drops entries";

/// Drops the entries of streams before a number each.
pub(super) async fn drop_before(
    link: &Link,
    shards: u16,
    drops: &[(StreamId, Seq)],
) -> Result<(), StoreError> {
    for drops in drops.chunks(STREAMS_MAX) {
        let streams: Vec<(StreamKey, Seq)> = drops
            .iter()
            .map(|(stream, seq)| (StreamKey::new(stream, shards), *seq))
            .collect();
        let ends = ends(link, streams.iter().map(|(stream, _)| stream).collect()).await?;
        // Streams that do not exist have no end.
        let dropped = streams.iter().filter_map(|(stream, seq)| {
            let end = ends.get(&stream.id)?;
            Some(drop_stream(link, stream, signed(seq.min(&end.seq).0)))
        });
        futures::future::try_join_all(dropped).await?;
    }
    Ok(())
}

/// Drops the entries of a stream before `first`, which exists.
async fn drop_stream(link: &Link, stream: &StreamKey, first: i64) -> Result<(), StoreError> {
    let mut mutations: Vec<Mutation> = append::keep_from(stream, first).into();
    let mut from = if first > ENTRIES_MAX {
        oldest(link, stream).await?
    } else {
        1
    };
    loop {
        let before = first.min(from.saturating_add(ENTRIES_MAX));
        if from < before {
            mutations.push(append::drop_entries(stream, from, before));
        }
        let is_last = before == first || from >= first;
        if is_last {
            mutations.extend(append::unlist(stream));
        }
        let written = link.write(std::mem::take(&mut mutations)).await;
        written.map_err(|failure| failure.store_error(DOING))?;
        if is_last {
            return Ok(());
        }
        from = before;
    }
}

/// The first entry that is left.
async fn oldest(link: &Link, stream: &StreamKey) -> Result<i64, StoreError> {
    first_row(link, stream, "tape_entry", "seq")
        .await?
        .ok_or_else(|| corrupt("tape_entry", &stream.name, "the stream has an end and no entries"))
}

/// The first entry of a stream, where entries were dropped.
pub(super) async fn kept_from(link: &Link, stream: &StreamKey) -> Result<Option<i64>, StoreError> {
    first_row(link, stream, "tape_kept", "first").await
}

async fn first_row(
    link: &Link,
    stream: &StreamKey,
    table: &str,
    column: &str,
) -> Result<Option<i64>, StoreError> {
    let range = KeyRange::closed_closed(key![stream.id], key![stream.id]);
    let request = ReadRequest::builder(table, [column])
        .with_keys(KeySet::builder().add_range(range).build())
        .set_limit(1);
    let rows = link.ask("reads", Question::Keys(request.build()), |row| get(row, 0));
    Ok(rows.await?.pop())
}
