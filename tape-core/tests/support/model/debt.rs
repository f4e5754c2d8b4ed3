//! What is left to undo, as the naive model sees it.

use super::history::ms;
use tape_core::budget::Spend;
use tape_core::command::WorkerCommand as W;
use tape_core::command::{
    AttemptOutcome, DriverCommand as D, ExternalCommand as O, RunCommand, UndoOutcome, Verdict,
};
use tape_core::effect::{EffectSpec, Outcome, Undo};
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
    unreached: u32,
    /// Attempts that did not reach the upstream.
    idle: u32,
    /// Attempts before a person let it be tried again.
    forgiven: u32,
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
            unreached: 0,
            idle: 0,
            forgiven: 0,
        }
    }

    /// Whether its last attempt was taken, and its worker may be gone.
    pub(crate) fn spent(&self) -> bool {
        self.claim.is_some() && self.made() >= self.attempts_max
    }

    const fn made(&self) -> u32 {
        self.attempt - self.forgiven - self.idle
    }

    pub(super) fn is_paid(&self, command: &RunCommand) -> bool {
        match command {
            RunCommand::Work(W::FinishObligation {
                obligation, ending, ..
            }) => *obligation == self.id && matches!(ending, UndoOutcome::Done { .. }),
            RunCommand::External(O::SettleObligation {
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
                ..
            }) if *obligation == self.id => {
                self.claim = Some((holder.clone(), ms(at, *claim_ms)));
            }
            RunCommand::Work(W::FinishObligation {
                obligation, ending, ..
            }) if *obligation == self.id && matches!(ending, UndoOutcome::Unreached { .. }) => {
                (self.unreached, self.idle) = (self.unreached + 1, self.idle + 1);
                let wait = (1..self.unreached)
                    .fold(self.backoff.0.max(100), |wait, _| (wait * 2).min(86_400_000))
                    .min(self.backoff.1.max(30_000));
                (self.claim, self.due) = (None, Some(ms(at, wait)));
            }
            RunCommand::Work(W::FinishObligation {
                obligation, ending, ..
            }) if *obligation == self.id => {
                self.claim = None;
                self.unreached = 0;
                let attempt = self.made();
                self.doubt |= matches!(ending, UndoOutcome::Unknown { .. });
                self.stuck = attempt >= self.attempts_max || matches!(ending, UndoOutcome::Stuck { .. });
                let wait = (1..attempt)
                    .fold(self.backoff.0, |wait, _| wait * 2)
                    .min(self.backoff.1);
                self.due = (!self.stuck).then(|| ms(at, wait));
            }
            RunCommand::External(O::SettleObligation {
                obligation,
                retry: true,
                ..
            }) if *obligation == self.id => {
                (self.due, self.stuck, self.doubt) = (Some(at), false, false);
                (self.unreached, self.idle, self.forgiven) = (0, 0, self.attempt);
            }
            _ => {}
        }
    }
}

/// What a command says about what is left to undo and to pay.
pub(crate) trait Brings {
    fn brings_undo(&self) -> bool;
    fn duplicates(&self) -> &[Undo];
    fn stated_cost(&self, id: &EffectId) -> Option<&[Spend]>;
}

impl Brings for RunCommand {
    fn brings_undo(&self) -> bool {
        matches!(
            self,
            Self::Drive(
                _,
                D::FinishEffect {
                    ending: AttemptOutcome::Confirmed { undo: Some(_), .. },
                    ..
                }
            ) | Self::Work(
                W::FinishClaimed {
                    ending: AttemptOutcome::Confirmed { undo: Some(_), .. },
                    ..
                } | W::RecordObservation { undo: Some(_), .. }
            ) | Self::External(O::SettleEffect {
                verdict: Verdict::Confirmed { undo: Some(_), .. },
                ..
            })
        )
    }

    fn duplicates(&self) -> &[Undo] {
        match self {
            Self::Work(W::RecordObservation {
                outcome: Outcome::Duplicate,
                undo_duplicates,
                ..
            }) => undo_duplicates,
            _ => &[],
        }
    }

    fn stated_cost(&self, id: &EffectId) -> Option<&[Spend]> {
        match self {
            Self::Drive(
                _,
                D::FinishEffect {
                    effect,
                    ending: AttemptOutcome::Confirmed { spent, .. },
                    ..
                },
            )
            | Self::Work(W::FinishClaimed {
                effect,
                ending: AttemptOutcome::Confirmed { spent, .. },
                ..
            }) if effect == id => spent.as_deref(),
            _ => None,
        }
    }
}
