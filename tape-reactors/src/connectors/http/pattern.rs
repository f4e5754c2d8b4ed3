//! What answers look like, and what they prove by themselves.

use super::endpoints::HttpPattern;
use super::exchange::Answer;
use super::template::Template;
use crate::connector::Call;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

/// A pattern of answers that makes sense.
#[derive(Clone)]
pub(super) struct Pattern {
    status: u16,
    headers: Vec<(HeaderName, Template)>,
    json: Vec<(String, Shape)>,
}

/// A JSON value whose texts are templates.
#[derive(Clone)]
enum Shape {
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// A number, `true`, `false` or `null`.
    Plain(Value),
}

impl Pattern {
    pub(super) fn read(of: &HttpPattern) -> Result<Self, String> {
        if !(200..600).contains(&of.status) {
            return Err(format!(
                "has the status {}: one from 200 to 599 is wanted",
                of.status
            ));
        }
        let mut pointers = of.json.keys();
        if let Some(pointer) = pointers.find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(format!(
                "has the JSON pointer '{pointer}': one that begins with `/`, or \"\", is wanted"
            ));
        }
        let headers = of.headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| "names a header that cannot be one".to_owned())?;
            Ok((name, Template::parse(value)?))
        });
        let json = of.json.iter();
        let json = json.map(|(pointer, value)| Ok((pointer.clone(), Shape::read(value)?)));
        Ok(Self {
            status: of.status,
            headers: headers.collect::<Result<_, String>>()?,
            json: json.collect::<Result<_, String>>()?,
        })
    }

    pub(super) fn fits(&self, answer: &Answer, call: &Call) -> bool {
        let header = |(name, value): &(HeaderName, Template)| {
            let found = answer.headers.get(name).map(HeaderValue::as_bytes);
            value
                .fill(call)
                .is_ok_and(|value| found == Some(value.as_bytes()))
        };
        answer.status.as_u16() == self.status
            && self.headers.iter().all(header)
            && (self.json.is_empty() || self.fits_body(answer, call))
    }

    fn fits_body(&self, answer: &Answer, call: &Call) -> bool {
        // No body is taken for the value `null`.
        let body = answer.json().unwrap_or_default();
        let fits = |(pointer, shape): &(String, Shape)| {
            body.pointer(pointer).is_some_and(|value| shape.fits(value, call))
        };
        self.json.iter().all(fits)
    }
}

impl Shape {
    fn read(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::parse(text)?),
            Value::Array(list) => Self::List(list.iter().map(Self::read).collect::<Result<_, _>>()?),
            Value::Object(object) => {
                let members = object.iter();
                let members = members.map(|(name, value)| Ok((name.clone(), Self::read(value)?)));
                Self::Object(members.collect::<Result<_, String>>()?)
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Self::Plain(plain.clone()),
        })
    }

    fn fits(&self, value: &Value, call: &Call) -> bool {
        match (self, value) {
            (Self::Text(template), Value::String(text)) => {
                template.fill(call).is_ok_and(|wanted| wanted == *text)
            }
            (Self::List(shapes), Value::Array(list)) => {
                shapes.len() == list.len()
                    && shapes
                        .iter()
                        .zip(list)
                        .all(|(shape, value)| shape.fits(value, call))
            }
            (Self::Object(members), Value::Object(object)) => {
                members.len() == object.len()
                    && members
                        .iter()
                        .all(|(name, shape)| object.get(name).is_some_and(|value| shape.fits(value, call)))
            }
            (Self::Plain(plain), value) => plain == value,
            _ => false,
        }
    }
}

/// Whether an answer that no pattern is configured for proves that one act is there: it is one JSON object that names the act, or that
/// comes from a URL which does and says anything. A list is none, and neither is an error, whatever the status.
pub(super) fn proves(answer: &Answer, call: &Call, url_names_the_act: bool) -> Result<(), &'static str> {
    let Some(body) = answer.json() else {
        return Err("it is not JSON");
    };
    let Value::Object(members) = &body else {
        return Err("it is not one JSON object");
    };
    let fails = |name: &str| {
        let error = ["error", "errors", "fault"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word));
        error && !says_nothing(&members[name])
    };
    if members.keys().any(|name| fails(name)) {
        return Err("it has an error");
    }
    let is_key = |value: &Value| {
        let text = value.as_str();
        let business_key = call.business_key.as_ref().map(|key| key.as_str());
        text.is_some() && (text == Some(&call.key) || text == business_key)
    };
    if members.values().any(is_key) {
        return Ok(());
    }
    if members.values().any(Value::is_array) {
        return Err("it has a list");
    }
    let within = |value: &Value| value.as_object().is_some_and(|inner| inner.values().any(is_key));
    if members.values().any(within) || url_names_the_act && !members.values().all(says_nothing) {
        return Ok(());
    }
    Err("it does not name the act")
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
    }
}
