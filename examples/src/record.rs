//! A run's journal, read back and verified.

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use tape_client::core::chain::Verifier;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::{RunId, Tape};

/// All entries of a run, in order, and the result of verifying its chain.
#[derive(Debug)]
pub struct Record {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The digest of the last entry, or where the chain breaks.
    pub chain: Result<String, String>,
}

/// Reads the journal of a run and verifies its chain.
///
/// # Errors
/// Where the journal is unreachable, or an entry cannot be read.
pub async fn read(tape: &Tape, run: &RunId) -> Result<Record> {
    let stored: Vec<StoredEntry> = tape
        .journal(run)
        .try_concat()
        .await
        .context("the journal cannot be read")?;
    let entries = stored
        .iter()
        .map(|stored| Ok(decode(stored)?))
        .collect::<Result<_>>()?;
    let mut verifier = Verifier::new(&run.clone().into(), None);
    let verified = stored
        .iter()
        .try_for_each(|stored| verifier.check(stored))
        .and_then(|()| verifier.finish());
    let chain = verified
        .map(|(_, digest)| digest.short())
        .map_err(|error| error.to_string());
    Ok(Record { entries, chain })
}

/// A decision as it was recorded.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Its number, in the run's own scope.
    pub k: usize,
    /// The answer.
    pub answer: serde_json::Value,
    /// When it was decided to record it, in microseconds since 1970: before the commit.
    pub at_us: i64,
    /// The epoch of the driver that recorded it.
    pub epoch: Option<u64>,
}

impl Record {
    /// The decisions, in order.
    ///
    /// # Errors
    /// Where an answer is not JSON.
    pub fn decisions(&self) -> Result<Vec<Decided>> {
        let mut decisions = Vec::new();
        let mut epoch = None;
        for entry in &self.entries {
            match &entry.body {
                EntryBody::LeaseAcquired(lease) => epoch = Some(lease.epoch.0),
                EntryBody::DecisionRecorded(decision) => {
                    let bytes = decision.response.bytes().context("an answer was erased")?;
                    let k = usize::try_from(decision.position.k)?;
                    let answer = serde_json::from_slice(bytes)?;
                    decisions.push(Decided {
                        k,
                        answer,
                        at_us: entry.at.as_micros(),
                        epoch,
                    });
                }
                _ => {}
            }
        }
        Ok(decisions)
    }

    /// Whether the run has completed.
    #[must_use]
    pub fn completed(&self) -> bool {
        self.has(|body| matches!(body, EntryBody::RunCompleted(_)))
    }

    /// Whether the run has failed and its acts are undone.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.has(|body| matches!(body, EntryBody::RunFailed(_)))
    }

    /// Whether the run needs no agent any more.
    #[must_use]
    pub fn over(&self) -> bool {
        self.has(|body| matches!(body, EntryBody::RunCompensating(_))) || self.failed() || self.completed()
    }

    fn has(&self, which: impl Fn(&EntryBody) -> bool) -> bool {
        self.entries.iter().any(|entry| which(&entry.body))
    }
}
