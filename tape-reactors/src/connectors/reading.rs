//! Reads answers in JSON although parts of them are not valid JSON, and passes values on byte by byte.

use serde_json::value::RawValue;
use tape_core::payload::{InvalidPayload, Payload};

/// An answer, and a text of the same length that a parser of JSON takes: what such a parser refuses is masked. So the structure of the
/// answer can be parsed, and its values are passed on unchanged, with every digit.
pub(super) struct Reading<'a> {
    answer: &'a [u8],
    /// The answer with parts that are no JSON masked.
    json: String,
    /// The same with lone surrogate escapes masked, which JSON allows and Rust strings cannot hold.
    text: String,
}

impl<'a> Reading<'a> {
    pub(super) fn of(answer: &'a [u8]) -> Self {
        let json = masked(answer);
        let text = without_lone_surrogates(&json);
        Self { answer, json, text }
    }

    /// The text that is parsed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// As much of a value of the text as can be kept.
    pub(super) fn kept(&self, value: Option<&RawValue>) -> Payload {
        let (content_type, bytes) = self.bytes(value);
        Payload::kept(content_type, bytes.to_vec())
    }

    /// A value of the text.
    ///
    /// # Errors
    /// [`InvalidPayload`] where it is over a limit.
    pub(super) fn payload(&self, value: Option<&RawValue>) -> Result<Payload, InvalidPayload> {
        let (content_type, bytes) = self.bytes(value);
        Payload::new(content_type, bytes.to_vec())
    }

    /// The bytes of the answer at a value of the text.
    fn bytes(&self, value: Option<&RawValue>) -> (&'static str, &'a [u8]) {
        let Some(value) = value.map(RawValue::get) else {
            return (Payload::JSON, b"null");
        };
        let from = value.as_ptr().addr() - self.text.as_ptr().addr();
        let place = from..from + value.len();
        let bytes = &self.answer[place.clone()];
        let is_json = bytes == &self.json.as_bytes()[place];
        (if is_json { Payload::JSON } else { Payload::BYTES }, bytes)
    }
}

/// Tokens that some writers of JSON write and no parser takes, and numbers of the same length.
const NO_NUMBERS: [(&str, &str); 3] = [
    ("-Infinity", "-11111111"),
    ("Infinity", "11111111"),
    ("NaN", "111"),
];

/// The answer as a text of the same length, with parts that are no JSON masked.
fn masked(answer: &[u8]) -> String {
    let mut text = String::with_capacity(answer.len());
    for chunk in answer.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    let mut masked = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = text.as_str();
    while let Some(char) = rest.chars().next() {
        let no_number = NO_NUMBERS.into_iter().find(|(token, _)| rest.starts_with(token));
        if let Some((token, number)) = no_number.filter(|_| !in_string) {
            masked.push_str(number);
            rest = &rest[token.len()..];
            continue;
        }
        rest = &rest[char.len_utf8()..];
        masked.push(if in_string && char < ' ' { ' ' } else { char });
        match char {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    masked
}

/// A text of the same length in which U+FFFD replaces lone surrogates.
fn without_lone_surrogates(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                text.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // The character after a backslash begins no token.
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        text.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    text + rest
}

/// The UTF-16 unit of the escape at the beginning of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(answer: &[u8]) -> (String, Vec<u8>) {
        let reading = Reading::of(answer);
        assert_eq!(reading.text().len(), answer.len());
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(reading.text()).unwrap();
        let payload = reading.kept(Some(members["a"]));
        (
            payload.content_type().to_owned(),
            payload.bytes().unwrap().to_vec(),
        )
    }

    #[test]
    fn values_are_handed_on_as_they_are() {
        for json in [
            "1070.8500000000001",
            "123456789012345678901234567890",
            "1e400",
            "-0.0",
            r#"{"b": [1,  2], "a": "\u00e9\ud83d\ude00", "a": null}"#,
            r#""cut \ud83d""#,
            r#""\ud83d\ud83d\ude00 \\ud800""#,
            r#""NaN and -Infinity \" NaN""#,
            "null",
        ] {
            let (kind, bytes) = read(format!(r#"{{"z": "\udead", "a": {json} }}"#).as_bytes());
            assert_eq!((kind.as_str(), bytes), (Payload::JSON, json.as_bytes().to_vec()));
        }
        for other in [
            &b"{\"fee\": NaN}"[..],
            b"-Infinity",
            b"[Infinity, 1.10]",
            b"\"caf\xe9\"",
            b"\"two\nlines\"",
        ] {
            let answer = [&b"{\"a\": "[..], other, b"}"].concat();
            let (kind, bytes) = read(&answer);
            assert_eq!((kind.as_str(), bytes), (Payload::BYTES, other.to_vec()));
        }
    }
}
