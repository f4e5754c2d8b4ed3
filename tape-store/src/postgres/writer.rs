//! How a group of batches becomes one transaction, and what its batches are told.

use super::append::{self, Candidate, key, signed};
use super::error::Failure;
use super::links::Links;
use super::read::get;
use crate::contract::{Batch, BatchId, Committed, FIND_BATCH_ENTRIES};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use tape_core::id::{Epoch, Seq, StreamId};

/// Most batches of one statement.
const BATCHES_MAX: usize = 1_024;
/// Bytes of batches after which a statement takes no further one.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often a group is sent again that fell victim to others.
const COLLISIONS_MAX: u32 = 5;

/// The last entry of the batch named $3 of the stream with key $1 and name $2.
pub(super) const FIND_BATCH: &str = "SELECT e.seq FROM tape_head h CROSS JOIN LATERAL ( \
           SELECT e.seq FROM tape_entry e WHERE e.part = h.part AND e.stream = h.stream \
             AND e.seq > h.seq - $4 AND e.seq >= h.first AND e.seq <= h.seq AND e.batch = $3 LIMIT 1) e \
         WHERE h.key = $1 AND h.name = $2";
/// Where the streams with keys $1 end.
pub(super) const ENDS: &str = "SELECT name, seq, epoch FROM tape_head WHERE key = ANY($1)";

/// Commits batches. Answers in their order.
pub(super) async fn commit(links: &Links, batches: Vec<Batch>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batches.iter().map(|_| None).collect();
    let mut candidates: Vec<Candidate> = admit(batches, &mut answers)
        .into_iter()
        .map(|(place, batch)| Candidate::new(place, batch))
        .collect();
    // All who lock heads lock them in this order.
    candidates.sort_by(|a, b| a.key.cmp(&b.key));
    let mut rest = candidates.as_slice();
    while !rest.is_empty() {
        let (group, later) = rest.split_at(group_len(rest));
        commit_group(links, group, &mut answers).await;
        rest = later;
    }
    let answered = |answer: Option<Answer>| answer.expect("every batch of the call was answered");
    answers.into_iter().map(answered).collect()
}

/// How many of the candidates share one statement.
fn group_len(candidates: &[Candidate]) -> usize {
    let mut bytes = 0;
    let fits = |candidate: &&Candidate| {
        bytes += candidate.batch.size();
        bytes <= BYTES_MAX
    };
    candidates
        .iter()
        .take(BATCHES_MAX)
        .take_while(fits)
        .count()
        .max(1)
}

async fn commit_group(links: &Links, group: &[Candidate], answers: &mut [Option<Answer>]) {
    let won = send(links, group)
        .await
        .and_then(|rows| winners(&rows, group.len()));
    let won = match won {
        Ok(won) => won,
        Err(failure) => return refuse(group, failure, answers),
    };
    let lost: Vec<&Candidate> = group
        .iter()
        .zip(&won)
        .filter(|(_, won)| !**won)
        .map(|(c, _)| c)
        .collect();
    // The winners are durable, whatever happens now: losers whose end cannot be read are told to look again.
    let ends = if lost.is_empty() {
        HashMap::new()
    } else {
        ends(links, &lost).await.unwrap_or_default()
    };
    for (candidate, won) in group.iter().zip(won) {
        let last = candidate.batch.last();
        answers[candidate.place] = Some(if won {
            Ok(Committed { seq: last })
        } else {
            Err(lost_to(candidate, &ends))
        });
    }
}

async fn send(links: &Links, group: &[Candidate]) -> Result<Vec<PgRow>, Failure> {
    let mut collisions = 0;
    loop {
        match links.run(append::statement(group)).await {
            Err(failure) if failure.is_collision() && collisions < COLLISIONS_MAX => collisions += 1,
            outcome => return outcome,
        }
    }
}

/// For each batch of the group whether it won.
fn winners(rows: &[PgRow], batches: usize) -> Result<Vec<bool>, Failure> {
    use sqlx::Row as _;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let streams: Vec<i64> = row.try_get(0)?;
    assert_eq!(
        streams.len(),
        batches,
        "the statement answers for each of its batches"
    );
    Ok(streams.into_iter().map(|stream| stream > 0).collect())
}

/// Answers all batches of a group with what went wrong.
fn refuse(group: &[Candidate], failure: Failure, answers: &mut [Option<Answer>]) {
    let definite = failure.is_definite();
    let store = failure.store_error("commits");
    for candidate in group {
        answers[candidate.place] = Some(Err(if definite {
            CommitError::Store(store.clone())
        } else {
            CommitError::outcome_unknown(candidate.batch.id, store.clone())
        }));
    }
}

fn lost_to(candidate: &Candidate, ends: &HashMap<String, (Seq, Epoch)>) -> CommitError {
    let batch = &candidate.batch;
    let (seq, epoch) = ends.get(&candidate.name).copied().unwrap_or_default();
    // Where the stream by now ends as the batch wants it, the caller may try again.
    batch
        .check_end(seq, epoch)
        .err()
        .unwrap_or_else(|| CommitError::Conflict {
            stream: batch.stream.clone(),
            expected: batch.expected,
            current: seq,
        })
}

async fn ends(links: &Links, lost: &[&Candidate]) -> Result<HashMap<String, (Seq, Epoch)>, StoreError> {
    let keys = || {
        lost.iter()
            .map(|candidate| candidate.key.as_slice())
            .collect::<Vec<_>>()
    };
    let rows = links
        .query("looks where streams end", || sqlx::query(ENDS).bind(keys()))
        .await?;
    let end = |row| {
        let (seq, epoch): (i64, i64) = (get(row, 1)?, get(row, 2)?);
        Ok((
            get(row, 0)?,
            (Seq(seq.unsigned_abs()), Epoch(epoch.unsigned_abs())),
        ))
    };
    rows.iter().map(end).collect()
}

/// Whether a batch was committed. Definite: sessions that may still commit it are ended first.
pub(super) async fn find_batch(
    links: &Links,
    stream: &StreamId,
    batch: BatchId,
) -> Result<Option<Committed>, StoreError> {
    const DOING: &str = "looks for a batch";
    links.settle(DOING).await?;
    let name = stream.to_string();
    let find = || {
        sqlx::query(FIND_BATCH)
            .bind(key(&name))
            .bind(name.clone())
            .bind(batch.0.as_bytes().to_vec())
            .bind(signed(FIND_BATCH_ENTRIES))
    };
    let rows = links.query(DOING, find).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Committed {
        seq: Seq(get::<i64>(row, 0)?.unsigned_abs()),
    }))
}
