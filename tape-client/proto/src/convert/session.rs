//! Sessions: their commands and their state.

use super::field::{InvalidField, name, optional, optional_name, required};
use super::name::{context, stamped};
use crate::v1;
use std::collections::BTreeMap;
use tape_core::command::{Command, Rewind, SessionCommand};
use tape_core::id::{Key, Seq, SessionId};
use tape_core::state::{Delta, Json};

impl TryFrom<v1::Delta> for Delta {
    type Error = InvalidField;
    fn try_from(wire: v1::Delta) -> Result<Self, InvalidField> {
        let mut delta = read_set(wire.set)?;
        for key in wire.removed {
            let key: Key = name("removed", &key)?;
            if let Some(twice) = delta.0.insert(key, None) {
                let problem = if twice.is_some() {
                    "removes a key that is set"
                } else {
                    "has a key twice"
                };
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

fn read_set(wire: BTreeMap<String, String>) -> Result<Delta, InvalidField> {
    let read = |(key, text): (String, String)| Ok((name("set", &key)?, Some(json("set", &key, text)?)));
    Ok(Delta(wire.into_iter().map(read).collect::<Result<_, _>>()?))
}

/// A change of a session, as a call of the service requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The session.
    pub session: SessionId,
    /// The command.
    pub command: Command<SessionCommand>,
}

impl TryFrom<v1::CreateSessionRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::CreateSessionRequest) -> Result<Self, InvalidField> {
        let session: SessionId = required("session", wire.session)?;
        let state = optional("state", wire.state)?.unwrap_or_default();
        let body = SessionCommand::Create {
            session: session.clone(),
            state,
        };
        let command = stamped(wire.context, body)?;
        Ok(Self { session, command })
    }
}

impl TryFrom<v1::AppendEventRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::AppendEventRequest) -> Result<Self, InvalidField> {
        let body = SessionCommand::Append {
            event: name("event_id", &wire.event_id)?,
            expected: wire.expected_seq.map(Seq),
            invocation: optional_name("invocation", wire.invocation.as_ref())?,
            author: wire.author,
            delta: optional("delta", wire.delta)?.unwrap_or_default(),
            content: required("content", wire.content)?,
        };
        let command = stamped(wire.context, body)?;
        Ok(Self {
            session: required("session", wire.session)?,
            command,
        })
    }
}

impl TryFrom<v1::DeleteSessionRequest> for SessionChange {
    type Error = InvalidField;
    fn try_from(wire: v1::DeleteSessionRequest) -> Result<Self, InvalidField> {
        let body = SessionCommand::Delete;
        let command = stamped(wire.context, body)?;
        Ok(Self {
            session: required("session", wire.session)?,
            command,
        })
    }
}

/// A rewind as the wire requests it. It becomes a command once the state as of `to` was read from the session's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRewind {
    /// The session.
    pub session: SessionId,
    /// The principal, the request id and the entry to rewind to.
    pub to: Command<Rewind>,
}

impl TryFrom<v1::RewindSessionRequest> for SessionRewind {
    type Error = InvalidField;
    fn try_from(wire: v1::RewindSessionRequest) -> Result<Self, InvalidField> {
        let rewind = Rewind {
            to: Seq(wire.to_seq),
            expected: wire.expected_seq.map(Seq),
        };
        let to = stamped(wire.context, rewind)?;
        Ok(Self {
            session: required("session", wire.session)?,
            to,
        })
    }
}

/// The request of a call of the service.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionRequest {
    /// For `Create`.
    Create(v1::CreateSessionRequest),
    /// For `Append`.
    Append(v1::AppendEventRequest),
    /// For `Rewind`.
    Rewind(v1::RewindSessionRequest),
    /// For `Delete`.
    Delete(v1::DeleteSessionRequest),
}

/// The request that sends `command` to `session`; none where the wire has none, as for commands that only servers send.
#[must_use]
pub fn session_request(session: SessionId, command: Command<SessionCommand>) -> Option<SessionRequest> {
    let (session, context) = (Some(session.into()), context(&command));
    let delta = |delta: Delta| (!delta.is_empty()).then(|| delta.into());
    Some(match command.body {
        SessionCommand::Create { state, .. } => SessionRequest::Create(v1::CreateSessionRequest {
            session,
            context,
            state: delta(state),
        }),
        SessionCommand::Append {
            event,
            expected,
            invocation,
            author,
            delta: change,
            content,
        } => SessionRequest::Append(v1::AppendEventRequest {
            session,
            context,
            event_id: event.into(),
            expected_seq: expected.map(|seq| seq.0),
            invocation: invocation.map(Into::into),
            author,
            delta: delta(change),
            content: Some(content.into()),
        }),
        SessionCommand::Rewind { to, expected, .. } => SessionRequest::Rewind(v1::RewindSessionRequest {
            session,
            context,
            to_seq: to.0,
            expected_seq: expected.map(|seq| seq.0),
        }),
        SessionCommand::Delete => SessionRequest::Delete(v1::DeleteSessionRequest { session, context }),
        SessionCommand::MarkMerged { .. } => return None,
    })
}

/// State as JSON texts by key.
#[must_use]
pub fn write_state(state: BTreeMap<String, Json>) -> BTreeMap<String, String> {
    state.into_iter().map(|(key, json)| (key, json.into())).collect()
}

/// State from JSON texts by key.
///
/// # Errors
/// [`InvalidField`] names the key whose text is not JSON.
pub fn read_state(wire: BTreeMap<String, String>) -> Result<BTreeMap<String, Json>, InvalidField> {
    let read = |(key, text): (String, String)| {
        let json = json("state", &key, text)?;
        Ok((key, json))
    };
    wire.into_iter().map(read).collect()
}

fn json(field: &str, key: &str, text: String) -> Result<Json, InvalidField> {
    Json::try_from(text).map_err(|error| InvalidField::new(field, format!("'{key}' is not JSON: {error}")))
}
