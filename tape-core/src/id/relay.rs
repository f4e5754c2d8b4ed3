//! Names of relays and of their parts.

use super::stream::{unescape, write_escaped};
use super::{InvalidName, NameProblem, RelayName, Tenant};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a relay of all tenants has in the place of a tenant. No name of a tenant is written so: the character is escaped there.
const ALL: &str = "*";

/// A relay: of one tenant, whose entries alone it sends, or of all tenants. Two tenants may have relays of one name, and neither is the
/// relay of all tenants with that name.
///
/// ```
/// use tape_core::id::RelayId;
/// let own: RelayId = "acme/fraud".parse().unwrap();
/// assert_eq!(own.tenant.as_ref().unwrap().as_str(), "acme");
/// let all: RelayId = "*/lake".parse().unwrap();
/// assert!(all.tenant.is_none() && all.to_string() == "*/lake");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayId {
    /// The tenant whose entries it sends; none where it sends those of all.
    pub tenant: Option<Tenant>,
    /// Its name.
    pub name: RelayName,
}

/// A part of a relay, which one process at a time carries. The parts of a relay are the shards of the feed, unless it keeps them together.
///
/// Its text form is that of its relay with the number, such as `acme/fraud/0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayPart {
    /// The relay.
    pub relay: RelayId,
    /// Which part, from 0.
    pub part: u16,
}

impl RelayId {
    /// What the text forms of all relays of a tenant begin with.
    ///
    /// ```
    /// use tape_core::id::{RelayId, Tenant};
    /// assert_eq!(RelayId::prefix(&Tenant::new("acme.1").unwrap()), "acme%2E1/");
    /// ```
    #[must_use]
    pub fn prefix(tenant: &Tenant) -> String {
        let mut prefix = String::new();
        // Writing to a text does not fail.
        let _ = write_escaped(tenant.as_str(), &mut prefix);
        prefix.push('/');
        prefix
    }
}

fn form() -> InvalidName {
    InvalidName {
        what: "relay",
        problem: NameProblem::Form {
            form: "TENANT/NAME, or */NAME for one of all tenants",
        },
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Some(tenant) => write_escaped(tenant.as_str(), f)?,
            None => f.write_str(ALL)?,
        }
        f.write_str("/")?;
        write_escaped(self.name.as_str(), f)
    }
}

impl FromStr for RelayId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (tenant, name) = text.split_once('/').ok_or_else(form)?;
        let tenant = match tenant {
            ALL => None,
            tenant => Some(Tenant::new(unescape(tenant).ok_or_else(form)?)?),
        };
        let name = Some(name).filter(|name| !name.contains('/'));
        let name = name.and_then(unescape).ok_or_else(form)?;
        Ok(Self {
            tenant,
            name: RelayName::new(name)?,
        })
    }
}

impl fmt::Display for RelayPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.relay, self.part)
    }
}

impl FromStr for RelayPart {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (relay, part) = text.rsplit_once('/').ok_or_else(form)?;
        let number: u16 = part.parse().map_err(|_| form())?;
        // One part has one text.
        if number.to_string() != part {
            return Err(form());
        }
        Ok(Self {
            relay: relay.parse()?,
            part: number,
        })
    }
}

macro_rules! texts {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )+};
}

texts!(RelayId, RelayPart);

#[cfg(test)]
mod tests {
    use super::{RelayId, RelayPart};

    #[test]
    fn a_relay_of_a_tenant_that_is_called_star_is_not_that_of_all_tenants() {
        let star: RelayId = "%2A/x".parse().unwrap();
        assert_eq!(star.tenant.unwrap().as_str(), "*");
        for wrong in ["x", "", "/x", "a/", "a/b/c", "%2a/x", "a/b.c"] {
            assert!(wrong.parse::<RelayId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_has_one_text() {
        let part: RelayPart = "*/lake/17".parse().unwrap();
        assert_eq!((part.part, part.to_string().as_str()), (17, "*/lake/17"));
        for wrong in ["*/lake", "*/lake/", "*/lake/017", "*/lake/65536", "*/lake/+1"] {
            assert!(wrong.parse::<RelayPart>().is_err(), "{wrong}");
        }
    }
}
