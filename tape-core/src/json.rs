//! JSON texts in one canonical form, with every number kept as written.
//!
//! Recorded values are compared by digest and sent to upstreams as recorded. A number that is parsed and written again may change (`1.10`,
//! `-0.0`, `1e400`, an integer of 30 digits). So this module splits texts without parsing their numbers. Strings and names have one form:
//! another way to escape the same text is the same value.

mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
pub use write::text;

/// The deepest nesting of arrays and objects: the most that `serde_json` reads back.
const DEPTH_MAX: u32 = 127;

/// A JSON value with its numbers as they are written. [`Display`](fmt::Display) writes it without white space, the members of objects sorted by name.
///
/// ```
/// use tape_core::json::Letters;
/// let letters = Letters::parse(r#"{ "b": 1.10, "a": [-0.0, 1e400] }"#).unwrap();
/// assert_eq!(letters.to_string(), r#"{"a":[-0.0,1e400],"b":1.10}"#);
/// assert_eq!(letters.get("b").unwrap().to_string(), "1.10");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters<'a> {
    /// Members by name; of several with one name the last.
    Object(BTreeMap<Cow<'a, str>, Self>),
    /// Elements in order.
    Array(Vec<Self>),
    /// A string, number, boolean or null: its text.
    Scalar(Cow<'a, str>),
}

/// A text is not JSON, or is nested too deeply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJson {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Arrays and objects are nested more than 127 deep.
    #[error("arrays and objects are nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

impl<'a> Letters<'a> {
    /// Splits a text.
    ///
    /// # Errors
    /// [`InvalidJson`] where it is not JSON.
    pub fn parse(text: &'a str) -> Result<Self, InvalidJson> {
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        Scanner { text, at: 0 }.value(DEPTH_MAX)
    }

    /// Checks that every text has a character for each of its escapes. Half of a surrogate pair has none, and readers differ in what they
    /// take it for.
    ///
    /// # Errors
    /// [`InvalidJson::Syntax`] where a text has half of a pair.
    pub fn check_texts(&self) -> Result<(), InvalidJson> {
        match self {
            Self::Object(members) => members.values().try_for_each(Self::check_texts),
            Self::Array(elements) => elements.iter().try_for_each(Self::check_texts),
            Self::Scalar(text) if text.contains("\\u") => {
                serde_json::from_str::<String>(text)?;
                Ok(())
            }
            Self::Scalar(_) => Ok(()),
        }
    }

    /// A member of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            Self::Array(_) | Self::Scalar(_) => None,
        }
    }
}

/// The text by which entries name a value, such as `non_idempotent`; a value of several parts becomes JSON.
///
/// # Panics
/// Never, for values that entries have.
#[must_use]
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value).expect("what entries have is JSON") {
        serde_json::Value::String(word) => word,
        parts => parts.to_string(),
    }
}

/// The one form of a JSON text: no white space, the members of objects sorted by name, names and strings with no more escapes than JSON
/// needs, everything else as written. A string with a lone surrogate is no text and stays as it is.
///
/// ```
/// use tape_core::json::canonical;
/// assert_eq!(canonical(r#"["\u0061\/", 1.10]"#).unwrap(), r#"["a/",1.10]"#);
/// ```
///
/// # Errors
/// [`InvalidJson`] where the text is not JSON.
pub fn canonical(text: &str) -> Result<String, InvalidJson> {
    Ok(Letters::parse(text)?.to_string())
}

impl fmt::Display for Letters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(text) => f.write_str(text),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (n, element) in elements.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (n, (name, member)) in members.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    let name = serde_json::to_string(name).map_err(|_| fmt::Error)?;
                    write!(f, "{comma}{name}:{member}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// The one form of a string, in its quotes.
fn in_one_form(string: &str) -> Cow<'_, str> {
    if !string.contains('\\') {
        return string.into();
    }
    let text: Result<String, _> = serde_json::from_str(string);
    text.and_then(|text| serde_json::to_string(&text))
        .map_or_else(|_| string.into(), Cow::Owned)
}

/// Splits a text that is known to be JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn value(&mut self, depth: u32) -> Result<Letters<'a>, InvalidJson> {
        let deeper = || depth.checked_sub(1).ok_or(InvalidJson::TooDeep);
        match self.peek() {
            Some(b'{') => self.object(deeper()?),
            Some(b'[') => self.array(deeper()?),
            Some(b'"') => Ok(Letters::Scalar(in_one_form(self.string()))),
            _ => Ok(Letters::Scalar(self.word().into())),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Letters<'a>, InvalidJson> {
        let mut members = BTreeMap::new();
        self.at += 1;
        while self.peek() == Some(b'"') {
            let name = self.string();
            let name: Cow<'a, str> = match name.contains('\\') {
                true => serde_json::from_str::<String>(name)?.into(),
                false => name[1..name.len() - 1].into(),
            };
            self.peek();
            self.at += 1;
            members.insert(name, self.value(depth)?);
            self.comma();
        }
        self.at += 1;
        Ok(Letters::Object(members))
    }

    fn array(&mut self, depth: u32) -> Result<Letters<'a>, InvalidJson> {
        let mut elements = Vec::new();
        self.at += 1;
        while self.peek().is_some_and(|next| next != b']') {
            elements.push(self.value(depth)?);
            self.comma();
        }
        self.at += 1;
        Ok(Letters::Array(elements))
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at.min(self.text.len())..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn comma(&mut self) {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
    }

    fn string(&mut self) -> &'a str {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.take(end + 1)
    }

    fn word(&mut self) -> &'a str {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.take(self.at + length)
    }

    fn take(&mut self, end: usize) -> &'a str {
        let end = end.min(self.text.len());
        let taken = &self.text[self.at..end];
        self.at = end;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_keeps_its_letters() {
        let numbers = [
            "1070.8500000000001",
            "117.63331139400017",
            "123456789012345678901234567890",
            "-0.0",
            "-0",
            "1e400",
            "1E+2",
            "1.10",
            "0.1e-7",
        ];
        for number in numbers {
            assert_eq!(canonical(number).unwrap(), number);
            let nested = format!(r#"{{"z": [ {number} , {{"n":{number}}} ], "a" : {number}}}"#);
            let expected = format!(r#"{{"a":{number},"z":[{number},{{"n":{number}}}]}}"#);
            assert_eq!(canonical(&nested).unwrap(), expected);
        }
    }

    #[test]
    fn members_are_sorted_by_name_and_the_last_of_one_name_counts() {
        let text = r#"{"b":{"d":null,"c":"x , \" ] }"},"\u0061":true,"b ":[],"b":{"d":1,"c":2}}"#;
        assert_eq!(
            canonical(text).unwrap(),
            r#"{"a":true,"b":{"c":2,"d":1},"b ":[]}"#
        );
        assert_eq!(canonical(" [ ] ").unwrap(), "[]");
        assert_eq!(canonical("{ }").unwrap(), "{}");
        assert_eq!(canonical(r#"  "ä\n\\"  "#).unwrap(), r#""ä\n\\""#);
    }

    #[test]
    fn a_text_has_one_form_however_it_is_escaped() {
        for (string, form) in [
            (r#""\u0061\/\u00e4\ud83d\ude00\u007f""#, "\"a/ä😀\u{7f}\""),
            (r#""\u000a\u0008\u0022\u005c\u001F""#, r#""\n\b\"\\\u001f""#),
            (r#""cut \ud83d""#, r#""cut \ud83d""#),
            (r#""\ude00 \u0061""#, r#""\ude00 \u0061""#),
        ] {
            assert_eq!(canonical(string).unwrap(), form);
            assert_eq!(canonical(form).unwrap(), form);
            assert_eq!(canonical(&format!("[{string}]")).unwrap(), format!("[{form}]"));
        }
        assert!(canonical(r#"{"cut \ud83d":1}"#).is_err());
    }

    #[test]
    fn the_form_is_that_of_sorted_values_where_they_keep_the_letters() {
        let value = serde_json::json!({
            "text": "\u{1}\"\\/ä\u{7f}", "list": [1, -2, 1.5, true, null, {}], "a": {"y": [], "x": "z"}
        });
        let mut sorted = value.clone();
        sorted.sort_all_objects();
        assert_eq!(canonical(&value.to_string()).unwrap(), sorted.to_string());
    }

    #[test]
    fn what_is_not_json_or_too_deep_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\":}", "01", "nul", "\"", "1 2", "{\"a\" 1}"] {
            assert!(matches!(canonical(text), Err(InvalidJson::Syntax(_))), "{text}");
        }
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(canonical(&deep(127)).unwrap(), deep(127));
        assert!(canonical(&deep(128)).is_err());
    }
}
