//! Names and keys. A value of these types has been checked; inside Tape nothing checks it again.

mod name;
mod position;
mod prefix;
mod relay;
mod relay_stream;
mod request;
mod stream;

pub use name::{
    AgentVersion, App, BudgetName, BusinessKey, ConnectorName, EventId, GateName, Holder, InvalidName,
    Invocation, Key, NameProblem, Operation, Principal, ReactionName, RelayName, SampleName, SessionName,
    SignalId, SubscriberName, Tenant, TimerName, User, ValueName,
};
pub use position::{EffectId, Position, Scope};
pub use prefix::{RunPrefix, StreamPrefix};
pub use relay::{RelayId, RelayPart};
pub use relay_stream::{RelayScope, RelayStream};
pub use request::{RequestClock, RequestId};
pub use stream::{RunId, SessionId, StreamId};

use serde::{Deserialize, Serialize};
use std::fmt;

/// The n-th entry of a stream, from 1; zero is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(#[serde(deserialize_with = "crate::number::unsigned")] pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The sequence number after this one; the greatest has no successor and returns itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This number and those after it, up to the greatest. A range of numbers would overflow behind that one.
    pub fn onward(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |n| n.0.checked_add(1).map(Self))
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
pub struct Epoch(#[serde(deserialize_with = "crate::number::unsigned")] pub u64);

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
