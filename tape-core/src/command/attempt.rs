//! The outcomes of attempts at effects and undos.

use crate::budget::Spend;
use crate::effect::Undo;
use crate::payload::Payload;
use serde::Serialize;
use std::fmt;

/// How an attempt of an effect ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum AttemptOutcome {
    /// The upstream acted.
    Confirmed {
        /// What it answered.
        result: Payload,
        /// How to undo it, where that became known only now.
        undo: Option<Undo>,
        /// What it cost; none where the reserved amounts were spent as they were.
        spent: Option<Vec<Spend>>,
    },
    /// The upstream did not act and never will, in this attempt and in all before it.
    Failed {
        /// What went wrong.
        error: String,
        /// What it answered, where it did.
        detail: Option<Payload>,
    },
    /// This attempt did not act, and another attempt would not act either. This says nothing about earlier attempts. The effect fails,
    /// unless an earlier attempt may have acted: then its outcome is unknown.
    Refused {
        /// What went wrong.
        error: String,
        /// What was answered.
        detail: Option<Payload>,
    },
    /// The upstream did not act; it may, later.
    Retry {
        /// What went wrong.
        error: String,
        /// The wait that the upstream asks for, in milliseconds, such as `Retry-After`. The wait is never shorter than the policy's
        /// backoff.
        after_ms: Option<u64>,
    },
    /// The answer was lost.
    Unknown {
        /// Why the outcome is unknown.
        cause: String,
    },
    /// The upstream may have acted, and asks for the same request again. A non-idempotent effect is not sent again: for it this is
    /// [`Self::Unknown`].
    Repeat {
        /// What was answered.
        cause: String,
        /// The wait that the upstream asks for, in milliseconds.
        after_ms: Option<u64>,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// Why it was not reached.
        error: String,
    },
}

impl AttemptOutcome {
    /// The upstream acted and answered this, with neither an undo nor a cost.
    #[must_use]
    pub const fn confirmed(result: Payload) -> Self {
        Self::Confirmed {
            result,
            undo: None,
            spent: None,
        }
    }

    /// The same confirmation without its cost; none if it has no cost. An effect that happened must be recorded even if its cost is
    /// refused.
    #[must_use]
    pub fn without_cost(&self) -> Option<Self> {
        match self {
            Self::Confirmed {
                result,
                undo,
                spent: Some(_),
            } => Some(Self::Confirmed {
                result: result.clone(),
                undo: undo.clone(),
                spent: None,
            }),
            Self::Confirmed { .. }
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::Retry { .. }
            | Self::Unknown { .. }
            | Self::Repeat { .. }
            | Self::Unreached { .. } => None,
        }
    }

    /// It is unknown whether the upstream acted.
    pub fn unknown(cause: impl fmt::Display) -> Self {
        Self::Unknown {
            cause: cause.to_string(),
        }
    }
}

/// How an attempt at undoing ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum UndoOutcome {
    /// It is undone.
    Done {
        /// What the upstream answered.
        result: Payload,
    },
    /// This attempt undid nothing; it is tried again.
    Retry {
        /// What went wrong.
        error: String,
    },
    /// It may or may not be undone. It is tried again, and the next worker is told so.
    Unknown {
        /// Why the outcome is unknown.
        cause: String,
    },
    /// It must not be tried again without a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// Why it was not reached.
        error: String,
    },
}
