//! Commands from outside.

use super::field::{InvalidField, name, optional, required};
use crate::v1;
use crate::v1::external_command::Command as Wire;
use tape_core::command::{Claimed, ExternalCommand, Verdict};
use tape_core::id::{Epoch, Seq};
use tape_core::time::Timestamp;

impl TryFrom<Wire> for ExternalCommand {
    type Error = InvalidField;
    fn try_from(wire: Wire) -> Result<Self, InvalidField> {
        let field = field(&wire);
        read(wire).map_err(|error| error.within(field))
    }
}

const fn field(wire: &Wire) -> &'static str {
    match wire {
        Wire::Signal(_) => "signal",
        Wire::ExpireGate(_) => "expire_gate",
        Wire::FireTimer(_) => "fire_timer",
        Wire::Cancel(_) => "cancel",
        Wire::DriverVanished(_) => "driver_vanished",
        Wire::SettleEffect(_) => "settle_effect",
        Wire::SettleObligation(_) => "settle_obligation",
        Wire::ReleaseClaim(_) => "release_claim",
        Wire::RetryRun(_) => "retry_run",
        Wire::Retire(_) => "retire",
    }
}

fn read(wire: Wire) -> Result<ExternalCommand, InvalidField> {
    Ok(match wire {
        Wire::Signal(c) => ExternalCommand::Signal {
            gate: name("gate", &c.gate)?,
            id: name("id", &c.id)?,
            answer: required("answer", c.answer)?,
            seen: c.seen_seq.map(Seq),
        },
        Wire::ExpireGate(c) => ExternalCommand::ExpireGate {
            gate: name("gate", &c.gate)?,
        },
        Wire::FireTimer(c) => ExternalCommand::FireTimer {
            timer: name("timer", &c.timer)?,
        },
        Wire::Cancel(c) => ExternalCommand::Cancel { reason: c.reason },
        Wire::DriverVanished(c) => ExternalCommand::DriverVanished {
            epoch: Epoch(c.epoch),
            seen: Seq(c.seen_seq),
            grace_ms: c.grace_ms,
        },
        Wire::SettleEffect(c) => ExternalCommand::SettleEffect {
            effect: required("effect", c.effect)?,
            verdict: required("verdict", c.verdict)?,
            reason: c.reason,
            seen: Seq(c.seen_seq),
        },
        Wire::SettleObligation(c) => ExternalCommand::SettleObligation {
            obligation: required("obligation", c.obligation)?,
            retry: c.retry,
            reason: c.reason,
            seen: Seq(c.seen_seq),
        },
        Wire::RetryRun(c) => ExternalCommand::RetryRun {
            reason: c.reason,
            seen: Seq(c.seen_seq),
        },
        Wire::ReleaseClaim(c) => ExternalCommand::ReleaseClaim {
            claimed: required("claimed", c.claimed)?,
            until: Timestamp::from_micros(c.until_us),
            reason: c.reason,
        },
        Wire::Retire(c) => ExternalCommand::Retire {
            ended: None,
            reason: c.reason,
            last: None,
        },
    })
}

impl TryFrom<v1::external_command::release_claim::Claimed> for Claimed {
    type Error = InvalidField;
    fn try_from(wire: v1::external_command::release_claim::Claimed) -> Result<Self, InvalidField> {
        use v1::external_command::release_claim::Claimed as Wire;
        Ok(match wire {
            Wire::Effect(effect) => Self::Effect(required("effect", Some(effect))?),
            Wire::Obligation(obligation) => Self::Obligation(required("obligation", Some(obligation))?),
        })
    }
}

impl From<Claimed> for v1::external_command::release_claim::Claimed {
    fn from(claimed: Claimed) -> Self {
        match claimed {
            Claimed::Effect(effect) => Self::Effect(effect.into()),
            Claimed::Obligation(obligation) => Self::Obligation(obligation.into()),
        }
    }
}

impl TryFrom<v1::external_command::settle_effect::Verdict> for Verdict {
    type Error = InvalidField;
    fn try_from(wire: v1::external_command::settle_effect::Verdict) -> Result<Self, InvalidField> {
        use v1::external_command::settle_effect::Verdict as Wire;
        Ok(match wire {
            Wire::Confirmed(confirmed) => Self::Confirmed {
                result: required("confirmed.result", confirmed.result)?,
                undo: optional("confirmed.undo", confirmed.undo)?,
            },
            Wire::Failed(_) => Self::Failed,
            Wire::Resend(_) => Self::Resend,
        })
    }
}

impl From<Verdict> for v1::external_command::settle_effect::Verdict {
    fn from(verdict: Verdict) -> Self {
        use v1::external_command::settle_effect::{Confirmed, Failed, Resend};
        match verdict {
            Verdict::Confirmed { result, undo } => Self::Confirmed(Confirmed {
                result: Some(result.into()),
                undo: undo.map(Into::into),
            }),
            Verdict::Failed => Self::Failed(Failed {}),
            Verdict::Resend => Self::Resend(Resend {}),
        }
    }
}

impl From<ExternalCommand> for Wire {
    fn from(command: ExternalCommand) -> Self {
        use v1::external_command as wire;
        match command {
            ExternalCommand::Signal {
                gate,
                id,
                answer,
                seen,
            } => Self::Signal(wire::Signal {
                gate: gate.into(),
                id: id.into(),
                answer: Some(answer.into()),
                seen_seq: seen.map(|seen| seen.0),
            }),
            ExternalCommand::ExpireGate { gate } => Self::ExpireGate(wire::ExpireGate { gate: gate.into() }),
            ExternalCommand::FireTimer { timer } => Self::FireTimer(wire::FireTimer { timer: timer.into() }),
            ExternalCommand::Cancel { reason } => Self::Cancel(wire::Cancel { reason }),
            ExternalCommand::DriverVanished {
                epoch,
                seen,
                grace_ms,
            } => Self::DriverVanished(wire::DriverVanished {
                epoch: epoch.0,
                grace_ms,
                seen_seq: seen.0,
            }),
            ExternalCommand::SettleEffect {
                effect,
                verdict,
                reason,
                seen,
            } => Self::SettleEffect(wire::SettleEffect {
                effect: Some(effect.into()),
                verdict: Some(verdict.into()),
                reason,
                seen_seq: seen.0,
            }),
            ExternalCommand::SettleObligation {
                obligation,
                retry,
                reason,
                seen,
            } => Self::SettleObligation(wire::SettleObligation {
                obligation: Some(obligation.into()),
                retry,
                reason,
                seen_seq: seen.0,
            }),
            ExternalCommand::RetryRun { reason, seen } => Self::RetryRun(wire::RetryRun {
                reason,
                seen_seq: seen.0,
            }),
            ExternalCommand::ReleaseClaim {
                claimed,
                until,
                reason,
            } => Self::ReleaseClaim(wire::ReleaseClaim {
                claimed: Some(claimed.into()),
                until_us: until.as_micros(),
                reason,
            }),
            // The server reads the last entry.
            ExternalCommand::Retire { reason, .. } => Self::Retire(wire::Retire { reason }),
        }
    }
}
