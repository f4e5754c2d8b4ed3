//! Subjects name entries in the feed; patterns choose them.

use crate::id::{InvalidName, NameProblem, StreamId, Tenant};
use crate::limits::PATTERN_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The subject of an entry: its stream's path and its kind, as tokens separated by dots, such as
/// `acme.run.treasury.ann.s1.i1.effect.confirmed`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// The subject of entries of a kind in a stream.
    #[must_use]
    pub fn new(stream: &StreamId, kind: &str) -> Self {
        Self(format!("{}.{kind}", stream.to_string().replace('/', ".")))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern over subjects: `*` stands for one token, a last `>` for one or more.
///
/// ```
/// use tape_core::id::{RunId, StreamId};
/// use tape_core::subject::{Pattern, Subject};
/// let stream = StreamId::Run(RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap());
/// let subject = Subject::new(&stream, "effect.confirmed");
/// assert!("acme.run.treasury.>".parse::<Pattern>().unwrap().matches(&subject));
/// assert!("*.run.*.*.*.*.effect.*".parse::<Pattern>().unwrap().matches(&subject));
/// assert!(!"acme.session.>".parse::<Pattern>().unwrap().matches(&subject));
/// assert!("acme.>.run".parse::<Pattern>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that matches every subject.
    #[must_use]
    pub fn all() -> Self {
        Self(">".to_owned())
    }

    /// The tenant that all its subjects are of; none where it names no single one.
    ///
    /// ```
    /// use tape_core::subject::Pattern;
    /// let tenant = |pattern: &str| pattern.parse::<Pattern>().unwrap().tenant();
    /// assert_eq!(tenant("acme%2E1.run.>").unwrap().as_str(), "acme.1");
    /// assert!(tenant("*.run.>").is_none() && tenant(">").is_none());
    /// ```
    #[must_use]
    pub fn tenant(&self) -> Option<Tenant> {
        let token = self.0.split('.').next()?;
        // The name of a stream of the tenant is read, so that escapes are read in one place.
        let stream: StreamId = format!("{token}/shared/any").parse().ok()?;
        Some(stream.tenant().clone())
    }

    /// Whether it matches `subject`.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut tokens = subject.0.split('.');
        for pattern in self.0.split('.') {
            match (pattern, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (pattern, Some(token)) if pattern == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let tokens: Vec<&str> = text.split('.').collect();
        let misplaced = |(i, token): (usize, &&str)| match *token {
            "" => true,
            ">" => i + 1 != tokens.len(),
            "*" => false,
            other => other.contains(['*', '>', ' ', '/']),
        };
        if text.len() > PATTERN_BYTES_MAX {
            let (bytes, max) = (text.len(), PATTERN_BYTES_MAX);
            return Err(InvalidName {
                what: "pattern",
                problem: NameProblem::TooLong { bytes, max },
            });
        }
        if tokens.iter().enumerate().any(misplaced) {
            let form = "tokens between dots, where a token may be '*' and the last one '>'";
            return Err(InvalidName {
                what: "pattern",
                problem: NameProblem::Form { form },
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}
