//! The life of a run.

use super::has_payloads;
use super::words::{Words, has_words};
use crate::id::{Epoch, Key, RunId, Scope, Seq};
use crate::payload::{Digest, ERASED, Payload};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The run, so that a journal names itself wherever it is found.
    pub run: RunId,
    /// What the run is found by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Key, String>,
    /// What the agent was given.
    pub input: Payload,
    /// The run and entry whose prefix this run replays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<Lineage>,
}
has_payloads!(Begun: input);
has_words!(Begun: labels);

/// Where a fork left its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The origin.
    pub run: RunId,
    /// The last entry of the origin that the fork replays.
    pub through: Seq,
}

/// The agent recorded how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What was reached.
    pub label: Key,
    /// The agent's own state.
    pub state: Payload,
    /// The scope that asked for it; entries from before scopes were recorded read as the root's.
    #[serde(default, skip_serializing_if = "Scope::is_root")]
    pub scope: Scope,
}
has_payloads!(Checkpoint: state);

/// The run waits without a driver, until one of its gates, timers or effects wakes it, or `resume_at` comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// When to wake it in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_at: Option<Timestamp>,
}

/// Cancellation of the run was requested while a driver held it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Why.
    pub reason: String,
}
has_words!(CancelRequested: reason);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum RunOutcome {
    /// Completed; the entry has the output.
    Completed,
    /// Failed.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// Cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl RunOutcome {
    /// Whether both say the same. Erased texts are not compared.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Completed, Self::Completed) => true,
            (Self::Failed { error: mine }, Self::Failed { error: theirs })
            | (Self::Cancelled { reason: mine }, Self::Cancelled { reason: theirs }) => {
                mine == theirs || [mine, theirs].iter().any(|text| text.as_str() == ERASED)
            }
            _ => false,
        }
    }

    pub(crate) fn words_mut(&mut self) -> Option<&mut dyn Words> {
        match self {
            Self::Completed => None,
            Self::Failed { error: text } | Self::Cancelled { reason: text } => Some(text),
        }
    }
}

/// How a run that fails or is cancelled ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum UnhappyOutcome {
    /// It failed.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl UnhappyOutcome {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "as of other fields that have a text in some of their forms"
    )]
    pub(crate) fn words_mut(&mut self) -> Option<&mut dyn Words> {
        match self {
            Self::Failed { error: text } | Self::Cancelled { reason: text } => Some(text),
        }
    }
}

/// The obligations of the run are released; it ends when they are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compensating {
    /// How the run ends then.
    pub then: UnhappyOutcome,
}
has_words!(Compensating: ; within then);

/// The run cannot continue without a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    /// Why.
    pub reason: String,
}

/// A person let a stuck run continue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Why.
    pub reason: String,
}
has_words!(Retried: reason);

/// The run completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// What came of it.
    pub output: Payload,
}
has_payloads!(Completed: output);

/// The run failed; its released obligations are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What went wrong.
    pub error: String,
}
has_words!(Failed: error);

/// The run was cancelled; its released obligations are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Why.
    pub reason: String,
}
has_words!(Cancelled: reason);

/// The run has ended and gets no further entries; the entries before this one are dropped or about to be. This entry has what outlives
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The run, so that what is left of the journal still names itself.
    pub run: RunId,
    /// What the run was found by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Key, String>,
    /// The epoch of its last driver.
    pub epoch: Epoch,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub ending: RunOutcome,
    /// Its output, if it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    /// Its output, if the bytes were erased before: the reference stays, without bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_erased: Option<Payload>,
    /// How many entries came before this one.
    pub dropped: u64,
    /// The chain digest of the last of them: the chain verifies from here.
    pub previous: Digest,
    /// Why they go.
    pub reason: String,
    /// The dropped entries whose contents this entry repeats. They and this entry are erased together or not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<Seq>,
}
has_payloads!(Retired: ; optional output);
has_words!(Retired: labels, reason; within ending);
