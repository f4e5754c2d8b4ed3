//! Reading streams and the feed.

use super::append::signed;
use super::error::{corrupt, store_error};
use crate::anchor::{Anchored, Found};
use crate::contract::{DamagedEntry, FeedEntry, Head, Snapshot, TailPage};
use crate::error::StoreError;
use bytes::Bytes;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteExecutor, SqlitePool, SqliteRow};
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;

/// Bytes of entries after which a page takes no further one.
const PAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

/// The head of the stream named ?1, its last entry and its snapshot.
pub(super) const HEAD: &str = "SELECT h.seq, h.epoch, e.digest, p.seq, p.bytes \
         FROM stream s LEFT JOIN head h ON h.stream = s.id \
         LEFT JOIN entry e ON e.pos = h.pos AND e.stream = s.id AND e.seq = h.seq \
         LEFT JOIN snapshot p ON p.stream = s.id \
         WHERE s.name = ? AND (h.seq > 0 OR h.seq IS NULL)";

/// At most ?3 entries of the stream named ?1 from ?2 on; a damaged link that leads on or around ends the walk. Up to ?4 bytes and the
/// entry that goes over.
pub(super) const ENTRIES: &str = "WITH RECURSIVE \
           head AS MATERIALIZED (SELECT h.stream, h.seq, h.pos, max(?2, coalesce(k.first, 1)) AS low \
             FROM stream s JOIN main.head h ON h.stream = s.id LEFT JOIN kept k ON k.stream = s.id WHERE s.name = ?1), \
           walk(pos, seq, prev, size, low) AS ( \
             SELECT e.pos, e.seq, e.prev, length(e.envelope) + coalesce(length(e.payload), 0), head.low FROM head CROSS JOIN entry e \
               WHERE e.pos = coalesce((SELECT w.pos FROM waypoint w WHERE w.stream = head.stream AND w.seq >= head.low + ?3 - 1 \
                 ORDER BY w.seq LIMIT 1), head.pos) \
             UNION ALL \
             SELECT e.pos, e.seq, e.prev, length(e.envelope) + coalesce(length(e.payload), 0), walk.low \
               FROM walk CROSS JOIN entry e WHERE e.pos = walk.prev AND e.pos < walk.pos AND walk.seq > walk.low), \
           page AS (SELECT pos, seq, size, sum(size) OVER (ORDER BY seq) AS total FROM walk WHERE seq >= low AND seq < low + ?3) \
         SELECT head.seq, head.stream, e.stream, e.seq, e.digest, e.envelope, e.payload, e.payload IS NULL AND NOT EXISTS (SELECT 1 FROM erased WHERE erased.pos = e.pos), head.low \
         FROM head LEFT JOIN page ON page.total - page.size < ?4 LEFT JOIN entry e ON e.pos = page.pos \
         WHERE head.seq >= head.low ORDER BY page.seq";

/// At most ?2 entries after place ?1, up to ?3 bytes and the entry that goes over.
pub(super) const TAIL: &str = "WITH next AS (SELECT pos, length(envelope) + coalesce(length(payload), 0) AS size FROM entry \
             WHERE pos > ?1 ORDER BY pos LIMIT ?2), \
           page AS (SELECT pos, size, sum(size) OVER (ORDER BY pos) AS total FROM next) \
         SELECT e.pos, s.name, e.seq, e.digest, e.envelope, e.payload, e.payload IS NULL AND NOT EXISTS (SELECT 1 FROM erased WHERE erased.pos = e.pos) \
         FROM page CROSS JOIN entry e ON e.pos = page.pos LEFT JOIN stream s ON s.id = e.stream \
         WHERE page.total - page.size < ?3 ORDER BY e.pos";

/// The last entry: its place and digest.
pub(super) const TAIL_END: &str = "SELECT pos, digest FROM entry WHERE pos = (SELECT max(pos) FROM entry)";

/// The digest of the entry at place ?1, and the last place.
pub(super) const FOUND: &str =
    "SELECT (SELECT digest FROM entry WHERE pos = ?1), (SELECT coalesce(max(pos), 0) FROM entry)";

/// The place of entry ?2 of the stream named ?1.
pub(super) const POSITION: &str = "WITH RECURSIVE walk(pos, seq, prev) AS ( \
           SELECT e.pos, e.seq, e.prev FROM stream s CROSS JOIN head h ON h.stream = s.id CROSS JOIN entry e \
             WHERE s.name = ?1 AND e.pos = \
               coalesce((SELECT w.pos FROM waypoint w WHERE w.stream = s.id AND w.seq >= ?2 ORDER BY w.seq LIMIT 1), h.pos) \
           UNION ALL SELECT e.pos, e.seq, e.prev FROM walk CROSS JOIN entry e WHERE e.pos = walk.prev AND e.pos < walk.pos AND walk.seq > ?2) \
         SELECT pos FROM walk WHERE seq = ?2";

/// Where a stream ends.
pub(super) async fn head(
    readers: impl SqliteExecutor<'_>,
    stream: &StreamId,
) -> Result<Option<Head>, StoreError> {
    let query = sqlx::query(HEAD);
    let rows = query
        .bind(stream.to_string())
        .fetch_all(readers)
        .await
        .map_err(failed)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (Some(seq), epoch) = (get::<Option<i64>>(row, 0)?, get::<Option<i64>>(row, 1)?) else {
        return Err(StoreError::without_head(stream));
    };
    let epoch = epoch.unwrap_or_default();
    let digest: Option<Vec<u8>> = get(row, 2)?;
    let problem = || corrupt("head", stream, format!("its last entry, {seq}, is not there"));
    let digest = read_digest(stream, seq, &digest.ok_or_else(problem)?)?;
    let snapshot: Option<i64> = get(row, 3)?;
    let snapshot = match snapshot {
        Some(seq) => Some(Snapshot {
            seq: unsigned(seq),
            bytes: Bytes::from(get::<Vec<u8>>(row, 4)?),
        }),
        None => None,
    };
    Ok(Some(Head {
        seq: unsigned(seq),
        epoch: Epoch(epoch.unsigned_abs()),
        digest,
        snapshot,
    }))
}

/// Entries of a stream, found by walking back from the first place known at or after the page's end.
pub(super) async fn entries(
    readers: impl SqliteExecutor<'_>,
    stream: &StreamId,
    after: Seq,
    limit: u32,
) -> Result<Vec<StoredEntry>, StoreError> {
    let query = sqlx::query(ENTRIES);
    let query = query
        .bind(stream.to_string())
        .bind(signed(after.0.saturating_add(1)))
        .bind(i64::from(limit))
        .bind(PAGE_BYTES_MAX);
    let rows = query.fetch_all(readers).await.map_err(failed)?;
    let Some(first) = rows.first().map(|row| get::<i64>(row, 8)).transpose()? else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::with_capacity(rows.len());
    let numbers = std::iter::successors(Some(first), |n| n.checked_add(1));
    for (row, expected) in rows.iter().zip(numbers) {
        let (own, of): (i64, Option<i64>) = (get(row, 1)?, get(row, 2)?);
        let seq: Option<i64> = get(row, 3)?;
        if (of, seq) != (Some(own), Some(expected)) {
            // The walk goes back from the end, so the damage lies before the first entry that it found.
            let missing = match seq {
                Some(found) if found > expected => found - 1,
                Some(_) => expected,
                None => get::<i64>(row, 0)?.min(first + i64::from(limit) - 1),
            };
            return Err(corrupt(
                "entry",
                format!("{missing} of {stream}"),
                "the entry is not where it should be",
            ));
        }
        entries.push(stored(stream, row, 3)?);
    }
    Ok(entries)
}

/// The feed: all entries in the order of their commits.
pub(super) async fn tail(readers: &SqlitePool, position: u64, limit: u32) -> Result<TailPage, StoreError> {
    let query = sqlx::query(TAIL);
    let query = query
        .bind(signed(position))
        .bind(i64::from(limit))
        .bind(PAGE_BYTES_MAX);
    let rows = query.fetch_all(readers).await.map_err(failed)?;
    let mut page = TailPage::end(crate::listing::cursor(position));
    for row in &rows {
        let pos: i64 = get(row, 0)?;
        let name: Option<String> = get(row, 1)?;
        let fed = stream_of(pos, name.as_deref()).and_then(|stream| {
            let entry = stored(&stream, row, 2).map_err(|error| (Some(stream.clone()), error))?;
            Ok(FeedEntry { stream, entry })
        });
        match fed {
            Ok(entry) => page.entries.push(entry),
            Err((stream, error @ StoreError::Corrupt { .. })) => {
                page.damaged.push(DamagedEntry::new(stream, &error));
            }
            Err((_, error)) => return Err(error),
        }
        page.cursor = crate::listing::cursor(pos.unsigned_abs());
    }
    Ok(page)
}

/// The stream of the entry at a place.
fn stream_of(pos: i64, name: Option<&str>) -> Result<StreamId, (Option<StreamId>, StoreError)> {
    let stream = name.map(str::parse::<StreamId>);
    let Some(Ok(stream)) = stream else {
        let problem = format!("it belongs to no stream: {name:?}");
        return Err((None, corrupt("entry", pos, problem)));
    };
    Ok(stream)
}

/// The place after everything in the feed.
pub(super) async fn tail_end(readers: &SqlitePool) -> Result<Anchored, StoreError> {
    let rows = sqlx::query(TAIL_END).fetch_all(readers).await.map_err(failed)?;
    let Some(row) = rows.first() else {
        return Ok(Anchored::default());
    };
    let (pos, digest): (i64, Vec<u8>) = (get(row, 0)?, get(row, 1)?);
    // A damaged digest ties the cursor to nothing. The damage is reported where the entry is read.
    let digest = digest.try_into().ok().map(Digest);
    Ok(Anchored::new(crate::listing::cursor(pos.unsigned_abs()), digest))
}

/// The entry at a place in the feed.
pub(super) async fn found(readers: &SqlitePool, position: u64) -> Result<Found, StoreError> {
    let query = sqlx::query(FOUND).bind(signed(position));
    let row = query.fetch_one(readers).await.map_err(failed)?;
    let (digest, end): (Option<Vec<u8>>, i64) = (get(&row, 0)?, get(&row, 1)?);
    Ok(match digest.map(<[u8; 32]>::try_from) {
        Some(Ok(digest)) => Found::Entry(Digest(digest)),
        _ if position > end.unsigned_abs() => Found::Beyond,
        _ => Found::Dropped,
    })
}

/// The place of an entry of a stream in the file.
pub(super) async fn position(
    readers: &SqlitePool,
    stream: &StreamId,
    seq: Seq,
) -> Result<Option<i64>, StoreError> {
    let query = sqlx::query_scalar::<_, i64>(POSITION);
    let found = query
        .bind(stream.to_string())
        .bind(signed(seq.0))
        .fetch_all(readers)
        .await
        .map_err(failed)?;
    Ok(found.first().copied())
}

fn failed(error: sqlx::Error) -> StoreError {
    store_error("reads", error)
}

/// The entry whose sequence number, digest, envelope and payload begin at a column, with whether the payload is lost.
fn stored(stream: &StreamId, row: &SqliteRow, at: usize) -> Result<StoredEntry, StoreError> {
    let seq: i64 = get(row, at)?;
    let digest: Vec<u8> = get(row, at + 1)?;
    let (envelope, payload): (Vec<u8>, Option<Vec<u8>>) = (get(row, at + 2)?, get(row, at + 3)?);
    if get(row, at + 4)? {
        return Err(corrupt(
            "entry",
            format!("{seq} of {stream}"),
            "its payload is gone, and it was not erased",
        ));
    }
    Ok(StoredEntry {
        seq: unsigned(seq),
        envelope: Bytes::from(envelope),
        payload: payload.map(Bytes::from),
        digest: read_digest(stream, seq, &digest)?,
    })
}

fn read_digest(stream: &StreamId, seq: i64, bytes: &[u8]) -> Result<Digest, StoreError> {
    let problem = |_| {
        corrupt(
            "entry",
            format!("{seq} of {stream}"),
            format!("its digest has {} bytes", bytes.len()),
        )
    };
    <[u8; 32]>::try_from(bytes).map(Digest).map_err(problem)
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, column: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed)
}

const fn unsigned(seq: i64) -> Seq {
    Seq(seq.unsigned_abs())
}
