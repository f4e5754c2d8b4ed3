//! Patterns of answers.

use super::endpoints::HttpPattern;
use super::exchange::Answer;
use super::template::Template;
use crate::connector::Call;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

/// A valid pattern of answers.
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
        // A missing body counts as the value `null`.
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
