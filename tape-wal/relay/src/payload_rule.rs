//! What becomes of payloads in events.

use crate::redaction::Redaction;
use tape_core::payload::Payload;

/// What events have of payloads and words. Lengths and digests they have in any case.
///
/// Only payloads and words are subject to it. Envelopes go out whole, since the chain covers their bytes: names of runs, users and keys are
/// in them, and in entries of version 1 also texts that are words since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PayloadRule {
    /// All bytes.
    #[default]
    Include,
    /// No bytes.
    Omit,
    /// Payloads of JSON with some values replaced. Payloads of other types or shapes, and words, are omitted.
    Redact(Redaction),
}

/// What the rule lets out of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of them.
    Whole,
    /// This text in their place.
    Redacted(String),
    /// None of them.
    Nothing,
}

impl PayloadRule {
    /// What goes out of a payload; of words where there is no content type.
    pub(crate) fn shown(&self, content_type: Option<&str>, bytes: &[u8]) -> Shown {
        match self {
            Self::Include => Shown::Whole,
            Self::Omit => Shown::Nothing,
            Self::Redact(redaction) => {
                let json = content_type.is_some_and(is_json);
                let text = std::str::from_utf8(bytes).ok().filter(|_| json);
                text.map_or(Shown::Nothing, |text| redaction.shown(text))
            }
        }
    }
}

/// Whether bytes of a content type are JSON in which values can be found. What stands for bytes that were not kept has some of them in
/// hexadecimal digits, which no pointer finds.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let json = essence.eq_ignore_ascii_case(Payload::JSON) || essence.to_ascii_lowercase().ends_with("+json");
    json && !essence.eq_ignore_ascii_case(Payload::UNKEPT)
}
