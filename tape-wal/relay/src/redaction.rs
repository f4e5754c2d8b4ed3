//! Values of JSON payloads that events must not have.

use crate::payload_rule::Shown;
use crate::repeats;
use std::borrow::Cow;
use tape_core::json::Letters;

/// What stands in place of a redacted value: this JSON text.
pub const REDACTED: &str = r#""[redacted]""#;
/// Most pointers of a redaction.
pub const POINTERS_MAX: usize = 64;
/// Longest pointer, in bytes.
pub const POINTER_BYTES_MAX: usize = 1_024;

/// Places in JSON payloads whose values are replaced.
///
/// Places are JSON pointers (RFC 6901), such as `/card/number`, with one addition: a token `*` stands for every member or element, as in
/// `/items/*/iban`. A place that a payload does not have is passed over. A payload without any of the places is omitted, unless
/// [told otherwise](Self::with_unmatched).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    pointers: Vec<Pointer>,
    unmatched: Unmatched,
}

/// What becomes of a payload that has none of the places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// It is omitted: it has another shape than was expected, and what must not go out may stand anywhere in it.
    #[default]
    Omit,
    /// It goes out whole.
    Include,
}

/// The tokens of a pointer, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pointer(Vec<String>);

/// Why texts are not a redaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRedaction {
    /// There are no pointers, or too many.
    #[error("a redaction has 1 to {POINTERS_MAX} JSON pointers, this one has {found}")]
    Pointers {
        /// The number of pointers.
        found: usize,
    },
    /// A text is not a JSON pointer.
    #[error(
        "'{pointer}' is not a JSON pointer of at most {POINTER_BYTES_MAX} bytes: \
         it is empty or begins with '/', and '~' stands before 0 or 1 only"
    )]
    Pointer {
        /// The beginning of the text.
        pointer: String,
    },
}

impl Redaction {
    /// A redaction of the values at `pointers`.
    ///
    /// # Errors
    /// [`InvalidRedaction`] says what is wrong.
    pub fn new<T: AsRef<str>>(pointers: &[T]) -> Result<Self, InvalidRedaction> {
        if !(1..=POINTERS_MAX).contains(&pointers.len()) {
            let found = pointers.len();
            return Err(InvalidRedaction::Pointers { found });
        }
        let pointers = pointers.iter().map(|text| Pointer::parse(text.as_ref()));
        let pointers = pointers.collect::<Result<_, _>>()?;
        Ok(Self {
            pointers,
            unmatched: Unmatched::default(),
        })
    }

    /// The same with another rule for payloads that have none of the places.
    #[must_use]
    pub const fn with_unmatched(mut self, unmatched: Unmatched) -> Self {
        self.unmatched = unmatched;
        self
    }

    /// What goes out of a JSON text; nothing where it is not JSON, or has none of the places.
    pub(crate) fn shown(&self, text: &str) -> Shown {
        let Ok(mut letters) = Letters::parse(text) else {
            return Shown::Nothing;
        };
        let mut replaced = false;
        for Pointer(tokens) in &self.pointers {
            replaced |= replace(&mut letters, tokens);
        }
        if !replaced && self.unmatched == Unmatched::Omit {
            return Shown::Nothing;
        }
        // Of a member that stands twice, the other one was not looked at.
        if replaced || !repeats::has_none(text) {
            Shown::Redacted(letters.to_string())
        } else {
            Shown::Whole
        }
    }
}

impl Pointer {
    fn parse(text: &str) -> Result<Self, InvalidRedaction> {
        let invalid = || InvalidRedaction::Pointer {
            pointer: text.chars().take(100).collect(),
        };
        if text.len() > POINTER_BYTES_MAX || !(text.is_empty() || text.starts_with('/')) {
            return Err(invalid());
        }
        let tokens = text.split('/').skip(1);
        tokens
            .map(unescaped)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(invalid)
    }
}

/// A token of a pointer as the name that it stands for.
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (escape, rest) = part.split_at_checked(1)?;
        name.push(match escape {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(name)
}

/// Replaces the values at a place; says whether there were any. It goes as deep as the pointer has tokens and the text has levels, which
/// are at most 127.
fn replace(at: &mut Letters<'_>, tokens: &[String]) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        *at = Letters::Scalar(Cow::Borrowed(REDACTED));
        return true;
    };
    match at {
        Letters::Object(members) if token == "*" => members
            .values_mut()
            .fold(false, |any, member| replace(member, rest) | any),
        Letters::Array(elements) if token == "*" => elements
            .iter_mut()
            .fold(false, |any, element| replace(element, rest) | any),
        Letters::Object(members) => members
            .get_mut(token.as_str())
            .is_some_and(|member| replace(member, rest)),
        Letters::Array(elements) => {
            let element = index(token).and_then(|index| elements.get_mut(index));
            element.is_some_and(|element| replace(element, rest))
        }
        Letters::Scalar(_) => false,
    }
}

/// An index of an array: digits without a zero before them.
fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    token.parse().ok().filter(|_| digits)
}
