//! Refusals that an agent may catch and go on from: a re-drive is told the same.

use super::Run;
use crate::error::Error;
use tape_core::command::DriverCommand;
use tape_core::id::Scope;
use tape_core::payload::ContentDigest;
use tape_core::replay::{Place, Refusal, Refused};
use tape_core::reply::Rejection;

impl Run {
    /// # Errors
    /// The refusal that an earlier drive was told of what is asked for here, and went on from.
    pub(crate) fn refused_before(&self, at: &Place, of: ContentDigest) -> Result<(), Error> {
        match self.replay().refused(at, of) {
            Some(refusal) => Err(Rejection::from(refusal).into()),
            None => Ok(()),
        }
    }

    /// Records a refusal that is not to be another one in a re-drive, and gives the error to tell: that it could not be recorded, where
    /// that is so.
    pub(crate) async fn tell_refusal(
        &self,
        scope: &Scope,
        at: &Place,
        of: ContentDigest,
        error: Error,
    ) -> Error {
        let Some(refusal) = error.refusal() else {
            return error;
        };
        let refused = Refused::new(scope, at, of, refusal);
        match self.record_refusal(&refused).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    async fn record_refusal(&self, refused: &Refused) -> Result<(), Error> {
        // One after the other: each has a number.
        let _alone = self.inner.refusing.lock().await;
        let n = self.replay().next_refusal();
        let sample = refused.sample(n);
        self.drive(DriverCommand::RecordSample {
            scope: sample.scope,
            n,
            name: sample.name,
            value: sample.value,
        })
        .await?;
        self.note(|replay| replay.refusal_recorded(n));
        Ok(())
    }
}

impl Error {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::OverBudget { budget, left, asked } => Some(Refusal::BudgetExhausted {
                budget: budget.clone(),
                left: *left,
                asked: *asked,
            }),
            Self::Rejected(rejection) => Refusal::of(rejection),
            _ => None,
        }
    }
}
