//! Dropping entries: in small transactions, so that commits come in between.
//!
//! First a stream is marked: from then on it begins with the first entry kept. Then its entries go, the oldest first, so that
//! those which are left can still be found from the end after a crash; its row in lists goes last. The pages of the file that become
//! free are used for what is written next; the file does not shrink.

use super::append::signed;
use super::writer::{Writer, in_turn};
use crate::error::StoreError;
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tokio::sync::Mutex;

/// Most streams that are marked in one transaction.
const STREAMS_MAX: usize = 256;
/// Entries after which a transaction drops no further piece. A piece has at most as many entries as lie between two waypoints.
const ENTRIES_MAX: u64 = 1_024;

const MARK: &str = "INSERT INTO kept SELECT s.id, min(?2, h.seq) FROM stream s JOIN head h ON h.stream = s.id \
         WHERE s.name = ?1 AND min(?2, h.seq) > 1 ON CONFLICT DO UPDATE SET first = max(first, excluded.first)";
const MARKED: &str = "SELECT s.id, coalesce(k.first, 1) FROM stream s JOIN head h ON h.stream = s.id \
         LEFT JOIN kept k ON k.stream = s.id WHERE s.name = ? AND h.seq > 0";
const FORGET: &str = "DELETE FROM snapshot WHERE stream = ?";

/// The oldest waypoint of stream ?1.
const WAYPOINT: &str = "SELECT seq FROM waypoint WHERE stream = ? ORDER BY seq LIMIT 1";
const PASSED: &str = "DELETE FROM waypoint WHERE stream = ? AND seq = ?";
/// The places of the entries of stream ?1 before entry ?2, from the oldest place known on back to the first entry that is left.
macro_rules! piece {
    ($what:literal) => {
        concat!(
            "WITH RECURSIVE walk(pos, seq, prev) AS ( \
               SELECT e.pos, e.seq, e.prev FROM head h CROSS JOIN entry e WHERE h.stream = ?1 AND e.pos = \
                 coalesce((SELECT w.pos FROM waypoint w WHERE w.stream = ?1 ORDER BY w.seq LIMIT 1), h.pos) \
               UNION ALL SELECT e.pos, e.seq, e.prev FROM walk CROSS JOIN entry e \
                 WHERE e.pos = walk.prev AND e.stream = ?1 AND e.pos < walk.pos) ",
            $what,
            " WHERE pos IN (SELECT pos FROM walk WHERE seq < ?2)"
        )
    };
}
pub(super) const ERASED: &str = piece!("DELETE FROM erased");
pub(super) const ENTRIES: &str = piece!("DELETE FROM entry");

const UNLABEL: &str = "DELETE FROM label WHERE (tenant, key, value, begun_at, stream) IN \
         (SELECT r.tenant, l.key, l.value, r.begun_at, r.stream FROM run r, json_each(r.labels) l WHERE r.stream = ?)";
const UNLIST: &str = "DELETE FROM run WHERE stream = ?";

/// A number of a stream and of its first entry that is kept.
type Marked = (i64, i64);

/// Drops the entries of streams before a number each.
pub(super) async fn drop_before(writer: &Mutex<Writer>, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
    for drops in drops.chunks(STREAMS_MAX) {
        let mut dropping = Dropping::Mark(drops);
        loop {
            // Between two transactions the lock is free for commits.
            dropping = match writer.lock().await.drop_some(dropping).await? {
                Some(next) => next,
                None => break,
            };
        }
    }
    Ok(())
}

/// The next step, in a transaction of its own.
pub(super) enum Dropping<'d> {
    Mark(&'d [(StreamId, Seq)]),
    Drop {
        marked: Vec<Marked>,
        left: VecDeque<Marked>,
    },
    Unlist(Vec<Marked>),
}

impl Writer {
    /// Does the next step, and returns the one after it.
    async fn drop_some<'d>(&mut self, dropping: Dropping<'d>) -> Result<Option<Dropping<'d>>, StoreError> {
        const DOING: &str = "drops entries";
        self.check()?;
        let busy_timeout = self.busy_timeout();
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return Err(self.failed(DOING, error)),
        };
        let done = dropping.step(connection, busy_timeout).await;
        self.settled(done.is_ok()).await;
        done.map_err(|error| self.failed(DOING, error))
    }
}

impl<'d> Dropping<'d> {
    async fn step(
        self,
        connection: &mut SqliteConnection,
        busy_timeout: Duration,
    ) -> Result<Option<Self>, sqlx::Error> {
        in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
        let next = match self {
            Self::Mark(drops) => Some(mark(connection, drops).await?),
            Self::Drop { marked, mut left } => {
                drop_pieces(connection, &mut left).await?;
                Some(Self::next(marked, left))
            }
            Self::Unlist(marked) => {
                unlist(connection, &marked).await?;
                None
            }
        };
        connection.execute("COMMIT").await?;
        Ok(next)
    }

    fn next(marked: Vec<Marked>, left: VecDeque<Marked>) -> Self {
        if left.is_empty() {
            Self::Unlist(marked)
        } else {
            Self::Drop { marked, left }
        }
    }
}

async fn mark<'d>(
    connection: &mut SqliteConnection,
    drops: &[(StreamId, Seq)],
) -> Result<Dropping<'d>, sqlx::Error> {
    let mut marked = Vec::with_capacity(drops.len());
    for (stream, seq) in drops {
        let name = stream.to_string();
        let mark = sqlx::query(MARK).bind(name.clone()).bind(signed(seq.0));
        mark.execute(&mut *connection).await?;
        let found = sqlx::query_as::<_, Marked>(MARKED).bind(name);
        for (stream, first) in found.fetch_all(&mut *connection).await? {
            let forget = sqlx::query(FORGET).bind(stream);
            forget.execute(&mut *connection).await?;
            marked.push((stream, first));
        }
    }
    let left = marked.iter().copied().filter(|(_, first)| *first > 1).collect();
    Ok(Dropping::next(marked, left))
}

/// Drops pieces of streams until there are enough for one transaction; finished streams are removed from the list.
async fn drop_pieces(
    connection: &mut SqliteConnection,
    left: &mut VecDeque<Marked>,
) -> Result<(), sqlx::Error> {
    let mut entries = 0;
    while let Some((stream, first)) = left.front().copied()
        && entries < ENTRIES_MAX
    {
        let waypoint = sqlx::query_scalar::<_, i64>(WAYPOINT).bind(stream);
        let waypoint = waypoint.fetch_all(&mut *connection).await?;
        for piece in [ERASED, ENTRIES] {
            let piece = sqlx::query(piece).bind(stream).bind(first);
            entries += piece.execute(&mut *connection).await?.rows_affected();
        }
        match waypoint.first() {
            Some(waypoint) if *waypoint < first => {
                let passed = sqlx::query(PASSED).bind(stream).bind(*waypoint);
                passed.execute(&mut *connection).await?;
            }
            _ => drop(left.pop_front()),
        }
    }
    Ok(())
}

async fn unlist(connection: &mut SqliteConnection, marked: &[Marked]) -> Result<(), sqlx::Error> {
    for (stream, _) in marked {
        for statement in [UNLABEL, UNLIST] {
            sqlx::query(statement)
                .bind(*stream)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}
