//! An effect as the naive model sees it.

use super::history::ms;
use tape_core::command::WorkerCommand as W;
use tape_core::command::{AttemptOutcome, DriverCommand as D, ExternalCommand as O, RunCommand, Verdict};
use tape_core::effect::{EffectSpec, Mode, Outcome, Semantics, Status};
use tape_core::id::{EffectId, Holder};
use tape_core::time::Timestamp;

#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) spec: EffectSpec,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    failures: u32,
    pub(crate) observations: u32,
    inconclusive: u32,
    vanished: u32,
    unreached: u32,
    /// Attempts that did not reach the upstream.
    idle: u32,
    doubt: bool,
    pub(crate) claim: Option<(Holder, Timestamp)>,
    pub(crate) due: Timestamp,
}

impl Act {
    pub(super) fn new(spec: &EffectSpec, at: Timestamp) -> Self {
        let inline = spec.mode == Mode::Inline;
        Self {
            spec: spec.clone(),
            status: if inline { Status::Started } else { Status::Pending },
            attempt: u32::from(inline),
            failures: 0,
            observations: 0,
            inconclusive: 0,
            vanished: 0,
            unreached: 0,
            idle: 0,
            doubt: false,
            claim: None,
            due: at,
        }
    }

    /// Whether the driver runs it, now or later.
    pub(crate) fn is_drivers(&self) -> bool {
        self.spec.mode == Mode::Inline && matches!(self.status, Status::Pending | Status::Started)
    }

    pub(super) fn becomes(&mut self, status: Status, due: Timestamp) {
        (self.status, self.due, self.claim) = (status, due, None);
    }

    pub(crate) fn break_off(&mut self, at: Timestamp) {
        let read = self.spec.semantics == Semantics::ReadOnly;
        match self.status {
            Status::Pending if !self.doubt => self.becomes(Status::Failed, at),
            Status::Pending => self.becomes(Status::Unknown, at),
            Status::Started if read => self.becomes(Status::Failed, at),
            Status::Started if self.spec.mode == Mode::Inline => self.becomes(Status::Unknown, at),
            _ => {}
        }
    }

    fn backoff(&self, n: u32) -> u64 {
        let policy = &self.spec.policy;
        (1..n)
            .fold(policy.backoff_ms, |wait, _| wait * 2)
            .min(policy.backoff_max_ms)
    }

    /// Whether a vanished worker's effect is sent again at once.
    pub(crate) fn again(&self, open: bool) -> bool {
        let tries = self.failures + 1 < self.spec.policy.attempts_max;
        self.spec.semantics == Semantics::Idempotent && tries && open
    }

    /// Whether the bound on vanished observers is reached, so that it is not asked about again.
    pub(crate) fn in_vain(&self) -> bool {
        let lost = self.claim.is_some() && self.status == Status::Unknown;
        lost && self.vanished + 1 == self.spec.policy.observations_max
    }

    fn backoff_unreached(&self) -> u64 {
        let policy = &self.spec.policy;
        (1..self.unreached)
            .fold(policy.backoff_ms.max(100), |wait, _| (wait * 2).min(86_400_000))
            .min(policy.backoff_max_ms.max(30_000))
    }

    fn is_not_reached(&mut self, at: Timestamp, open: bool) {
        if open || self.spec.mode == Mode::Inline {
            (self.unreached, self.idle) = (self.unreached + 1, self.idle + 1);
            self.becomes(Status::Pending, ms(at, self.backoff_unreached()));
        } else if self.doubt {
            self.becomes(Status::Unknown, at);
        } else {
            self.becomes(Status::Failed, at);
        }
    }

    fn fails(&mut self, after: Option<u64>, at: Timestamp, open: bool) {
        self.failures += 1;
        let wanted = open || self.spec.mode == Mode::Inline;
        let wait = after.unwrap_or(0).max(self.backoff(self.failures));
        if wanted && self.failures < self.spec.policy.attempts_max {
            self.becomes(Status::Pending, ms(at, wait));
        } else if self.doubt {
            self.becomes(Status::Unknown, at);
        } else {
            self.becomes(Status::Failed, at);
        }
    }

    fn starts(&mut self, claim: Option<(Holder, Timestamp)>) {
        let unsure = matches!(self.status, Status::Started | Status::Unknown);
        self.doubt |= unsure && self.spec.semantics != Semantics::ReadOnly;
        self.failures += u32::from(self.status == Status::Started && self.claim.is_some());
        self.attempt += 1;
        (self.status, self.claim) = (Status::Started, claim);
    }

    pub(crate) fn ends(&mut self, ending: &AttemptOutcome, at: Timestamp, open: bool) {
        let semantics = self.spec.semantics;
        if !matches!(ending, AttemptOutcome::Unreached { .. }) {
            self.unreached = 0;
        }
        match ending {
            AttemptOutcome::Unreached { .. } => self.is_not_reached(at, open),
            AttemptOutcome::Repeat { after_ms, .. } if semantics != Semantics::NonIdempotent => {
                self.doubt |= semantics == Semantics::Idempotent;
                self.fails(*after_ms, at, open);
            }
            AttemptOutcome::Confirmed { .. } => self.becomes(Status::Confirmed, at),
            AttemptOutcome::Refused { .. } if self.doubt => {
                self.becomes(Status::Unknown, ms(at, self.backoff(1)));
            }
            AttemptOutcome::Failed { .. } | AttemptOutcome::Refused { .. } => {
                self.becomes(Status::Failed, at)
            }
            AttemptOutcome::Retry { after_ms, .. } => self.fails(*after_ms, at, open),
            AttemptOutcome::Unknown { .. } if self.spec.semantics == Semantics::ReadOnly => {
                self.fails(None, at, open)
            }
            AttemptOutcome::Unknown { .. } | AttemptOutcome::Repeat { .. } => {
                self.becomes(Status::Unknown, ms(at, self.backoff(1)));
            }
        }
    }

    pub(crate) fn seen(&mut self, outcome: Outcome, undo: bool, at: Timestamp, open: bool) {
        let policy = self.spec.policy;
        self.vanished = 0;
        self.inconclusive += u32::from(outcome == Outcome::Inconclusive);
        self.unreached = match outcome {
            Outcome::Unreached => self.unreached + 1,
            _ => 0,
        };
        match outcome {
            Outcome::Unreached => self.becomes(Status::Unknown, ms(at, self.backoff_unreached())),
            Outcome::Found => self.becomes(Status::Confirmed, at),
            Outcome::Duplicate if undo => self.becomes(Status::Confirmed, at),
            Outcome::Absent if !open => self.becomes(Status::Failed, at),
            Outcome::Absent if self.spec.semantics == Semantics::Idempotent || policy.resend_absent => {
                let attempts = self.attempt - self.idle;
                let wait = attempts.checked_sub(1).filter(|n| *n > 0);
                let wait = wait.map_or(0, |n| self.backoff(n));
                if attempts >= policy.attempts_max {
                    self.becomes(Status::Failed, at);
                } else {
                    self.resent(ms(at, wait));
                }
            }
            Outcome::Inconclusive if self.inconclusive < policy.observations_max => {
                self.becomes(Status::Unknown, ms(at, self.backoff(self.inconclusive)));
            }
            _ => self.becomes(Status::Stuck, at),
        }
    }

    fn resent(&mut self, at: Timestamp) {
        self.becomes(Status::Pending, at);
        (self.doubt, self.inconclusive, self.vanished) = (false, 0, 0);
        self.unreached = 0;
    }

    pub(super) fn happen(&mut self, id: &EffectId, command: &RunCommand, at: Timestamp, open: bool) {
        match command {
            RunCommand::Drive(_, D::RestartEffect { effect }) if effect == id => self.starts(None),
            RunCommand::Drive(_, D::FinishEffect { effect, ending, .. })
            | RunCommand::Work(W::FinishClaimed { effect, ending, .. })
                if effect == id =>
            {
                self.ends(ending, at, open);
            }
            RunCommand::Work(W::ClaimEffect {
                effect,
                holder,
                claim_ms,
            }) if effect == id => {
                if self.status == Status::Pending || self.again(open) {
                    self.starts(Some((holder.clone(), ms(at, *claim_ms))));
                } else {
                    self.becomes(Status::Unknown, at);
                }
            }
            RunCommand::Work(W::LapseEffect { effect }) if effect == id => {
                if self.again(open) {
                    (self.failures, self.doubt) = (self.failures + 1, true);
                    self.becomes(Status::Pending, at);
                } else {
                    self.becomes(Status::Unknown, at);
                }
            }
            RunCommand::Work(W::ClaimObservation { effect, .. }) if effect == id && self.in_vain() => {
                self.becomes(Status::Stuck, at);
            }
            RunCommand::Work(W::ClaimObservation {
                effect,
                holder,
                claim_ms,
            }) if effect == id => {
                self.vanished += u32::from(self.claim.is_some());
                self.observations += 1;
                self.claim = Some((holder.clone(), ms(at, *claim_ms)));
            }
            RunCommand::Work(W::RenewEffectClaim {
                effect,
                holder,
                claim_ms,
                ..
            }) if effect == id => {
                self.claim = Some((holder.clone(), ms(at, *claim_ms)));
            }
            RunCommand::Work(W::RecordObservation {
                effect,
                outcome,
                undo_duplicates,
                ..
            }) if effect == id => {
                self.seen(*outcome, !undo_duplicates.is_empty(), at, open);
            }
            RunCommand::External(O::SettleEffect { effect, verdict, .. }) if effect == id => match verdict {
                Verdict::Confirmed { .. } => self.becomes(Status::Confirmed, at),
                Verdict::Failed => self.becomes(Status::Failed, at),
                Verdict::Resend => self.resent(at),
            },
            _ => {}
        }
    }
}
