//! Positions in a run: scopes, decisions in a scope, calls of a decision.

use super::name::check_text;
use super::{InvalidName, NameProblem, RunId, StreamId};
use crate::limits::{SCOPE_BYTES_MAX, SCOPE_DEPTH_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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

    /// Whether it is the scope of the run itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The scope that this one is within; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Some(Self(Arc::from(parent))),
            None if self.is_root() => None,
            None => Some(Self::root()),
        }
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
