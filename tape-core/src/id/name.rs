//! Single names, and why a text is not a valid one.

use crate::limits::{BUSINESS_KEY_BYTES_MAX, NAME_BYTES_MAX, REACTION_NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};
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

pub(super) fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
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
    /// The outermost scope of every key. Tenants share nothing.
    Tenant = "tenant", NAME_BYTES_MAX;
    /// An agent application.
    App = "app", NAME_BYTES_MAX;
    /// A version of an agent's code.
    AgentVersion = "agent version", NAME_BYTES_MAX;
    /// The user on whose behalf a run acts.
    User = "user", NAME_BYTES_MAX;
    /// A conversation of a user with an app.
    SessionName = "session", NAME_BYTES_MAX;
    /// One invocation of an agent within a session.
    Invocation = "invocation", NAME_BYTES_MAX;
    /// The upstream system that an effect acts on.
    ConnectorName = "connector", NAME_BYTES_MAX;
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
    /// A relay, which sends the feed to another system.
    RelayName = "relay", NAME_BYTES_MAX;
    /// A reaction: what the journal does by itself where an entry is written.
    ReactionName = "reaction", REACTION_NAME_BYTES_MAX;
    /// A system that a relay sends to, and that confirms what it erased.
    SubscriberName = "subscriber", NAME_BYTES_MAX;
    /// The key of a label or of a piece of state.
    Key = "key", NAME_BYTES_MAX;
}
