//! Which versions of the contract and of entries a client and a server know, and whether they have one in common.

use super::field::{InvalidField, required};
use crate::failure::Failure;
use crate::v1;
use std::fmt;
use tape_core::codec::VERSION;

/// The version of the contract that this build knows.
pub const CONTRACT_VERSION: u32 = 1;

/// A range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    first: u32,
    last: u32,
}

impl Versions {
    /// The versions of the contract that this build knows.
    pub const CONTRACT: Self = Self {
        first: CONTRACT_VERSION,
        last: CONTRACT_VERSION,
    };
    /// The versions of entries that this build reads. It writes the last.
    pub const ENTRIES: Self = Self {
        first: 1,
        last: VERSION,
    };

    /// Whether all versions of another range are in this one.
    const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether a version is in both.
    const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<v1::VersionRange> for Versions {
    type Error = InvalidField;
    fn try_from(wire: v1::VersionRange) -> Result<Self, InvalidField> {
        let v1::VersionRange { first, last } = wire;
        if first == 0 {
            return Err(InvalidField::new("first", "is 0, and the first version is 1"));
        }
        if last < first {
            let problem = format!("is {last}, and the first version is {first}");
            return Err(InvalidField::new("last", problem));
        }
        Ok(Self { first, last })
    }
}

impl From<Versions> for v1::VersionRange {
    fn from(Versions { first, last }: Versions) -> Self {
        Self { first, last }
    }
}

/// The longest name of a program with its release, in bytes.
const PROGRAM_BYTES_MAX: usize = 200;

/// A program with its release, and the versions that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program and its release, such as `tape-client/0.1.0`.
    pub name: String,
    /// The versions of the contract that it knows.
    pub contract: Versions,
    /// The versions of entries: those that a client reads, those that a server may give out.
    pub entries: Versions,
}

impl Program {
    /// A program of this build.
    #[must_use]
    pub fn of_this_build(name: &str) -> Self {
        Self {
            name: format!("{name}/{}", env!("CARGO_PKG_VERSION")),
            contract: Versions::CONTRACT,
            entries: Versions::ENTRIES,
        }
    }

    /// Checks that this server and a client can work together: they know a version of the contract in common, and the client reads every
    /// entry that the server may give out.
    ///
    /// # Errors
    /// [`Failure::VersionMismatch`] names both, and which of them to upgrade.
    pub fn accepts(&self, client: &Self) -> Result<(), Failure> {
        let mismatch =
            |what: &'static str, ours: Versions, theirs: Versions, upgrade| Failure::VersionMismatch {
                what: what.to_owned(),
                client: client.name.clone(),
                server: self.name.clone(),
                client_versions: theirs.to_string(),
                server_versions: ours.to_string(),
                upgrade,
            };
        let (ours, theirs) = (self.contract, client.contract);
        if !ours.meets(theirs) {
            let older = if theirs.last < ours.first {
                Side::Client
            } else {
                Side::Server
            };
            return Err(mismatch("contract", ours, theirs, older));
        }
        let (ours, theirs) = (self.entries, client.entries);
        if !theirs.covers(ours) {
            let older = if theirs.last < ours.last {
                Side::Client
            } else {
                Side::Server
            };
            return Err(mismatch("entries", ours, theirs, older));
        }
        Ok(())
    }
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Side {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Client, Self::Server]
            .into_iter()
            .find(|side| side.as_str() == text)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<v1::NegotiateRequest> for Program {
    type Error = InvalidField;
    fn try_from(wire: v1::NegotiateRequest) -> Result<Self, InvalidField> {
        let printable = wire.client.chars().all(|letter| !letter.is_control());
        if !(1..=PROGRAM_BYTES_MAX).contains(&wire.client.len()) || !printable {
            let problem = format!("has not 1 to {PROGRAM_BYTES_MAX} bytes without control characters");
            return Err(InvalidField::new("client", problem));
        }
        Ok(Self {
            name: wire.client,
            contract: required("contract", wire.contract)?,
            entries: required("entries", wire.entries)?,
        })
    }
}

impl From<Program> for v1::NegotiateRequest {
    fn from(client: Program) -> Self {
        Self {
            client: client.name,
            contract: Some(client.contract.into()),
            entries: Some(client.entries.into()),
        }
    }
}

impl TryFrom<v1::NegotiateResponse> for Program {
    type Error = InvalidField;
    fn try_from(wire: v1::NegotiateResponse) -> Result<Self, InvalidField> {
        Ok(Self {
            name: wire.server,
            contract: required("contract", wire.contract)?,
            entries: required("entries", wire.entries)?,
        })
    }
}

impl From<Program> for v1::NegotiateResponse {
    fn from(server: Program) -> Self {
        Self {
            server: server.name,
            contract: Some(server.contract.into()),
            entries: Some(server.entries.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Program, Side, Versions};
    use crate::failure::Failure;

    fn program(name: &str, contract: (u32, u32), entries: (u32, u32)) -> Program {
        let range = |(first, last)| Versions { first, last };
        Program {
            name: name.to_owned(),
            contract: range(contract),
            entries: range(entries),
        }
    }

    fn upgrade(client: &Program, server: &Program) -> Option<(String, Side)> {
        match server.accepts(client) {
            Ok(()) => None,
            Err(Failure::VersionMismatch { what, upgrade, .. }) => Some((what, upgrade)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_has_no_version_in_common_is_told_which_side_is_older() {
        let server = program("server/3", (2, 3), (1, 3));
        let told = |contract, entries| upgrade(&program("client/9", contract, entries), &server);
        for (contract, entries) in [((2, 2), (1, 3)), ((3, 9), (1, 4))] {
            assert_eq!(told(contract, entries), None, "{contract:?} {entries:?}");
        }
        assert_eq!(told((1, 1), (1, 3)), Some(("contract".to_owned(), Side::Client)));
        assert_eq!(told((4, 5), (1, 3)), Some(("contract".to_owned(), Side::Server)));
        assert_eq!(told((2, 3), (1, 2)), Some(("entries".to_owned(), Side::Client)));
        assert_eq!(told((2, 3), (2, 3)), Some(("entries".to_owned(), Side::Server)));
        assert_eq!(told((2, 3), (4, 9)), Some(("entries".to_owned(), Side::Server)));
    }

    #[test]
    fn a_build_works_with_itself() {
        let client = Program::of_this_build("tape-client");
        assert_eq!(upgrade(&client, &Program::of_this_build("tape-server")), None);
    }
}
