//! Typed answers as JSON, for upstreams and commands that know about Tape.

use super::reading::Reading;
use crate::connector::{NotUndone, Observation};
use serde::Deserialize;
use serde_json::value::RawValue;
use tape_core::budget::Spend;
use tape_core::command::AttemptOutcome;
use tape_core::effect::Undo;
use tape_core::id::Operation;
use tape_core::payload::{InvalidPayload, Payload};

/// The content type of such answers over HTTP.
#[cfg(feature = "http")]
pub(super) const CONTENT_TYPE: &str = "application/vnd.tape.answer+json";

/// The outcome of a dispatch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Dispatched<'a> {
    Confirmed {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        undo: Option<UndoBy<'a>>,
        spent: Option<Vec<Spend>>,
    },
    Failed {
        error: String,
        #[serde(borrow)]
        detail: Option<&'a RawValue>,
    },
    Retry {
        error: String,
        after_ms: Option<u64>,
    },
    Unknown {
        cause: String,
    },
}

/// The result of an observation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Observed<'a> {
    Found {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        undo: Option<UndoBy<'a>>,
    },
    Absent,
    Duplicate {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        undo: Option<UndoBy<'a>>,
        #[serde(borrow)]
        undo_duplicate: Option<UndoBy<'a>>,
        #[serde(borrow, default)]
        undo_duplicates: Vec<UndoBy<'a>>,
    },
    Inconclusive {
        why: String,
    },
}

/// The outcome of an undo.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Compensated<'a> {
    Done {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
    },
    Failed {
        error: String,
    },
    Unknown {
        cause: String,
    },
}

/// How to undo the act.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoBy<'a> {
    operation: Operation,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

/// The outcome of a dispatch in an answer, as the journal records it. As much of a confirmed result as possible is kept. Only where the
/// answer does not say how to undo the act, the outcome is UNKNOWN, and a person or an observation decides.
///
/// # Errors
/// Why the answer is not valid.
pub(super) fn dispatched(answer: &[u8]) -> Result<AttemptOutcome, String> {
    let reading = Reading::of(answer);
    let ending = match parsed(&reading)? {
        Dispatched::Confirmed { result, undo, spent } => undo
            .map(|undo| undo.read(&reading))
            .transpose()
            .map(|undo| AttemptOutcome::Confirmed {
                result: reading.kept(result),
                undo,
                spent,
            }),
        Dispatched::Failed { error, detail } => Ok(AttemptOutcome::Failed {
            error,
            detail: detail.map(|detail| reading.kept(Some(detail))),
        }),
        Dispatched::Retry { error, after_ms } => Ok(AttemptOutcome::Retry { error, after_ms }),
        Dispatched::Unknown { cause } => Ok(AttemptOutcome::Unknown { cause }),
    };
    ending.map_err(|error| format!("how to undo it cannot be recorded: {error}"))
}

/// The result of an observation in an answer.
///
/// # Errors
/// Why the answer is not valid.
pub(super) fn observed(answer: &[u8]) -> Result<Observation, String> {
    let reading = Reading::of(answer);
    let read = || {
        Ok::<_, InvalidPayload>(match parsed(&reading) {
            Err(error) => return Ok(Err(error)),
            Ok(Observed::Found { result, undo }) => Ok(Observation::Found {
                result: reading.kept(result),
                undo: undo.map(|undo| undo.read(&reading)).transpose()?,
            }),
            Ok(Observed::Absent) => Ok(Observation::Absent),
            Ok(Observed::Duplicate {
                result,
                undo,
                undo_duplicate,
                undo_duplicates,
            }) => Ok(Observation::Duplicate {
                result: reading.kept(result),
                undo: undo.map(|undo| undo.read(&reading)).transpose()?,
                undo_duplicates: (undo_duplicate.into_iter().chain(undo_duplicates))
                    .map(|undo| undo.read(&reading))
                    .collect::<Result<_, _>>()?,
            }),
            Ok(Observed::Inconclusive { why }) => Ok(Observation::Inconclusive { why }),
        })
    };
    read().unwrap_or_else(|error| Err(format!("how to undo it cannot be recorded: {error}")))
}

/// The outcome of an undo in an answer.
///
/// # Errors
/// Why the answer is not valid.
pub(super) fn compensated(answer: &[u8]) -> Result<Result<Payload, NotUndone>, String> {
    let reading = Reading::of(answer);
    Ok(match parsed(&reading)? {
        // The undo matters more than the content of the answer.
        Compensated::Done { result } => Ok(reading.kept(result)),
        Compensated::Failed { error } => Err(NotUndone::Retry { error }),
        Compensated::Unknown { cause } => Err(NotUndone::Unknown { cause }),
    })
}

fn parsed<'a, A: Deserialize<'a>>(reading: &'a Reading<'_>) -> Result<A, String> {
    serde_json::from_str(reading.text()).map_err(|error| format!("the answer makes no sense: {error}"))
}

/// Whether the first bytes of an answer to a dispatch say that it is confirmed, whatever follows.
#[cfg(feature = "command")]
pub(super) fn begins_confirmed(head: &[u8]) -> bool {
    let after = |text: &'_ [u8], word: &[u8]| text.trim_ascii_start().strip_prefix(word).map(<[u8]>::to_vec);
    let rest = after(head, b"{").and_then(|rest| after(&rest, b"\"confirmed\""));
    rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
}

impl UndoBy<'_> {
    fn read(self, reading: &Reading<'_>) -> Result<Undo, InvalidPayload> {
        Ok(Undo {
            operation: self.operation,
            args: reading.payload(self.args)?,
        })
    }
}
