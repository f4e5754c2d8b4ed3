//! Templates: texts with words in braces that stand for values of the call.

use crate::connector::Call;
use std::fmt::Write as _;

/// A word in a template that stands for a value of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Key,
    BusinessKey,
    Operation,
    Effect,
    Tenant,
}

impl Word {
    const ALL: [Self; 5] = [
        Self::Key,
        Self::BusinessKey,
        Self::Operation,
        Self::Effect,
        Self::Tenant,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::BusinessKey => "business_key",
            Self::Operation => "operation",
            Self::Effect => "effect",
            Self::Tenant => "tenant",
        }
    }

    /// The value of the word; none where the call has no such value.
    pub(super) fn of(self, call: &Call) -> Option<String> {
        match self {
            Self::Key => Some(call.key.clone()),
            Self::BusinessKey => call.business_key.as_ref().map(|key| key.as_str().to_owned()),
            Self::Operation => Some(call.operation.as_str().to_owned()),
            Self::Effect => Some(call.effect.to_string()),
            Self::Tenant => Some(call.run.tenant.as_str().to_owned()),
        }
    }
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Fixed(String),
    Word(Word),
}

/// A text with words in braces; `{{` and `}}` stand for braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Part>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it. The text itself may be a secret and is not repeated.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut fixed = String::new();
        let mut at = 0;
        while let Some(offset) = text[at..].find(['{', '}']) {
            let brace = at + offset;
            fixed.push_str(&text[at..brace]);
            let rest = &text[brace..];
            if let Some(double) = ["{{", "}}"].into_iter().find(|double| rest.starts_with(double)) {
                fixed.push_str(&double[1..]);
                at = brace + double.len();
                continue;
            }
            let unbalanced = || format!("has an unbalanced `{}` at byte {brace}", &rest[..1]);
            let inner = rest.strip_prefix('{').ok_or_else(unbalanced)?;
            let end = inner.find(['{', '}']).ok_or_else(unbalanced)?;
            if !inner[end..].starts_with('}') {
                return Err(unbalanced());
            }
            let word = word(&inner[..end], brace)?;
            if !fixed.is_empty() {
                parts.push(Part::Fixed(std::mem::take(&mut fixed)));
            }
            parts.push(Part::Word(word));
            at = brace + end + 2;
        }
        fixed.push_str(&text[at..]);
        if !fixed.is_empty() {
            parts.push(Part::Fixed(fixed));
        }
        Ok(Self(parts))
    }

    pub(super) fn words(&self) -> impl Iterator<Item = Word> + '_ {
        self.0.iter().filter_map(|part| match part {
            Part::Word(word) => Some(*word),
            Part::Fixed(_) => None,
        })
    }

    /// The text with the values of a call.
    ///
    /// # Errors
    /// The word that has no value.
    pub(super) fn fill(&self, call: &Call) -> Result<String, String> {
        self.filled(|word| word.of(call).ok_or_else(|| stands_for_nothing(word)))
    }

    /// The text with the value of each of its words.
    pub(super) fn filled(&self, value: impl Fn(Word) -> Result<String, String>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Fixed(fixed) => text.push_str(fixed),
                Part::Word(word) => text.push_str(&value(*word)?),
            }
        }
        Ok(text)
    }
}

pub(super) fn stands_for_nothing(word: Word) -> String {
    format!("there is no {} for it", word.name().replace('_', " "))
}

fn word(text: &str, at: usize) -> Result<Word, String> {
    if let Some(word) = Word::ALL.into_iter().find(|word| word.name() == text) {
        return Ok(word);
    }
    let nearest = Word::ALL
        .into_iter()
        .map(|word| (distance(word.name(), text), word.name()))
        .min();
    let hint = match nearest {
        Some((distance, name)) if distance <= 3 && distance < name.len() => {
            format!("did you mean {{{name}}}?")
        }
        _ => {
            let all = Word::ALL.map(|word| format!("{{{}}}", word.name()));
            format!("there are {}, and {{{{ for a brace itself", all.join(", "))
        }
    };
    // Anything else in braces may be part of a secret.
    let like_a_word = text.len() <= 32 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if like_a_word && !text.is_empty() {
        Err(format!("has the unknown word {{{text}}}: {hint}"))
    } else {
        Err(format!("has an unknown word in braces at byte {at}: {hint}"))
    }
}

/// The edit distance of two texts: insertions, deletions and changes of letters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// Percent-encoded, except characters that are safe in every part of a URL or header.
pub(in crate::connectors) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::http::tests::call;

    #[test]
    fn words_stand_for_something_of_the_call_and_double_braces_for_braces() {
        let template = Template::parse("{tenant} {operation} {key} {business_key} {effect} {{key}}").unwrap();
        assert_eq!(
            template.fill(&call()).unwrap(),
            "acme pay k-1 a/b?c {key} #0.0 {key}"
        );
        let nameless = Call {
            business_key: None,
            ..call()
        };
        assert_eq!(
            template.fill(&nameless).unwrap_err(),
            "there is no business key for it"
        );
    }

    #[test]
    fn what_is_no_word_is_refused_with_what_was_meant() {
        for (text, problem) in [
            ("/{busines_key}", "{busines_key}: did you mean {business_key}?"),
            ("/{bussinesskey}", "did you mean {business_key}?"),
            ("/{kye}", "did you mean {key}?"),
            ("/{opration}/x", "did you mean {operation}?"),
            ("/{Tenant}", "did you mean {tenant}?"),
            ("/{ key }", "did you mean {key}?"),
            ("/{reference}", "there are {key}, {business_key}"),
            ("/{}", "there are {key}"),
            ("/{key", "unbalanced `{` at byte 1"),
            ("/{key/{tenant}", "unbalanced `{` at byte 1"),
            ("/key}", "unbalanced `}` at byte 4"),
            ("/{key}}", "unbalanced `}` at byte 6"),
        ] {
            let said = Template::parse(text).unwrap_err();
            assert!(said.contains(problem), "{text}: {said}");
        }
        let said = Template::parse("Bearer {S3CRET}").unwrap_err();
        assert!(!said.contains("S3CRET"), "{said}");
    }
}
