//! Passes a command to its family, after a check that the run accepts it in its phase.

use super::check::text;
use super::{Run, observe, retire};
use crate::command::{Command, DriverCommand, ExternalCommand, RunCommand, WorkerCommand};
use crate::entry::EntryBody;
use crate::entry::run::UnhappyOutcome;
use crate::id::{Epoch, Scope};
use crate::reply::{Decided, Field, Rejection};
use crate::time::{Now, Timestamp};

impl Run {
    pub(super) fn drive(
        &self,
        epoch: Epoch,
        command: &DriverCommand,
        now: Now,
    ) -> Result<Decided, Rejection> {
        use DriverCommand as C;
        // The epoch identifies the driver, so the driver's commands are not checked against time bounds.
        let now = now.at();
        self.driven(epoch)?;
        let closes = matches!(
            command,
            C::RenewLease { .. }
                | C::ReleaseLease { .. }
                | C::ReleaseReservation { .. }
                | C::RestartEffect { .. }
                | C::FinishEffect { .. }
                | C::Complete { .. }
                | C::Fail { .. }
                | C::AcceptCancel
        );
        if !closes {
            self.open()?;
        }
        match command {
            C::RenewLease { lease_ms } => self.renew_lease(*lease_ms, now),
            C::ReleaseLease {
                redrive_in_ms,
                undriven,
            } => self.release_lease(*redrive_in_ms, *undriven, true, now),
            C::RecordDecision(decision) => self.record_decision(decision),
            C::ReserveForDecision { position, spends } => self.reserve_for_decision(position, spends),
            C::ReleaseReservation { position } => self.release_reservation(position),
            C::BeginEffect { effect, spec } => self.begin_effect(effect, spec),
            C::RestartEffect { effect } => self.restart_effect(effect),
            C::FinishEffect {
                effect,
                attempt,
                ending,
            } => self.finish_effect(effect, *attempt, ending, now),
            C::OpenGate { gate, deadline } => self.open_gate(gate, *deadline, now),
            C::SetTimer { timer, due, note } => self.set_timer(timer, *due, note, now),
            C::CancelTimer { timer } => self.cancel_timer(timer),
            C::OpenBudget {
                budget,
                parent,
                currency,
                limit,
            } => self.open_budget(budget, parent.as_ref(), currency, *limit),
            C::RecordSample {
                scope,
                n,
                name,
                value,
            } => self.record_sample(scope, *n, name, value),
            C::Checkpoint { label, state } => self.append(crate::entry::run::Checkpoint {
                label: label.clone(),
                state: state.clone(),
                scope: Scope::root(),
            }),
            C::Suspend { seen, resume } => self.suspend(*seen, *resume, now),
            C::Complete { output } => self.complete(output),
            C::Fail { error } => {
                text(Field::Error, error)?;
                self.close(UnhappyOutcome::Failed { error: error.clone() }, now)
            }
            C::AcceptCancel => self.accept_cancel(now),
            C::Within { scope, command } => self.within(scope, epoch, command, now),
        }
    }

    /// A command of a scope within the run on a named item of the run.
    fn within(
        &self,
        scope: &Scope,
        epoch: Epoch,
        command: &DriverCommand,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        use DriverCommand as C;
        let named = matches!(
            command,
            C::OpenGate { .. } | C::SetTimer { .. } | C::OpenBudget { .. } | C::Checkpoint { .. }
        );
        if !named {
            return Err(Rejection::Invalid {
                field: Field::Scope,
                problem: "only a gate, timer, budget or checkpoint is asked for within a scope".to_owned(),
            });
        }
        let mut decided = self.drive(epoch, command, now.into())?;
        for body in &mut decided.entries {
            match body {
                EntryBody::GateOpened(e) => e.scope = scope.clone(),
                EntryBody::TimerSet(e) => e.scope = scope.clone(),
                EntryBody::BudgetOpened(e) => e.scope = scope.clone(),
                EntryBody::RunCheckpoint(e) => e.scope = scope.clone(),
                _ => {}
            }
        }
        Ok(decided)
    }

    pub(super) fn work(&self, command: &WorkerCommand, now: Now) -> Result<Decided, Rejection> {
        use WorkerCommand as C;
        self.alive()?;
        match command {
            C::ClaimEffect {
                effect,
                holder,
                claim_ms,
            } => self.claim_effect(effect, holder, *claim_ms, now),
            C::FinishClaimed {
                effect,
                holder,
                attempt,
                ending,
            } => self.finish_claimed(effect, holder, *attempt, ending, now),
            C::LapseEffect { effect } => self.lapse_effect(effect, now),
            C::ClaimObservation {
                effect,
                holder,
                claim_ms,
            } => self.claim_observation(effect, holder, *claim_ms, now),
            C::RecordObservation {
                effect,
                holder,
                observation,
                outcome,
                result,
                undo,
                undo_duplicates,
                why,
            } => {
                let by = observe::Observer {
                    holder,
                    observation: *observation,
                };
                let seen = observe::Seen {
                    outcome: *outcome,
                    result,
                    undo: undo.as_ref(),
                    undo_duplicates,
                    why,
                };
                self.record_observation(effect, &by, &seen, now)
            }
            C::RenewEffectClaim {
                effect,
                holder,
                held,
                claim_ms,
            } => self.renew_effect_claim(effect, holder, *held, *claim_ms, now),
            C::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            } => self.claim_obligation(obligation, holder, *claim_ms, now),
            C::RenewObligationClaim {
                obligation,
                holder,
                attempt,
                claim_ms,
            } => self.renew_obligation_claim(obligation, holder, *attempt, *claim_ms, now),
            C::FinishObligation {
                obligation,
                holder,
                attempt,
                ending,
            } => self.finish_obligation(obligation, holder, *attempt, ending, now),
        }
    }

    pub(super) fn tell(
        &self,
        command: &Command<RunCommand>,
        told: &ExternalCommand,
        now: Now,
    ) -> Result<Decided, Rejection> {
        use ExternalCommand as C;
        match told {
            C::Signal {
                gate,
                id,
                answer,
                seen,
            } => self.signal(gate, id, command.principal.as_ref(), answer, *seen),
            C::ExpireGate { gate } => self.expire_gate(gate, now.at()),
            C::FireTimer { timer } => self.fire_timer(timer, now.at()),
            C::Cancel { reason } => self.cancel(reason, now),
            C::DriverVanished {
                epoch,
                seen,
                grace_ms,
            } => self.driver_vanished(*epoch, *seen, *grace_ms, now.at()),
            C::SettleEffect {
                effect,
                verdict,
                reason,
                seen,
            } => self.settle_effect(effect, verdict, reason, *seen, now),
            C::SettleObligation {
                obligation,
                retry,
                reason,
                seen,
            } => self.settle_obligation(obligation, *retry, reason, *seen, now),
            C::RetryRun { reason, seen } => self.retry_run(reason, *seen),
            C::ReleaseClaim {
                claimed,
                until,
                reason,
            } => self.release_claim(claimed, *until, reason, now.at()),
            C::Retire { reason, last, ended } => {
                let (last, ended) = (last.as_deref(), ended.as_deref());
                self.retire(reason, retire::RetireWith { last, ended })
            }
        }
    }
}
