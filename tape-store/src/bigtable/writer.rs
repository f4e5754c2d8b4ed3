//! How batches are committed: first the hints of all batches in one call, then each batch by one conditional change of its stream's row.

use super::append::{Candidate, Fitting};
use super::end::{self, End};
use super::error::Failure;
use super::{TableContext, keys, read, segment, table};
use crate::contract::{Batch, CommitOutcome, Committed};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use futures::StreamExt as _;
use std::collections::HashMap;
use tape_core::id::{Epoch, Seq, StreamId};

/// How often a batch is tried where it fits its stream except for the generation, or where its stream moves during the check.
const ATTEMPTS_MAX: u32 = 8;
/// Batches of a call that are under way at the same time.
const UNDER_WAY_MAX: usize = 64;
/// Most rows that are read or changed in one call.
const ROWS_MAX: usize = 1_024;

const DOING: &str = "commits";

/// Commits batches. Answers in their order.
pub(super) async fn commit(context: &TableContext, batches: Vec<Batch>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batches.iter().map(|_| None).collect();
    let admitted = admit(batches, &mut answers).into_iter();
    let mut left: Vec<Candidate> = admitted
        .map(|(place, batch)| Candidate {
            place,
            end: likely_end(context, &batch),
            batch,
        })
        .collect();
    for _ in 0..ATTEMPTS_MAX {
        if left.is_empty() {
            break;
        }
        let fitting = fit(context, left, &mut answers).await;
        let fitting = make_room(context, fitting, &mut answers).await;
        let announced = announce(context, fitting, &mut answers).await;
        left = append(context, announced, &mut answers).await;
    }
    for candidate in left {
        let busy = StoreError::unavailable(DOING, "others changed the stream's row again and again");
        answers[candidate.place] = Some(Err(CommitError::Store(busy)));
    }
    let answered = |answer: Option<Answer>| answer.expect("every batch of the call was answered");
    answers.into_iter().map(answered).collect()
}

/// The end that a batch expects, if it is the one that was last seen here, or that of a stream not seen yet.
fn likely_end(context: &TableContext, batch: &Batch) -> Option<End> {
    match context.ends.get(&batch.stream) {
        Some(end) => batch.check_end(end.stated()).is_ok().then_some(end),
        None => (batch.expected == Seq::ZERO && batch.epoch == Epoch::default()).then(End::default),
    }
}

/// Reads the ends of streams that are not known, and answers the batches that do not fit.
async fn fit(
    context: &TableContext,
    candidates: Vec<Candidate>,
    answers: &mut [Option<Answer>],
) -> Vec<Fitting> {
    let unknown = candidates.iter().filter(|candidate| candidate.end.is_none());
    let mut ends = HashMap::new();
    let unknown: Vec<StreamId> = unknown.map(|candidate| candidate.stream().clone()).collect();
    for streams in unknown.chunks(ROWS_MAX) {
        match context.read_ends(DOING, streams).await {
            Ok(read) => ends.extend(streams.iter().cloned().zip(read.into_iter().map(Ok))),
            Err(error) => ends.extend(streams.iter().map(|stream| (stream.clone(), Err(error.clone())))),
        }
    }
    let mut fitting = Vec::with_capacity(candidates.len());
    for Candidate { place, batch, end } in candidates {
        let end = end.map_or_else(|| ends[&batch.stream].clone(), Ok);
        let checked = end.map_err(CommitError::Store).and_then(|end| {
            batch.check_end(end.stated())?;
            Ok(end)
        });
        match checked {
            Ok(end) => fitting.push(Fitting::new(context, place, batch, end)),
            Err(error) => answers[place] = Some(Err(error)),
        }
    }
    fitting
}

/// Moves entries out of full rows.
async fn make_room(
    context: &TableContext,
    fitting: Vec<Fitting>,
    answers: &mut [Option<Answer>],
) -> Vec<Fitting> {
    let with_room = async |fitting: Fitting| {
        let Fitting {
            place, batch, end, ..
        } = fitting;
        let end = match segment::make_room(context, &batch.stream, end).await {
            Ok(end) => end,
            Err(error) => return Err((place, CommitError::Store(error))),
        };
        match batch.check_end(end.stated()) {
            Ok(()) => Ok(Fitting::new(context, place, batch, end)),
            Err(error) => Err((place, error)),
        }
    };
    let mut ready = Vec::with_capacity(fitting.len());
    let (full, mut rest): (Vec<_>, Vec<_>) = fitting
        .into_iter()
        .partition(|fitting| segment::is_full(&fitting.end));
    ready.append(&mut rest);
    let mut made = futures::stream::iter(full.into_iter().map(with_room)).buffer_unordered(UNDER_WAY_MAX);
    while let Some(outcome) = made.next().await {
        match outcome {
            Ok(fitting) => ready.push(fitting),
            Err((place, error)) => answers[place] = Some(Err(error)),
        }
    }
    ready
}

/// Writes the hints of all batches, and deletes some that earlier commits made obsolete.
async fn announce(
    context: &TableContext,
    fitting: Vec<Fitting>,
    answers: &mut [Option<Answer>],
) -> Vec<Fitting> {
    if fitting.is_empty() {
        return fitting;
    }
    let mut owners = Vec::new();
    let mut changes = Vec::new();
    let now = context.environment.wall();
    for batch in &fitting {
        let hints = batch.hints(now);
        owners.extend(hints.iter().map(|_| batch.place));
        changes.extend(hints);
    }
    changes.extend(context.deferred_deletes.take());
    let mut failed: HashMap<usize, Failure> = HashMap::new();
    let mut done = 0;
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(ROWS_MAX));
        let outcomes = context.table.mutate(std::mem::replace(&mut changes, rest)).await;
        for (n, outcome) in outcomes.into_iter().enumerate() {
            // Deletions belong to no batch: where they fail, readers clean up.
            if let (Err(failure), Some(owner)) = (outcome, owners.get(done + n)) {
                failed.insert(*owner, failure);
            }
        }
        done += ROWS_MAX;
    }
    let announced = fitting.into_iter().filter_map(|fitting| {
        let Some(failure) = failed.remove(&fitting.place) else {
            return Some(fitting);
        };
        let error = CommitError::Store(failure.store_error(DOING));
        answers[fitting.place] = Some(Err(error));
        None
    });
    announced.collect()
}

/// Commits the batches. Returns those whose streams do not end as assumed.
async fn append(
    context: &TableContext,
    fitting: Vec<Fitting>,
    answers: &mut [Option<Answer>],
) -> Vec<Candidate> {
    let make = async |fitting: Fitting| {
        let condition = fitting
            .end
            .check(keys::stream(&fitting.batch.stream), fitting.mutations());
        let outcome = condition.make(context.table.as_ref()).await;
        (fitting, outcome)
    };
    let mut made = futures::stream::iter(fitting.into_iter().map(make)).buffer_unordered(UNDER_WAY_MAX);
    let mut lost = Vec::new();
    while let Some((fitting, outcome)) = made.next().await {
        let (place, stream) = (fitting.place, &fitting.batch.stream);
        if let Ok(true) = outcome {
            context.ends.note(stream, &fitting.end_after());
            context.deferred_deletes.add(fitting.obsolete());
            let seq = fitting.batch.last();
            answers[place] = Some(Ok(Committed { seq }));
            continue;
        }
        context.ends.forget(stream);
        match outcome {
            Ok(_) => lost.push(Candidate {
                place,
                batch: fitting.batch,
                end: None,
            }),
            Err(failure) if failure.is_definite() => {
                answers[place] = Some(Err(CommitError::Store(failure.store_error(DOING))));
            }
            Err(failure) => {
                let error = failure.store_error(DOING);
                answers[place] = Some(Err(CommitError::outcome_unknown(fitting.batch.id, error)));
            }
        }
    }
    lost
}

/// What became of a batch. Where nothing is at its place, attempts that may be under way are made to fail before the answer.
pub(super) async fn resolve(context: &TableContext, batch: &Batch) -> Result<CommitOutcome, StoreError> {
    const DOING: &str = "looks for a batch";
    let stream = &batch.stream;
    for _ in 0..ATTEMPTS_MAX {
        let row = context
            .read_stream(DOING, stream, table::any_of([end::cells()]))
            .await?;
        let end = End::read(stream, &row)?;
        let entry = if end.seq < batch.last() {
            Vec::new()
        } else {
            read::entries(context, stream, Seq(batch.last().0 - 1), 1).await?
        };
        if let Some(fate) = batch.compare(end.seq, entry.first()).outcome(batch) {
            return Ok(fate);
        }
        if end::raise_generation(context, stream, &end).await? {
            return Ok(CommitOutcome::NotCommitted);
        }
    }
    let busy = "others changed the stream's row again and again";
    Err(StoreError::unavailable(DOING, busy))
}
