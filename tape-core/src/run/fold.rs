//! How entries change a run.

use super::{Identity, Lease, Phase, Run};
use crate::entry::effect::AfterObservation;
use crate::entry::run::RunOutcome;
use crate::entry::run::{Stuck, UnhappyOutcome};
use crate::entry::{Entry, EntryBody};
use crate::id::Seq;

use crate::time::Timestamp;

impl Run {
    /// Notes the end of something that a driver may wait for.
    pub(super) fn wake(&mut self, seq: Seq, at: Timestamp) {
        self.event = seq;
        if let Phase::Suspended { woken_at, .. } = &mut self.phase {
            woken_at.get_or_insert(at);
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.changed_at = at;
    }

    fn end(&mut self, ending: RunOutcome, at: Timestamp) {
        self.enter(Phase::Ended { ending }, at);
        self.lease = Lease::None;
        (self.cancel, self.stuck) = (None, None);
        self.obligations.clear();
    }

    /// Refuses an entry that cannot occur in this phase, whatever its contents.
    fn takes(&self, entry: &Entry) -> Result<(), String> {
        let retires = matches!(entry.body, EntryBody::RunRetired(_));
        let erases = matches!(
            entry.body,
            EntryBody::PayloadErased(_) | EntryBody::ErasureFinished(_)
        );
        let problem = match &self.phase {
            phase if erases && *phase != Phase::New => return Ok(()),
            _ if self.retired.is_some() => "the run is retired",
            _ if self.is_stood_for(entry) => return Ok(()),
            Phase::Ended { .. } if retires => return Ok(()),
            Phase::Ended { .. } => "the run has ended",
            _ if retires => "only a run that has ended is retired",
            phase if matches!(entry.body, EntryBody::RunBegun(_)) != (*phase == Phase::New) => {
                "a run begins once, with its first entry"
            }
            _ => return Ok(()),
        };
        Err(problem.to_owned())
    }

    /// Changes the state by one entry.
    pub(super) fn fold(&mut self, entry: &Entry) -> Result<(), String> {
        // Due times count from the decision, also where the stream's time is ahead of the journal's.
        let (seq, at) = (entry.seq, entry.decided_at);
        self.takes(entry)?;
        if self.is_of_driver(&entry.body) {
            self.driver_wrote = seq;
        }
        if self.is_of_agent(&entry.body) {
            self.reached_an_agent();
        }
        match &entry.body {
            EntryBody::RunBegun(e) => {
                self.begun = Some(Identity {
                    run: e.run.clone(),
                    labels: e.labels.clone(),
                    at,
                });
                self.enter(Phase::Running, at);
            }
            EntryBody::RunCheckpoint(_) => self.progress(),
            EntryBody::RunSuspended(e) => {
                self.lease = Lease::None;
                self.enter(
                    Phase::Suspended {
                        resume_at: e.resume_at,
                        woken_at: None,
                    },
                    at,
                );
            }
            EntryBody::RunCancelRequested(e) => {
                self.cancel = Some(e.reason.clone());
                self.ending_said.say(seq, false);
                self.wake(seq, at);
            }
            EntryBody::RunCompensating(e) => {
                let cancels = matches!(e.then, UnhappyOutcome::Cancelled { .. });
                self.ending_said.say(seq, cancels && self.cancel.is_some());
                self.lease = Lease::None;
                (self.cancel, self.stuck) = (None, None);
                self.enter(Phase::Compensating { then: e.then.clone() }, at);
                self.release_obligations(at);
                self.hold_all(seq, at);
            }
            EntryBody::RunStuck(Stuck { reason }) => {
                (self.stuck, self.stuck_at) = (Some(reason.clone()), seq);
                self.changed_at = at;
            }
            EntryBody::RunRetried(_) => {
                self.stuck = None;
                self.progress();
                self.changed_at = at;
                self.wake(seq, at);
                self.lease = self.lease.released(at, at, self.lease.given_up());
            }
            EntryBody::RunCompleted(_) => {
                self.ending_said.say(seq, false);
                self.end(RunOutcome::Completed, at);
            }
            EntryBody::RunFailed(e) => {
                let unwound = matches!(self.phase, Phase::Compensating { .. });
                self.ending_said.say(seq, unwound);
                let error = e.error.clone();
                self.end(RunOutcome::Failed { error }, at);
            }
            EntryBody::RunCancelled(e) => {
                let unwound = matches!(self.phase, Phase::Compensating { .. });
                self.ending_said.say(seq, unwound || self.cancel.is_some());
                let reason = e.reason.clone();
                self.end(RunOutcome::Cancelled { reason }, at);
            }
            EntryBody::RunRetired(e) => self.fold_retired(e, entry)?,
            EntryBody::LeaseAcquired(e) => self.fold_acquired(e, at)?,
            EntryBody::LeaseRenewed(e) => self.fold_renewed(e)?,
            EntryBody::LeaseReleased(e) => self.fold_released(e, at)?,
            EntryBody::DecisionRecorded(e) => self.fold_decision(e)?,
            EntryBody::EffectBegun(e) => self.fold_begun(e, seq, at)?,
            EntryBody::EffectStarted(e) => self.fold_started(e)?,
            EntryBody::EffectClaimRenewed(e) => self.fold_effect_claim_renewed(e)?,
            EntryBody::EffectConfirmed(e) => self.fold_confirmed(e, seq, at)?,
            EntryBody::EffectFailed(e) => self.fold_failed(e, seq, at)?,
            EntryBody::EffectDeferred(e) => {
                self.fold_deferred(e, seq)?;
                self.hold(&e.effect, seq, at);
            }
            EntryBody::EffectUnknown(e) => {
                self.fold_unknown(e)?;
                self.hold(&e.effect, seq, at);
            }
            EntryBody::EffectObserving(e) => self.fold_observing(e)?,
            EntryBody::EffectObserved(e) => {
                self.fold_observed(e, seq, at)?;
                if e.then != AfterObservation::Settle {
                    self.hold(&e.effect, seq, at);
                }
            }
            EntryBody::EffectResendAllowed(e) => {
                self.fold_resend_allowed(e, seq, at)?;
                self.hold(&e.effect, seq, at);
            }
            EntryBody::ObligationArmed(e) => self.fold_armed(e, seq, at)?,
            EntryBody::ObligationStarted(e) => self.fold_obligation_started(e)?,
            EntryBody::ObligationClaimRenewed(e) => self.fold_obligation_claim_renewed(e)?,
            EntryBody::ObligationDone(e) => self.fold_obligation_done(e, at)?,
            EntryBody::ObligationDeferred(e) => {
                self.fold_obligation_deferred(e, seq)?;
                self.hold_all(seq, at);
            }
            EntryBody::ObligationStuck(e) => self.fold_obligation_stuck(e, seq, at)?,
            EntryBody::ObligationRetried(e) => {
                self.fold_obligation_retried(e, at)?;
                self.hold_all(seq, at);
            }
            EntryBody::GateOpened(e) => self.fold_gate_opened(e, seq)?,
            EntryBody::GateAnswered(e) => self.fold_gate_answered(e, seq, at)?,
            EntryBody::SignalReceived(e) => self.fold_signal(e, seq, entry.principal.clone())?,
            EntryBody::TimerSet(e) => self.fold_timer_set(e)?,
            EntryBody::TimerFired(e) => self.fold_timer_done(&e.timer, Some((seq, at)))?,
            EntryBody::TimerCancelled(e) => self.fold_timer_done(&e.timer, None)?,
            EntryBody::BudgetOpened(e) => self.fold_budget_opened(e)?,
            EntryBody::BudgetReserved(e) => self.fold_reserved(e)?,
            EntryBody::BudgetReleased(e) => self.fold_reservation_released(&e.position),
            EntryBody::SampleRecorded(e) => self.fold_sample(e)?,
            EntryBody::PayloadErased(e) => self.fold_erased(e, seq, at),
            EntryBody::ErasureFinished(e) => self.erasures.fold_finished(e),
            EntryBody::SessionCreated(_)
            | EntryBody::SessionEventAppended(_)
            | EntryBody::SessionMerged(_)
            | EntryBody::SessionRewound(_)
            | EntryBody::SessionDeleted(_)
            | EntryBody::SharedMerged(_)
            | EntryBody::ValuePut(_)
            | EntryBody::ValueDeleted(_)
            | EntryBody::KeyTaken(_)
            | EntryBody::RelayRefused(_)
            | EntryBody::RelayRedelivered(_)
            | EntryBody::RelayReceipt(_) => return Err("it does not belong into a run".to_owned()),
        }
        self.note_change(&entry.body, seq);
        self.seq = seq;
        Ok(())
    }
}
