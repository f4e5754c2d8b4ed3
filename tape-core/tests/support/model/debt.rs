//! What is left to undo, as the naive model sees it.

use super::history::ms;
use tape_core::budget::Spend;
use tape_core::command::WorkerCommand as W;
use tape_core::command::{DriverCommand as D, Ending, OutsideCommand as O, RunCommand, UndoEnding, Verdict};
use tape_core::effect::{EffectSpec, Outcome};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, Holder};
use tape_core::time::Timestamp;

#[derive(Clone, Debug)]
pub(crate) struct Debt {
    pub(crate) id: ObligationId,
    pub(crate) due: Option<Timestamp>,
    pub(crate) claim: Option<(Holder, Timestamp)>,
    pub(crate) stuck: bool,
    pub(crate) attempt: u32,
    pub(crate) attempts_max: u32,
    pub(crate) backoff: (u64, u64),
    pub(crate) doubt: bool,
}

impl Debt {
    pub(super) fn new(id: &EffectId, copy: u16, spec: &EffectSpec, due: Option<Timestamp>) -> Self {
        Self {
            id: ObligationId {
                effect: id.clone(),
                copy,
            },
            due,
            claim: None,
            stuck: false,
            attempt: 0,
            attempts_max: spec.policy.attempts_max,
            backoff: (spec.policy.backoff_ms, spec.policy.backoff_max_ms),
            doubt: false,
        }
    }

    /// Whether its last attempt was taken, and its worker may be gone.
    pub(crate) fn spent(&self) -> bool {
        self.claim.is_some() && self.attempt >= self.attempts_max
    }

    pub(super) fn is_paid(&self, command: &RunCommand) -> bool {
        match command {
            RunCommand::Work(W::FinishObligation {
                obligation, ending, ..
            }) => *obligation == self.id && matches!(ending, UndoEnding::Done { .. }),
            RunCommand::Tell(O::SettleObligation {
                obligation, retry, ..
            }) => *obligation == self.id && !retry,
            _ => false,
        }
    }

    pub(crate) fn happen(&mut self, command: &RunCommand, at: Timestamp) {
        match command {
            RunCommand::Work(W::ClaimObligation { obligation, .. })
                if *obligation == self.id && self.spent() =>
            {
                (self.claim, self.stuck) = (None, true);
            }
            RunCommand::Work(W::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            }) if *obligation == self.id => {
                self.attempt += 1;
                self.doubt |= self.claim.is_some();
                (self.claim, self.due) = (Some((holder.clone(), ms(at, *claim_ms))), None);
            }
            RunCommand::Work(W::RenewObligationClaim {
                obligation,
                holder,
                claim_ms,
            }) if *obligation == self.id => {
                self.claim = Some((holder.clone(), ms(at, *claim_ms)));
            }
            RunCommand::Work(W::FinishObligation {
                obligation, ending, ..
            }) if *obligation == self.id => {
                self.claim = None;
                self.doubt |= matches!(ending, UndoEnding::Unknown { .. });
                self.stuck = self.attempt >= self.attempts_max || matches!(ending, UndoEnding::Stuck { .. });
                let wait = (1..self.attempt)
                    .fold(self.backoff.0, |wait, _| wait * 2)
                    .min(self.backoff.1);
                self.due = (!self.stuck).then(|| ms(at, wait));
            }
            RunCommand::Tell(O::SettleObligation {
                obligation,
                retry: true,
                ..
            }) if *obligation == self.id => {
                (self.due, self.stuck, self.attempt, self.doubt) = (Some(at), false, 0, false);
            }
            _ => {}
        }
    }
}

/// What a command says about what is left to undo and to pay.
pub(crate) trait Brings {
    fn brings_undo(&self) -> bool;
    fn finds_duplicate(&self) -> bool;
    fn stated_cost(&self, id: &EffectId) -> Option<&[Spend]>;
}

impl Brings for RunCommand {
    fn brings_undo(&self) -> bool {
        matches!(
            self,
            Self::Drive(
                _,
                D::FinishEffect {
                    ending: Ending::Confirmed { undo: Some(_), .. },
                    ..
                }
            ) | Self::Work(
                W::FinishClaimed {
                    ending: Ending::Confirmed { undo: Some(_), .. },
                    ..
                } | W::RecordObservation { undo: Some(_), .. }
            ) | Self::Tell(O::SettleEffect {
                verdict: Verdict::Confirmed { undo: Some(_), .. },
                ..
            })
        )
    }

    fn finds_duplicate(&self) -> bool {
        matches!(
            self,
            Self::Work(W::RecordObservation {
                outcome: Outcome::Duplicate,
                undo_duplicate: Some(_),
                ..
            })
        )
    }

    fn stated_cost(&self, id: &EffectId) -> Option<&[Spend]> {
        match self {
            Self::Drive(
                _,
                D::FinishEffect {
                    effect,
                    ending: Ending::Confirmed { spent, .. },
                    ..
                },
            )
            | Self::Work(W::FinishClaimed {
                effect,
                ending: Ending::Confirmed { spent, .. },
                ..
            }) if effect == id => spent.as_deref(),
            _ => None,
        }
    }
}
