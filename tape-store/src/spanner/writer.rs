//! How the batches of a call are committed, and their answers.
//!
//! Each batch is a transaction of its own, and all run concurrently. Rows of several streams in one transaction would mostly be in several
//! splits, which need a two-phase commit, and one conflict would fail all batches.

use super::append::{self, StreamKey};
use super::error::Failure;
use super::link::Link;
use super::read;
use crate::contract::{Batch, CommitOutcome, Committed};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use crate::upkeep::End;
use std::collections::HashMap;
use tape_core::id::Seq;

const LOOKS: &str = "looks for a batch";

/// Whether a batch was committed, as far as its own commit said.
enum Outcome {
    Done,
    /// Its stream does not end where it says.
    Lost,
    Failed(Failure),
}

/// Commits batches. Answers in their order.
pub(super) async fn commit(link: &Link, shards: u16, batches: Vec<Batch>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batches.iter().map(|_| None).collect();
    let candidates = admit(batches, &mut answers);
    let sent = candidates.into_iter().map(async |(place, batch)| {
        let stream = StreamKey::new(&batch.stream, shards);
        let outcome = commit_one(link, &stream, &batch).await;
        (place, stream, batch, outcome)
    });
    let mut lost = Vec::new();
    for (place, stream, batch, outcome) in futures::future::join_all(sent).await {
        match outcome {
            Outcome::Done => answers[place] = Some(Ok(Committed { seq: batch.last() })),
            Outcome::Failed(failure) => answers[place] = Some(Err(refusal(&batch, failure))),
            Outcome::Lost => lost.push((place, stream, batch)),
        }
    }
    if !lost.is_empty() {
        let ends = ends(link, lost.iter().map(|(_, stream, _)| stream).collect()).await;
        for (place, stream, batch) in lost {
            answers[place] = Some(Err(lost_to(&stream, &batch, ends.as_ref())));
        }
    }
    let answered = |answer: Option<Answer>| answer.expect("every batch of the call was answered");
    answers.into_iter().map(answered).collect()
}

async fn commit_one(link: &Link, stream: &StreamKey, batch: &Batch) -> Outcome {
    if !append::may_fit(batch) {
        return Outcome::Lost;
    }
    match link.write(append::mutations(stream, batch)).await {
        Ok(()) => Outcome::Done,
        Err(failure) if failure.is_unmet_condition() => Outcome::Lost,
        Err(failure) => Outcome::Failed(failure),
    }
}

fn refusal(batch: &Batch, failure: Failure) -> CommitError {
    let definite = failure.is_definite();
    let store = failure.store_error("commits");
    if definite {
        CommitError::Store(store)
    } else {
        CommitError::outcome_unknown(batch.id, store)
    }
}

/// The error for a batch that was not written, by where its stream ends now.
fn lost_to(
    stream: &StreamKey,
    batch: &Batch,
    ends: Result<&HashMap<Vec<u8>, End>, &StoreError>,
) -> CommitError {
    let ends = match ends {
        Ok(ends) => ends,
        Err(error) => return CommitError::Store(error.clone()),
    };
    let end = ends.get(&stream.id).copied().unwrap_or_default();
    let void = || StoreError::Invalid {
        what: "batch",
        problem: "it was looked for before it came, so it is never committed".to_owned(),
    };
    batch
        .check_end(end)
        .err()
        .unwrap_or_else(|| CommitError::Store(void()))
}

/// Where streams end; nothing for those that do not exist.
pub(super) async fn ends(link: &Link, streams: Vec<&StreamKey>) -> Result<HashMap<Vec<u8>, End>, StoreError> {
    // A read of several could not be limited to one row of each, and would scan all deleted heads.
    let ends = streams.into_iter().map(async |stream| {
        let end = read::end(link, stream).await?;
        Ok(end.map(|head| (stream.id.clone(), head.end())))
    });
    let ends = futures::future::try_join_all(ends).await?;
    Ok(ends.into_iter().flatten().collect())
}

/// What became of a batch. Where nothing is at its place, the batch is made void before the answer.
pub(super) async fn resolve(
    link: &Link,
    stream: &StreamKey,
    batch: &Batch,
) -> Result<CommitOutcome, StoreError> {
    if let Some(fate) = look_for(link, stream, batch).await? {
        return Ok(fate);
    }
    match link.write(vec![append::void(stream, batch.id)]).await {
        Ok(()) => {}
        // Another call made it void before.
        Err(failure) if failure.is_already_there() => {}
        Err(failure) => return Err(failure.store_error(LOOKS)),
    }
    Ok(look_for(link, stream, batch)
        .await?
        .unwrap_or(CommitOutcome::NotCommitted))
}

/// Compares a batch with what its stream has at its place; none where nothing is there yet.
async fn look_for(
    link: &Link,
    stream: &StreamKey,
    batch: &Batch,
) -> Result<Option<CommitOutcome>, StoreError> {
    let end = read::end(link, stream).await?.map_or(Seq::ZERO, |end| end.seq);
    let entry = if end < batch.last() {
        Vec::new()
    } else {
        read::entries(link, stream, Seq(batch.last().0 - 1), 1).await?
    };
    Ok(batch.compare(end, entry.first()).outcome(batch))
}
