//! The phases of a run, and what the run accepts in each.

use super::{Effect, Lease, Run};
use crate::entry::run::RunOutcome;
use crate::entry::run::UnhappyOutcome;
use crate::id::{EffectId, Epoch};
use crate::reply::{ClosingPhase, Missing, Rejection};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The phase of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// It has no entries.
    #[default]
    New,
    /// It has a driver, or waits for one.
    Running,
    /// It waits without a driver.
    Suspended {
        /// When to wake it in any case.
        resume_at: Option<Timestamp>,
        /// When something that it may wait for ended.
        woken_at: Option<Timestamp>,
    },
    /// Its effects are being undone.
    Compensating {
        /// How it ends then.
        then: UnhappyOutcome,
    },
    /// It is over.
    Ended {
        /// How.
        ending: RunOutcome,
    },
}

impl Run {
    pub(super) fn unsettled(&self) -> Option<(&EffectId, &Effect)> {
        self.effects
            .iter()
            .find(|(_, effect)| !effect.status.is_settled())
    }

    /// Refuses everything before the run began and after it ended.
    pub(super) fn alive(&self) -> Result<(), Rejection> {
        match &self.phase {
            Phase::New => Err(Rejection::not_found(Missing::Run)),
            Phase::Ended { ending } => Err(Rejection::RunEnded {
                ending: ending.clone(),
            }),
            Phase::Running | Phase::Suspended { .. } | Phase::Compensating { .. } => Ok(()),
        }
    }

    /// Refuses commands that no longer count once the run is being undone.
    pub(super) fn counts(&self) -> Result<(), Rejection> {
        self.alive()?;
        match &self.phase {
            Phase::Compensating { .. } => Err(Rejection::Closing {
                phase: ClosingPhase::Compensating,
            }),
            Phase::New | Phase::Running | Phase::Suspended { .. } | Phase::Ended { .. } => Ok(()),
        }
    }

    /// Refuses commands that would begin something new while the run is ending.
    pub(super) fn open(&self) -> Result<(), Rejection> {
        self.counts()?;
        match self.cancel {
            Some(_) => Err(Rejection::Closing {
                phase: ClosingPhase::Cancelling,
            }),
            None => Ok(()),
        }
    }

    /// Refuses a caller that is not the driver, and the driver where there is nothing to drive.
    pub(super) fn driven(&self, epoch: Epoch) -> Result<(), Rejection> {
        self.alive()?;
        if epoch != self.epoch {
            return Err(Rejection::Fenced {
                given: epoch,
                current: self.epoch,
            });
        }
        match &self.phase {
            Phase::Compensating { .. } => Err(Rejection::Closing {
                phase: ClosingPhase::Compensating,
            }),
            Phase::Suspended { .. } => Err(Rejection::Closing {
                phase: ClosingPhase::Suspended,
            }),
            _ if self.stuck.is_some() => Err(Rejection::Closing {
                phase: ClosingPhase::Stuck,
            }),
            _ if self.lease == Lease::None => Err(Rejection::not_found(Missing::Driver)),
            _ => Ok(()),
        }
    }
}
