//! Names of streams, and what is asked of streams of any kind.

use super::field::{InvalidField, name, optional_name, required};
use super::name::{context, stamped};
use crate::v1;
use crate::v1::stream_id::Kind;
use tape_core::command::Command;
use tape_core::erasure::Erasure;
use tape_core::id::{BusinessKey, ConnectorName, Seq, StreamId, Tenant};

impl TryFrom<v1::StreamId> for StreamId {
    type Error = InvalidField;
    fn try_from(wire: v1::StreamId) -> Result<Self, InvalidField> {
        match wire.kind.ok_or_else(|| InvalidField::missing("kind"))? {
            Kind::Run(run) => required("run", Some(run)).map(Self::Run),
            Kind::Session(session) => required("session", Some(session)).map(Self::Session),
            Kind::SharedState(shared) => read_shared(&shared).map_err(|error| error.within("shared_state")),
            Kind::Value(value) => {
                let (tenant, name) = required("value", Some(value))?;
                Ok(Self::Value { tenant, name })
            }
            Kind::BusinessKey(key) => {
                let (tenant, connector, key) = required("business_key", Some(key))?;
                Ok(Self::KeyOwner {
                    tenant,
                    connector,
                    key,
                })
            }
            Kind::Relay(relay) => required("relay", Some(relay)).map(Self::Relay),
        }
    }
}

fn read_shared(wire: &v1::SharedStateId) -> Result<StreamId, InvalidField> {
    Ok(StreamId::Shared {
        tenant: name("tenant", &wire.tenant)?,
        app: name("app", &wire.app)?,
        user: optional_name("user", wire.user.as_ref())?,
    })
}

impl TryFrom<v1::BusinessKeyId> for (Tenant, ConnectorName, BusinessKey) {
    type Error = InvalidField;
    fn try_from(wire: v1::BusinessKeyId) -> Result<Self, InvalidField> {
        Ok((
            name("tenant", &wire.tenant)?,
            name("connector", &wire.connector)?,
            name("key", &wire.key)?,
        ))
    }
}

impl From<StreamId> for v1::StreamId {
    fn from(stream: StreamId) -> Self {
        let kind = match stream {
            StreamId::Run(run) => Kind::Run(run.into()),
            StreamId::Session(session) => Kind::Session(session.into()),
            StreamId::Shared { tenant, app, user } => Kind::SharedState(v1::SharedStateId {
                tenant: tenant.into(),
                app: app.into(),
                user: user.map(Into::into),
            }),
            StreamId::Value { tenant, name } => Kind::Value((tenant, name).into()),
            StreamId::KeyOwner {
                tenant,
                connector,
                key,
            } => Kind::BusinessKey(v1::BusinessKeyId {
                tenant: tenant.into(),
                connector: connector.into(),
                key: key.into(),
            }),
            StreamId::Relay(relay) => Kind::Relay(relay.into()),
        };
        Self { kind: Some(kind) }
    }
}

/// Which tenants a call is about: one, or all of them where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants(pub Option<Tenant>);

impl TryFrom<v1::Tenants> for Tenants {
    type Error = InvalidField;
    fn try_from(wire: v1::Tenants) -> Result<Self, InvalidField> {
        use v1::tenants::Which;
        match wire.which.ok_or_else(|| InvalidField::missing("which"))? {
            Which::Only(tenant) => Ok(Self(Some(name("only", &tenant)?))),
            Which::All(_) => Ok(Self(None)),
        }
    }
}

impl From<Tenants> for v1::Tenants {
    fn from(Tenants(tenant): Tenants) -> Self {
        use v1::tenants::{All, Which};
        let which = tenant.map_or(Which::All(All {}), |tenant| Which::Only(tenant.into()));
        Self { which: Some(which) }
    }
}

/// A request to erase payloads of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamErasure {
    /// The stream.
    pub stream: StreamId,
    /// The command.
    pub command: Command<Erasure>,
}

impl TryFrom<v1::EraseEntriesRequest> for StreamErasure {
    type Error = InvalidField;
    fn try_from(wire: v1::EraseEntriesRequest) -> Result<Self, InvalidField> {
        let body = Erasure {
            entries: wire.seqs.into_iter().map(Seq).collect(),
            reason: wire.reason,
        };
        Ok(Self {
            stream: required("stream", wire.stream)?,
            command: stamped(wire.context, body)?,
        })
    }
}

impl From<StreamErasure> for v1::EraseEntriesRequest {
    fn from(erasure: StreamErasure) -> Self {
        let StreamErasure { stream, command } = erasure;
        Self {
            stream: Some(stream.into()),
            context: context(&command),
            seqs: command.body.entries.iter().map(|seq| seq.0).collect(),
            reason: command.body.reason,
        }
    }
}
