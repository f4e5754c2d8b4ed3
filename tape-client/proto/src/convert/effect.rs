//! Effects: what they are, where they stand, how their attempts end.

use super::field::{InvalidField, known, name, optional, optional_name, repeated, required};
use crate::v1;
use tape_core::command::AttemptOutcome;
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Outcome, Semantics, Status, Undo};

/// Maps the values of an enum one to one; the wire's zero value is refused.
macro_rules! enums {
    ($($core:ty = $wire:ty { $($value:ident),+ })+) => {$(
        impl TryFrom<$wire> for $core {
            type Error = InvalidField;
            fn try_from(wire: $wire) -> Result<Self, InvalidField> {
                match wire {
                    <$wire>::Unspecified => Err($crate::convert::field::unspecified()),
                    $(<$wire>::$value => Ok(Self::$value),)+
                }
            }
        }

        impl From<$core> for $wire {
            fn from(core: $core) -> Self {
                match core { $(<$core>::$value => Self::$value,)+ }
            }
        }
    )+};
}
pub(super) use enums;

enums! {
    Semantics = v1::Semantics { Idempotent, NonIdempotent, ReadOnly }
    Mode = v1::Mode { Inline, Outbox }
    Status = v1::EffectStatus { Pending, Started, Confirmed, Failed, Unknown, Stuck }
    Outcome = v1::Outcome { Found, Absent, Duplicate, Inconclusive, Unreached }
}

impl TryFrom<v1::EffectSpec> for EffectSpec {
    type Error = InvalidField;
    fn try_from(wire: v1::EffectSpec) -> Result<Self, InvalidField> {
        Ok(Self {
            connector: name("connector", &wire.connector)?,
            operation: name("operation", &wire.operation)?,
            semantics: known::<v1::Semantics, _>("semantics", wire.semantics)?,
            mode: known::<v1::Mode, _>("mode", wire.mode)?,
            args: required("args", wire.args)?,
            business_key: optional_name("business_key", wire.business_key.as_ref())?,
            undo: optional("undo", wire.undo)?,
            reserve: repeated("reserve", wire.reserve)?,
            policy: wire.policy.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<EffectSpec> for v1::EffectSpec {
    fn from(spec: EffectSpec) -> Self {
        Self {
            connector: spec.connector.into(),
            operation: spec.operation.into(),
            semantics: v1::Semantics::from(spec.semantics).into(),
            mode: v1::Mode::from(spec.mode).into(),
            args: Some(spec.args.into()),
            business_key: spec.business_key.map(Into::into),
            undo: spec.undo.map(Into::into),
            reserve: spec.reserve.into_iter().map(Into::into).collect(),
            policy: (spec.policy != EffectPolicy::default()).then(|| spec.policy.into()),
        }
    }
}

impl TryFrom<v1::Undo> for Undo {
    type Error = InvalidField;
    fn try_from(wire: v1::Undo) -> Result<Self, InvalidField> {
        Ok(Self {
            operation: name("operation", &wire.operation)?,
            args: required("args", wire.args)?,
        })
    }
}

impl From<Undo> for v1::Undo {
    fn from(undo: Undo) -> Self {
        Self {
            operation: undo.operation.into(),
            args: Some(undo.args.into()),
        }
    }
}

impl From<v1::EffectPolicy> for EffectPolicy {
    fn from(wire: v1::EffectPolicy) -> Self {
        Self {
            attempts_max: wire.attempts_max,
            observations_max: wire.observations_max,
            backoff_ms: wire.backoff_ms,
            backoff_max_ms: wire.backoff_max_ms,
            resend_absent: wire.resend_absent,
        }
    }
}

impl From<EffectPolicy> for v1::EffectPolicy {
    fn from(policy: EffectPolicy) -> Self {
        Self {
            attempts_max: policy.attempts_max,
            observations_max: policy.observations_max,
            backoff_ms: policy.backoff_ms,
            backoff_max_ms: policy.backoff_max_ms,
            resend_absent: policy.resend_absent,
        }
    }
}

impl TryFrom<v1::AttemptOutcome> for AttemptOutcome {
    type Error = InvalidField;
    fn try_from(wire: v1::AttemptOutcome) -> Result<Self, InvalidField> {
        use v1::attempt_outcome::How;
        match wire.how.ok_or_else(|| InvalidField::missing("how"))? {
            How::Confirmed(confirmed) => read_confirmed(confirmed).map_err(|error| error.within("confirmed")),
            How::Failed(failed) => {
                let detail = optional("failed.detail", failed.detail)?;
                Ok(Self::Failed {
                    error: failed.error,
                    detail,
                })
            }
            How::Deferred(deferred) => Ok(Self::Retry {
                error: deferred.error,
                after_ms: deferred.after_ms,
            }),
            How::Unknown(unknown) => Ok(Self::Unknown { cause: unknown.cause }),
            How::RepeatRequested(asked) => Ok(Self::Repeat {
                cause: asked.cause,
                after_ms: asked.after_ms,
            }),
            How::Unreached(unreached) => Ok(Self::Unreached {
                error: unreached.error,
            }),
            How::Refused(refused) => {
                let detail = optional("refused.detail", refused.detail)?;
                Ok(Self::Refused {
                    error: refused.error,
                    detail,
                })
            }
        }
    }
}

fn read_confirmed(wire: v1::attempt_outcome::Confirmed) -> Result<AttemptOutcome, InvalidField> {
    let spent = wire
        .spent
        .map(|spent| repeated("spent.spends", spent.spends))
        .transpose()?;
    Ok(AttemptOutcome::Confirmed {
        result: required("result", wire.result)?,
        undo: optional("undo", wire.undo)?,
        spent,
    })
}

impl From<AttemptOutcome> for v1::AttemptOutcome {
    fn from(ending: AttemptOutcome) -> Self {
        use v1::attempt_outcome::{
            Confirmed, Deferred, Failed, How, RepeatRequested, Spends, Unknown, Unreached,
        };
        let how = match ending {
            AttemptOutcome::Confirmed { result, undo, spent } => How::Confirmed(Confirmed {
                result: Some(result.into()),
                undo: undo.map(Into::into),
                spent: spent.map(|spends| Spends {
                    spends: spends.into_iter().map(Into::into).collect(),
                }),
            }),
            AttemptOutcome::Failed { error, detail } => How::Failed(Failed {
                error,
                detail: detail.map(Into::into),
            }),
            AttemptOutcome::Refused { error, detail } => How::Refused(Failed {
                error,
                detail: detail.map(Into::into),
            }),
            AttemptOutcome::Retry { error, after_ms } => How::Deferred(Deferred { error, after_ms }),
            AttemptOutcome::Unknown { cause } => How::Unknown(Unknown { cause }),
            AttemptOutcome::Repeat { cause, after_ms } => {
                How::RepeatRequested(RepeatRequested { cause, after_ms })
            }
            AttemptOutcome::Unreached { error } => How::Unreached(Unreached { error }),
        };
        Self { how: Some(how) }
    }
}
