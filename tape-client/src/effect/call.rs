//! One call of an upstream, and its possible outcomes.

use super::{after_ms, undo};
use crate::error::Error;
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_api::Source;
use tape_core::budget::Spend;
use tape_core::command::AttemptOutcome;
use tape_core::effect::Undo;
use tape_core::id::{BudgetName, EffectId, RunId};
use tape_core::limits::TEXT_BYTES_MAX;
use tape_core::payload::Payload;

/// One attempt at an effect, as its caller sees it.
#[derive(Clone, Debug)]
pub struct Call {
    effect: EffectId,
    key: Arc<str>,
    attempt: u32,
    learnt: Arc<Mutex<Learnt>>,
}

/// The undo and the cost that became known only with the upstream's answer.
#[derive(Debug, Default)]
struct Learnt {
    undo: Option<Undo>,
    spent: Option<Vec<Spend>>,
}

/// Why a call of an upstream gave no result.
///
/// Any other error becomes [`CallError::Unknown`] by `?`: an error that was not examined does not prove that nothing happened. So this is
/// no [`std::error::Error`] itself. It becomes a boxed one by `?`, and a model may fail with it ([`Run::decide`](crate::Run::decide)), so
/// that one function can call both models and upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The upstream did not act and never will.
    Failed {
        /// What went wrong.
        error: String,
        /// What it answered, where it did.
        detail: Option<Payload>,
    },
    /// The upstream did not act; it may, later.
    Retry {
        /// What went wrong.
        error: String,
        /// The wait that the upstream asks for, such as `Retry-After`. The wait is never shorter than the policy's backoff.
        after: Option<Duration>,
    },
    /// It is unknown whether the upstream acted: the answer was lost.
    Unknown {
        /// Why the outcome is unknown.
        cause: String,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// Why it was not reached.
        error: String,
    },
}

impl Call {
    pub(super) fn new(effect: EffectId, run: &RunId, attempt: u32) -> Self {
        let key = effect.idempotency_key(run).into();
        Self {
            effect,
            key,
            attempt,
            learnt: Arc::default(),
        }
    }

    /// The idempotency key for the upstream: the same in every attempt and every process.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which attempt it is, from 1; it counts over crashes.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which effect it is.
    #[must_use]
    pub const fn effect(&self) -> &EffectId {
        &self.effect
    }

    /// How to undo the effect, where that is known only with the upstream's answer. It counts if the call succeeds.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the operation is not a valid name or the arguments have no JSON form.
    pub fn undo(&self, operation: &str, args: &impl Serialize) -> Result<(), Error> {
        let undo = undo(operation, args)?;
        self.learnt().undo = Some(undo);
        Ok(())
    }

    /// What the effect cost, instead of what was reserved for it. It counts if the call succeeds.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the budget's name is not valid.
    pub fn spent(&self, budget: &str, amount: u64) -> Result<(), Error> {
        let spend = Spend {
            budget: BudgetName::new(budget)?,
            amount,
        };
        self.learnt().spent.get_or_insert_default().push(spend);
        Ok(())
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Learnt> {
        self.learnt
            .lock()
            .expect("nothing panics while it holds what a call learnt")
    }

    pub(super) fn ending(&self, answered: Result<Payload, CallError>) -> AttemptOutcome {
        let learnt = std::mem::take(&mut *self.learnt());
        match answered {
            Ok(result) => AttemptOutcome::Confirmed {
                result,
                undo: learnt.undo,
                spent: learnt.spent,
            },
            Err(CallError::Failed { error, detail }) => AttemptOutcome::Failed {
                error: text(error),
                detail,
            },
            Err(CallError::Retry { error, after }) => AttemptOutcome::Retry {
                error: text(error),
                after_ms: after_ms(after),
            },
            Err(CallError::Unknown { cause }) => AttemptOutcome::Unknown { cause: text(cause) },
            Err(CallError::Unreached { error }) => AttemptOutcome::Unreached { error: text(error) },
        }
    }
}

impl CallError {
    /// The upstream did not act and never will.
    pub fn failed(error: impl ToString) -> Self {
        Self::Failed {
            error: error.to_string(),
            detail: None,
        }
    }

    /// The upstream did not act; it may, later.
    pub fn retry(error: impl ToString) -> Self {
        Self::Retry {
            error: error.to_string(),
            after: None,
        }
    }

    /// The upstream did not act and asks for a retry after a while.
    pub fn retry_after(error: impl ToString, after: Duration) -> Self {
        Self::Retry {
            error: error.to_string(),
            after: Some(after),
        }
    }

    /// Nothing was sent: the upstream was not reached.
    pub fn unreached(error: impl ToString) -> Self {
        Self::Unreached {
            error: error.to_string(),
        }
    }

    /// It is unknown whether the upstream acted.
    pub fn unknown(cause: impl ToString) -> Self {
        Self::Unknown {
            cause: cause.to_string(),
        }
    }
}

impl<E: std::error::Error> From<E> for CallError {
    fn from(error: E) -> Self {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(deeper) = source {
            cause = format!("{cause}: {deeper}");
            source = deeper.source();
        }
        Self::Unknown { cause }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { error, .. } | Self::Retry { error, .. } => f.write_str(error),
            Self::Unknown { cause } => write!(f, "it is unknown whether the upstream acted: {cause}"),
            Self::Unreached { error } => write!(f, "the upstream was not reached: {error}"),
        }
    }
}

/// The error for code that expects a [`std::error::Error`].
#[derive(Debug)]
struct Boxed(CallError);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Boxed {}

impl From<CallError> for Source {
    fn from(error: CallError) -> Self {
        Box::new(Boxed(error))
    }
}

/// A text that an entry can carry: not empty, and cut to its bound.
pub(crate) fn text(mut text: String) -> String {
    if text.is_empty() {
        text.push_str("no reason given");
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
