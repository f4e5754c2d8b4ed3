//! What came of attempts at doing and undoing.

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
    /// This attempt did not act and another would not either; of those before it, this says nothing. It fails the effect unless one of
    /// those may have acted: then nobody knows.
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
        /// The upstream's own wish, in milliseconds, such as `Retry-After`. The backoff of the policy is waited for in any case.
        after_ms: Option<u64>,
    },
    /// The answer was lost.
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// The upstream may have acted, and asks to be sent the same again. What is not idempotent is not: it is [`Self::Unknown`].
    Repeat {
        /// What was answered.
        cause: String,
        /// The upstream's own wish, in milliseconds.
        after_ms: Option<u64>,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// What stood in the way.
        error: String,
    },
}

impl AttemptOutcome {
    /// The upstream acted and answered this; nothing else became known with it.
    #[must_use]
    pub const fn confirmed(result: Payload) -> Self {
        Self::Confirmed {
            result,
            undo: None,
            spent: None,
        }
    }

    /// The upstream acted, and nothing is said of what that cost; none where nothing is said of that anyway. What happened must be
    /// recorded, also where its cost is refused.
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

    /// Nobody knows whether the upstream acted.
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
    /// It may be undone or not; it is tried again, by a worker who is told so.
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// It must not be tried again without a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// What stood in the way.
        error: String,
    },
}
