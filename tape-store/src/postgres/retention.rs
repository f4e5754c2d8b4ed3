//! Drops entries: kept entries move to part 0, and dropped ones stay behind until their part is emptied.
//!
//! Moving a stream and erasing one of its payloads lock its head first. So the erasure reaches both copies of an entry, or the copy is made
//! after it. A commit waits for at most one such step. Reading needs no lock: an entry counts only in the part that the head names, and one
//! statement sees one state of both.

use super::append::{key, signed};
use super::read::get;
use super::session::Session;
use super::settings::Target;
use crate::error::StoreError;
use tape_core::id::{Seq, StreamId};

/// Most streams of one step.
const STREAMS_MAX: usize = 256;
/// Most rows that one statement deletes.
const ROWS_MAX: i64 = 2_000;

/// The heads of streams with keys $1 and names $2, locked in this order, each with its number of $3.
pub(super) const HEADS: &str = "SELECT h.stream, h.part, h.first, greatest(h.first, least(d.seq, h.seq)) \
         FROM unnest($1::bytea[], $2::text[], $3::bigint[]) AS d(key, name, seq) CROSS JOIN LATERAL ( \
           SELECT * FROM tape_head h WHERE h.key = d.key AND h.name = d.name FOR UPDATE) h";
/// Copies the kept entries of streams $1, which are in parts $2 and begin with entries $3, to part 0. A copy keeps its place in the feed.
pub(super) const COPY: &str = "INSERT INTO tape_entry_0(ord, stream, seq, part, digest, batch, envelope, payload, erased) \
         SELECT e.ord, e.stream, e.seq, 0, e.digest, e.batch, e.envelope, e.payload, e.erased \
         FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS m(stream, part, first) CROSS JOIN LATERAL ( \
           SELECT * FROM tape_entry e WHERE e.part = m.part AND e.stream = m.stream AND e.seq >= m.first OFFSET 0) e \
         ON CONFLICT (stream, seq) DO NOTHING";
/// Lets streams $1 begin with entries $2, in part 0.
pub(super) const MOVE: &str = "UPDATE tape_head h SET part = 0, first = m.first \
         FROM unnest($1::bigint[], $2::bigint[]) AS m(stream, first) WHERE h.stream = m.stream";
pub(super) const FORGET: &str = "DELETE FROM tape_snapshot WHERE stream = ANY($1)";
/// Deletes at most $3 entries of streams $1 before entries $2 that are in part 0, which is never emptied as a whole.
pub(super) const SWEEP: &str = "DELETE FROM tape_entry_0 WHERE ctid = ANY(ARRAY( \
           SELECT x.ctid FROM unnest($1::bigint[], $2::bigint[]) AS m(stream, first) CROSS JOIN LATERAL ( \
             SELECT e.ctid FROM tape_entry_0 e WHERE e.stream = m.stream AND e.seq < m.first ORDER BY e.seq LIMIT $3) x LIMIT $3)) \
         RETURNING 1";
/// Takes streams $1 out of the lists of runs.
pub(super) const UNLIST: &str = "WITH gone AS (DELETE FROM tape_run WHERE stream = ANY($1) RETURNING stream, tenant, begun_at, label_keys) \
         DELETE FROM tape_label WHERE ctid = ANY(ARRAY( \
           SELECT x.ctid FROM gone g CROSS JOIN LATERAL generate_series(0, length(g.label_keys) / 32 - 1) n CROSS JOIN LATERAL ( \
             SELECT l.ctid FROM tape_label l WHERE l.tenant = g.tenant AND l.label = substring(g.label_keys FROM n * 32 + 1 FOR 32) \
               AND l.begun_at = g.begun_at AND l.stream = g.stream OFFSET 0) x))";
/// The stream with key $1 and name $2, locked.
const LOCK: &str = "SELECT stream FROM tape_head WHERE key = $1 AND name = $2 FOR UPDATE";
/// Erases the payload of entry $2 of stream $1, in every part that has it.
pub(super) const ERASE: &str =
    "UPDATE tape_entry SET payload = NULL, erased = true WHERE stream = $1 AND seq = $2";

/// A stream whose first entries are dropped.
struct Dropped {
    stream: i64,
    part: i16,
    was: i64,
    first: i64,
}

impl Dropped {
    /// Whether it needs no move.
    const fn is_in_place(&self) -> bool {
        self.first == self.was
    }
}

/// Drops the entries of streams before a number each.
pub(super) async fn drop_before(target: &Target, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
    if drops.is_empty() {
        return Ok(());
    }
    let mut session = Session::open(target, "drops entries").await?;
    for drops in drops.chunks(STREAMS_MAX) {
        let dropped = set_apart(&mut session, drops).await?;
        sweep(&mut session, &dropped).await?;
        let streams: Vec<i64> = dropped.iter().map(|dropped| dropped.stream).collect();
        session.ask(sqlx::query(UNLIST).bind(streams)).await?;
    }
    Ok(())
}

/// From here on the streams begin with the first entry kept, wherever the others still are.
async fn set_apart(session: &mut Session, drops: &[(StreamId, Seq)]) -> Result<Vec<Dropped>, StoreError> {
    let mut named: Vec<(Vec<u8>, String, i64)> = drops
        .iter()
        .map(|(stream, seq)| (stream.to_string(), signed(seq.0)))
        .map(|(name, seq)| (key(&name), name, seq))
        .collect();
    // Every transaction locks heads in this order.
    named.sort();
    let keys: Vec<&[u8]> = named.iter().map(|(key, ..)| key.as_slice()).collect();
    let names: Vec<&str> = named.iter().map(|(_, name, _)| name.as_str()).collect();
    let seqs: Vec<i64> = named.iter().map(|(.., seq)| *seq).collect();
    session.order("BEGIN").await?;
    let rows = session
        .ask(sqlx::query(HEADS).bind(keys).bind(names).bind(seqs))
        .await?;
    let dropped = |row| {
        Ok(Dropped {
            stream: get(row, 0)?,
            part: get(row, 1)?,
            was: get(row, 2)?,
            first: get(row, 3)?,
        })
    };
    let dropped: Vec<Dropped> = rows.iter().map(dropped).collect::<Result<_, StoreError>>()?;
    let moved: Vec<&Dropped> = dropped.iter().filter(|dropped| !dropped.is_in_place()).collect();
    let away: Vec<_> = moved.iter().filter(|dropped| dropped.part > 0).collect();
    let copy = sqlx::query(COPY)
        .bind(away.iter().map(|dropped| dropped.stream).collect::<Vec<_>>())
        .bind(away.iter().map(|dropped| dropped.part).collect::<Vec<_>>())
        .bind(away.iter().map(|dropped| dropped.first).collect::<Vec<_>>());
    session.ask(copy).await?;
    let into_place = sqlx::query(MOVE)
        .bind(moved.iter().map(|dropped| dropped.stream).collect::<Vec<_>>())
        .bind(moved.iter().map(|dropped| dropped.first).collect::<Vec<_>>());
    session.ask(into_place).await?;
    let streams: Vec<i64> = dropped.iter().map(|dropped| dropped.stream).collect();
    session.ask(sqlx::query(FORGET).bind(streams)).await?;
    session.order("COMMIT").await?;
    Ok(dropped)
}

/// Deletes what was dropped of streams that had been moved before, a little at a time.
async fn sweep(session: &mut Session, dropped: &[Dropped]) -> Result<(), StoreError> {
    let streams: Vec<i64> = dropped.iter().map(|dropped| dropped.stream).collect();
    let firsts: Vec<i64> = dropped.iter().map(|dropped| dropped.first).collect();
    loop {
        let sweep = sqlx::query(SWEEP).bind(&streams).bind(&firsts).bind(ROWS_MAX);
        if session.ask(sweep).await?.is_empty() {
            return Ok(());
        }
    }
}

/// Erases the payload of one entry, if there is such an entry, with all copies of it.
pub(super) async fn erase(target: &Target, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
    let name = stream.to_string();
    let mut session = Session::open(target, "erases a payload").await?;
    session.order("BEGIN").await?;
    let head = session.ask(sqlx::query(LOCK).bind(key(&name)).bind(name)).await?;
    if let Some(row) = head.first() {
        let number: i64 = get(row, 0)?;
        for seq in entries {
            let erase = sqlx::query(ERASE).bind(number).bind(signed(seq.0));
            session.ask(erase).await?;
        }
    }
    session.order("COMMIT").await
}
