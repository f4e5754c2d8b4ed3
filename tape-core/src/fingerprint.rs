//! Digests of model requests, small enough to record with every decision and detailed enough to explain drift.

use crate::json::{self, InvalidJson, Letters};
use crate::limits::{FINGERPRINT_PARTS_MAX, FINGERPRINT_PREVIEW_BYTES_MAX};
use crate::payload::{ContentDigest, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A digest of a request with named parts, so that two requests that differ can be told apart in words.
///
/// ```
/// use tape_core::fingerprint::Fingerprint;
/// use serde_json::json;
/// let asked = Fingerprint::of_json(&json!({"model": "m", "messages": ["hi", "pay Ann"]}));
/// let again = Fingerprint::of_json(&json!({"messages": ["hi", "pay Ann"], "model": "m"}));
/// assert_eq!(asked, again);
/// let other = Fingerprint::of_json(&json!({"model": "m", "messages": ["hi", "pay Bob"]}));
/// assert_eq!(asked.difference(&other).unwrap(), r#"messages[1]: recorded "pay Ann", asked "pay Bob""#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Digest of the whole request.
    pub digest: Digest,
    /// Its parts, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A named part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where in the request, such as `messages[3]`.
    pub name: String,
    /// The first eight hexadecimal digits of the part's digest.
    pub digest: String,
    /// The start of the part's text; empty where the part stands for many.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub preview: String,
}

impl Fingerprint {
    /// The content digest by which refusals name the request. Its parts do not count: they are for people.
    #[must_use]
    pub fn content_digest(&self) -> ContentDigest {
        ContentDigest::of(&Self {
            digest: self.digest,
            parts: Vec::new(),
        })
    }

    /// The fingerprint of a request without parts.
    #[must_use]
    pub fn of_bytes(request: &[u8]) -> Self {
        Self {
            digest: Digest::of(request),
            parts: Vec::new(),
        }
    }

    /// The fingerprint of a JSON request. Objects count by content, not by the order of their keys. Each member of a top-level
    /// object is a part; of an array, its last element is a part and the elements before it together are another, so that
    /// a growing conversation keeps a fingerprint of constant size.
    ///
    /// A [`Value`] may have lost digits of numbers already; [`Fingerprint::of_json_text`] keeps all of them.
    #[must_use]
    pub fn of_json(request: &Value) -> Self {
        let text = json::text(request).unwrap_or_else(|_| request.to_string());
        Letters::parse(&text).map_or_else(|_| Self::of_bytes(text.as_bytes()), |letters| Self::of(&letters))
    }

    /// As [`Fingerprint::of_json`], of a text. Numbers are compared as written.
    ///
    /// # Errors
    /// [`InvalidJson`] where the text is not JSON.
    pub fn of_json_text(request: &str) -> Result<Self, InvalidJson> {
        Letters::parse(request).map(|letters| Self::of(&letters))
    }

    fn of(request: &Letters<'_>) -> Self {
        let mut parts = Vec::new();
        match request {
            Letters::Object(members) => members
                .iter()
                .for_each(|(name, value)| push_parts(&mut parts, name, value)),
            other => push_parts(&mut parts, "request", other),
        }
        parts.truncate(FINGERPRINT_PARTS_MAX);
        Self {
            digest: Digest::of(request.to_string().as_bytes()),
            parts,
        }
    }

    /// How `asked` differs from this recorded request, in a line a person can read; none where they are the same.
    #[must_use]
    pub fn difference(&self, asked: &Self) -> Option<String> {
        if self.digest == asked.digest {
            return None;
        }
        let mut lines = Vec::new();
        for recorded in &self.parts {
            match asked.parts.iter().find(|part| part.name == recorded.name) {
                Some(part) if part.digest == recorded.digest => {}
                part => lines.push(difference(&recorded.name, Some(recorded), part)),
            }
        }
        let added = asked
            .parts
            .iter()
            .filter(|part| self.parts.iter().all(|recorded| recorded.name != part.name));
        lines.extend(added.map(|part| difference(&part.name, None, Some(part))));
        if lines.is_empty() {
            lines.push(format!(
                "digest: recorded {}, asked {}",
                self.digest, asked.digest
            ));
        }
        Some(lines.join("; "))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.preview.is_empty() {
            write!(f, "digest {}", self.digest)
        } else {
            f.write_str(&self.preview)
        }
    }
}

fn difference(name: &str, recorded: Option<&Part>, asked: Option<&Part>) -> String {
    let side = |part: Option<&Part>| part.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    format!("{name}: recorded {}, asked {}", side(recorded), side(asked))
}

fn push_parts(parts: &mut Vec<Part>, name: &str, value: &Letters<'_>) {
    let array = match value {
        Letters::Array(elements) => elements.as_slice(),
        Letters::Object(_) | Letters::Scalar(_) => &[],
    };
    match array {
        [earlier @ .., last] => {
            if !earlier.is_empty() {
                let all: Vec<String> = earlier.iter().map(ToString::to_string).collect();
                parts.push(part(
                    format!("{name}[0..{}]", earlier.len()),
                    &all.join("\n"),
                    false,
                ));
            }
            parts.push(part(
                format!("{name}[{}]", earlier.len()),
                &last.to_string(),
                true,
            ));
        }
        [] => parts.push(part(name.to_owned(), &value.to_string(), true)),
    }
}

fn part(name: String, text: &str, preview: bool) -> Part {
    let end = text.floor_char_boundary(FINGERPRINT_PREVIEW_BYTES_MAX.min(text.len()));
    let preview = if preview {
        text[..end].to_owned()
    } else {
        String::new()
    };
    let end = name.floor_char_boundary(FINGERPRINT_PREVIEW_BYTES_MAX.min(name.len()));
    Part {
        name: name[..end].to_owned(),
        digest: Digest::of(text.as_bytes()).short(),
        preview,
    }
}
