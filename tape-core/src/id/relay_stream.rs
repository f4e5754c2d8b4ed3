//! The streams of relays.

use super::{InvalidName, NameProblem, RelayId, RelayName, Tenant};
use std::fmt;
use std::str::FromStr;

/// Whose entries a relay sends, as the name of its stream says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelayScope {
    /// Those of one tenant, the tenant of the stream.
    Own,
    /// Those of all tenants. Each tenant has a stream with what concerns it, and none has what concerns another.
    All,
}

impl RelayScope {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Own, Self::All];

    /// The word for it in the name of a stream.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

impl fmt::Display for RelayScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RelayScope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let scope = Self::BOTH.into_iter().find(|scope| scope.as_str() == text);
        scope.ok_or(InvalidName {
            what: "scope of a relay",
            problem: NameProblem::Form { form: "own or all" },
        })
    }
}

/// What is on record of a relay in one tenant: the tenant's entries that its sink refused, that were sent again, and the erasures that its
/// subscribers confirmed.
///
/// ```
/// use tape_core::id::{RelayScope, StreamId};
/// let stream: StreamId = "acme/relay/all/lake".parse().unwrap();
/// let StreamId::Relay(relay) = &stream else { panic!() };
/// assert_eq!((relay.tenant.as_str(), relay.scope, relay.name.as_str()), ("acme", RelayScope::All, "lake"));
/// assert_eq!(stream.to_string(), "acme/relay/all/lake");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayStream {
    /// The tenant, of which all entries are that the stream names.
    pub tenant: Tenant,
    /// Whose entries the relay sends.
    pub scope: RelayScope,
    /// The relay's name.
    pub name: RelayName,
}

impl RelayStream {
    /// The stream of a relay in a tenant; none where the relay is another tenant's own.
    #[must_use]
    pub fn of(relay: &RelayId, tenant: &Tenant) -> Option<Self> {
        let scope = match &relay.tenant {
            None => RelayScope::All,
            Some(own) if own == tenant => RelayScope::Own,
            Some(_) => return None,
        };
        Some(Self {
            tenant: tenant.clone(),
            scope,
            name: relay.name.clone(),
        })
    }

    /// The relay.
    #[must_use]
    pub fn relay(&self) -> RelayId {
        RelayId {
            tenant: (self.scope == RelayScope::Own).then(|| self.tenant.clone()),
            name: self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RelayStream;
    use crate::id::{RelayId, StreamId, Tenant};

    #[test]
    fn a_relay_has_a_stream_in_each_tenant_whose_entries_it_sends() {
        let (acme, beta) = (Tenant::new("acme").unwrap(), Tenant::new("beta").unwrap());
        let own: RelayId = "acme/lake".parse().unwrap();
        let all: RelayId = "*/lake".parse().unwrap();
        let stream = |relay, tenant| RelayStream::of(relay, tenant);
        for (relay, tenant, name) in [
            (&own, &acme, "acme/relay/own/lake"),
            (&all, &acme, "acme/relay/all/lake"),
            (&all, &beta, "beta/relay/all/lake"),
        ] {
            let stream = stream(relay, tenant).unwrap();
            assert_eq!(&stream.relay(), relay);
            assert_eq!(StreamId::Relay(stream).to_string(), name);
        }
        assert_eq!(stream(&own, &beta), None);
    }

    #[test]
    fn there_is_no_other_scope() {
        for wrong in [
            "acme/relay/lake",
            "acme/relay/none/lake",
            "acme/relay/own/lake/x",
            "acme/relay/Own/lake",
        ] {
            assert!(wrong.parse::<StreamId>().is_err(), "{wrong}");
        }
    }
}
