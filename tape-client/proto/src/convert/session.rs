//! Sessions: their commands and their state.

use super::command::stamped;
use super::field::{InvalidField, name, optional, optional_name, required};
use super::name::request_bytes;
use crate::v1;
use std::collections::BTreeMap;
use tape_core::command::{Command, SessionCommand};
use tape_core::id::{Key, Seq, SessionId};
use tape_core::session::{Delta, Json};

impl TryFrom<v1::Delta> for Delta {
    type Error = InvalidField;
    fn try_from(wire: v1::Delta) -> Result<Self, InvalidField> {
        let mut delta = read_state("set", wire.set)?;
        for key in wire.removed {
            let key: Key = name("removed", &key)?;
            if let Some(twice) = delta.0.insert(key, None) {
                let problem = if twice.is_some() { "removes a key that is set" } else { "has a key twice" };
                return Err(InvalidField::new("removed", problem));
            }
        }
        Ok(delta)
    }
}

impl From<Delta> for v1::Delta {
    fn from(delta: Delta) -> Self {
        let mut wire = Self::default();
        for (key, value) in delta.0 {
            match value {
                Some(value) => drop(wire.set.insert(key.into(), value.into())),
                None => wire.removed.push(key.into()),
            }
        }
        wire
    }
}

fn read_state(field: &str, wire: BTreeMap<String, String>) -> Result<Delta, InvalidField> {
    let read = |(key, text): (String, String)| {
        let problem = |error: &dyn std::fmt::Display| format!("'{key}' is not JSON: {error}");
        let value = Json::try_from(text).map_err(|error| InvalidField::new(field, problem(&error)))?;
        Ok((name(field, &key)?, Some(value)))
    };
    Ok(Delta(wire.into_iter().map(read).collect::<Result<_, _>>()?))
}

/// A change of a session, as one of the calls of the service asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The session.
    pub session: SessionId,
    /// What is asked.
    pub command: Command<SessionCommand>,
}

impl TryFrom<v1::CreateSessionRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::CreateSessionRequest) -> Result<Self, InvalidField> {
        let session: SessionId = required("session", wire.session)?;
        let state = optional("state", wire.state)?.unwrap_or_default();
        let body = SessionCommand::Create { session: session.clone(), state };
        let command = stamped(&wire.request_id, wire.principal.as_ref(), wire.traceparent, body)?;
        Ok(Self { session, command })
    }
}

impl TryFrom<v1::AppendEventRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::AppendEventRequest) -> Result<Self, InvalidField> {
        let body = SessionCommand::Append {
            event: name("event", &wire.event)?,
            expected: wire.expected_seq.map(Seq),
            invocation: optional_name("invocation", wire.invocation.as_ref())?,
            author: wire.author,
            delta: optional("delta", wire.delta)?.unwrap_or_default(),
            content: required("content", wire.content)?,
        };
        let command = stamped(&wire.request_id, wire.principal.as_ref(), wire.traceparent, body)?;
        Ok(Self { session: required("session", wire.session)?, command })
    }
}

impl TryFrom<v1::DeleteSessionRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::DeleteSessionRequest) -> Result<Self, InvalidField> {
        let command =
            stamped(&wire.request_id, wire.principal.as_ref(), wire.traceparent, SessionCommand::Delete)?;
        Ok(Self { session: required("session", wire.session)?, command })
    }
}
