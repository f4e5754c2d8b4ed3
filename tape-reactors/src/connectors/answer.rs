//! Typed answers as JSON, for upstreams and commands that know about Tape.

use crate::connector::{NotUndone, Observation};
use serde::Deserialize;
use serde_json::Value;
use tape_core::budget::Spend;
use tape_core::command::Ending;
use tape_core::effect::Undo;
use tape_core::id::Operation;
use tape_core::payload::{InvalidPayload, Payload};

/// The content type of such answers over HTTP.
#[cfg(feature = "http")]
pub(super) const CONTENT_TYPE: &str = "application/vnd.tape.answer+json";

/// What came of a dispatch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Dispatched {
    Confirmed {
        #[serde(default)]
        result: Value,
        undo: Option<UndoBy>,
        spent: Option<Vec<Spend>>,
    },
    Failed {
        error: String,
        detail: Option<Value>,
    },
    Retry {
        error: String,
        after_ms: Option<u64>,
    },
    Unknown {
        cause: String,
    },
}

/// What an observation found.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Observed {
    Found {
        #[serde(default)]
        result: Value,
        undo: Option<UndoBy>,
    },
    Absent,
    Duplicate {
        #[serde(default)]
        result: Value,
        undo: Option<UndoBy>,
        undo_duplicate: Option<UndoBy>,
        #[serde(default)]
        undo_duplicates: Vec<UndoBy>,
    },
    Inconclusive {
        why: String,
    },
}

/// What came of an undo.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Compensated {
    Done {
        #[serde(default)]
        result: Value,
    },
    Failed {
        error: String,
    },
    Unknown {
        cause: String,
    },
}

/// How to undo what was done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UndoBy {
    operation: Operation,
    #[serde(default)]
    args: Value,
}

impl Dispatched {
    /// As the journal records it. What is too large to be recorded happened all the same: it is UNKNOWN, and a person or an observation
    /// says more.
    pub(super) fn ending(self) -> Ending {
        let read = || {
            Ok::<_, InvalidPayload>(match self {
                Self::Confirmed { result, undo, spent } => Ending::Confirmed {
                    result: payload(&result)?,
                    undo: undo.map(UndoBy::undo).transpose()?,
                    spent,
                },
                Self::Failed { error, detail } => Ending::Failed {
                    error,
                    detail: detail.as_ref().map(payload).transpose()?,
                },
                Self::Retry { error, after_ms } => Ending::Retry { error, after_ms },
                Self::Unknown { cause } => Ending::Unknown { cause },
            })
        };
        read().unwrap_or_else(|error| Ending::Unknown {
            cause: format!("the answer cannot be recorded: {error}"),
        })
    }
}

impl Observed {
    pub(super) fn observation(self) -> Observation {
        let read = || {
            Ok::<_, InvalidPayload>(match self {
                Self::Found { result, undo } => Observation::Found {
                    result: payload(&result)?,
                    undo: undo.map(UndoBy::undo).transpose()?,
                },
                Self::Absent => Observation::Absent,
                Self::Duplicate {
                    result,
                    undo,
                    undo_duplicate,
                    undo_duplicates,
                } => Observation::Duplicate {
                    result: payload(&result)?,
                    undo: undo.map(UndoBy::undo).transpose()?,
                    undo_duplicates: (undo_duplicate.into_iter().chain(undo_duplicates))
                        .map(UndoBy::undo)
                        .collect::<Result<_, _>>()?,
                },
                Self::Inconclusive { why } => Observation::Inconclusive { why },
            })
        };
        read().unwrap_or_else(|error| {
            Observation::inconclusive(format_args!("the answer cannot be recorded: {error}"))
        })
    }
}

impl Compensated {
    pub(super) fn outcome(self) -> Result<Payload, NotUndone> {
        match self {
            // That it is undone matters more than what was answered.
            Self::Done { result } => Ok(payload(&result).unwrap_or_else(|_| Payload::empty())),
            Self::Failed { error } => Err(NotUndone::Retry { error }),
            Self::Unknown { cause } => Err(NotUndone::Unknown { cause }),
        }
    }
}

impl UndoBy {
    fn undo(self) -> Result<Undo, InvalidPayload> {
        Ok(Undo {
            operation: self.operation,
            args: payload(&self.args)?,
        })
    }
}

fn payload(value: &Value) -> Result<Payload, InvalidPayload> {
    Payload::new(Payload::JSON, value.to_string())
}
