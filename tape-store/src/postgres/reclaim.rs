//! Gives space back: a part of the entries without streams is emptied as a whole.
//!
//! One process at a time does this. It directs new runs to an empty part, and empties the parts that no head names. Where few streams are
//! left in a part that is mostly garbage, it moves them to part 0, which is never emptied as a whole.
//!
//! Emptying is safe while others read and write. A transaction that reads or writes a part holds its lock from before its first read until
//! it ends. So earlier holders are done when the part is locked here, and later holders see that no head names the part. A commit that
//! chose the part for a new run and has not written its entries yet writes them after the part was emptied. The lock is first requested
//! without waiting, since all later transactions queue behind a waiting one.

use super::error::Failure;
use super::read::get;
use super::session::Session;
use super::settings::Target;
use crate::error::StoreError;
use sqlx::AssertSqlSafe;
use std::time::Duration;

/// Parts that are emptied as a whole.
const PARTS: std::ops::RangeInclusive<i16> = 1..=12;
/// New runs go to another part once theirs is at least this share of all.
const SHARE: i64 = 8;
/// Streams are moved out of a part where at most this many are left...
const STREAMS_FEW: i64 = 1_000;
/// ...with at most this many entries...
const ENTRIES_FEW: i64 = 50_000;
/// ...which are at most this share of those in the part.
const LEFT_SHARE: i64 = 4;
/// Most streams that one piece of work moves.
const MOVED_MAX: i64 = 100;
/// Entries that one transaction copies, while commits to their stream wait.
const COPIED_MAX: i64 = 1_000;
/// How often the lock of a part is requested without waiting...
const TRIES: u32 = 40;
/// ...and then how often with a wait of this length, while later transactions queue behind it.
const PATIENT_TRIES: u32 = 10;
const LOCK_TIMEOUT: Duration = Duration::from_millis(20);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Names the lock of this work: "Tapf" in ASCII, the one after the migration's.
const LOCK: i64 = 0x5461_7066;

/// Of parts 1 to 12 the number, whether it has pages, its size, and whether new runs go there.
const SIZES: &str = "SELECT n::smallint, pg_relation_size(format('tape_entry_%s', n)) > 0, pg_table_size(format('tape_entry_%s', n)), n = s.part \
         FROM tape_store s, generate_series(1, 12) n ORDER BY n";
/// Directs new runs to part $2 instead of $1.
const ROTATE: &str = "UPDATE tape_store SET part = $2 WHERE part = $1";
/// How many streams are in part $1, up to $2, and how many entries they have.
pub(super) const LEFT: &str = "SELECT count(*), coalesce(sum(seq - first + 1), 0)::bigint FROM ( \
         SELECT seq, first FROM tape_head WHERE part = $1 AND part > 0 LIMIT $2) h";
/// Some streams of part $1.
pub(super) const STREAMS: &str =
    "SELECT stream FROM tape_head WHERE part = $1 AND part > 0 ORDER BY part, stream LIMIT $2";
/// Where stream $1 of part $2 begins and ends, locked, and up to where it is copied.
const HEAD: &str = "SELECT h.seq, greatest(h.first - 1, \
           (SELECT coalesce(max(c.seq), 0) FROM tape_entry_0 c WHERE c.stream = h.stream)) \
         FROM tape_head h WHERE h.stream = $1 AND h.part = $2 FOR UPDATE";
/// Copies the entries after $3 up to $4 of stream $1 of part $2.
pub(super) const COPY: &str = "INSERT INTO tape_entry_0(ord, stream, seq, part, digest, batch, envelope, payload, erased) \
         SELECT ord, stream, seq, 0, digest, batch, envelope, payload, erased FROM tape_entry \
           WHERE part = $2 AND stream = $1 AND seq > $3 AND seq <= $4 \
         ON CONFLICT (stream, seq) DO NOTHING";
const MOVE: &str = "UPDATE tape_head SET part = 0 WHERE stream = $1";

/// A part that can be emptied.
struct Part {
    number: i16,
    has_pages: bool,
    size: i64,
    is_current: bool,
}

/// Does a piece of the work. Returns whether there is more.
pub(super) async fn reclaim(target: &Target) -> Result<bool, StoreError> {
    let mut session = Session::open(target, "gives back space").await?;
    let lock = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(LOCK);
    let rows = session.ask(lock).await?;
    let alone = rows.first().map(|row| get::<bool>(row, 0)).transpose()?;
    if alone != Some(true) {
        return Ok(false);
    }
    let more = piece(&mut session).await?;
    // Otherwise the lock ends with the connection, a little later.
    let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK);
    session.ask(unlock).await?;
    Ok(more)
}

async fn piece(session: &mut Session) -> Result<bool, StoreError> {
    let mut more = false;
    for part in parts(session).await? {
        if part.has_pages && !part.is_current {
            more |= clear(session, part.number).await?;
        }
    }
    Ok(more)
}

/// Directs new runs to an empty part where their part has grown large. Returns parts 1 to 12.
async fn parts(session: &mut Session) -> Result<Vec<Part>, StoreError> {
    let rows = session.ask(sqlx::query(SIZES)).await?;
    let part = |row| {
        Ok(Part {
            number: get(row, 0)?,
            has_pages: get(row, 1)?,
            size: get(row, 2)?,
            is_current: get(row, 3)?,
        })
    };
    let mut parts: Vec<Part> = rows.iter().map(part).collect::<Result<_, StoreError>>()?;
    let all: i64 = parts.iter().map(|part| part.size).sum();
    let Some(current) = parts.iter().position(|part| part.is_current) else {
        return Ok(parts);
    };
    let large = parts[current].has_pages && parts[current].size.saturating_mul(SHARE) >= all;
    let free = (1..parts.len())
        .map(|n| (current + n) % parts.len())
        .find(|n| !parts[*n].has_pages);
    if let Some(free) = free.filter(|_| large) {
        let rotate = sqlx::query(ROTATE)
            .bind(parts[current].number)
            .bind(parts[free].number);
        session.ask(rotate).await?;
        (parts[current].is_current, parts[free].is_current) = (false, true);
    }
    Ok(parts)
}

/// Empties a part without streams, or moves some of its few streams. Returns whether it did either.
async fn clear(session: &mut Session, part: i16) -> Result<bool, StoreError> {
    let left = sqlx::query(LEFT).bind(part).bind(STREAMS_FEW + 1);
    let rows = session.ask(left).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let (streams, entries): (i64, i64) = (get(row, 0)?, get(row, 1)?);
    if streams == 0 {
        return empty(session, part).await;
    }
    let few = streams <= STREAMS_FEW && entries <= ENTRIES_FEW;
    if !few || !has_rows(session, part, entries * LEFT_SHARE).await? {
        return Ok(false);
    }
    let some = sqlx::query(STREAMS).bind(part).bind(MOVED_MAX);
    for row in session.ask(some).await? {
        move_stream(session, get(&row, 0)?, part).await?;
    }
    Ok(true)
}

/// Whether a part has at least `rows` rows, garbage included.
async fn has_rows(session: &mut Session, part: i16, rows: i64) -> Result<bool, StoreError> {
    let count = format!("SELECT count(*) FROM (SELECT FROM {} LIMIT $1) e", table(part));
    let counted = session.ask(sqlx::query(AssertSqlSafe(count)).bind(rows)).await?;
    let counted = counted.first().map(|row| get::<i64>(row, 0)).transpose()?;
    Ok(counted.is_some_and(|counted| counted >= rows))
}

fn table(part: i16) -> String {
    assert!(PARTS.contains(&part), "only these are emptied");
    format!("tape_entry_{part}")
}

/// Moves a stream to part 0, a little at a time; the head names the new part once all entries are there.
async fn move_stream(session: &mut Session, stream: i64, part: i16) -> Result<(), StoreError> {
    loop {
        session.order("BEGIN").await?;
        let rows = session.ask(sqlx::query(HEAD).bind(stream).bind(part)).await?;
        let Some(row) = rows.first() else {
            // Another process dropped entries of it meanwhile, which moved it.
            return session.order("ROLLBACK").await;
        };
        let (end, copied): (i64, i64) = (get(row, 0)?, get(row, 1)?);
        let until = copied.saturating_add(COPIED_MAX);
        let copy = sqlx::query(COPY).bind(stream).bind(part).bind(copied).bind(until);
        session.ask(copy).await?;
        if until >= end {
            session.ask(sqlx::query(MOVE).bind(stream)).await?;
        }
        session.order("COMMIT").await?;
        if until >= end {
            return Ok(());
        }
    }
}

/// Empties a part, if it still has no stream. Returns whether it did.
async fn empty(session: &mut Session, part: i16) -> Result<bool, StoreError> {
    for attempt in 0..TRIES + PATIENT_TRIES {
        match locked(session, part, attempt < TRIES).await {
            Ok(()) => return empty_locked(session, part).await,
            Err(failure) if failure.is_lock_not_available() => {
                session.order("ROLLBACK").await?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure.store_error("gives back space")),
        }
    }
    tracing::info!(
        part,
        "a part could not be emptied: other sessions use it all the time"
    );
    Ok(false)
}

/// Begins a transaction that has a part locked exclusively.
async fn locked(session: &mut Session, part: i16, at_once: bool) -> Result<(), Failure> {
    let (limit, table) = (LOCK_TIMEOUT.as_millis(), table(part));
    let wait = if at_once { " NOWAIT" } else { "" };
    let lock = format!(
        "BEGIN; SET LOCAL lock_timeout = {limit}; LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE{wait}"
    );
    session.run(&lock).await
}

async fn empty_locked(session: &mut Session, part: i16) -> Result<bool, StoreError> {
    let rows = session
        .ask(
            sqlx::query(
                "SELECT NOT EXISTS (SELECT FROM tape_head WHERE part = $1 AND part > 0) \
                   AND NOT EXISTS (SELECT FROM tape_store WHERE part = $1)",
            )
            .bind(part),
        )
        .await?;
    let unused = rows.first().map(|row| get::<bool>(row, 0)).transpose()?;
    if unused != Some(true) {
        session.order("ROLLBACK").await?;
        return Ok(false);
    }
    session
        .order(&format!("TRUNCATE ONLY {}; COMMIT", table(part)))
        .await?;
    Ok(true)
}
