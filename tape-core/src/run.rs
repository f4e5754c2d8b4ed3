//! A run: the state folded from its journal, and the rules of what may come next.
//!
//! Each family of commands has its file below. This one says which commands a run takes at all in its phase, and
//! hands entries to their families.

mod budget;
mod close;
mod decision;
mod effect;
mod gate;
mod lease;
mod obligation;
mod observe;
mod sample;
mod timer;

pub use budget::Budget;
pub use effect::Effect;
pub use gate::Gate;
pub use lease::Lease;
pub use obligation::{Obligation, ObligationStatus};
pub use timer::Timer;

use crate::agenda::{Agenda, Item, Queue};
use crate::command::{Command, DriverCommand, OutsideCommand, RunCommand, WorkerCommand};
use crate::effect::Status;
use crate::entry::obligation::ObligationId;
use crate::entry::run::{Stuck, Suspended, Unhappy};
use crate::entry::{Entry, EntryBody};
use crate::id::{
    BudgetName, EffectId, Epoch, GateName, Key, Position, RunId, Scope, Seq, StreamId, TimerName,
};
use crate::limits::TEXT_BYTES_MAX;
use crate::reply::{Decided, Ended, Rejection, ReplyResult};
use crate::stream::{Remembered, ReplayError, RunStatus, Stream, Summary, already, decided};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The folded state of a run. Its size follows what is open now, not the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    seq: Seq,
    begun: Option<Identity>,
    phase: Phase,
    changed_at: Timestamp,
    cancel: Option<String>,
    stuck: Option<String>,
    /// The last entry that a waiting driver would want to see.
    event: Seq,
    lease: Lease,
    epoch: Epoch,
    redrives: u32,
    scopes: BTreeMap<Scope, decision::ScopeState>,
    effects: BTreeMap<EffectId, Effect>,
    obligations: Vec<Obligation>,
    gates: BTreeMap<GateName, Gate>,
    timers: BTreeMap<TimerName, Timer>,
    budgets: BTreeMap<BudgetName, Budget>,
    reservations: BTreeMap<Position, Vec<crate::budget::Spend>>,
    replies: Remembered,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    run: RunId,
    labels: BTreeMap<Key, String>,
    at: Timestamp,
}

/// Where a run is in its life.
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
        /// Wake it here in any case.
        resume_at: Option<Timestamp>,
        /// Something it may wait for came to its end here.
        woken_at: Option<Timestamp>,
    },
    /// What it did is being undone.
    Compensating {
        /// How it ends then.
        then: Unhappy,
    },
    /// It is over.
    Ended {
        /// How.
        ending: Ended,
    },
}

impl Run {
    /// The run, once it has begun.
    #[must_use]
    pub fn id(&self) -> Option<&RunId> {
        self.begun.as_ref().map(|identity| &identity.run)
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why somebody asked for it to be cancelled, where that waits for its driver.
    #[must_use]
    pub fn cancel_requested(&self) -> Option<&str> {
        self.cancel.as_deref()
    }

    /// Why it waits for a person, where it does.
    #[must_use]
    pub fn stuck(&self) -> Option<&str> {
        let obligation = || self.obligations.iter().find_map(Obligation::stuck);
        let mut effects = self.effects.values().filter(|_| self.waits());
        let effect = || effects.find_map(|effect| effect.stuck.as_deref());
        self.stuck.as_deref().or_else(obligation).or_else(effect)
    }

    /// Who has the right to drive it.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Effects that are not settled, and settled ones of the newest decision of each scope.
    #[must_use]
    pub const fn effects(&self) -> &BTreeMap<EffectId, Effect> {
        &self.effects
    }

    /// What is left to undo, the last one first to go.
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        &self.obligations
    }

    /// The gates.
    #[must_use]
    pub const fn gates(&self) -> &BTreeMap<GateName, Gate> {
        &self.gates
    }

    /// The timers.
    #[must_use]
    pub const fn timers(&self) -> &BTreeMap<TimerName, Timer> {
        &self.timers
    }

    /// The budgets.
    #[must_use]
    pub const fn budgets(&self) -> &BTreeMap<BudgetName, Budget> {
        &self.budgets
    }

    /// Where the run stands, in one word.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        match &self.phase {
            Phase::Ended {
                ending: Ended::Completed,
            } => RunStatus::Completed,
            Phase::Ended {
                ending: Ended::Failed { .. },
            } => RunStatus::Failed,
            Phase::Ended {
                ending: Ended::Cancelled { .. },
            } => RunStatus::Cancelled,
            _ if self.stuck().is_some() => RunStatus::Stuck,
            Phase::Compensating { .. } => RunStatus::Compensating,
            Phase::Suspended { .. } => RunStatus::Suspended,
            Phase::New | Phase::Running => RunStatus::Running,
        }
    }

    /// Whether it waits without a driver, who may have something else to do.
    const fn waits(&self) -> bool {
        matches!(self.phase, Phase::Suspended { .. } | Phase::Compensating { .. })
    }

    fn unsettled(&self) -> Option<(&EffectId, &Effect)> {
        self.effects
            .iter()
            .find(|(_, effect)| !effect.status.is_settled())
    }

    /// Refuses everything once the run is over, and before it began.
    fn alive(&self) -> Result<(), Rejection> {
        match &self.phase {
            Phase::New => Err(Rejection::NotFound { what: "run" }),
            Phase::Ended { ending } => Err(Rejection::RunEnded {
                ending: ending.clone(),
            }),
            Phase::Running | Phase::Suspended { .. } | Phase::Compensating { .. } => Ok(()),
        }
    }

    /// Refuses what no longer counts once the run is being undone.
    fn counts(&self) -> Result<(), Rejection> {
        self.alive()?;
        match &self.phase {
            Phase::Compensating { .. } => Err(Rejection::Closing {
                phase: "compensating",
            }),
            Phase::New | Phase::Running | Phase::Suspended { .. } | Phase::Ended { .. } => Ok(()),
        }
    }

    /// Refuses what would begin something new while the run comes to an end.
    fn open(&self) -> Result<(), Rejection> {
        self.counts()?;
        match self.cancel {
            Some(_) => Err(Rejection::Closing { phase: "cancelling" }),
            None => Ok(()),
        }
    }

    /// Refuses who is not the driver, and the driver where there is nothing to drive.
    fn driven(&self, epoch: Epoch) -> Result<(), Rejection> {
        self.alive()?;
        if epoch != self.epoch {
            return Err(Rejection::Fenced {
                given: epoch,
                current: self.epoch,
            });
        }
        match &self.phase {
            Phase::Compensating { .. } => Err(Rejection::Closing {
                phase: "compensating",
            }),
            Phase::Suspended { .. } => Err(Rejection::Closing { phase: "suspended" }),
            _ if self.stuck.is_some() => Err(Rejection::Closing { phase: "stuck" }),
            _ if self.lease == Lease::None => Err(Rejection::NotFound { what: "driver" }),
            _ => Ok(()),
        }
    }

    fn drive(&self, epoch: Epoch, command: &DriverCommand, now: Timestamp) -> Result<Decided, Rejection> {
        use DriverCommand as C;
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
            C::ReleaseLease { redrive_in_ms } => self.release_lease(*redrive_in_ms, now),
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
            C::OpenGate { gate, deadline } => self.open_gate(gate, deadline.map(|d| d.resolve(now))),
            C::SetTimer { timer, due, note } => self.set_timer(timer, due.resolve(now), note),
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
            }),
            C::Suspend { seen, resume } => self.suspend(*seen, resume.map(|d| d.resolve(now))),
            C::Complete { output } => self.complete(output),
            C::Fail { error } => {
                text("error", error)?;
                self.close(Unhappy::Failed { error: error.clone() }, now)
            }
            C::AcceptCancel => self.accept_cancel(now),
        }
    }

    fn work(&self, command: &WorkerCommand, now: Timestamp) -> Result<Decided, Rejection> {
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
                undo_duplicate,
            } => {
                let by = observe::Observer {
                    holder,
                    observation: *observation,
                };
                let seen = observe::Seen {
                    outcome: *outcome,
                    result,
                    undo: undo.as_ref(),
                    undo_duplicate: undo_duplicate.as_ref(),
                };
                self.record_observation(effect, &by, &seen, now)
            }
            C::RenewEffectClaim {
                effect,
                holder,
                claim_ms,
            } => self.renew_effect_claim(effect, holder, *claim_ms, now),
            C::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            } => self.claim_obligation(obligation, holder, *claim_ms, now),
            C::RenewObligationClaim {
                obligation,
                holder,
                claim_ms,
            } => self.renew_obligation_claim(obligation, holder, *claim_ms, now),
            C::FinishObligation {
                obligation,
                holder,
                attempt,
                ending,
            } => self.finish_obligation(obligation, holder, *attempt, ending, now),
        }
    }

    fn tell(
        &self,
        command: &Command<RunCommand>,
        told: &OutsideCommand,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        use OutsideCommand as C;
        match told {
            C::Signal { gate, id, answer } => self.signal(gate, id, command.principal.as_ref(), answer),
            C::ExpireGate { gate } => self.expire_gate(gate, now),
            C::FireTimer { timer } => self.fire_timer(timer, now),
            C::Cancel { reason } => self.cancel(reason, now),
            C::DriverVanished { epoch, grace_ms } => self.driver_vanished(*epoch, *grace_ms, now),
            C::SettleEffect {
                effect,
                verdict,
                reason,
            } => self.settle_effect(effect, verdict, reason, now),
            C::SettleObligation {
                obligation,
                retry,
                reason,
            } => self.settle_obligation(obligation, *retry, reason, now),
            C::RetryRun { reason } => self.retry_run(reason),
        }
    }

    fn suspend(&self, seen: Seq, resume_at: Option<Timestamp>) -> Result<Decided, Rejection> {
        if self.event > seen {
            return Err(Rejection::Woken { seq: self.event });
        }
        let drivers = |(_, effect): &(&EffectId, &Effect)| effect.is_drivers();
        if let Some((effect, _)) = self.effects.iter().find(drivers) {
            return Err(Rejection::Unsettled {
                what: format!("effect {effect}"),
            });
        }
        if resume_at.is_none() && !self.will_be_woken() {
            return Err(Rejection::Invalid {
                field: "resume",
                problem:
                    "is needed, since no open gate, pending timer or unsettled effect would wake the run"
                        .to_owned(),
            });
        }
        self.append(Suspended { resume_at })
    }

    /// Whether something is under way whose end wakes a run that waits.
    fn will_be_woken(&self) -> bool {
        self.unsettled().is_some()
            || self.gates.values().any(|gate| matches!(gate, Gate::Open { .. }))
            || self.timers.values().any(|timer| timer.due().is_some())
    }

    fn retry_run(&self, reason: &str) -> Result<Decided, Rejection> {
        self.alive()?;
        text("reason", reason)?;
        if self.stuck.is_none() {
            return Err(Rejection::Invalid {
                field: "run",
                problem: "is not stuck".to_owned(),
            });
        }
        self.append(crate::entry::run::Retried {
            reason: reason.to_owned(),
        })
    }

    fn append(&self, body: impl Into<EntryBody>) -> Result<Decided, Rejection> {
        Ok(decided(self.seq, vec![body.into()]))
    }

    const fn already(&self, result: ReplyResult) -> Decided {
        already(self.seq, result)
    }

    /// Notes that something came to its end that a driver may wait for.
    fn wake(&mut self, seq: Seq, at: Timestamp) {
        self.event = seq;
        if let Phase::Suspended { woken_at, .. } = &mut self.phase {
            woken_at.get_or_insert(at);
        }
    }

    fn enter(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.changed_at = at;
    }

    fn end(&mut self, ending: Ended, at: Timestamp) {
        self.enter(Phase::Ended { ending }, at);
        self.lease = Lease::None;
        (self.cancel, self.stuck) = (None, None);
        self.obligations.clear();
    }

    /// Changes the state by one entry.
    fn fold(&mut self, entry: &Entry) -> Result<(), String> {
        let (seq, at) = (entry.seq, entry.at);
        let begins = matches!(entry.body, EntryBody::RunBegun(_));
        if begins != (self.phase == Phase::New) {
            return Err("a run begins once, with its first entry".to_owned());
        }
        if matches!(self.phase, Phase::Ended { .. }) {
            return Err("the run has ended".to_owned());
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
            EntryBody::RunCheckpoint(_) => self.redrives = 0,
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
                self.wake(seq, at);
            }
            EntryBody::RunCompensating(e) => {
                self.lease = Lease::None;
                (self.cancel, self.stuck) = (None, None);
                self.enter(Phase::Compensating { then: e.then.clone() }, at);
                self.release_obligations(at);
            }
            EntryBody::RunStuck(Stuck { reason }) => {
                self.stuck = Some(reason.clone());
                self.changed_at = at;
            }
            EntryBody::RunRetried(_) => {
                (self.stuck, self.redrives) = (None, 0);
                self.changed_at = at;
                self.wake(seq, at);
                self.lease = self.lease.released(at);
            }
            EntryBody::RunCompleted(_) => self.end(Ended::Completed, at),
            EntryBody::RunFailed(e) => self.end(
                Ended::Failed {
                    error: e.error.clone(),
                },
                at,
            ),
            EntryBody::RunCancelled(e) => self.end(
                Ended::Cancelled {
                    reason: e.reason.clone(),
                },
                at,
            ),
            EntryBody::LeaseAcquired(e) => self.fold_acquired(e, at)?,
            EntryBody::LeaseRenewed(e) => self.fold_renewed(e)?,
            EntryBody::LeaseReleased(e) => self.fold_released(e)?,
            EntryBody::DecisionRecorded(e) => self.fold_decision(e)?,
            EntryBody::EffectBegun(e) => self.fold_begun(e, seq, at)?,
            EntryBody::EffectStarted(e) => self.fold_started(e)?,
            EntryBody::EffectClaimRenewed(e) => self.fold_effect_claim_renewed(e)?,
            EntryBody::EffectConfirmed(e) => self.fold_confirmed(e, seq, at)?,
            EntryBody::EffectFailed(e) => self.fold_failed(e, seq, at)?,
            EntryBody::EffectDeferred(e) => self.fold_deferred(e)?,
            EntryBody::EffectUnknown(e) => self.fold_unknown(e)?,
            EntryBody::EffectObserving(e) => self.fold_observing(e)?,
            EntryBody::EffectObserved(e) => self.fold_observed(e, seq, at)?,
            EntryBody::EffectResendAllowed(e) => self.fold_resend_allowed(e, seq, at)?,
            EntryBody::ObligationArmed(e) => self.fold_armed(e, seq, at)?,
            EntryBody::ObligationStarted(e) => self.fold_obligation_started(e)?,
            EntryBody::ObligationClaimRenewed(e) => self.fold_obligation_claim_renewed(e)?,
            EntryBody::ObligationDone(e) => self.fold_obligation_done(e, at)?,
            EntryBody::ObligationDeferred(e) => self.fold_obligation_deferred(e)?,
            EntryBody::ObligationStuck(e) => self.fold_obligation_stuck(e, at)?,
            EntryBody::ObligationRetried(e) => self.fold_obligation_retried(e, at)?,
            EntryBody::GateOpened(e) => self.fold_gate_opened(e)?,
            EntryBody::GateAnswered(e) => self.fold_gate_answered(e, seq, at)?,
            EntryBody::SignalReceived(e) => self.fold_signal(e, seq, entry.principal.clone())?,
            EntryBody::TimerSet(e) => self.fold_timer_set(e)?,
            EntryBody::TimerFired(e) => self.fold_timer_done(&e.timer, Some((seq, at)))?,
            EntryBody::TimerCancelled(e) => self.fold_timer_done(&e.timer, None)?,
            EntryBody::BudgetOpened(e) => self.fold_budget_opened(e)?,
            EntryBody::BudgetReserved(e) => self.fold_reserved(e)?,
            EntryBody::BudgetReleased(e) => self.fold_reservation_released(&e.position),
            EntryBody::SampleRecorded(e) => self.fold_sample(e)?,
            EntryBody::SessionCreated(_)
            | EntryBody::SessionEventAppended(_)
            | EntryBody::SessionMerged(_)
            | EntryBody::SessionRewound(_)
            | EntryBody::SessionDeleted(_)
            | EntryBody::SharedMerged(_)
            | EntryBody::ValuePut(_)
            | EntryBody::ValueDeleted(_)
            | EntryBody::ClaimTaken(_) => return Err("it does not belong into a run".to_owned()),
        }
        self.seq = seq;
        Ok(())
    }

    fn recovery_due(&self) -> Option<Timestamp> {
        if self.stuck.is_some() {
            return None;
        }
        match &self.phase {
            Phase::Running => self.lease.redrive_at().or(Some(self.changed_at)),
            Phase::Suspended { resume_at, woken_at } => [*resume_at, *woken_at].into_iter().flatten().min(),
            Phase::New | Phase::Compensating { .. } | Phase::Ended { .. } => None,
        }
    }
}

impl Stream for Run {
    type Command = RunCommand;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Run(_))
    }

    fn decide(&self, command: &Command<RunCommand>, now: Timestamp) -> Result<Decided, Rejection> {
        if let Some(reply) = self.replies.get(command.request) {
            return Ok(Decided {
                entries: Vec::new(),
                reply,
            });
        }
        let decided = match &command.body {
            RunCommand::Begin(begin) => self.begin(begin, now),
            RunCommand::Drive(epoch, driver) => self.drive(*epoch, driver, now),
            RunCommand::Work(worker) => self.work(worker, now),
            RunCommand::Tell(outside) => self.tell(command, outside, now),
        }?;
        self.finish_unwinding(decided, now)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let impossible = |problem| ReplayError::Impossible {
            seq: entry.seq,
            kind: entry.body.kind(),
            problem,
        };
        self.fold(entry).map_err(impossible)?;
        self.replies.note(entry);
        Ok(())
    }

    fn agenda(&self) -> Agenda {
        let mut agenda = Agenda::default();
        if let Some(due) = self.recovery_due() {
            agenda.add(Queue::Recovery, Item::Run, due);
        }
        let closing = self.open().is_err();
        for (id, effect) in &self.effects {
            // What is not sent yet will not be, once the run is being cancelled.
            if let Some((queue, due)) = effect
                .due()
                .filter(|_| !(closing && effect.status == Status::Pending))
            {
                agenda.add(queue, Item::Effect(id.clone()), due);
            }
        }
        if let Some((id, due)) = self.next_obligation().and_then(|o| Some((&o.id, o.due()?))) {
            agenda.add(
                Queue::Compensation,
                Item::Obligation(ObligationId::clone(id)),
                due,
            );
        }
        if self.counts().is_ok() {
            let gates = self
                .gates
                .iter()
                .filter_map(|(name, gate)| Some((name, gate.deadline()?)));
            gates.for_each(|(name, due)| agenda.add(Queue::Timers, Item::Gate(name.clone()), due));
            let timers = self
                .timers
                .iter()
                .filter_map(|(name, timer)| Some((name, timer.due()?)));
            timers.for_each(|(name, due)| agenda.add(Queue::Timers, Item::Timer(name.clone()), due));
        }
        agenda
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn summary(&self) -> Option<Summary> {
        let identity = self.begun.as_ref()?;
        Some(Summary {
            status: self.status(),
            labels: identity.labels.clone(),
            begun_at: identity.at,
            changed_at: self.changed_at,
        })
    }
}

/// Checks a text that an entry carries inline.
fn text(field: &'static str, text: &str) -> Result<(), Rejection> {
    if text.len() > TEXT_BYTES_MAX {
        let given = text.len() as u64;
        return Err(Rejection::LimitExceeded {
            limit: "bytes of a text",
            max: TEXT_BYTES_MAX as u64,
            given,
        });
    }
    if text.is_empty() {
        return Err(Rejection::Invalid {
            field,
            problem: "is empty".to_owned(),
        });
    }
    Ok(())
}

/// Refuses one more where there are as many as there may be.
fn room(limit: &'static str, count: usize, max: usize) -> Result<(), Rejection> {
    if count < max {
        Ok(())
    } else {
        Err(Rejection::LimitExceeded {
            limit,
            max: max as u64,
            given: count as u64 + 1,
        })
    }
}

/// Checks the length of a lease or claim.
fn lease_length(lease_ms: u64) -> Result<u64, Rejection> {
    use crate::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
    if (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
        return Ok(lease_ms);
    }
    let problem = format!("{lease_ms} ms is not between {LEASE_MS_MIN} and {LEASE_MS_MAX} ms");
    Err(Rejection::Invalid {
        field: "lease or claim length",
        problem,
    })
}

/// Refuses a number in a stored journal that is not the one after the last.
fn follows(what: &str, last: u32, given: u32) -> Result<(), String> {
    if last.checked_add(1) == Some(given) {
        Ok(())
    } else {
        Err(format!("{what} {given} follows {what} {last}"))
    }
}

/// The word for a missing effect in a stored journal.
fn no_effect(effect: &EffectId) -> String {
    format!("there is no effect {effect}")
}

/// The rejection for an effect that is in the wrong state.
fn wrong_status(id: &EffectId, status: Status, attempt: u32) -> Rejection {
    Rejection::WrongStatus {
        effect: id.clone(),
        status,
        attempt,
    }
}
