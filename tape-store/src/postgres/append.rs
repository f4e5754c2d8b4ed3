//! The statement that commits a group of batches: one round trip, one transaction of its own.
//!
//! A batch wins if the head of its stream is, in the statement's snapshot, where the batch says, and is still there once it is locked. Ends
//! only move forward, so a head that another transaction changed meanwhile no longer matches. So a transaction that extends a stream sees,
//! in its own snapshot, the transaction that extended it before. Its transaction id, taken after the snapshot, is the greater one. So
//! transaction ids order the entries of a stream.
//!
//! Heads are made and locked in the order of their keys, the new ones first, so that two groups never wait for each other.

use super::links::Statement;
use crate::contract::{Batch, SnapshotChange};
use sqlx::AssertSqlSafe;
use std::sync::LazyLock;
use tape_core::agenda::AgendaChange;
use tape_core::id::{Epoch, RunId, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::status::Summary;
use tape_core::time::Timestamp;

/// A batch on its way.
pub(super) struct Candidate {
    /// Its place in the call.
    pub(super) place: usize,
    pub(super) batch: Batch,
    pub(super) name: String,
    pub(super) key: Vec<u8>,
}

impl Candidate {
    pub(super) fn new(place: usize, batch: Batch) -> Self {
        let name = batch.stream.to_string();
        Self {
            place,
            key: key(&name),
            name,
            batch,
        }
    }

    /// Whether the batch begins its stream.
    fn begins(&self) -> bool {
        self.batch.expected == Seq::ZERO && self.batch.epoch == Epoch::default()
    }

    fn has_work(&self) -> bool {
        !self.batch.agenda.is_empty()
            || self.batch.summary.is_some()
            || self.batch.snapshot != SnapshotChange::Keep
    }
}

/// The key that the head of a stream is found by.
pub(super) fn key(name: &str) -> Vec<u8> {
    Digest::of(name.as_bytes()).0[..16].to_vec()
}

/// As Postgres keeps numbers. No sequence ever gets that long; one that claims to be matches nothing.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The batches with their numbers in the group, from one; those that begin a stream, where there are any; those that extend one.
const BATCHES: &str = "WITH b AS MATERIALIZED ( \
       SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::boolean[], \
         $9::bytea[]) WITH ORDINALITY AS b(key, name, expected, epoch, last, next_epoch, digest, run, before, nth)), ";
const BEGUN: &str = "begun AS ( \
       INSERT INTO tape_head(key, name, part, seq, epoch, digest) \
         SELECT b.key, b.name, CASE WHEN b.run THEN s.part ELSE 0 END, b.last, b.next_epoch, b.digest \
         FROM b CROSS JOIN tape_store s WHERE b.expected = 0 AND b.epoch = 0 ORDER BY b.nth \
         ON CONFLICT (key) DO NOTHING RETURNING key, stream, part), ";
const MOVED: &str = "moved AS ( \
       UPDATE tape_head h SET seq = b.last, epoch = b.next_epoch, digest = b.digest FROM b \
         WHERE h.key = b.key AND h.name = b.name AND h.seq = b.expected AND h.epoch = b.epoch AND h.digest = b.before AND b.expected > 0 \
         RETURNING h.key, h.stream, h.part), ";
/// For each batch the number of its stream, zero where it lost. Entries find their stream by subscript instead of by a join.
const WON: &str = "each AS (SELECT key, max(nth) AS nth, max(stream) AS stream, max(part) AS part FROM (";
const WON_BEGUN: &str = "SELECT key, 0::bigint AS nth, stream, part FROM begun UNION ALL ";
const WON_MOVED: &str = "SELECT key, 0::bigint AS nth, stream, part FROM moved \
         UNION ALL SELECT key, nth, 0::bigint, 0::smallint FROM b) all_of_them GROUP BY key), \
     won AS MATERIALIZED (SELECT array_agg(stream ORDER BY nth) AS streams, array_agg(part ORDER BY nth) AS parts FROM each), \
     here AS MATERIALIZED (SELECT pg_current_xact_id()::text::bigint + base AS ord FROM tape_store), ";
const ENTRIES: &str = "entries AS ( \
       INSERT INTO tape_entry(ord, stream, seq, part, digest, batch, envelope, payload) \
         SELECT here.ord, won.streams[e.nth], e.seq, won.parts[e.nth], e.digest, e.batch, e.envelope, e.payload \
         FROM unnest($10::int[], $11::bigint[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bytea[]) \
           AS e(nth, seq, digest, batch, envelope, payload) CROSS JOIN won CROSS JOIN here WHERE won.streams[e.nth] > 0)";
const WORK: &str = ", gone AS ( \
       DELETE FROM tape_agenda a USING unnest($16::int[], $17::smallint[], $18::bigint[], $19::text[]) AS g(nth, queue, due, item), won \
         WHERE a.queue = g.queue AND a.due = g.due AND a.stream = won.streams[g.nth] AND a.item = g.item), \
     new AS ( \
       INSERT INTO tape_agenda(queue, due, stream, item) SELECT n.queue, n.due, won.streams[n.nth], n.item \
         FROM unnest($20::int[], $21::smallint[], $22::bigint[], $23::text[]) AS n(nth, queue, due, item), won \
         WHERE won.streams[n.nth] > 0 ON CONFLICT DO NOTHING), \
     listed AS ( \
       INSERT INTO tape_run(stream, begun_at, changed_at, tenant, app, status, labels, label_keys) \
         SELECT won.streams[r.nth], r.begun_at, r.changed_at, r.tenant, r.app, r.status, r.labels, r.label_keys \
         FROM unnest($24::int[], $25::bigint[], $26::bigint[], $27::text[], $28::text[], $29::text[], $30::text[], $31::bytea[]) \
           AS r(nth, begun_at, changed_at, tenant, app, status, labels, label_keys), won WHERE won.streams[r.nth] > 0 \
         ON CONFLICT (stream) DO UPDATE SET begun_at = excluded.begun_at, changed_at = excluded.changed_at, \
           status = excluded.status, labels = excluded.labels, label_keys = excluded.label_keys), \
     snapshots AS ( \
       INSERT INTO tape_snapshot(stream, seq, bytes) SELECT won.streams[s.nth], s.seq, s.bytes \
         FROM unnest($32::int[], $33::bigint[], $34::bytea[]) AS s(nth, seq, bytes), won WHERE won.streams[s.nth] > 0 \
         ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, bytes = excluded.bytes), \
     without AS ( \
       DELETE FROM tape_snapshot s USING unnest($35::int[]) AS w(nth), won WHERE s.stream = won.streams[w.nth])";
const ANSWER: &str = " SELECT streams FROM won";

/// The statements: with or without streams that begin, with or without more than entries.
static STATEMENTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    [(false, false), (false, true), (true, false), (true, true)].map(|(begins, work)| {
        let of = |part: &'static str, wanted: bool| if wanted { part } else { "" };
        let parts = [
            BATCHES,
            of(BEGUN, begins),
            MOVED,
            WON,
            of(WON_BEGUN, begins),
            WON_MOVED,
            ENTRIES,
            of(WORK, work),
            ANSWER,
        ];
        parts.concat()
    })
});

/// The text of the statement for a group in which streams begin or not, and which changes more than entries or not.
pub(super) fn text(begins: bool, work: bool) -> &'static str {
    &STATEMENTS[usize::from(begins) * 2 + usize::from(work)]
}

/// The statement for a group. Its one row has, for each batch, the number of its stream, or zero where the batch lost. The candidates
/// are in the order of their keys.
pub(super) fn statement(candidates: &[Candidate]) -> Statement<'_> {
    let begins = candidates.iter().any(Candidate::begins);
    let work = candidates.iter().any(Candidate::has_work);
    let query = bind_batches(sqlx::query(AssertSqlSafe(text(begins, work))), candidates);
    let query = bind_entries(query, candidates);
    if !work {
        return query;
    }
    let query = bind_agenda(query, candidates, |change| {
        change.was.filter(|was| Some(*was) != change.due)
    });
    let query = bind_agenda(query, candidates, |change| change.due);
    bind_snapshots(bind_runs(query, candidates), candidates)
}

/// The batches with their numbers in the group.
fn numbered(candidates: &[Candidate]) -> impl Iterator<Item = (i32, &Candidate)> {
    (1..).zip(candidates)
}

fn bind_batches<'q>(query: Statement<'q>, candidates: &'q [Candidate]) -> Statement<'q> {
    let batches = || candidates.iter().map(|candidate| &candidate.batch);
    let last = |batch: &'q Batch| batch.entries.last().map_or(&[][..], |entry| &entry.digest.0[..]);
    query
        .bind(candidates.iter().map(|c| c.key.as_slice()).collect::<Vec<_>>())
        .bind(candidates.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())
        .bind(
            batches()
                .map(|batch| signed(batch.expected.0))
                .collect::<Vec<_>>(),
        )
        .bind(batches().map(|batch| signed(batch.epoch.0)).collect::<Vec<_>>())
        .bind(batches().map(|batch| signed(batch.last().0)).collect::<Vec<_>>())
        .bind(
            batches()
                .map(|batch| signed(batch.next_epoch.0))
                .collect::<Vec<_>>(),
        )
        .bind(batches().map(last).collect::<Vec<_>>())
        .bind(
            batches()
                .map(|batch| matches!(batch.stream, StreamId::Run(_)))
                .collect::<Vec<_>>(),
        )
        .bind(batches().map(|batch| &batch.before.0[..]).collect::<Vec<_>>())
}

fn bind_entries<'q>(query: Statement<'q>, candidates: &'q [Candidate]) -> Statement<'q> {
    let entries = || {
        numbered(candidates).flat_map(|(nth, candidate)| {
            let batch = &candidate.batch;
            let name = move |last: bool| last.then(|| &batch.id.0.as_bytes()[..]);
            let entries = batch.entries.iter().enumerate();
            entries.map(move |(i, entry)| (nth, entry, name(i + 1 == batch.entries.len())))
        })
    };
    query
        .bind(entries().map(|(nth, _, _)| nth).collect::<Vec<_>>())
        .bind(
            entries()
                .map(|(_, entry, _)| signed(entry.seq.0))
                .collect::<Vec<_>>(),
        )
        .bind(
            entries()
                .map(|(_, entry, _)| &entry.digest.0[..])
                .collect::<Vec<_>>(),
        )
        .bind(entries().map(|(_, _, batch)| batch).collect::<Vec<_>>())
        .bind(
            entries()
                .map(|(_, entry, _)| entry.envelope.as_ref())
                .collect::<Vec<_>>(),
        )
        .bind(
            entries()
                .map(|(_, entry, _)| entry.payload.as_deref())
                .collect::<Vec<_>>(),
        )
}

/// The changes of the agenda for which `at` returns a time.
fn bind_agenda<'q>(
    query: Statement<'q>,
    candidates: &[Candidate],
    at: impl Fn(&AgendaChange) -> Option<Timestamp>,
) -> Statement<'q> {
    let rows: Vec<_> = numbered(candidates)
        .flat_map(|(nth, candidate)| candidate.batch.agenda.iter().map(move |change| (nth, change)))
        .filter_map(|(nth, change)| Some((nth, change, at(change)?.as_micros())))
        .collect();
    query
        .bind(rows.iter().map(|(nth, _, _)| *nth).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|(_, change, _)| i16::from(change.queue.number()))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|(_, _, at)| *at).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|(_, change, _)| change.item.to_string())
                .collect::<Vec<_>>(),
        )
}

fn bind_runs<'q>(query: Statement<'q>, candidates: &'q [Candidate]) -> Statement<'q> {
    let rows: Vec<_> = numbered(candidates)
        .filter_map(|(nth, candidate)| {
            Some((
                nth,
                candidate.batch.stream.as_run()?,
                candidate.batch.summary.as_ref()?,
            ))
        })
        .collect();
    let query = query.bind(rows.iter().map(|(nth, _, _)| *nth).collect::<Vec<_>>());
    let rows: Vec<_> = rows.into_iter().map(|(_, run, summary)| (run, summary)).collect();
    bind_listed(query, &rows)
}

/// The rows of the list of runs, in columns.
pub(super) fn bind_listed<'q>(query: Statement<'q>, rows: &[(&'q RunId, &'q Summary)]) -> Statement<'q> {
    let labels = |labels: &std::collections::BTreeMap<tape_core::id::Key, String>| {
        serde_json::to_string(labels).expect("labels are text")
    };
    query
        .bind(
            rows.iter()
                .map(|(_, summary)| summary.begun_at.as_micros())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, summary)| summary.changed_at.as_micros())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(run, _)| run.tenant.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|(run, _)| run.app.as_str()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|(_, summary)| summary.status.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, summary)| labels(&summary.labels))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, summary)| label_keys(summary))
                .collect::<Vec<_>>(),
        )
}

/// The keys of a run's labels, one after the other.
pub(super) fn label_keys(summary: &Summary) -> Vec<u8> {
    let keys = summary.labels.iter();
    let keys = keys.map(|(key, value)| label_key(key.as_str(), value));
    keys.collect::<Vec<_>>().concat()
}

/// The key that runs with a label are found by; values may be longer than an index takes.
pub(super) fn label_key(key: &str, value: &str) -> Vec<u8> {
    Digest::of(format!("{key}\0{value}").as_bytes()).0.to_vec()
}

fn bind_snapshots<'q>(query: Statement<'q>, candidates: &'q [Candidate]) -> Statement<'q> {
    let rows: Vec<_> = numbered(candidates)
        .filter_map(|(nth, candidate)| Some((nth, &candidate.batch, candidate.batch.snapshot.bytes()?)))
        .collect();
    let without =
        numbered(candidates).filter(|(_, candidate)| candidate.batch.snapshot == SnapshotChange::Delete);
    query
        .bind(rows.iter().map(|(nth, _, _)| *nth).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|(_, batch, _)| signed(batch.last().0))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|(_, _, bytes)| bytes.as_ref())
                .collect::<Vec<_>>(),
        )
        .bind(without.map(|(nth, _)| nth).collect::<Vec<_>>())
}
