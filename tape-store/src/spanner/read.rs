//! Reading streams.

use super::append::{self, StreamKey, signed};
use super::error::{Failure, corrupt};
use super::link::{Link, Question};
use super::retention::kept_from;
use crate::contract::{Head, Snapshot};
use crate::error::StoreError;
use bytes::Bytes;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use google_cloud_spanner::value::FromValue;
use std::cmp::Ordering;
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq};
use tape_core::payload::Digest;

/// Where a stream ends. Head and snapshot are read concurrently.
pub(super) async fn head(link: &Link, stream: &StreamKey) -> Result<Option<Head>, StoreError> {
    let (ended, snapshot) = tokio::try_join!(end(link, stream), snapshot(link, stream))?;
    // A snapshot that was taken after the end was read is of a later end.
    let newer = |snapshot: &Snapshot| ended.as_ref().is_none_or(|ended| ended.seq < snapshot.seq);
    let ended = if snapshot.as_ref().is_some_and(newer) {
        end(link, stream).await?
    } else {
        ended
    };
    Ok(ended.map(|ended| Head { snapshot, ..ended }))
}

/// The same without the snapshot. The newest head comes first; deleted ones come after it until Spanner compacts them.
pub(super) async fn end(link: &Link, stream: &StreamKey) -> Result<Option<Head>, StoreError> {
    let range = KeyRange::closed_closed(key![stream.id], key![stream.id]);
    let request = ReadRequest::builder("tape_end", ["seq", "epoch", "digest"])
        .with_keys(KeySet::builder().add_range(range).build())
        .set_limit(1);
    let rows = link.ask("reads", Question::Keys(request.build()), |row| {
        let (seq, epoch): (i64, i64) = (get(row, 0)?, get(row, 1)?);
        Ok(Head {
            seq: unsigned(seq),
            epoch: Epoch(epoch.unsigned_abs()),
            digest: digest(&stream.name, seq, &get::<Bytes>(row, 2)?)?,
            snapshot: None,
        })
    });
    Ok(rows.await?.pop())
}

async fn snapshot(link: &Link, stream: &StreamKey) -> Result<Option<Snapshot>, StoreError> {
    let key = KeySet::builder().add_key(key![stream.id]).build();
    let request = ReadRequest::builder("tape_snapshot", ["seq", "bytes"]).with_keys(key);
    let rows = link.ask("reads", Question::Keys(request.build()), |row| {
        Ok(Snapshot {
            seq: unsigned(get(row, 0)?),
            bytes: get(row, 1)?,
        })
    });
    Ok(rows.await?.pop())
}

/// Entries of a stream after `after`, or from the first kept entry on.
pub(super) async fn entries(
    link: &Link,
    stream: &StreamKey,
    mut after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    loop {
        let entries = entries_there(link, stream, after, limit).await?;
        let Some(first) = entries.first().map(|entry| entry.seq) else {
            return Ok(entries);
        };
        let missing = |seq: Seq| {
            let problem = "the entry is not there, and a later one is";
            Err(corrupt(
                "tape_entry",
                format!("{seq} of {}", stream.name),
                problem,
            ))
        };
        let mut numbered = entries.iter().zip(first.onward());
        if let Some((_, expected)) = numbered.find(|(entry, expected)| entry.seq != *expected) {
            return missing(expected);
        }
        if first.0 == after.0.saturating_add(1) {
            return Ok(entries);
        }
        // This is read after the entries, so it is not older than they are: missing entries that it does not explain are lost.
        let kept = kept_from(link, stream).await?.map_or(0, i64::unsigned_abs);
        match first.0.cmp(&kept) {
            Ordering::Equal => return Ok(entries),
            Ordering::Greater => return missing(after.next()),
            // The entries in between are being dropped.
            Ordering::Less => after = Seq(kept - 1),
        }
    }
}

async fn entries_there(
    link: &Link,
    stream: &StreamKey,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let range = KeyRange::open_closed(key![stream.id, signed(after.0)], key![stream.id]);
    let columns = ["seq", "digest", "envelope", "payload", "erased"];
    let request = ReadRequest::builder("tape_entry", columns)
        .with_keys(KeySet::builder().add_range(range).build())
        .set_limit(limit.into());
    let question = Question::Keys(request.build());
    let entry = |row: &Row| Unnamed::read(row, 0)?.entry(&stream.name);
    link.page("reads", question, StoredEntry::size, entry).await
}

/// Erases the payload of one entry, if there is such an entry.
pub(super) async fn erase(link: &Link, stream: &StreamKey, seq: Seq) -> Result<(), StoreError> {
    let Err(failure) = link.write(vec![append::erase(stream, seq)]).await else {
        return Ok(());
    };
    // A missing database gives the same error as a missing row.
    if failure.is_not_there() && !is_there(link, stream, seq).await? {
        return Ok(());
    }
    Err(failure.store_error("erases a payload"))
}

async fn is_there(link: &Link, stream: &StreamKey, seq: Seq) -> Result<bool, StoreError> {
    let key = KeySet::builder().add_key(key![stream.id, signed(seq.0)]).build();
    let request = ReadRequest::builder("tape_entry", ["seq"]).with_keys(key);
    let rows = link.ask("erases a payload", Question::Keys(request.build()), |row| {
        get::<i64>(row, 0)
    });
    Ok(!rows.await?.is_empty())
}

/// The row of an entry; the name of its stream is in another table.
pub(super) struct Unnamed {
    pub(super) seq: i64,
    digest: Bytes,
    envelope: Bytes,
    payload: Option<Bytes>,
    erased: bool,
}

impl Unnamed {
    /// Reads sequence number, digest, envelope, payload and mark of erasure from a column on.
    pub(super) fn read(row: &Row, at: usize) -> Result<Self, StoreError> {
        Ok(Self {
            seq: get(row, at)?,
            digest: get(row, at + 1)?,
            envelope: get(row, at + 2)?,
            payload: get(row, at + 3)?,
            erased: get::<Option<bool>>(row, at + 4)? == Some(true),
        })
    }

    /// The entry of a stream.
    pub(super) fn entry(self, stream: &str) -> Result<StoredEntry, StoreError> {
        if self.payload.is_none() && !self.erased {
            let problem = "its payload is gone, and it was not erased";
            return Err(corrupt(
                "tape_entry",
                format!("{} of {stream}", self.seq),
                problem,
            ));
        }
        Ok(StoredEntry {
            seq: unsigned(self.seq),
            digest: digest(stream, self.seq, &self.digest)?,
            envelope: self.envelope,
            payload: self.payload,
        })
    }
}

fn digest(stream: &str, seq: i64, bytes: &[u8]) -> Result<Digest, StoreError> {
    let problem = |_| {
        let problem = format!("its digest has {} bytes", bytes.len());
        corrupt("tape_entry", format!("{seq} of {stream}"), problem)
    };
    <[u8; 32]>::try_from(bytes).map(Digest).map_err(problem)
}

pub(super) fn get<T: FromValue>(row: &Row, column: usize) -> Result<T, StoreError> {
    row.get(column)
        .map_err(|error| Failure::from(error).store_error("reads"))
}

const fn unsigned(seq: i64) -> Seq {
    Seq(seq.unsigned_abs())
}
