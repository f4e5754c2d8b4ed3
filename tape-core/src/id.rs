//! Names and keys. A value of these types has been checked; inside Tape nothing checks it again.

use crate::limits::{BUSINESS_KEY_BYTES_MAX, NAME_BYTES_MAX, SCOPE_BYTES_MAX, SCOPE_DEPTH_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not the name or key it was given as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct InvalidName {
    /// What the text was meant to be, such as `tenant`.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: NameProblem,
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// The name has no characters.
    #[error("is empty")]
    Empty,
    /// The name is longer than its limit.
    #[error("has {bytes} bytes, the limit is {max}")]
    TooLong {
        /// Length of the name.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The name has a control character.
    #[error("has the control character U+{code:04X} at byte {at}")]
    Control {
        /// The character.
        code: u32,
        /// Its place.
        at: usize,
    },
    /// The text does not have the form of this kind of key.
    #[error("is not of the form {form}")]
    Form {
        /// The form it should have.
        form: &'static str,
    },
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
    let problem = if text.is_empty() {
        NameProblem::Empty
    } else if text.len() > max {
        NameProblem::TooLong {
            bytes: text.len(),
            max,
        }
    } else if let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_control()) {
        NameProblem::Control {
            code: u32::from(c),
            at,
        }
    } else {
        return Ok(());
    };
    Err(InvalidName { what, problem })
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $what:literal, $max:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as this name.
            ///
            /// # Errors
            /// [`InvalidName`] where the text is empty, over its limit, or has a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                check_text($what, text, $max)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    )+};
}

names! {
    /// The outermost scope of every key; nothing crosses it.
    Tenant = "tenant", NAME_BYTES_MAX;
    /// An agent application.
    App = "app", NAME_BYTES_MAX;
    /// The user on whose behalf a run acts.
    User = "user", NAME_BYTES_MAX;
    /// A conversation of a user with an app.
    SessionName = "session", NAME_BYTES_MAX;
    /// One invocation of an agent within a session.
    Invocation = "invocation", NAME_BYTES_MAX;
    /// The upstream system that an effect acts on.
    Connector = "connector", NAME_BYTES_MAX;
    /// What an effect asks of its connector.
    Operation = "operation", NAME_BYTES_MAX;
    /// A business operation's own name, unique per tenant and connector.
    BusinessKey = "business key", BUSINESS_KEY_BYTES_MAX;
    /// A gate of a run.
    GateName = "gate", NAME_BYTES_MAX;
    /// A sender's own name for a signal, by which a repeated signal is known.
    SignalId = "signal id", NAME_BYTES_MAX;
    /// A timer of a run.
    TimerName = "timer", NAME_BYTES_MAX;
    /// A budget of a run.
    BudgetName = "budget", NAME_BYTES_MAX;
    /// What a sample is of.
    SampleName = "sample", NAME_BYTES_MAX;
    /// A watchable value.
    ValueName = "value", NAME_BYTES_MAX;
    /// A process that holds a lease or a claim.
    Holder = "holder", NAME_BYTES_MAX;
    /// Who acts: a person, a service account, a worker.
    Principal = "principal", NAME_BYTES_MAX;
    /// An event of a session.
    EventId = "event id", NAME_BYTES_MAX;
    /// The key of a label or of a piece of state.
    Key = "key", NAME_BYTES_MAX;
}

/// The n-th entry of a stream, from 1; zero is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The sequence number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The fencing token of a lease: it grows by one with every driver. Streams without drivers stay at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one request of one caller: repeating it returns the first outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(#[serde(with = "uuid::serde::simple")] pub uuid::Uuid);

impl RequestId {
    /// From a number; for tests and for callers with their own ids.
    #[must_use]
    pub const fn from_u128(n: u128) -> Self {
        Self(uuid::Uuid::from_u128(n))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = InvalidName {
            what: "request id",
            problem: NameProblem::Form { form: "a UUID" },
        };
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| form)
    }
}

/// One invocation of an agent.
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
    /// Who owns a business key.
    Claim {
        /// The tenant.
        tenant: Tenant,
        /// The connector.
        connector: Connector,
        /// The business key.
        key: BusinessKey,
    },
}

impl StreamId {
    /// The tenant that owns the stream.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        match self {
            Self::Run(run) => &run.tenant,
            Self::Session(session) => &session.tenant,
            Self::Shared { tenant, .. } | Self::Value { tenant, .. } | Self::Claim { tenant, .. } => tenant,
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
            Self::Claim { .. } => "claim",
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
            Self::Run(run) => {
                parts.extend([
                    run.app.as_str(),
                    run.user.as_str(),
                    run.session.as_str(),
                    run.invocation.as_str(),
                ]);
            }
            Self::Session(s) => parts.extend([s.app.as_str(), s.user.as_str(), s.session.as_str()]),
            Self::Shared { app, user, .. } => {
                parts.push(app.as_str());
                parts.extend(user.as_ref().map(User::as_str));
            }
            Self::Value { name, .. } => parts.push(name.as_str()),
            Self::Claim { connector, key, .. } => parts.extend([connector.as_str(), key.as_str()]),
        }
        parts
    }
}

impl From<RunId> for StreamId {
    fn from(run: RunId) -> Self {
        Self::Run(run)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts().into_iter().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            write_escaped(part, f)?;
        }
        Ok(())
    }
}

impl FromStr for StreamId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = || InvalidName {
            what: "stream",
            problem: NameProblem::Form {
                form: "tenant/run|session|shared|value|claim/...",
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
            [tenant, "claim", connector, key] => Self::Claim {
                tenant: Tenant::new(tenant)?,
                connector: Connector::new(connector)?,
                key: BusinessKey::new(key)?,
            },
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

fn write_escaped(part: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = part;
    while let Some(at) = rest.find(['%', '/', '.', '*', '>', ' ']) {
        write!(f, "{}%{:02X}", &rest[..at], rest.as_bytes()[at])?;
        rest = &rest[at + 1..];
    }
    f.write_str(rest)
}

fn unescape(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let byte = u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?;
        // Only the form that `write_escaped` writes is taken: one stream has one text.
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

/// A path of parents: sub-agents, parallel branches and agents inside tools have scopes of their own, so that
/// concurrency never shifts a key. The root is the empty path.
///
/// ```
/// use tape_core::id::Scope;
/// let branch = Scope::root().child("planner").unwrap().child("branch-2").unwrap();
/// assert_eq!(branch.as_str(), "planner/branch-2");
/// assert!(Scope::root().child("a/b").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Arc<str>);

impl Scope {
    /// The scope of the run itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// The scope `name` within this one.
    ///
    /// # Errors
    /// [`InvalidName`] where the name is empty, has a `/`, `#` or control character, or the path gets too long or deep.
    pub fn child(&self, name: &str) -> Result<Self, InvalidName> {
        let problem = match name {
            "" => NameProblem::Empty,
            name if name.contains('/') => NameProblem::Form {
                form: "a path whose parts have no '/'",
            },
            name if self.0.is_empty() => return name.parse(),
            name => return format!("{}/{name}", self.0).parse(),
        };
        Err(InvalidName {
            what: "scope",
            problem,
        })
    }

    /// The path's text; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Ok(Self::root());
        }
        check_text("scope", text, SCOPE_BYTES_MAX)?;
        let wrong = text.contains('#')
            || text.split('/').any(str::is_empty)
            || text.split('/').count() > SCOPE_DEPTH_MAX;
        if wrong {
            let problem = NameProblem::Form {
                form: "a path of at most 16 parts, none empty, without '#'",
            };
            return Err(InvalidName {
                what: "scope",
                problem,
            });
        }
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.as_ref().to_owned()
    }
}

/// The k-th decision of its scope, from 0. Its text form is `scope#k`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// The scope.
    pub scope: Scope,
    /// Which decision of the scope, from 0.
    pub k: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.scope, self.k)
    }
}

impl FromStr for Position {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = || InvalidName {
            what: "position",
            problem: NameProblem::Form { form: "scope#k" },
        };
        let (scope, k) = text.split_once('#').ok_or_else(form)?;
        Ok(Self {
            scope: scope.parse()?,
            k: parse_number(k).ok_or_else(form)?,
        })
    }
}

impl TryFrom<String> for Position {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

/// The j-th call of a decision, from 0. Its text form is `scope#k.j`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EffectId {
    /// The decision that authorised the effect.
    pub position: Position,
    /// Which call of the decision, from 0.
    pub call: u16,
}

impl EffectId {
    /// The idempotency key handed to the upstream. It names the run, the decision and the call, never the arguments, so it
    /// is the same in every attempt and every process: 40 characters of `a-z0-9-`, accepted by every
    /// upstream we know of.
    #[must_use]
    pub fn idempotency_key(&self, run: &RunId) -> String {
        let mut hash = Sha256::new();
        hash.update(b"tape effect key 1\n");
        hash.update(StreamId::Run(run.clone()).to_string());
        hash.update(b"\n");
        hash.update(self.to_string());
        format!("tape-{}", &hex::encode(hash.finalize())[..35])
    }

    /// The key under which the effect is undone: never the key of the effect itself.
    #[must_use]
    pub fn undo_key(&self, run: &RunId) -> String {
        format!("{}-undo", self.idempotency_key(run))
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.call)
    }
}

impl FromStr for EffectId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = || InvalidName {
            what: "effect",
            problem: NameProblem::Form { form: "scope#k.j" },
        };
        let (scope, numbers) = text.split_once('#').ok_or_else(form)?;
        let (k, call) = numbers.split_once('.').ok_or_else(form)?;
        let position = Position {
            scope: scope.parse()?,
            k: parse_number(k).ok_or_else(form)?,
        };
        Ok(Self {
            position,
            call: parse_number(call).ok_or_else(form)?,
        })
    }
}

impl TryFrom<String> for EffectId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<EffectId> for String {
    fn from(effect: EffectId) -> Self {
        effect.to_string()
    }
}

/// One number has one text: no sign, no leading zero.
fn parse_number<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|n: &T| n.to_string() == text)
}
