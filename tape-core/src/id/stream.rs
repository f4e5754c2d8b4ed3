//! Full names of streams: runs, sessions and everything else that has entries of its own.

use super::{
    App, BusinessKey, ConnectorName, InvalidName, Invocation, NameProblem, RelayName, RelayStream,
    SessionName, Tenant, User, ValueName,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One invocation of an agent.
///
/// Its text form is what the command `tape` prints and takes: the text form of its [stream](StreamId) without the word `run`.
///
/// ```
/// use tape_core::id::{RunId, StreamId};
/// let run = RunId::new("acme", "treasury", "ann", "s/1", "i1").unwrap();
/// assert_eq!(run.to_string(), "acme/treasury/ann/s%2F1/i1");
/// assert_eq!(StreamId::Run(run).to_string(), "acme/run/treasury/ann/s%2F1/i1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// The tenant.
    pub tenant: Tenant,
    /// The app.
    pub app: App,
    /// The user.
    pub user: User,
    /// The session.
    pub session: SessionName,
    /// The invocation.
    pub invocation: Invocation,
}

impl RunId {
    /// Checks five texts and takes them as the name of a run.
    ///
    /// # Errors
    /// [`InvalidName`] names the part that is wrong.
    pub fn new(
        tenant: &str,
        app: &str,
        user: &str,
        session: &str,
        invocation: &str,
    ) -> Result<Self, InvalidName> {
        Ok(Self {
            tenant: Tenant::new(tenant)?,
            app: App::new(app)?,
            user: User::new(user)?,
            session: SessionName::new(session)?,
            invocation: Invocation::new(invocation)?,
        })
    }

    /// The parts of its text form after the tenant.
    fn parts(&self) -> [&str; 4] {
        [
            self.app.as_str(),
            self.user.as_str(),
            self.session.as_str(),
            self.invocation.as_str(),
        ]
    }

    /// Its name as names of streams have it after `tenant/run/`.
    pub(super) fn path(&self) -> String {
        let path = self.to_string();
        path.split_once('/')
            .map_or_else(String::new, |(_, path)| path.to_owned())
    }

    /// The session this run belongs to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        SessionId {
            tenant: self.tenant.clone(),
            app: self.app.clone(),
            user: self.user.clone(),
            session: self.session.clone(),
        }
    }
}

/// A conversation of a user with an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The tenant.
    pub tenant: Tenant,
    /// The app.
    pub app: App,
    /// The user.
    pub user: User,
    /// The session.
    pub session: SessionName,
}

/// Anything with its own sequence of entries.
///
/// Its text form is a path, such as `acme/run/treasury/ann/s1/i1`; in each part, the characters `%`, `/`, `.`, `*`, `>`
/// and space are percent-encoded, so that parts never run into each other and the path's parts serve as tokens of a
/// subject as they are.
///
/// ```
/// use tape_core::id::{RunId, StreamId};
/// let run = RunId::new("acme", "treasury", "ann", "s/1", "i1").unwrap();
/// let stream = StreamId::Run(run);
/// assert_eq!(stream.to_string(), "acme/run/treasury/ann/s%2F1/i1");
/// assert_eq!("acme/run/treasury/ann/s%2F1/i1".parse::<StreamId>().unwrap(), stream);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamId {
    /// A run's journal.
    Run(RunId),
    /// A session's events.
    Session(SessionId),
    /// State shared by every session of an app (`app:`), or by every session of one of its users (`user:`).
    Shared {
        /// The tenant.
        tenant: Tenant,
        /// The app.
        app: App,
        /// The user, or none for the whole app.
        user: Option<User>,
    },
    /// A watchable value.
    Value {
        /// The tenant.
        tenant: Tenant,
        /// The value.
        name: ValueName,
    },
    /// The owner of a business key.
    KeyOwner {
        /// The tenant.
        tenant: Tenant,
        /// The connector.
        connector: ConnectorName,
        /// The business key.
        key: BusinessKey,
    },
    /// What is on record of a relay.
    Relay(RelayStream),
}

impl StreamId {
    /// The tenant that owns the stream.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        match self {
            Self::Run(run) => &run.tenant,
            Self::Session(session) => &session.tenant,
            Self::Relay(relay) => &relay.tenant,
            Self::Shared { tenant, .. } | Self::Value { tenant, .. } | Self::KeyOwner { tenant, .. } => {
                tenant
            }
        }
    }

    /// The word for the kind of stream, the second part of its text form.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Session(_) => "session",
            Self::Shared { .. } => "shared",
            Self::Value { .. } => "value",
            Self::KeyOwner { .. } => "claim",
            Self::Relay(_) => "relay",
        }
    }

    /// The run, where the stream is one.
    #[must_use]
    pub const fn as_run(&self) -> Option<&RunId> {
        if let Self::Run(run) = self {
            Some(run)
        } else {
            None
        }
    }

    fn parts(&self) -> Vec<&str> {
        let mut parts = vec![self.tenant().as_str(), self.kind()];
        match self {
            Self::Run(run) => parts.extend(run.parts()),
            Self::Session(s) => parts.extend([s.app.as_str(), s.user.as_str(), s.session.as_str()]),
            Self::Shared { app, user, .. } => {
                parts.push(app.as_str());
                parts.extend(user.as_ref().map(User::as_str));
            }
            Self::Value { name, .. } => parts.push(name.as_str()),
            Self::KeyOwner { connector, key, .. } => parts.extend([connector.as_str(), key.as_str()]),
            Self::Relay(relay) => parts.extend([relay.scope.as_str(), relay.name.as_str()]),
        }
        parts
    }
}

impl From<RunId> for StreamId {
    fn from(run: RunId) -> Self {
        Self::Run(run)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(std::iter::once(self.tenant.as_str()).chain(self.parts()), f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_path(self.parts(), f)
    }
}

fn write_path<'a>(parts: impl IntoIterator<Item = &'a str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            f.write_str("/")?;
        }
        write_escaped(part, f)?;
    }
    Ok(())
}

impl FromStr for StreamId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = || InvalidName {
            what: "stream",
            problem: NameProblem::Form {
                form: "tenant/run|session|shared|value|claim|relay/...",
            },
        };
        let parts = text
            .split('/')
            .map(unescape)
            .collect::<Option<Vec<String>>>()
            .ok_or_else(form)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let stream = match *parts.as_slice() {
            [tenant, "run", app, user, session, invocation] => {
                Self::Run(RunId::new(tenant, app, user, session, invocation)?)
            }
            [tenant, "session", app, user, session] => Self::Session(SessionId {
                tenant: Tenant::new(tenant)?,
                app: App::new(app)?,
                user: User::new(user)?,
                session: SessionName::new(session)?,
            }),
            [tenant, "shared", app] => Self::Shared {
                tenant: Tenant::new(tenant)?,
                app: App::new(app)?,
                user: None,
            },
            [tenant, "shared", app, user] => Self::Shared {
                tenant: Tenant::new(tenant)?,
                app: App::new(app)?,
                user: Some(User::new(user)?),
            },
            [tenant, "value", name] => Self::Value {
                tenant: Tenant::new(tenant)?,
                name: ValueName::new(name)?,
            },
            [tenant, "claim", connector, key] => Self::KeyOwner {
                tenant: Tenant::new(tenant)?,
                connector: ConnectorName::new(connector)?,
                key: BusinessKey::new(key)?,
            },
            [tenant, "relay", scope, name] => Self::Relay(RelayStream {
                tenant: Tenant::new(tenant)?,
                scope: scope.parse()?,
                name: RelayName::new(name)?,
            }),
            _ => return Err(form()),
        };
        Ok(stream)
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.to_string()
    }
}

pub(super) fn write_escaped(part: &str, f: &mut impl fmt::Write) -> fmt::Result {
    let mut rest = part;
    while let Some(at) = rest.find(['%', '/', '.', '*', '>', ' ']) {
        write!(f, "{}%{:02X}", &rest[..at], rest.as_bytes()[at])?;
        rest = &rest[at + 1..];
    }
    f.write_str(rest)
}

pub(super) fn unescape(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let byte = u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?;
        // Only the form that `write_escaped` writes is accepted: one stream has one text.
        if !matches!(byte, b'%' | b'/' | b'.' | b'*' | b'>' | b' ')
            || rest[at + 1..at + 3].contains(char::is_lowercase)
        {
            return None;
        }
        text.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    if rest.contains(['.', '*', '>', ' ']) {
        return None;
    }
    text.push_str(rest);
    Some(text)
}
