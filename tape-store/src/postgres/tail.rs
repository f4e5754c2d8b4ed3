//! The feed: entries in the order of their transactions' ids, up to the oldest transaction that is still under way.
//!
//! Entries of a transaction under way appear at its id, so no reader reads past the smallest such id, the horizon. Before the horizon no
//! entry can appear any more, so a reader that continues from a place there skips nothing. Entries of one transaction stand in the order of
//! streams and sequence numbers; `append` says why that keeps each stream in order.

use super::error::corrupt;
use super::links::Links;
use super::read::{PAGE_BYTES_MAX, get, stored};
use crate::anchor::{Anchored, Found};
use crate::contract::{Cursor, DamagedEntry, FeedEntry, TailPage};
use crate::error::StoreError;
use bytes::Bytes;
use sqlx::postgres::PgRow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tape_core::id::StreamId;
use tape_core::payload::Digest;

/// How long a reader waits at most for transactions that hold up entries. They may be of any database of the cluster, such as one that
/// copies a whole database.
const WAIT_MAX: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// At most $4 entries after place ($1, $2, $3) and before the horizon, up to $5 bytes and the entry that goes over; and whether each
/// counts; an entry that does not count was dropped, or is a copy of one that does. Where a stream's head is lost, this is unknown, and all
/// are reported as damaged.
pub(super) const TAIL: &str = "SELECT page.ord, page.stream, h.name, page.seq, page.digest, page.envelope, page.payload, \
           page.payload IS NULL AND NOT page.erased, h.stream IS NULL OR (page.part = h.part AND page.seq >= h.first) FROM ( \
           SELECT n.*, sum(n.size) OVER (ORDER BY n.ord, n.stream, n.seq) AS total FROM ( \
             SELECT e.ord, e.stream, e.seq, e.part, e.digest, e.envelope, e.payload, e.erased, \
               octet_length(e.envelope) + coalesce(octet_length(e.payload), 0) AS size FROM tape_entry e \
             WHERE (e.ord, e.stream, e.seq) > ($1, $2, $3) \
               AND e.ord < (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + base FROM tape_store) \
             ORDER BY e.ord, e.stream, e.seq LIMIT $4) n) page \
         LEFT JOIN tape_head h ON h.stream = page.stream WHERE page.total - page.size < $5 \
         ORDER BY page.ord, page.stream, page.seq";

/// Whether any entry stands after place ($1, $2, $3).
pub(super) const BEYOND: &str =
    "SELECT EXISTS (SELECT FROM tape_entry WHERE (ord, stream, seq) > ($1, $2, $3))";

/// The last entry before the horizon, and whether any entry stands at or beyond it. An id that was assigned but never logged is assigned
/// again after a crash, so the end is the place of an entry, never an id.
pub(super) const TAIL_END: &str = "WITH horizon AS MATERIALIZED ( \
           SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + base AS ord FROM tape_store) \
         SELECT last.ord, last.stream, last.digest, last.seq, \
           EXISTS (SELECT FROM tape_entry e WHERE e.ord >= horizon.ord) \
         FROM horizon LEFT JOIN LATERAL (SELECT e.ord, e.stream, e.seq, e.digest FROM tape_entry e WHERE e.ord < horizon.ord \
           ORDER BY e.ord DESC, e.stream DESC, e.seq DESC LIMIT 1) last ON true";

/// The digest of the entry at place ($1, $2, $3), where there is one, and whether the feed continues after it.
pub(super) const FOUND: &str = "SELECT \
           (SELECT e.digest FROM tape_entry e WHERE e.ord = $1 AND e.stream = $2 AND e.seq = $3 LIMIT 1), \
           EXISTS (SELECT FROM tape_entry WHERE (ord, stream, seq) > ($1, $2, $3))";

/// The place of an entry in the feed. The places of one transaction begin with (its id, 0, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    ord: i64,
    stream: i64,
    seq: i64,
}

impl Place {
    fn read(cursor: &Cursor) -> Result<Self, StoreError> {
        if cursor.0.is_empty() {
            return Ok(Self::default());
        }
        let problem = || StoreError::Invalid {
            what: "cursor",
            problem: "it was not made by this store".to_owned(),
        };
        let (numbers, []) = cursor.0.as_chunks::<8>() else {
            return Err(problem());
        };
        let numbers: Vec<i64> = numbers.iter().map(|bytes| i64::from_be_bytes(*bytes)).collect();
        match numbers[..] {
            [ord, stream, seq] if ord >= 0 && stream >= 0 && seq >= 0 => Ok(Self { ord, stream, seq }),
            _ => Err(problem()),
        }
    }

    /// The place of a row that begins with ord and stream, and has the sequence number fourth.
    fn of(row: &PgRow) -> Result<Self, StoreError> {
        Ok(Self {
            ord: get(row, 0)?,
            stream: get(row, 1)?,
            seq: get(row, 3)?,
        })
    }

    fn cursor(self) -> Cursor {
        let Self { ord, stream, seq } = self;
        Cursor(Bytes::from([ord, stream, seq].map(i64::to_be_bytes).concat()))
    }
}

/// Reads the feed, and remembers whether entries were held up.
#[derive(Debug, Default)]
pub(super) struct Tail {
    held_up: AtomicBool,
}

impl Tail {
    /// Whether a reader reached the horizon and saw entries beyond it. No notice comes once those can be read.
    pub(super) fn is_held_up(&self) -> bool {
        self.held_up.load(Ordering::Relaxed)
    }

    /// Entries after a place. A page is empty only when there are none, or when transactions under way hold them up for long.
    pub(super) async fn page(
        &self,
        links: &Links,
        cursor: &Cursor,
        limit: u32,
    ) -> Result<TailPage, StoreError> {
        let mut place = Place::read(cursor)?;
        let mut waits = Waits::default();
        loop {
            let rows = links
                .query("reads", || {
                    // Two at least: an entry and a copy of it have one place.
                    bind(TAIL, place).bind(i64::from(limit) + 1).bind(PAGE_BYTES_MAX)
                })
                .await?;
            if !rows.is_empty() {
                let page = Page::of(&rows, limit)?;
                place = page.end;
                if page.fed.is_end() {
                    continue;
                }
                return Ok(TailPage {
                    cursor: place.cursor(),
                    ..page.fed
                });
            }
            let beyond = links.query("reads", || bind(BEYOND, place)).await?;
            let beyond: bool = get(first(&beyond)?, 0)?;
            if !self.is_worth_waiting(beyond, &mut waits).await {
                return Ok(TailPage::end(place.cursor()));
            }
        }
    }

    /// The place after everything that is durable.
    pub(super) async fn end(&self, links: &Links) -> Result<Anchored, StoreError> {
        let mut waits = Waits::default();
        loop {
            let rows = links.query("reads", || sqlx::query(TAIL_END)).await?;
            let row = first(&rows)?;
            if !self.is_worth_waiting(get(row, 4)?, &mut waits).await {
                return last(row);
            }
        }
    }

    /// Waits a little where entries stand beyond the horizon; false where there are none, or where the reader has waited long enough.
    async fn is_worth_waiting(&self, beyond: bool, waits: &mut Waits) -> bool {
        let waited = beyond && waits.wait().await;
        self.held_up.store(beyond && !waited, Ordering::Relaxed);
        waited
    }
}

/// Waits that double, up to [`WAIT_MAX`] in all.
#[derive(Default)]
struct Waits {
    waited: Duration,
}

impl Waits {
    async fn wait(&mut self) -> bool {
        if self.waited >= WAIT_MAX {
            return false;
        }
        let pause = self.waited.clamp(PAUSE_MIN, PAUSE_MAX);
        tokio::time::sleep(pause).await;
        self.waited += pause;
        true
    }
}

fn bind(query: &'static str, place: Place) -> super::links::Statement<'static> {
    sqlx::query(query)
        .bind(place.ord)
        .bind(place.stream)
        .bind(place.seq)
}

fn first(rows: &[PgRow]) -> Result<&PgRow, StoreError> {
    rows.first()
        .ok_or_else(|| corrupt("tape_store", "of the whole store", "it is not there"))
}

/// The place of the last entry of a store, which a row of [`TAIL_END`] has.
fn last(row: &PgRow) -> Result<Anchored, StoreError> {
    let Some(digest) = get::<Option<Vec<u8>>>(row, 2)? else {
        return Ok(Anchored::default());
    };
    // A damaged digest ties the cursor to nothing. The damage is reported where the entry is read.
    let digest = digest.try_into().ok().map(Digest);
    Ok(Anchored::new(Place::of(row)?.cursor(), digest))
}

/// The entry at the place of a cursor.
pub(super) async fn found(links: &Links, cursor: &Cursor) -> Result<Found, StoreError> {
    let place = Place::read(cursor)?;
    let rows = links.query("reads", || bind(FOUND, place)).await?;
    let row = first(&rows)?;
    let (digest, goes_on): (Option<Vec<u8>>, bool) = (get(row, 0)?, get(row, 1)?);
    Ok(match digest.map(<[u8; 32]>::try_from) {
        Some(Ok(digest)) => Found::Entry(Digest(digest)),
        _ if goes_on => Found::Dropped,
        _ => Found::Beyond,
    })
}

/// The stream of a row of [`TAIL`].
fn stream_of(row: &PgRow) -> Result<StreamId, StoreError> {
    let Some(name) = get::<Option<String>>(row, 2)? else {
        let Place { stream, seq, .. } = Place::of(row)?;
        let problem = "the head of its stream is not there";
        return Err(corrupt(
            "tape_entry",
            format_args!("{seq} of stream {stream}"),
            problem,
        ));
    };
    let stream = name.parse::<StreamId>();
    stream.map_err(|error| StoreError::corrupt(format!("the name {name} of a stream"), error))
}

/// The entries of a page that count, and the place after them.
struct Page {
    fed: TailPage,
    end: Place,
}

impl Page {
    fn of(rows: &[PgRow], limit: u32) -> Result<Self, StoreError> {
        let mut page = Self {
            fed: TailPage::end(Cursor::default()),
            end: Place::default(),
        };
        for (n, row) in rows.iter().enumerate() {
            let (place, counts) = (Place::of(row)?, get::<bool>(row, 8)?);
            // The entry that counts may come after the end of the page.
            let is_cut = !counts && n > 0 && n + 1 == rows.len() && place != page.end;
            let is_full = counts && page.fed.entries.len() + page.fed.damaged.len() == limit as usize;
            if is_cut || is_full {
                break;
            }
            if counts {
                page.push(row)?;
            }
            page.end = place;
        }
        Ok(page)
    }

    fn push(&mut self, row: &PgRow) -> Result<(), StoreError> {
        let stream = stream_of(row);
        let known = stream.as_ref().ok().cloned();
        let fed = stream.and_then(|stream| {
            let entry = stored(&stream, row, 3)?;
            Ok(FeedEntry { stream, entry })
        });
        match fed {
            Ok(entry) => self.fed.entries.push(entry),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.fed.damaged.push(DamagedEntry::new(known, &error))
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
