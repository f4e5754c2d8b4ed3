//! What a predicate sees of an entry.

use super::{ELEMENTS_MAX, JSON_BYTES_MAX};
use crate::payload_rule::is_json;
use cel::objects::Key;
use cel::{Context, Value};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use tape_core::codec::{self, DecodeError, StoredEntry};
use tape_core::id::StreamId;
use tape_core::time::Timestamp;

/// The variables that a predicate uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) entry: bool,
    pub(super) payload: bool,
}

impl Used {
    /// Notes a variable; says whether there is one of that name.
    pub(super) fn add(&mut self, name: &str) -> bool {
        match name {
            "tenant" | "stream" | "app" | "kind" | "seq" | "at" => {}
            "entry" => self.entry = true,
            "payload" => self.payload = true,
            _ => return false,
        }
        true
    }
}

/// Why a predicate has no variables for an entry.
#[derive(Debug)]
pub(super) enum Missing {
    /// The entry cannot be read.
    Unreadable,
    /// The predicate uses the envelope, and that is larger than predicates may see.
    EnvelopeTooLarge,
}

impl From<DecodeError> for Missing {
    fn from(_: DecodeError) -> Self {
        Self::Unreadable
    }
}

/// Gives a context the variables of an entry.
pub(super) fn add(
    context: &mut Context<'_, '_>,
    used: Used,
    stream: &StreamId,
    stored: &StoredEntry,
) -> Result<(), Missing> {
    let probe: Probe = serde_json::from_slice(&stored.envelope).map_err(|_| Missing::Unreadable)?;
    let seq = i64::try_from(stored.seq.0).map_or_else(|_| Value::UInt(stored.seq.0), Value::Int);
    context.add_variable_from_value("tenant", stream.tenant().as_str());
    context.add_variable_from_value("stream", stream.to_string());
    context.add_variable_from_value("app", app(stream));
    context.add_variable_from_value("kind", probe.entry.kind);
    context.add_variable_from_value("seq", seq);
    context.add_variable_from_value("at", Value::Int(probe.at.as_micros()));
    if used.entry {
        let envelope = json(&stored.envelope).ok_or(Missing::EnvelopeTooLarge)?;
        context.add_variable_from_value("entry", envelope);
    }
    if used.payload {
        context.add_variable_from_value("payload", payload(stored)?);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Probe {
    at: Timestamp,
    entry: Kind,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// The app of a stream; empty where it has none.
fn app(stream: &StreamId) -> &str {
    match stream {
        StreamId::Run(run) => run.app.as_str(),
        StreamId::Session(session) => session.app.as_str(),
        StreamId::Shared { app, .. } => app.as_str(),
        _ => "",
    }
}

/// The first payload of an entry; null where it has none, it is erased, it is not JSON, or it is larger than predicates may see.
fn payload(stored: &StoredEntry) -> Result<Value, Missing> {
    let entry = codec::decode(stored)?;
    let payloads = entry.body.payloads();
    let first = payloads.first().filter(|first| is_json(first.content_type()));
    let bytes = first.and_then(|first| first.bytes());
    Ok(bytes.and_then(|bytes| json(bytes)).unwrap_or(Value::Null))
}

/// A JSON text as a value; none where it is too large, or not JSON.
fn json(bytes: &[u8]) -> Option<Value> {
    if bytes.len() > JSON_BYTES_MAX {
        return None;
    }
    value(serde_json::from_slice(bytes).ok()?)
}

/// None where a list or map has too many elements. Whole numbers of 64 bits are exact, others are doubles.
fn value(json: serde_json::Value) -> Option<Value> {
    Some(match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(bool),
        serde_json::Value::Number(number) => {
            let whole = number
                .as_i64()
                .map(Value::Int)
                .or_else(|| number.as_u64().map(Value::UInt));
            whole.or_else(|| number.as_f64().map(Value::Float))?
        }
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(elements) => {
            let fits = elements.len() <= ELEMENTS_MAX;
            let elements = elements
                .into_iter()
                .map(value)
                .collect::<Option<Vec<_>>>()
                .filter(|_| fits)?;
            Value::List(Arc::new(elements))
        }
        serde_json::Value::Object(members) => {
            let fits = members.len() <= ELEMENTS_MAX;
            let members = members
                .into_iter()
                .map(|(name, member)| Some((Key::from(name), value(member)?)));
            let map = members.collect::<Option<HashMap<_, _>>>().filter(|_| fits)?;
            Value::Map(cel::objects::Map { map: Arc::new(map) })
        }
    })
}
