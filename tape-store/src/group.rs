//! Checks of calls that all stores on databases share.

use crate::contract::{Batch, Committed, Shard};
use crate::error::{CommitError, StoreError};
use std::collections::HashSet;
use tape_core::id::StreamId;
use tape_core::limits::PAGE_ENTRIES_MAX;

/// The answer for one batch of a commit.
pub(crate) type Answer = Result<Committed, CommitError>;

/// Refuses batches that no store takes, and a second batch for the same stream. Returns the others with their places in the call.
pub(crate) fn admit(batches: Vec<Batch>, answers: &mut [Option<Answer>]) -> Vec<(usize, Batch)> {
    let mut streams: HashSet<StreamId> = HashSet::with_capacity(batches.len());
    let mut admitted = Vec::with_capacity(batches.len());
    for (place, batch) in batches.into_iter().enumerate() {
        let problem = || "another batch of the call is for the same stream".to_owned();
        let checked = batch.check().and_then(|()| {
            let first = streams.insert(batch.stream.clone());
            if first {
                Ok(())
            } else {
                Err(StoreError::Invalid {
                    what: "batch",
                    problem: problem(),
                })
            }
        });
        match checked {
            Ok(()) => admitted.push((place, batch)),
            Err(error) => answers[place] = Some(Err(CommitError::Store(error))),
        }
    }
    admitted
}

/// A page has at least one place, and at most [`PAGE_ENTRIES_MAX`].
pub(crate) fn page(limit: u32) -> u32 {
    limit.clamp(1, PAGE_ENTRIES_MAX)
}

/// Refuses every shard but the first, in a store that has one.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn check_shard(shard: Shard) -> Result<(), StoreError> {
    check_shard_of(shard, 1)
}

/// Refuses shards that a store with `shards` shards does not have.
pub(crate) fn check_shard_of(shard: Shard, shards: u16) -> Result<(), StoreError> {
    if shard.0 < shards {
        return Ok(());
    }
    Err(StoreError::Invalid {
        what: "shard",
        problem: format!("{} of {shards}", shard.0),
    })
}
