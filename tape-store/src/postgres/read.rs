//! Reading streams.

use super::append::{key, signed};
use super::error::{Failure, corrupt};
use super::links::{Links, Statement};
use crate::contract::{Head, Snapshot};
use crate::error::StoreError;
use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;

/// Bytes of entries after which a page takes no further one.
pub(super) const PAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

/// The head of the stream with key $1 and name $2, and its snapshot.
pub(super) const HEAD: &str = "SELECT h.seq, h.epoch, h.digest, s.seq, s.bytes \
         FROM tape_head h LEFT JOIN tape_snapshot s ON s.stream = h.stream WHERE h.key = $1 AND h.name = $2";

// A subquery of its own keeps the planner from scanning entries to find their head.

/// At most $4 entries of the stream with key $1 and name $2 from entry $3 on, up to $5 bytes and the entry that goes over; and from
/// where on the stream has entries.
pub(super) const ENTRIES: &str = "SELECT seq, digest, envelope, payload, payload IS NULL AND NOT erased, first FROM ( \
           SELECT e.seq, e.digest, e.envelope, e.payload, e.erased, h.first, octet_length(e.envelope) + coalesce(octet_length(e.payload), 0) AS size, \
             sum(octet_length(e.envelope) + coalesce(octet_length(e.payload), 0)) OVER (ORDER BY e.seq) AS total \
           FROM tape_head h CROSS JOIN LATERAL ( \
             SELECT * FROM tape_entry e WHERE e.part = h.part AND e.stream = h.stream \
               AND e.seq >= greatest($3, h.first) AND e.seq < greatest($3, h.first) + $4 AND e.seq <= h.seq OFFSET 0) e \
           WHERE h.key = $1 AND h.name = $2) page \
         WHERE total - size < $5 ORDER BY seq";

/// The statement for where a stream ends.
pub(super) fn head_statement(name: &str) -> Statement<'static> {
    sqlx::query(HEAD).bind(key(name)).bind(name.to_owned())
}

/// Where a stream ends.
pub(super) async fn head(links: &Links, stream: &StreamId) -> Result<Option<Head>, StoreError> {
    let name = stream.to_string();
    let rows = links.query("reads", || head_statement(&name)).await?;
    rows.first().map(|row| end(stream, row)).transpose()
}

/// Where a stream ends, by its row.
pub(super) fn end(stream: &StreamId, row: &PgRow) -> Result<Head, StoreError> {
    let (seq, epoch): (i64, i64) = (get(row, 0)?, get(row, 1)?);
    let snapshot: Option<i64> = get(row, 3)?;
    let snapshot = match snapshot {
        Some(seq) => Some(Snapshot {
            seq: unsigned(seq),
            bytes: Bytes::from(get::<Vec<u8>>(row, 4)?),
        }),
        None => None,
    };
    Ok(Head {
        seq: unsigned(seq),
        epoch: Epoch(epoch.unsigned_abs()),
        digest: digest(stream, seq, &get::<Vec<u8>>(row, 2)?)?,
        snapshot,
    })
}

/// The statement for entries of a stream.
pub(super) fn entries_statement(name: &str, after: Seq, limit: u32) -> Statement<'static> {
    sqlx::query(ENTRIES)
        .bind(key(name))
        .bind(name.to_owned())
        .bind(asked(after, limit))
        .bind(i64::from(limit))
        .bind(PAGE_BYTES_MAX)
}

/// The first requested entry.
fn asked(after: Seq, limit: u32) -> i64 {
    signed(after.0.saturating_add(1)).min(i64::MAX - i64::from(limit))
}

/// Entries of a stream, by its index.
pub(super) async fn entries(
    links: &Links,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let name = stream.to_string();
    let query = || entries_statement(&name, after, limit);
    let rows = links.query("reads", query).await?;
    page(stream, after, &rows)
}

/// The entries of a page, none of which is missing.
pub(super) fn page(stream: &StreamId, after: Seq, rows: &[PgRow]) -> Result<Vec<StoredEntry>, StoreError> {
    let Some(begin) = rows.first().map(|row| get::<i64>(row, 5)).transpose()? else {
        return Ok(Vec::new());
    };
    let first = asked(after, 0).max(begin);
    let mut entries = Vec::with_capacity(rows.len());
    let numbers = std::iter::successors(Some(first), |n| n.checked_add(1));
    for (row, expected) in rows.iter().zip(numbers) {
        let seq: i64 = get(row, 0)?;
        if seq != expected {
            let problem = "the entry is not there, and a later one is";
            return Err(corrupt("tape_entry", format!("{expected} of {stream}"), problem));
        }
        entries.push(stored(stream, row, 0)?);
    }
    Ok(entries)
}

/// The entry whose sequence number, digest, envelope and payload begin at a column, with whether the payload is lost.
pub(super) fn stored(stream: &StreamId, row: &PgRow, at: usize) -> Result<StoredEntry, StoreError> {
    let seq: i64 = get(row, at)?;
    let (envelope, payload): (Vec<u8>, Option<Vec<u8>>) = (get(row, at + 2)?, get(row, at + 3)?);
    if get(row, at + 4)? {
        let problem = "its payload is gone, and it was not erased";
        return Err(corrupt("tape_entry", format!("{seq} of {stream}"), problem));
    }
    Ok(StoredEntry {
        seq: unsigned(seq),
        envelope: Bytes::from(envelope),
        payload: payload.map(Bytes::from),
        digest: digest(stream, seq, &get::<Vec<u8>>(row, at + 1)?)?,
    })
}

fn digest(stream: &StreamId, seq: i64, bytes: &[u8]) -> Result<Digest, StoreError> {
    let problem = |_| {
        let problem = format!("its digest has {} bytes", bytes.len());
        corrupt("tape_entry", format!("{seq} of {stream}"), problem)
    };
    <[u8; 32]>::try_from(bytes).map(Digest).map_err(problem)
}

pub(super) fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column)
        .map_err(|error| Failure::from(error).store_error("reads"))
}

const fn unsigned(seq: i64) -> Seq {
    Seq(seq.unsigned_abs())
}
