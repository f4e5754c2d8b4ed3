//! Names and keys.

use super::field::{InvalidField, name, optional_name, required};
use crate::v1;
use bytes::Bytes;
use tape_core::command::Command;
use tape_core::entry::TraceParent;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, Position, RequestId, RunId, SessionId, Tenant, ValueName};

impl TryFrom<v1::RunId> for RunId {
    type Error = InvalidField;
    fn try_from(wire: v1::RunId) -> Result<Self, InvalidField> {
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            app: name("app", &wire.app)?,
            user: name("user", &wire.user)?,
            session: name("session", &wire.session)?,
            invocation: name("invocation", &wire.invocation)?,
        })
    }
}

impl From<RunId> for v1::RunId {
    fn from(run: RunId) -> Self {
        Self {
            tenant: run.tenant.into(),
            app: run.app.into(),
            user: run.user.into(),
            session: run.session.into(),
            invocation: run.invocation.into(),
        }
    }
}

impl TryFrom<v1::SessionId> for SessionId {
    type Error = InvalidField;
    fn try_from(wire: v1::SessionId) -> Result<Self, InvalidField> {
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            app: name("app", &wire.app)?,
            user: name("user", &wire.user)?,
            session: name("session", &wire.session)?,
        })
    }
}

impl From<SessionId> for v1::SessionId {
    fn from(session: SessionId) -> Self {
        Self {
            tenant: session.tenant.into(),
            app: session.app.into(),
            user: session.user.into(),
            session: session.session.into(),
        }
    }
}

impl TryFrom<v1::ValueId> for (Tenant, ValueName) {
    type Error = InvalidField;
    fn try_from(wire: v1::ValueId) -> Result<Self, InvalidField> {
        Ok((name("tenant", &wire.tenant)?, name("name", &wire.name)?))
    }
}

impl From<(Tenant, ValueName)> for v1::ValueId {
    fn from((tenant, name): (Tenant, ValueName)) -> Self {
        Self {
            tenant: tenant.into(),
            name: name.into(),
        }
    }
}

impl TryFrom<v1::Position> for Position {
    type Error = InvalidField;
    fn try_from(wire: v1::Position) -> Result<Self, InvalidField> {
        Ok(Self {
            scope: name("scope", &wire.scope)?,
            k: wire.k,
        })
    }
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self {
            scope: position.scope.into(),
            k: position.k,
        }
    }
}

impl TryFrom<v1::EffectId> for EffectId {
    type Error = InvalidField;
    fn try_from(wire: v1::EffectId) -> Result<Self, InvalidField> {
        Ok(Self {
            position: required("position", wire.position)?,
            call: small("call", wire.call)?,
        })
    }
}

impl From<EffectId> for v1::EffectId {
    fn from(effect: EffectId) -> Self {
        Self {
            position: Some(effect.position.into()),
            call: effect.call.into(),
        }
    }
}

impl TryFrom<v1::ObligationId> for ObligationId {
    type Error = InvalidField;
    fn try_from(wire: v1::ObligationId) -> Result<Self, InvalidField> {
        Ok(Self {
            effect: required("effect", wire.effect)?,
            copy: small("copy", wire.copy)?,
        })
    }
}

impl From<ObligationId> for v1::ObligationId {
    fn from(obligation: ObligationId) -> Self {
        Self {
            effect: Some(obligation.effect.into()),
            copy: obligation.copy.into(),
        }
    }
}

pub(super) fn small(field: &str, number: u32) -> Result<u16, InvalidField> {
    u16::try_from(number)
        .map_err(|_| InvalidField::new(field, format!("is {number}, the limit is {}", u16::MAX)))
}

/// A command with its request id, its principal and its trace.
pub(super) fn stamped<B>(context: Option<v1::RequestContext>, body: B) -> Result<Command<B>, InvalidField> {
    let wire = context.ok_or_else(|| InvalidField::missing("context"))?;
    let read = |wire: v1::RequestContext| {
        let trace = wire.traceparent.map(TraceParent::try_from).transpose();
        Ok(Command {
            request: request_id(&wire.request_id)?,
            principal: optional_name("principal", wire.principal.as_ref())?,
            trace: trace.map_err(|error| InvalidField::new("traceparent", error.to_string()))?,
            body,
        })
    };
    read(wire).map_err(|error: InvalidField| error.within("context"))
}

/// What a request says of itself, for the wire.
pub(super) fn context<B>(command: &Command<B>) -> Option<v1::RequestContext> {
    Some(v1::RequestContext {
        request_id: Bytes::copy_from_slice(command.request.0.as_bytes()),
        principal: command.principal.clone().map(Into::into),
        traceparent: command.trace.clone().map(Into::into),
    })
}

/// A request id: the 16 bytes of a UUID, or its text.
fn request_id(bytes: &Bytes) -> Result<RequestId, InvalidField> {
    let wrong = || InvalidField::new("request_id", "is not a UUID: 16 bytes, or its text");
    if let Ok(bytes) = <[u8; 16]>::try_from(bytes.as_ref()) {
        return Ok(RequestId(uuid::Uuid::from_bytes(bytes)));
    }
    if bytes.is_empty() {
        return Err(InvalidField::missing("request_id"));
    }
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(wrong)
}
