//! Values.

use super::field::{InvalidField, required};
use super::name::{context, stamped};
use crate::v1;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Tenant, ValueName};

/// A change of a value, as a call of the service requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueChange {
    /// The tenant.
    pub tenant: Tenant,
    /// The value.
    pub name: ValueName,
    /// The command.
    pub command: Command<ValueCommand>,
}

impl TryFrom<v1::PutValueRequest> for ValueChange {
    type Error = InvalidField;
    fn try_from(wire: v1::PutValueRequest) -> Result<Self, InvalidField> {
        let (tenant, name) = required("value_id", wire.value_id)?;
        let body = ValueCommand::Put {
            value: required("value", wire.value)?,
            expected: wire.expected_version,
        };
        let command = stamped(wire.context, body)?;
        Ok(Self {
            tenant,
            name,
            command,
        })
    }
}

impl TryFrom<v1::DeleteValueRequest> for ValueChange {
    type Error = InvalidField;
    fn try_from(wire: v1::DeleteValueRequest) -> Result<Self, InvalidField> {
        let (tenant, name) = required("value_id", wire.value_id)?;
        let body = ValueCommand::Delete {
            expected: wire.expected_version,
        };
        let command = stamped(wire.context, body)?;
        Ok(Self {
            tenant,
            name,
            command,
        })
    }
}

/// The request of a call of the service.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueRequest {
    /// For `Put`.
    Put(v1::PutValueRequest),
    /// For `Delete`.
    Delete(v1::DeleteValueRequest),
}

impl From<ValueChange> for ValueRequest {
    fn from(change: ValueChange) -> Self {
        let (value_id, command) = (Some((change.tenant, change.name).into()), change.command);
        let context = context(&command);
        match command.body {
            ValueCommand::Put { value, expected } => Self::Put(v1::PutValueRequest {
                value_id,
                context,
                value: Some(value.into()),
                expected_version: expected,
            }),
            ValueCommand::Delete { expected } => Self::Delete(v1::DeleteValueRequest {
                value_id,
                context,
                expected_version: expected,
            }),
        }
    }
}
