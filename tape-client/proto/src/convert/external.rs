//! Commands from outside: what people decide, and what is due by time.

use super::command::{RunCall, requests};
use super::field::{InvalidField, name, optional, required};
use crate::v1;
use tape_core::command::{Claimed, ExternalCommand, Verdict};
use tape_core::id::{Epoch, Seq};
use tape_core::time::Timestamp;

requests! {
    External:
    SignalRunRequest(wire) => ExternalCommand::Signal {
        gate: name("gate", &wire.gate)?,
        id: name("id", &wire.id)?,
        answer: required("answer", wire.answer)?,
        seen: wire.seen_seq.map(Seq),
    };
    ExpireGateRequest(wire) => ExternalCommand::ExpireGate {
        gate: name("gate", &wire.gate)?,
    };
    FireTimerRequest(wire) => ExternalCommand::FireTimer {
        timer: name("timer", &wire.timer)?,
    };
    CancelRunRequest(wire) => ExternalCommand::Cancel { reason: wire.reason };
    ReleaseVanishedDriverRequest(wire) => ExternalCommand::DriverVanished {
        epoch: Epoch(wire.epoch),
        seen: Seq(wire.seen_seq),
        grace_ms: wire.grace_ms,
    };
    SettleEffectRequest(wire) => ExternalCommand::SettleEffect {
        effect: required("effect", wire.effect)?,
        verdict: required("verdict", wire.verdict)?,
        reason: wire.reason,
        seen: Seq(wire.seen_seq),
    };
    SettleObligationRequest(wire) => ExternalCommand::SettleObligation {
        obligation: required("obligation", wire.obligation)?,
        retry: tries_again(wire.verdict)?,
        reason: wire.reason,
        seen: Seq(wire.seen_seq),
    };
    RetryRunRequest(wire) => ExternalCommand::RetryRun {
        reason: wire.reason,
        seen: Seq(wire.seen_seq),
    };
    ReleaseClaimRequest(wire) => ExternalCommand::ReleaseClaim {
        claimed: required("claimed", wire.claimed)?,
        until: Timestamp::from_micros(wire.until_us),
        reason: wire.reason,
    };
    RetireRunRequest(wire) => ExternalCommand::Retire {
        ended: None,
        reason: wire.reason,
        last: None,
    };
}

fn tries_again(verdict: Option<v1::settle_obligation_request::Verdict>) -> Result<bool, InvalidField> {
    use v1::settle_obligation_request::Verdict as Wire;
    match verdict.ok_or_else(|| InvalidField::missing("verdict"))? {
        Wire::Done(_) => Ok(false),
        Wire::TryAgain(_) => Ok(true),
    }
}

impl TryFrom<v1::release_claim_request::Claimed> for Claimed {
    type Error = InvalidField;
    fn try_from(wire: v1::release_claim_request::Claimed) -> Result<Self, InvalidField> {
        use v1::release_claim_request::Claimed as Wire;
        Ok(match wire {
            Wire::Effect(effect) => Self::Effect(required("effect", Some(effect))?),
            Wire::Obligation(obligation) => Self::Obligation(required("obligation", Some(obligation))?),
        })
    }
}

impl From<Claimed> for v1::release_claim_request::Claimed {
    fn from(claimed: Claimed) -> Self {
        match claimed {
            Claimed::Effect(effect) => Self::Effect(effect.into()),
            Claimed::Obligation(obligation) => Self::Obligation(obligation.into()),
        }
    }
}

impl TryFrom<v1::settle_effect_request::Verdict> for Verdict {
    type Error = InvalidField;
    fn try_from(wire: v1::settle_effect_request::Verdict) -> Result<Self, InvalidField> {
        use v1::settle_effect_request::Verdict as Wire;
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

impl From<Verdict> for v1::settle_effect_request::Verdict {
    fn from(verdict: Verdict) -> Self {
        use v1::settle_effect_request::{Confirmed, Failed, Resend};
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

/// The call that sends a command from outside.
pub(super) fn call(
    run: Option<v1::RunId>,
    context: Option<v1::RequestContext>,
    command: ExternalCommand,
) -> RunCall {
    match command {
        ExternalCommand::Signal {
            gate,
            id,
            answer,
            seen,
        } => v1::SignalRunRequest {
            run,
            context,
            gate: gate.into(),
            id: id.into(),
            answer: Some(answer.into()),
            seen_seq: seen.map(|seen| seen.0),
        }
        .into(),
        ExternalCommand::ExpireGate { gate } => v1::ExpireGateRequest {
            run,
            context,
            gate: gate.into(),
        }
        .into(),
        ExternalCommand::FireTimer { timer } => v1::FireTimerRequest {
            run,
            context,
            timer: timer.into(),
        }
        .into(),
        ExternalCommand::Cancel { reason } => v1::CancelRunRequest { run, context, reason }.into(),
        ExternalCommand::DriverVanished {
            epoch,
            seen,
            grace_ms,
        } => v1::ReleaseVanishedDriverRequest {
            run,
            context,
            epoch: epoch.0,
            grace_ms,
            seen_seq: seen.0,
        }
        .into(),
        ExternalCommand::SettleEffect {
            effect,
            verdict,
            reason,
            seen,
        } => v1::SettleEffectRequest {
            run,
            context,
            effect: Some(effect.into()),
            verdict: Some(verdict.into()),
            reason,
            seen_seq: seen.0,
        }
        .into(),
        ExternalCommand::SettleObligation {
            obligation,
            retry,
            reason,
            seen,
        } => v1::SettleObligationRequest {
            run,
            context,
            obligation: Some(obligation.into()),
            verdict: Some(verdict(retry)),
            reason,
            seen_seq: seen.0,
        }
        .into(),
        ExternalCommand::RetryRun { reason, seen } => v1::RetryRunRequest {
            run,
            context,
            reason,
            seen_seq: seen.0,
        }
        .into(),
        ExternalCommand::ReleaseClaim {
            claimed,
            until,
            reason,
        } => v1::ReleaseClaimRequest {
            run,
            context,
            claimed: Some(claimed.into()),
            until_us: until.as_micros(),
            reason,
        }
        .into(),
        // The server reads the last entry.
        ExternalCommand::Retire { reason, .. } => v1::RetireRunRequest { run, context, reason }.into(),
    }
}

const fn verdict(retry: bool) -> v1::settle_obligation_request::Verdict {
    use v1::settle_obligation_request::{Done, TryAgain, Verdict};
    match retry {
        true => Verdict::TryAgain(TryAgain {}),
        false => Verdict::Done(Done {}),
    }
}
