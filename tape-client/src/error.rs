//! Errors of the run API, by what the author of an agent does next.

use tape_api::{JournalError, Source};
use tape_core::entry::run::RunOutcome;
use tape_core::id::{BudgetName, EffectId, Holder, InvalidName, RunId, StreamId};
use tape_core::json::word;
use tape_core::payload::{InvalidPayload, Payload};
use tape_core::replay::Drift;
use tape_core::reply::{ClosingPhase, Missing, Rejection, ReplyResult};

/// Why a call of the client failed, by what to do next.
///
/// As a rule, an agent passes each of them up with `?` and returns: recorded items are safe, and the next drive continues from there.
/// [`Error::next`] gives the advice as text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Return: the run waits without a driver. It is re-driven when its wait is over.
    #[error("the run is suspended until what it waits for has come")]
    Suspended,
    /// Stop: another driver has the run, and nothing that this driver does is recorded any more.
    #[error("the lease is lost: another driver has run {}", StreamId::Run(.run.clone()))]
    LostLease {
        /// The run.
        run: RunId,
    },
    /// Leave it: another driver has the run.
    #[error("the run is driven by {holder}")]
    Busy {
        /// The driver.
        holder: Holder,
    },
    /// Check the agent: its request differs from its journal. Roll its code back, or start a new run.
    #[error(transparent)]
    Drift(Box<Drift>),
    /// Return: the run has ended.
    #[error("the run has ended: {}", ended_text(.0))]
    Ended(RunOutcome),
    /// Tidy up and call [`Run::accept_cancel`](crate::Run::accept_cancel): a cancellation was requested.
    #[error("the run is to be cancelled")]
    Cancelled,
    /// Return: the run's effects are being undone, or it waits for a person.
    #[error("the run is {phase}: nothing new may begin")]
    Closing {
        /// Its phase: `compensating` or `stuck`.
        phase: ClosingPhase,
    },
    /// Decide what this means for the run: the effect did not happen and will not.
    #[error("effect {effect} failed: {error}")]
    EffectFailed {
        /// Which.
        effect: EffectId,
        /// What went wrong.
        error: String,
        /// What the upstream answered, where it did.
        detail: Option<Box<Payload>>,
    },
    /// Return: the upstream may have acted. The next drive sends the effect again with the same key.
    #[error("it is unknown whether effect {effect} happened: {cause}")]
    EffectUnknown {
        /// Which.
        effect: EffectId,
        /// Why the outcome is unknown.
        cause: String,
    },
    /// Ask the model again, or return and be re-driven: there was no answer, and nothing is recorded.
    #[error("the model gave no answer")]
    NoAnswer {
        /// Why there was no answer.
        #[source]
        source: Source,
    },
    /// Look at the agent: it panicked in a [`Host`](crate::Host), which caught that and released the run. The run is re-driven.
    #[error("the agent of {} panicked: {problem}", StreamId::Run(.run.clone()))]
    Panicked {
        /// The run.
        run: RunId,
        /// What the panic says.
        problem: String,
    },
    /// Look at the agent: what it handed up to a [`Host`](crate::Host) or to the test kit is not so of its own run. It may be the result or the error of
    /// another run that it drives. The run is released and re-driven.
    #[error("the agent of {} handed up what is not of this run: {problem}", StreamId::Run(.run.clone()))]
    Astray {
        /// The run.
        run: RunId,
        /// What the agent handed up.
        problem: String,
    },
    /// Spend less, or reserve from another budget: nothing was begun. No call raises a budget; a new run may open a larger one.
    #[error("budget '{budget}' has {left} left, {asked} were asked")]
    OverBudget {
        /// The budget, or the one it is part of.
        budget: BudgetName,
        /// What is left.
        left: u64,
        /// What was asked.
        asked: u64,
    },
    /// Try again later: the journal is out of reach, and was so for as long as the client retries.
    #[error("the journal is out of reach")]
    Unavailable {
        /// Why there was no answer.
        #[source]
        source: Source,
    },
    /// Correct the call: the journal refuses it, and would refuse it again. Some refusals are not mistakes in the call: where an effect is
    /// not settled ([`Unsettled`](Rejection::Unsettled)), return and be re-driven; where a business key is taken
    /// ([`BusinessKeyTaken`](Rejection::BusinessKeyTaken)), [`Tape::outcome`](crate::Tape::outcome) returns the outcome of the owner's
    /// effect; where a timer is to be cancelled and has fired ([`TimerDone`](Rejection::TimerDone)), go on: every drive is told so; where a
    /// run is adopted that was adopted already, or let go ([`Fenced`](Rejection::Fenced), [`NotFound`](Rejection::NotFound)), leave it.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// Correct the call: this client or the journal finds an argument invalid. Nothing was written.
    #[error("{what}: {problem}")]
    Invalid {
        /// The argument.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Ask an operator: the journal is damaged, or of a newer version than this build.
    #[error("the journal cannot be used as it is")]
    Damaged {
        /// What was found.
        #[source]
        source: Source,
    },
    /// Decide what this means for the run: it happened, but the recorded payload cannot be read as the requested type, in this drive or any
    /// other. It is not JSON, does not fit the type, was too large to be kept ([`Payload::as_unkept`]), or is the answer of a gate whose
    /// deadline passed without one.
    #[error("{what} cannot be read: {problem}")]
    Unreadable {
        /// What it is.
        what: String,
        /// Why it cannot be read.
        problem: String,
        /// What is recorded.
        payload: Box<Payload>,
    },
    /// Nothing can be replayed here: the recorded bytes were erased.
    #[error("the recorded bytes of {what} were erased")]
    Erased {
        /// What they were.
        what: String,
    },
}

impl Error {
    /// What to do next, as text.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Suspended => "return; the run is re-driven when what it waits for has come",
            Self::LostLease { .. } => "stop; another driver has the run",
            Self::Busy { .. } => "leave the run to its driver",
            Self::Drift(_) => "roll the agent's code back, or start a new run",
            Self::Ended(_) => "return; the run cannot be changed any more",
            Self::Cancelled => "tidy up and accept the cancellation",
            Self::Closing { .. } => "return; the journal or a person does the rest",
            Self::EffectFailed { .. } => "decide what the failure means for the run",
            Self::EffectUnknown { .. } => "return; the next drive sends the effect again with the same key",
            Self::NoAnswer { .. } => "ask again, or return and be re-driven",
            Self::Panicked { .. } | Self::Astray { .. } => "look at the agent; the run is re-driven",
            Self::OverBudget { .. } => {
                "spend less, or reserve from another budget; no budget is raised, but a new run may open a larger one"
            }
            Self::Unavailable { .. } => "try again later; what was acknowledged is safe",
            Self::Rejected(rejection) => after_refusal(rejection),
            Self::Invalid { .. } => MEND,
            Self::Damaged { .. } => "ask an operator; verify the journal",
            Self::Unreadable { .. } => "read the recorded payload another way, or decide without it",
            Self::Erased { .. } => "start a new run; this one cannot be replayed",
        }
    }

    pub(crate) fn invalid(what: &'static str, problem: impl ToString) -> Self {
        Self::Invalid {
            what,
            problem: problem.to_string(),
        }
    }

    pub(crate) fn damaged(source: impl Into<Source>) -> Self {
        Self::Damaged {
            source: source.into(),
        }
    }

    /// The error for an answer that does not fit the request.
    pub(crate) fn unexpected(what: &'static str, found: &ReplyResult) -> Self {
        Self::damaged(format!("the journal answered {what} with {}", word(found)))
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::LeaseHeld { holder, .. } => Self::Busy { holder },
            Rejection::RunEnded { ending } => Self::Ended(ending),
            Rejection::Closing {
                phase: ClosingPhase::Cancelling,
            } => Self::Cancelled,
            Rejection::Closing {
                phase: ClosingPhase::Suspended,
            } => Self::Suspended,
            Rejection::Closing { phase } => Self::Closing { phase },
            Rejection::BudgetExhausted { budget, left, asked } => Self::OverBudget { budget, left, asked },
            other => Self::Rejected(Box::new(other)),
        }
    }
}

impl From<InvalidName> for Error {
    fn from(invalid: InvalidName) -> Self {
        Self::invalid(invalid.what, invalid.problem)
    }
}

impl From<InvalidPayload> for Error {
    fn from(invalid: InvalidPayload) -> Self {
        Self::invalid("payload", invalid)
    }
}

const MEND: &str = "mend the call";

const fn after_refusal(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Unsettled { .. } => {
            "return without an end; the run is re-driven, and ends once everything is settled"
        }
        Rejection::BusinessKeyTaken { .. } => {
            "look with `Tape::outcome` what came of the effect that has the key, and decide whether to go on without one"
        }
        Rejection::Fenced { .. }
        | Rejection::NotFound {
            what: Missing::Driver,
            ..
        } => {
            "leave the run; it was handed to another driver or let go since, and recovery hands it over again where it is due"
        }
        Rejection::TimerDone { .. } => "go on; the timer has fired, and nothing is left to cancel",
        _ => MEND,
    }
}

fn ended_text(ended: &RunOutcome) -> String {
    match ended {
        RunOutcome::Completed => "it completed".to_owned(),
        RunOutcome::Failed { error } => format!("it failed: {error}"),
        RunOutcome::Cancelled { reason } => format!("it was cancelled: {reason}"),
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Rejected(rejection) => rejection.into(),
            JournalError::Unavailable(source) => Self::Unavailable { source },
            JournalError::Invalid(problem) => Self::invalid("request", problem),
            JournalError::Damaged(source) => Self::Damaged { source },
            other => Self::damaged(other),
        }
    }
}
