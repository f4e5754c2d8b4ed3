//! How a group of batches becomes one transaction, and the answers for its batches.

use super::append::{self, Candidate};
use super::error::Failure;
use super::links::{Held, Links};
use super::read::{self, get};
use crate::contract::{Batch, CommitOutcome, Committed};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use crate::upkeep::End;
use sqlx::postgres::PgRow;
use std::collections::HashMap;
use tape_core::id::{Epoch, Seq};
use tape_core::payload::Digest;

/// Most batches of one statement.
const BATCHES_MAX: usize = 1_024;
/// Bytes of batches after which a statement takes no further one.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often a group that collided with others is sent again.
const COLLISIONS_MAX: u32 = 5;

/// Writes a log record without content. Once it is acknowledged, everything committed before it is durable: on the disk, and on the
/// synchronous standbys where there are any.
const WRITE: &str = "SELECT pg_logical_emit_message(true, 'tape', ''::text)::text";
/// The same where there are synchronous standbys; else everything that can be read is on the disk.
const WRITE_IF_REPLICATED: &str = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' \
         THEN pg_logical_emit_message(true, 'tape', ''::text)::text END";
/// Where the streams with keys $1 end.
pub(super) const ENDS: &str = "SELECT name, seq, epoch, digest FROM tape_head WHERE key = ANY($1)";

/// Commits batches. Answers in their order.
pub(super) async fn commit(links: &Links, batches: Vec<Batch>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batches.iter().map(|_| None).collect();
    let mut candidates: Vec<Candidate> = admit(batches, &mut answers)
        .into_iter()
        .map(|(place, batch)| Candidate::new(place, batch))
        .collect();
    // Every transaction locks heads in this order.
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
    // The winners are durable, whatever happens now. Losers whose end cannot be read get a conflict and look again.
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

/// Answers all batches of a group with the error.
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

fn lost_to(candidate: &Candidate, ends: &HashMap<String, End>) -> CommitError {
    let batch = &candidate.batch;
    let end = ends.get(&candidate.name).copied().unwrap_or_default();
    // Where the stream now ends as the batch expects it, the caller may try again.
    batch
        .check_end(end)
        .err()
        .unwrap_or_else(|| batch.conflict(end.seq))
}

async fn ends(links: &Links, lost: &[&Candidate]) -> Result<HashMap<String, End>, StoreError> {
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
        let digest = get::<Vec<u8>>(row, 3)?.try_into();
        let end = End {
            seq: Seq(seq.unsigned_abs()),
            epoch: Epoch(epoch.unsigned_abs()),
            digest: digest.map_or_else(|_| Digest::default(), Digest),
        };
        Ok((get(row, 0)?, end))
    };
    rows.iter().map(end).collect()
}

/// What became of a batch. Everything runs on one connection, so on one server, the primary. First, sessions that may still commit the
/// batch are ended. Then a durable write shows that the server takes commits and that earlier commits are durable. Only then is the batch
/// compared.
pub(super) async fn resolve(links: &Links, batch: &Batch) -> Result<CommitOutcome, StoreError> {
    let compared = match resolve_once(links, batch).await {
        // The connection broke while idle.
        Err(failure) if failure.is_of_the_connection() => resolve_once(links, batch).await,
        compared => compared,
    };
    let fate = compared.map_err(|failure| failure.store_error("looks for a batch"))??;
    Ok(fate.unwrap_or(CommitOutcome::NotCommitted))
}

/// What became of a batch; none where nothing is at its place, and nothing can arrive there later.
async fn resolve_once(
    links: &Links,
    batch: &Batch,
) -> Result<Result<Option<CommitOutcome>, StoreError>, Failure> {
    let mut held = links.take().await?;
    let compared = async {
        held.end_doubtful().await?;
        held.run(sqlx::query(WRITE)).await?;
        compare(&mut held, batch).await
    };
    let compared = compared.await;
    held.give_back(&compared);
    compared
}

/// Compares a batch with what its stream has at its place; none where nothing is there.
async fn compare(
    held: &mut Held<'_>,
    batch: &Batch,
) -> Result<Result<Option<CommitOutcome>, StoreError>, Failure> {
    let (stream, before) = (&batch.stream, Seq(batch.last().0.saturating_sub(1)));
    let name = stream.to_string();
    let head = held.ask(read::head_statement(&name)).await?;
    let end = match head.first().map(|row| read::end(stream, row)).transpose() {
        Ok(head) => head.map_or(Seq::ZERO, |head| head.seq),
        Err(error) => return Ok(Err(error)),
    };
    let rows = held.ask(read::entries_statement(&name, before, 1)).await?;
    let entry = read::page(stream, before, &rows);
    Ok(entry.map(|entry| batch.compare(end, entry.first()).outcome(batch)))
}

/// Makes sure that what was read is as durable as an acknowledged commit.
pub(super) async fn barrier(links: &Links) -> Result<(), StoreError> {
    const DOING: &str = "makes sure that standbys have what was read";
    let written = links.run(sqlx::query(WRITE_IF_REPLICATED)).await;
    written.map(drop).map_err(|failure| failure.store_error(DOING))
}
