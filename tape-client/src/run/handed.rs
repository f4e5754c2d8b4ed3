//! What an agent hands up, compared with its run.
//!
//! An agent may drive other runs, and an error or result does not say of which run it is. What this driver knows of its own run does.

use super::{Run, RunResult};
use crate::error::Error;
use std::sync::atomic::Ordering;
use tape_core::causes::Causes;
use tape_core::reply::{ClosingPhase, Field, Rejection};

impl Run {
    /// What the agent handed up, where it is of this run. A cancellation is accepted.
    ///
    /// # Errors
    /// The agent's. What no longer lets this driver act for the run, in the place of an error of this kind. [`Error::Astray`] where the
    /// agent handed up what is not so of this run.
    pub(crate) async fn handed_up(&self, handed: Result<RunResult, Error>) -> Result<RunResult, Error> {
        match handed {
            Ok(result) => self.own_result(result),
            Err(Error::Cancelled) => self.own_cancellation().await,
            Err(error) => Err(self.own_error(error)),
        }
    }

    fn own_result(&self, result: RunResult) -> Result<RunResult, Error> {
        match self.inner.ended.get() {
            Some((_, ended)) if *ended == result => Ok(result),
            Some(_) => Err(self.astray("a result that differs from how it ended the run")),
            None => Err(self.astray("a result, and it has not ended the run")),
        }
    }

    async fn own_cancellation(&self) -> Result<RunResult, Error> {
        let accepted = self.accept_cancel().await;
        match &accepted {
            Err(Error::Rejected(rejection)) if is_not_asked(rejection) => {
                Err(self.astray("a cancellation, and none was requested"))
            }
            _ => accepted,
        }
    }

    fn own_error(&self, error: Error) -> Error {
        let is_of_a_run = matches!(
            error,
            Error::Suspended | Error::LostLease { .. } | Error::Ended(_) | Error::Closing { .. }
        );
        if !is_of_a_run || self.is_so(&error) {
            return error;
        }
        match self.check() {
            Err(own) if !self.inner.lease.is_released() => own,
            _ => self.astray(Causes(&error)),
        }
    }

    /// Whether an error is so of this run, which this driver may still hold.
    fn is_so(&self, error: &Error) -> bool {
        match error {
            Error::Closing {
                phase: ClosingPhase::Stuck,
            } => self.inner.stuck.load(Ordering::Relaxed),
            // The agent has seen its lease end by itself.
            Error::LostLease { run } => run == self.id() && self.inner.lease.is_over(),
            // It has released the run itself.
            Error::Suspended => self.inner.lease.is_released(),
            _ => false,
        }
    }

    fn astray(&self, problem: impl ToString) -> Error {
        Error::Astray {
            run: self.id().clone(),
            problem: problem.to_string(),
        }
    }
}

fn is_not_asked(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::Invalid {
            field: Field::Cancel,
            ..
        }
    )
}
