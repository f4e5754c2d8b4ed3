//! How the batches of a call are committed, and what they are told.
//!
//! Each batch is a transaction of its own, and all go at the same time: rows of several streams in one transaction would mostly stand in
//! several splits, which Spanner then has to bring to agree, and one conflict would fail all.

use super::append::{self, Stream, signed};
use super::error::Failure;
use super::link::{Link, Question};
use super::read::{self, get};
use crate::contract::{Batch, BatchId, Committed, FIND_BATCH_ENTRIES};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use bytes::Bytes;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use std::collections::HashMap;
use tape_core::id::{Epoch, Seq};

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
        let stream = Stream::new(&batch.stream, shards);
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

async fn commit_one(link: &Link, stream: &Stream, batch: &Batch) -> Outcome {
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

/// Nothing of the batch was written; where its stream ends by now says why.
fn lost_to(
    stream: &Stream,
    batch: &Batch,
    ends: Result<&HashMap<Vec<u8>, (Seq, Epoch)>, &StoreError>,
) -> CommitError {
    let ends = match ends {
        Ok(ends) => ends,
        Err(error) => return CommitError::Store(error.clone()),
    };
    let (seq, epoch) = ends.get(&stream.id).copied().unwrap_or_default();
    let void = || StoreError::Invalid {
        what: "batch",
        problem: "it was looked for before it came, so it is never committed".to_owned(),
    };
    batch
        .check_end(seq, epoch)
        .err()
        .unwrap_or_else(|| CommitError::Store(void()))
}

/// Where streams end; nothing of those that are not there.
pub(super) async fn ends(
    link: &Link,
    streams: Vec<&Stream>,
) -> Result<HashMap<Vec<u8>, (Seq, Epoch)>, StoreError> {
    // A request for several could not be limited to one row of each, and would pass all heads that are gone.
    let ends = streams.into_iter().map(async |stream| {
        let end = read::end(link, stream).await?;
        Ok(end.map(|end| (stream.id.clone(), (end.seq, end.epoch))))
    });
    let ends = futures::future::try_join_all(ends).await?;
    Ok(ends.into_iter().flatten().collect())
}

/// Whether a batch was committed. Definite: one that is not there is kept from being committed before anybody is told.
pub(super) async fn find_batch(
    link: &Link,
    stream: &Stream,
    batch: BatchId,
) -> Result<Option<Committed>, StoreError> {
    let found = look_for(link, stream, batch).await?;
    if found.is_some() {
        return Ok(found);
    }
    match link.write(vec![append::void(stream, batch)]).await {
        Ok(()) => {}
        // Somebody else asked before.
        Err(failure) if failure.is_already_there() => {}
        Err(failure) => return Err(failure.store_error(LOOKS)),
    }
    look_for(link, stream, batch).await
}

/// Reads the names of batches in the last entries of a stream. There is no index of them: it would cost every commit a row.
async fn look_for(link: &Link, stream: &Stream, batch: BatchId) -> Result<Option<Committed>, StoreError> {
    let Some(end) = read::end(link, stream).await? else {
        return Ok(None);
    };
    let before = end.seq.0.saturating_sub(FIND_BATCH_ENTRIES);
    let range = KeyRange::open_closed(key![stream.id, signed(before)], key![stream.id]);
    let keys = KeySet::builder().add_range(range).build();
    let request = ReadRequest::builder("tape_entry", ["seq", "batch"]).with_keys(keys);
    let rows = link.ask(LOOKS, Question::Keys(request.build()), |row| {
        Ok((get::<i64>(row, 0)?, get::<Option<Bytes>>(row, 1)?))
    });
    let is_it = |(_, name): &(i64, Option<Bytes>)| name.as_deref() == Some(batch.0.as_bytes());
    let found = rows.await?.into_iter().find(is_it);
    Ok(found.map(|(seq, _)| Committed {
        seq: Seq(seq.unsigned_abs()),
    }))
}
