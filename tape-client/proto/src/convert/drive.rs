//! Commands of a driver.

use super::field::{InvalidField, name, optional, optional_name, repeated, required};
use crate::v1;
use crate::v1::drive_request::Command as Wire;
use tape_core::command::{DriverCommand, RecordDecision};
use tape_core::entry::decision::Usage;
use tape_core::id::Seq;

/// A command of a driver, except the one that begins a run.
pub(super) fn read(wire: Wire) -> Result<DriverCommand, InvalidField> {
    let field = field(&wire);
    read_fields(wire).map_err(|error| error.within(field))
}

const fn field(wire: &Wire) -> &'static str {
    match wire {
        Wire::BeginRun(_) => "begin_run",
        Wire::RenewLease(_) => "renew_lease",
        Wire::ReleaseLease(_) => "release_lease",
        Wire::RecordDecision(_) => "record_decision",
        Wire::ReserveForDecision(_) => "reserve_for_decision",
        Wire::ReleaseReservation(_) => "release_reservation",
        Wire::BeginEffect(_) => "begin_effect",
        Wire::RestartEffect(_) => "restart_effect",
        Wire::FinishEffect(_) => "finish_effect",
        Wire::OpenGate(_) => "open_gate",
        Wire::SetTimer(_) => "set_timer",
        Wire::CancelTimer(_) => "cancel_timer",
        Wire::OpenBudget(_) => "open_budget",
        Wire::RecordSample(_) => "record_sample",
        Wire::Checkpoint(_) => "checkpoint",
        Wire::Suspend(_) => "suspend",
        Wire::Complete(_) => "complete",
        Wire::Fail(_) => "fail",
        Wire::AcceptCancel(_) => "accept_cancel",
    }
}

fn read_fields(wire: Wire) -> Result<DriverCommand, InvalidField> {
    Ok(match wire {
        Wire::BeginRun(_) => {
            return Err(InvalidField::new(
                "holder",
                "begins a run, which is no command of its driver",
            ));
        }
        Wire::RenewLease(c) => DriverCommand::RenewLease { lease_ms: c.lease_ms },
        Wire::ReleaseLease(c) => DriverCommand::ReleaseLease {
            redrive_in_ms: c.redrive_in_ms,
            undriven: c.undriven,
        },
        Wire::RecordDecision(c) => DriverCommand::RecordDecision(c.try_into()?),
        Wire::ReserveForDecision(c) => DriverCommand::ReserveForDecision {
            position: required("position", c.position)?,
            spends: repeated("spends", c.spends)?,
        },
        Wire::ReleaseReservation(c) => DriverCommand::ReleaseReservation {
            position: required("position", c.position)?,
        },
        Wire::BeginEffect(c) => DriverCommand::BeginEffect {
            effect: required("effect", c.effect)?,
            spec: required("spec", c.spec)?,
        },
        Wire::RestartEffect(c) => DriverCommand::RestartEffect {
            effect: required("effect", c.effect)?,
        },
        Wire::FinishEffect(c) => DriverCommand::FinishEffect {
            effect: required("effect", c.effect)?,
            attempt: c.attempt,
            ending: required("ending", c.ending)?,
        },
        Wire::OpenGate(c) => DriverCommand::OpenGate {
            gate: name("gate", &c.gate)?,
            deadline: optional("deadline", c.deadline)?,
        }
        .within(&name("scope", &c.scope)?),
        Wire::SetTimer(c) => DriverCommand::SetTimer {
            timer: name("timer", &c.timer)?,
            due: required("due", c.due)?,
            note: required("note", c.note)?,
        }
        .within(&name("scope", &c.scope)?),
        Wire::CancelTimer(c) => DriverCommand::CancelTimer {
            timer: name("timer", &c.timer)?,
        },
        Wire::OpenBudget(c) => DriverCommand::OpenBudget {
            budget: name("budget", &c.budget)?,
            parent: optional_name("parent", c.parent.as_ref())?,
            currency: required("currency", c.currency)?,
            limit: c.limit,
        }
        .within(&name("scope", &c.scope)?),
        Wire::RecordSample(c) => DriverCommand::RecordSample {
            scope: name("scope", &c.scope)?,
            n: c.n,
            name: name("name", &c.name)?,
            value: required("value", c.value)?,
        },
        Wire::Checkpoint(c) => DriverCommand::Checkpoint {
            label: name("label", &c.label)?,
            state: required("state", c.state)?,
        }
        .within(&name("scope", &c.scope)?),
        Wire::Suspend(c) => DriverCommand::Suspend {
            seen: Seq(c.seen_seq),
            resume: optional("resume", c.resume)?,
        },
        Wire::Complete(c) => DriverCommand::Complete {
            output: required("output", c.output)?,
        },
        Wire::Fail(c) => DriverCommand::Fail { error: c.error },
        Wire::AcceptCancel(_) => DriverCommand::AcceptCancel,
    })
}

impl TryFrom<v1::drive_request::RecordDecision> for RecordDecision {
    type Error = InvalidField;
    fn try_from(wire: v1::drive_request::RecordDecision) -> Result<Self, InvalidField> {
        Ok(Self {
            position: required("position", wire.position)?,
            fingerprint: required("fingerprint", wire.fingerprint)?,
            response: required("response", wire.response)?,
            model: wire.model,
            usage: wire.usage.map(Into::into).unwrap_or_default(),
            rationale: optional("rationale", wire.rationale)?,
            policy_version: wire.policy_version,
            spent: repeated("spent", wire.spent)?,
        })
    }
}

impl From<RecordDecision> for v1::drive_request::RecordDecision {
    fn from(decision: RecordDecision) -> Self {
        Self {
            position: Some(decision.position.into()),
            fingerprint: Some(decision.fingerprint.into()),
            response: Some(decision.response.into()),
            model: decision.model,
            usage: (decision.usage != Usage::default()).then(|| decision.usage.into()),
            rationale: decision.rationale.map(Into::into),
            policy_version: decision.policy_version,
            spent: decision.spent.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::drive_request::Usage> for Usage {
    fn from(wire: v1::drive_request::Usage) -> Self {
        let v1::drive_request::Usage {
            input_tokens,
            output_tokens,
            cost_micro_usd,
        } = wire;
        Self {
            input_tokens,
            output_tokens,
            cost_micro_usd,
        }
    }
}

impl From<Usage> for v1::drive_request::Usage {
    fn from(usage: Usage) -> Self {
        let Usage {
            input_tokens,
            output_tokens,
            cost_micro_usd,
        } = usage;
        Self {
            input_tokens,
            output_tokens,
            cost_micro_usd,
        }
    }
}

impl From<DriverCommand> for Wire {
    fn from(command: DriverCommand) -> Self {
        use v1::drive_request as wire;
        match command {
            DriverCommand::RenewLease { lease_ms } => Self::RenewLease(wire::RenewLease { lease_ms }),
            DriverCommand::ReleaseLease {
                redrive_in_ms,
                undriven,
            } => Self::ReleaseLease(wire::ReleaseLease {
                redrive_in_ms,
                undriven,
            }),
            DriverCommand::RecordDecision(decision) => Self::RecordDecision(decision.into()),
            DriverCommand::ReserveForDecision { position, spends } => {
                let spends = spends.into_iter().map(Into::into).collect();
                Self::ReserveForDecision(wire::ReserveForDecision {
                    position: Some(position.into()),
                    spends,
                })
            }
            DriverCommand::ReleaseReservation { position } => {
                Self::ReleaseReservation(wire::ReleaseReservation {
                    position: Some(position.into()),
                })
            }
            DriverCommand::BeginEffect { effect, spec } => Self::BeginEffect(wire::BeginEffect {
                effect: Some(effect.into()),
                spec: Some(spec.into()),
            }),
            DriverCommand::RestartEffect { effect } => Self::RestartEffect(wire::RestartEffect {
                effect: Some(effect.into()),
            }),
            DriverCommand::FinishEffect {
                effect,
                attempt,
                ending,
            } => {
                let (effect, ending) = (Some(effect.into()), Some(ending.into()));
                Self::FinishEffect(wire::FinishEffect {
                    effect,
                    attempt,
                    ending,
                })
            }
            DriverCommand::OpenGate { gate, deadline } => Self::OpenGate(wire::OpenGate {
                gate: gate.into(),
                deadline: deadline.map(Into::into),
                scope: String::new(),
            }),
            DriverCommand::SetTimer { timer, due, note } => Self::SetTimer(wire::SetTimer {
                timer: timer.into(),
                due: Some(due.into()),
                note: Some(note.into()),
                scope: String::new(),
            }),
            DriverCommand::CancelTimer { timer } => {
                Self::CancelTimer(wire::CancelTimer { timer: timer.into() })
            }
            DriverCommand::OpenBudget {
                budget,
                parent,
                currency,
                limit,
            } => Self::OpenBudget(wire::OpenBudget {
                budget: budget.into(),
                parent: parent.map(Into::into),
                currency: Some(currency.into()),
                limit,
                scope: String::new(),
            }),
            DriverCommand::RecordSample {
                scope,
                n,
                name,
                value,
            } => Self::RecordSample(wire::RecordSample {
                scope: scope.into(),
                n,
                name: name.into(),
                value: Some(value.into()),
            }),
            DriverCommand::Checkpoint { label, state } => Self::Checkpoint(wire::Checkpoint {
                label: label.into(),
                state: Some(state.into()),
                scope: String::new(),
            }),
            DriverCommand::Suspend { seen, resume } => Self::Suspend(wire::Suspend {
                seen_seq: seen.0,
                resume: resume.map(Into::into),
            }),
            DriverCommand::Complete { output } => Self::Complete(wire::Complete {
                output: Some(output.into()),
            }),
            DriverCommand::Fail { error } => Self::Fail(wire::Fail { error }),
            DriverCommand::AcceptCancel => Self::AcceptCancel(wire::AcceptCancel {}),
            DriverCommand::Within { scope, command } => within(scope.into(), (*command).into()),
        }
    }
}

/// Sets the scope that asks. Messages without such a field carry the scope elsewhere.
fn within(scope: String, mut wire: Wire) -> Wire {
    match &mut wire {
        Wire::OpenGate(c) => c.scope = scope,
        Wire::SetTimer(c) => c.scope = scope,
        Wire::OpenBudget(c) => c.scope = scope,
        Wire::Checkpoint(c) => c.scope = scope,
        _ => {}
    }
    wire
}
