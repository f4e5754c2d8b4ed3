//! The feed: one log for each shard, which readers write.
//!
//! Each row of the log names some streams, and for each the range of entries that comes next. Before a commit, its stream is added to the
//! set of pending streams. A reader at the end of the log reads this set, and makes the next row, if there is none yet. The stream's row
//! records how far the log has the stream; this mark is raised after the row of the log was made. A reader that makes the next row first
//! raises the marks of the last one, so each row continues where all rows before it end.
//!
//! Rows that only name dropped entries are deleted (`reclaim.rs`), except the last. A reader skips missing numbers once it knows that a
//! later row had been made before it looked for them.
//!
//! No clock is used: a late commit of a paused writer is found then, since its stream stays in the set until its row has moved on.

use super::end::{self, ABOUT, End, LOGGED};
use super::error::corrupt;
use super::hint::{self, Seen};
use super::read;
use super::row_reservation::RowReservation;
use super::table::{self, Change, Row, Rows};
use super::{TableContext, keys};
use crate::anchor::Found;
use crate::contract::{Cursor, DamagedEntry, FeedEntry, Shard, TailPage};
use crate::error::StoreError;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};

const DOING: &str = "reads the feed";
/// The column of a row of the log with its parts.
pub(super) const PARTS: &[u8] = b"parts";
/// The column of [`LOGGED`].
const UP_TO: &[u8] = b"n";
/// Pending streams that are read together; a row of the log has no more.
const NEWS_MAX: usize = 256;
/// Rows of the log that are read at once.
const LOG_ROWS_MAX: usize = 8;
/// Streams that are read at the same time.
const UNDER_WAY_MAX: usize = 16;
/// How often a reader that others overtake looks again.
const OVERTAKEN_MAX: u32 = 64;

/// A range of entries of one stream that comes next in the feed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Part {
    pub(super) stream: StreamId,
    pub(super) from: Seq,
    pub(super) to: Seq,
}

impl Part {
    const fn len(&self) -> u64 {
        self.to.0 - self.from.0 + 1
    }
}

/// A place in the log: `passed` entries of row `row` have been read. Rows are numbered from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    row: u64,
    passed: u64,
}

impl Place {
    const BEGINNING: Self = Self { row: 1, passed: 0 };

    fn read(cursor: &Cursor) -> Result<Self, StoreError> {
        if cursor.0.is_empty() {
            return Ok(Self::BEGINNING);
        }
        match cursor.0.as_chunks::<8>() {
            ([row, passed], []) => Ok(Self {
                row: u64::from_be_bytes(*row),
                passed: u64::from_be_bytes(*passed),
            }),
            _ => Err(foreign()),
        }
    }

    fn cursor(self) -> Cursor {
        Cursor(Bytes::from(
            [self.row, self.passed].map(u64::to_be_bytes).concat(),
        ))
    }

    const fn after_row(row: u64) -> Self {
        Self {
            row: row + 1,
            passed: 0,
        }
    }
}

fn foreign() -> StoreError {
    StoreError::Invalid {
        what: "cursor",
        problem: "it was not made by this store".to_owned(),
    }
}

/// The result of looking for pending streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// There are none.
    None,
    /// The log has another row; `all` where it has all pending streams.
    Logged { all: bool },
    /// Another reader made the row.
    Overtaken,
}

/// For each log, the row up to which this server knows that the marks in streams' rows were raised.
pub(super) struct LoggedUpTo(Vec<AtomicU64>);

impl LoggedUpTo {
    pub(super) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(0)).collect())
    }

    fn is(&self, shard: Shard, row: u64) -> bool {
        self.0[usize::from(shard.0)].load(Ordering::Acquire) >= row
    }

    fn note(&self, shard: Shard, row: u64) {
        self.0[usize::from(shard.0)].fetch_max(row, Ordering::AcqRel);
    }
}

/// Entries after a cursor.
pub(super) async fn page(
    context: &TableContext,
    shard: Shard,
    cursor: &Cursor,
    limit: u32,
) -> Result<TailPage, StoreError> {
    let mut place = Place::read(cursor)?;
    let mut overtaken = 0;
    // The last row that existed before the log is read: a missing row before it was deleted, and is not about to be made.
    let mut known = 0;
    loop {
        let log = Log::read(context, shard, place.row).await?;
        let known_before = known;
        known = log.rows.last().map_or(known, |(number, _)| *number);
        let mut page = Page::new();
        for (number, parts) in &log.rows {
            if *number > place.row {
                if *number > known_before {
                    break;
                }
                place = Place::after_row(*number - 1);
            }
            place = page.take(context, *number, parts, place, limit as usize).await?;
            if page.is_full(limit as usize) || place.row == *number {
                break;
            }
        }
        if !page.fed.is_end() {
            return Ok(TailPage {
                cursor: place.cursor(),
                ..page.fed
            });
        }
        if !log.rows.is_empty() {
            continue;
        }
        match find_news(context, shard, place.row, log.last).await? {
            Looked::Overtaken if overtaken < OVERTAKEN_MAX => overtaken += 1,
            Looked::Logged { .. } => {}
            Looked::None | Looked::Overtaken => {
                return Ok(TailPage::end(place.cursor()));
            }
        }
    }
}

/// The entry at the place of a cursor.
pub(super) async fn found(
    context: &TableContext,
    shard: Shard,
    cursor: &Cursor,
) -> Result<Found, StoreError> {
    let place = Place::read(cursor)?;
    let row = if place.passed == 0 {
        place.row.saturating_sub(1).max(1)
    } else {
        place.row
    };
    let log = Log::read(context, shard, row).await?;
    let parts = match log.rows.first() {
        Some((number, parts)) if *number == row => parts,
        // The row only named dropped entries, and was deleted.
        Some(_) => return Ok(Found::Dropped),
        None => return Ok(Found::Beyond),
    };
    let passed = if place.passed == 0 {
        total(parts)
    } else {
        place.passed
    };
    let last = passed.checked_sub(1).map(|before| wanted(parts, before, 1));
    let Some(part) = last.and_then(|mut parts| parts.pop()) else {
        return Ok(Found::Beyond);
    };
    let entries = match read::entries(context, &part.stream, Seq(part.from.0 - 1), 1).await {
        // The entry there is damaged; the damage is reported where the entry is read.
        Err(StoreError::Corrupt { .. }) => return Ok(Found::Dropped),
        entries => entries?,
    };
    Ok(match entries.first() {
        Some(entry) if entry.seq == part.from => Found::Entry(entry.digest),
        Some(_) => Found::Dropped,
        None => Found::Beyond,
    })
}

/// The cursor after everything that is durable.
pub(super) async fn end(context: &TableContext, shard: Shard) -> Result<Cursor, StoreError> {
    let mut row = known_end(context, shard).await?.max(1);
    let mut overtaken = 0;
    loop {
        let log = Log::read(context, shard, row).await?;
        if let Some((number, _)) = log.rows.last() {
            row = number + 1;
            continue;
        }
        match find_news(context, shard, row, log.last).await? {
            Looked::Logged { all: false } => {}
            Looked::Overtaken if overtaken < OVERTAKEN_MAX => overtaken += 1,
            Looked::Logged { all: true } => return Ok(Place::after_row(row).cursor()),
            Looked::None => return Ok(Place { row, passed: 0 }.cursor()),
            Looked::Overtaken => {
                let busy = "other readers made the log longer again and again";
                return Err(StoreError::unavailable(DOING, busy));
            }
        }
    }
}

/// A row of the log that is not long before its end.
async fn known_end(context: &TableContext, shard: Shard) -> Result<u64, StoreError> {
    let key = Rows::Keys(vec![keys::log_end(shard)]);
    let read = context
        .table
        .read(key, table::any_of([table::family(LOGGED)]), 1)
        .await;
    let rows = read.map_err(|failure| failure.store_error(DOING))?;
    let cell = rows.first().and_then(|row| row.cell(LOGGED, UP_TO));
    Ok(cell.map_or(0, |cell| cell.ordinal))
}

/// Some rows of the log.
struct Log {
    /// Rows from the requested one on.
    rows: Vec<(u64, Vec<Part>)>,
    /// The row before the requested one.
    last: Option<Vec<Part>>,
}

impl Log {
    /// Reads the log from a row on; and the row before it, unless the marks of that one are known to be raised.
    async fn read(context: &TableContext, shard: Shard, from: u64) -> Result<Self, StoreError> {
        let before = from.checked_sub(1).ok_or_else(foreign)?;
        let first = if context.logged_up_to.is(shard, before) {
            from
        } else {
            before
        };
        let (begin, end) = keys::log_from(shard, first);
        let cells = table::any_of([table::columns(ABOUT, PARTS, PARTS)]);
        let read = context
            .table
            .read(Rows::Range(begin, end), cells, LOG_ROWS_MAX)
            .await;
        let read = read.map_err(|failure| failure.store_error(DOING))?;
        let mut log = Self {
            rows: Vec::with_capacity(read.len()),
            last: None,
        };
        for row in &read {
            let (number, parts) = parse(shard, row)?;
            if number < from {
                log.last = Some(parts);
            } else {
                log.rows.push((number, parts));
            }
        }
        Ok(log)
    }
}

/// The number of a row of the log, and its parts.
pub(super) fn parse(shard: Shard, row: &Row) -> Result<(u64, Vec<Part>), StoreError> {
    let damaged = |problem: &str| {
        let what = format!("the log of shard {} at {}", shard.0, row.key.escape_ascii());
        StoreError::corrupt(what, problem.to_owned())
    };
    let number = keys::read_log(&row.key).ok_or_else(|| damaged("it has no number"))?;
    let cell = row.cell(ABOUT, PARTS).ok_or_else(|| damaged("it says nothing"))?;
    let parts: Vec<Part> =
        serde_json::from_slice(&cell.value).map_err(|error| damaged(&error.to_string()))?;
    if parts
        .iter()
        .any(|part| part.from > part.to || part.from == Seq::ZERO)
    {
        return Err(damaged("it has entries in no order"));
    }
    Ok((number, parts))
}

/// A page of the feed that is being filled.
struct Page {
    fed: TailPage,
    bytes: usize,
}

impl Page {
    const fn new() -> Self {
        Self {
            fed: TailPage::end(Cursor(Bytes::new())),
            bytes: 0,
        }
    }

    const fn len(&self) -> usize {
        self.fed.entries.len() + self.fed.damaged.len()
    }

    const fn is_full(&self, limit: usize) -> bool {
        self.len() >= limit || self.bytes >= read::PAGE_BYTES_MAX
    }

    /// Takes entries of a row of the log from a place on, as far as there is room. Returns the place after them.
    async fn take(
        &mut self,
        context: &TableContext,
        row: u64,
        parts: &[Part],
        place: Place,
        limit: usize,
    ) -> Result<Place, StoreError> {
        if place.passed >= total(parts) {
            return Ok(Place::after_row(row));
        }
        let room = (limit - self.len()) as u64;
        let (wanted, mut passed) = (wanted(parts, place.passed, room), place.passed);
        let reads: Vec<_> = wanted
            .iter()
            .cloned()
            .map(|part| entries_of(context, part))
            .collect();
        let mut reads = futures::stream::iter(reads).buffered(UNDER_WAY_MAX);
        let mut whole = wanted.iter().map(Part::len).sum::<u64>() + place.passed == total(parts);
        for part in &wanted {
            if self.is_full(limit) {
                whole = false;
                break;
            }
            let Some((read, reached)) = reads.try_next().await? else {
                break;
            };
            let complete = reached == part.to;
            passed += reached.0 - part.from.0 + 1;
            for entry in read {
                match entry {
                    Ok(entry) => {
                        self.bytes += entry.size();
                        let stream = part.stream.clone();
                        self.fed.entries.push(FeedEntry { stream, entry });
                    }
                    Err(damaged) => self.fed.damaged.push(damaged),
                }
            }
            if !complete {
                // The page of the stream had no room for the rest of the part.
                whole = false;
                break;
            }
        }
        Ok(if whole {
            Place::after_row(row)
        } else {
            Place { row, passed }
        })
    }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(Part::len).sum()
}

/// The parts after the first `passed` entries, at most `room` entries.
fn wanted(parts: &[Part], mut passed: u64, mut room: u64) -> Vec<Part> {
    let mut wanted = Vec::new();
    for part in parts {
        if room == 0 {
            break;
        }
        if passed >= part.len() {
            passed -= part.len();
            continue;
        }
        let from = Seq(part.from.0 + passed);
        let to = Seq(part.to.0.min(from.0 + room - 1));
        let part = Part {
            from,
            to,
            stream: part.stream.clone(),
        };
        room -= part.len();
        passed = 0;
        wanted.push(part);
    }
    wanted
}

/// An entry, or the report that it cannot be read.
type Stored = Result<StoredEntry, DamagedEntry>;

/// The entries of a part that still exist, or the first of them, and the last entry that they cover.
async fn entries_of(context: &TableContext, part: Part) -> Result<(Vec<Stored>, Seq), StoreError> {
    let limit = u32::try_from(part.len()).unwrap_or(u32::MAX);
    let before = Seq(part.from.0 - 1);
    let mut entries = match read::entries(context, &part.stream, before, limit).await {
        Err(StoreError::Corrupt { .. }) => return each_of(context, &part).await,
        entries => entries?,
    };
    if entries.is_empty() {
        return Ok((vec![Err(lost(&part))], part.to));
    }
    // The first entries of the part may have been dropped; then the page continues beyond the part's end.
    let reached = entries.last().map_or(part.to, |last| last.seq.min(part.to));
    entries.retain(|entry| entry.seq <= part.to);
    Ok((entries.into_iter().map(Ok).collect(), reached))
}

/// The report for entries that the log has and their stream lacks. They were not dropped: then later ones would exist, since the last is
/// always kept.
fn lost(part: &Part) -> DamagedEntry {
    let problem = format!("entries {} to {} are not there", part.from, part.to);
    DamagedEntry::new(Some(part.stream.clone()), &corrupt(&part.stream, problem))
}

/// The first entries of a part with a damaged entry, read one by one up to that one.
async fn each_of(context: &TableContext, part: &Part) -> Result<(Vec<Stored>, Seq), StoreError> {
    let (mut found, mut seq) = (Vec::new(), part.from);
    while seq <= part.to {
        let before = Seq(seq.0 - 1);
        match read::entries(context, &part.stream, before, 1).await {
            Ok(mut entries) => {
                let Some(entry) = entries.pop() else {
                    let from = seq;
                    found.push(Err(lost(&Part { from, ..part.clone() })));
                    return Ok((found, part.to));
                };
                if entry.seq > part.to {
                    return Ok((found, part.to));
                }
                seq = entry.seq;
                found.push(Ok(entry));
            }
            Err(error @ StoreError::Corrupt { .. }) => {
                found.push(Err(DamagedEntry::new(Some(part.stream.clone()), &error)));
                return Ok((found, seq));
            }
            Err(error) => return Err(error),
        }
        seq = seq.next();
    }
    Ok((found, part.to))
}

/// Finds the streams that have more entries than the log, and makes row `next` of the log from them. `last` is the row before; none where
/// its marks are known to be raised.
async fn find_news(
    context: &TableContext,
    shard: Shard,
    next: u64,
    last: Option<Vec<Part>>,
) -> Result<Looked, StoreError> {
    let before = next - 1;
    if !context.logged_up_to.is(shard, before) {
        // Where there is no such row, the cursor is of another table.
        let last = last.ok_or_else(foreign)?;
        context
            .change_all(DOING, last.iter().map(raise).collect())
            .await?;
        context.logged_up_to.note(shard, before);
    }
    let found = search(context, shard).await?;
    if found.parts.is_empty() {
        hint::clean(context, found.stale).await;
        // Since the log was read, another reader may have made the row, and raised its marks.
        let log = Log::read(context, shard, next).await?;
        return Ok(if log.rows.is_empty() {
            Looked::None
        } else {
            Looked::Overtaken
        });
    }
    if !make_row(context, shard, next, &found.parts).await? {
        return Ok(Looked::Overtaken);
    }
    let raised = found.parts.iter().map(raise);
    let about_end = Change {
        key: keys::log_end(shard),
        mutations: vec![table::set_at(LOGGED, UP_TO, next, Bytes::new())],
    };
    context
        .change_all(DOING, raised.chain([about_end]).collect())
        .await?;
    context.logged_up_to.note(shard, next);
    hint::clean(context, found.stale).await;
    Ok(Looked::Logged { all: found.all })
}

/// Raises the mark in a stream's row: the log has its entries to the end of the part.
fn raise(part: &Part) -> Change {
    Change {
        key: keys::stream(&part.stream),
        mutations: vec![table::set_at(LOGGED, UP_TO, part.to.0, Bytes::new())],
    }
}

/// Makes a row of the log, if the one before it is the last. Returns whether it was.
async fn make_row(
    context: &TableContext,
    shard: Shard,
    number: u64,
    parts: &[Part],
) -> Result<bool, StoreError> {
    let table = context.table.as_ref();
    let made = table::columns(ABOUT, PARTS, PARTS);
    let name = context.environment.uuid();
    let reservation = RowReservation::put(table, keys::log(shard, number), made, name).await;
    let Some(reservation) = reservation.map_err(|failure| failure.store_error(DOING))? else {
        return Ok(false);
    };
    // Where there are later rows, this row existed and was deleted.
    if !Log::read(context, shard, number).await?.rows.is_empty() {
        reservation.withdraw(table).await;
        return Ok(false);
    }
    let value = serde_json::to_vec(parts).expect("parts have a JSON form");
    let written = reservation
        .write(table, vec![table::set(ABOUT, PARTS, value)])
        .await;
    written.map_err(|failure| failure.store_error(DOING))
}

/// Streams that have more entries than the log.
struct Pending {
    parts: Vec<Part>,
    /// Hints that are obsolete, or will be once the parts are logged.
    stale: Vec<(Seen, StreamId, End)>,
    /// Whether all pending streams were read.
    all: bool,
}

/// Reads the set of pending streams until some have entries. So writers that pause before their commit do not hide others.
async fn search(context: &TableContext, shard: Shard) -> Result<Pending, StoreError> {
    let (mut begin, end) = keys::all_news(shard);
    let mut found = Pending {
        parts: Vec::new(),
        stale: Vec::new(),
        all: false,
    };
    while found.parts.is_empty() && !found.all {
        let range = Rows::Range(begin, end.clone());
        let rows = context
            .table
            .read(range, table::any_of([hint::cells()]), NEWS_MAX)
            .await;
        let rows = rows.map_err(|failure| failure.store_error(DOING))?;
        found.all = rows.len() < NEWS_MAX;
        begin = rows
            .last()
            .map_or_else(Bytes::new, |last| keys::right_after(&last.key));
        let hints = rows
            .iter()
            .filter_map(|row| Some((Seen::read(row)?, keys::read_news(&row.key)?)));
        let hints: Vec<(Seen, StreamId)> = hints.collect();
        let cells = table::any_of([end::cells(), table::family(LOGGED)]);
        let streams = hints.iter().map(|(_, stream)| stream);
        let read: BTreeMap<StreamId, Row> = context.read_streams(DOING, streams, cells).await?;
        for (seen, stream) in hints {
            let row = &read[&stream];
            let end = End::read(&stream, row)?;
            let logged = row.cell(LOGGED, UP_TO).map_or(0, |cell| cell.ordinal);
            if end.seq.0 > logged {
                found.parts.push(Part {
                    stream: stream.clone(),
                    from: Seq(logged + 1),
                    to: end.seq,
                });
            }
            found.stale.push((seen, stream, end));
        }
    }
    Ok(found)
}
