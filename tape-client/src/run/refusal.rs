//! Refusals that an agent may catch and continue from: a re-drive gets the same refusal.

use super::Run;
use crate::error::Error;
use tape_core::command::DriverCommand;
use tape_core::id::Scope;
use tape_core::payload::ContentDigest;
use tape_core::replay::{Place, Refusal, Refused};
use tape_core::reply::Rejection;

impl Run {
    /// # Errors
    /// The refusal of this request that an earlier drive was told and continued from.
    pub(crate) fn refused_before(&self, at: &Place, of: ContentDigest) -> Result<(), Error> {
        match self.replay().refused(at, of) {
            Some(refusal) => Err(Rejection::from(refusal).into()),
            None => Ok(()),
        }
    }

    /// Records a refusal if a re-drive might be answered differently, and returns the error to report: `error`, or why it could not be
    /// recorded.
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
        // One at a time: each refusal has a number.
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
