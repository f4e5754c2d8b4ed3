//! The types of the page's tables: what a JSON value of each is, and how JSON Schema says so.

use super::{Document, codes};
use serde_json::{Value, json};

/// The largest whole number that a double has exactly with all below it.
const EXACT: u64 = (1 << 53) - 1;

/// A type of a field.
pub(crate) enum Type {
    /// A whole number with its bounds.
    Number(u64, u64),
    /// A signed whole number.
    Time,
    Flag,
    OneOf(Vec<String>),
    /// A text of a form, by the name of the form.
    Text(String),
    List(Box<Self>),
    Map(Box<Self>),
    Delta,
    /// An object that a section describes.
    Object(String),
    /// The body of an entry.
    Body,
    /// The name of a kind.
    Kind,
}

impl Type {
    /// Reads the second cell of a row.
    pub(crate) fn of(document: &Document, cell: &str) -> Self {
        if let Some(of) = cell.strip_prefix("list of ") {
            return Self::List(Box::new(Self::of(document, of)));
        }
        if let Some(of) = cell.strip_prefix("map of ") {
            return Self::Map(Box::new(Self::of(document, of)));
        }
        if cell.starts_with("one of ") {
            return Self::OneOf(codes(cell));
        }
        if document.types.contains_key(cell) {
            return Self::Object(cell.to_owned());
        }
        number(cell).unwrap_or_else(|| match cell {
            "time" => Self::Time,
            "flag" => Self::Flag,
            "delta" => Self::Delta,
            "body" => Self::Body,
            "kind" => Self::Kind,
            form => {
                assert!(FORMS.iter().any(|known| known.name == form), "no type '{form}'");
                Self::Text(form.to_owned())
            }
        })
    }

    /// The JSON Schema of the type.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Time => json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
            Self::Flag => json!({"type": "boolean"}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Text(form) => reference(form),
            Self::List(of) => json!({"type": "array", "items": of.schema()}),
            Self::Map(of) => {
                json!({"type": "object", "propertyNames": reference("name"), "additionalProperties": of.schema()})
            }
            Self::Delta => json!({
                "type": "object", "propertyNames": reference("name"), "additionalProperties": {"type": ["string", "null"]}
            }),
            Self::Object(name) => reference(name),
            Self::Body => json!({"type": "object"}),
            Self::Kind => json!({"type": "string"}),
        }
    }
}

/// A number with its bounds, such as `u32 from 1 to 1000`.
fn number(cell: &str) -> Option<Type> {
    let mut words = cell.split(' ');
    let mut most = match words.next()? {
        "number" => EXACT,
        "u64" => u64::MAX,
        "u32" => u64::from(u32::MAX),
        "u16" => u64::from(u16::MAX),
        _ => return None,
    };
    let mut least = 0;
    while let (Some(word), Some(bound)) = (words.next(), words.next()) {
        match word {
            "from" => least = bound.parse().unwrap(),
            "to" => most = bound.parse().unwrap(),
            other => panic!("{other} in '{cell}'"),
        }
    }
    Some(Type::Number(least, most))
}

/// The reference to a definition.
pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", name.replace(' ', "_"))})
}

/// A form of texts.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    /// A pattern in the syntax that ECMA-262 and most others share.
    pub(crate) pattern: &'static str,
    /// Most characters.
    pub(crate) most: Option<u32>,
    /// What the pattern says, in code: the tests have no engine for patterns.
    pub(crate) matches: fn(&str) -> bool,
}

/// All forms of texts.
pub(crate) const FORMS: [Form; 12] = [
    form("text", "", None, |_| true),
    form("name", NAME, Some(200), is_name),
    form("business key", NAME, Some(256), is_name),
    form("scope", SCOPE, Some(512), is_scope),
    form("position", POSITION, None, |text| is_place(text, false)),
    form("effect id", EFFECT, None, |text| is_place(text, true)),
    form("digest", "^[0-9a-f]{64}$", None, |text| is_hex(text, 64)),
    form("half digest", "^[0-9a-f]{32}$", None, |text| is_hex(text, 32)),
    form("request id", "^[0-9a-f]{32}$", None, |text| is_hex(text, 32)),
    form("trace", TRACE, None, is_trace),
    form("full name", FULL_NAME, None, is_full_name),
    form("content type", "^[ -~]+$", Some(100), is_printable),
];

const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
const SCOPE: &str = r"^([^\u0000-\u001f\u007f-\u009f/#]+(/[^\u0000-\u001f\u007f-\u009f/#]+){0,15})?$";
const POSITION: &str =
    r"^([^\u0000-\u001f\u007f-\u009f/#]+(/[^\u0000-\u001f\u007f-\u009f/#]+){0,15})?#(0|[1-9][0-9]{0,9})$";
const EFFECT: &str = r"^([^\u0000-\u001f\u007f-\u009f/#]+(/[^\u0000-\u001f\u007f-\u009f/#]+){0,15})?#(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,4})$";
const FULL_NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f/.*> ]+/(run|session|shared|value|claim|relay)(/[^\u0000-\u001f\u007f-\u009f/.*> ]+){1,4}$";
const TRACE: &str = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

const fn form(
    name: &'static str,
    pattern: &'static str,
    most: Option<u32>,
    matches: fn(&str) -> bool,
) -> Form {
    Form {
        name,
        pattern,
        most,
        matches,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn is_scope(text: &str) -> bool {
    let part = |part: &str| is_name(part) && !part.contains('#');
    text.is_empty() || (text.split('/').count() <= 16 && text.split('/').all(part))
}

fn is_place(text: &str, has_call: bool) -> bool {
    let number = |digits: &str, most: usize| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain && (1..=most).contains(&digits.len()) && (digits == "0" || !digits.starts_with('0'))
    };
    let Some((scope, place)) = text.rsplit_once('#') else {
        return false;
    };
    let numbers = match place.split_once('.') {
        Some((k, j)) => has_call && number(k, 10) && number(j, 5),
        None => !has_call && number(place, 10),
    };
    is_scope(scope) && numbers
}

fn is_full_name(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let kinds = ["run", "session", "shared", "value", "claim", "relay"];
    let part = |part: &&str| is_name(part) && !part.contains(['.', '*', '>', ' ']);
    (3..=6).contains(&parts.len()) && kinds.contains(&parts[1]) && parts.iter().all(part)
}

fn is_hex(text: &str, len: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == len && text.bytes().all(digit)
}

fn is_trace(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lens = [2, 32, 16, 2];
    groups.len() == 4 && groups.iter().zip(lens).all(|(group, len)| is_hex(group, len))
}
