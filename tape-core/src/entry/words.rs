//! Words: texts of people, models and upstreams in the fields of an entry.
//!
//! Words are payload. A stored envelope has their length and digest. Their bytes follow those of the entry's payloads, as one JSON array
//! with a place for each field, so they are erased with the payloads. Names stay in the envelope: the keys of a change of state stay, the
//! keys of labels do not.

use crate::fingerprint::Part;
use crate::id::Key;
use crate::payload::{Digest, ERASED};
use crate::state::{Delta, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A field that has words.
pub(crate) trait Words {
    /// Takes the words out and leaves the field as it appears in the envelope; null where there are none.
    fn take(&mut self) -> Value;
    /// Puts words back that were taken out.
    fn put(&mut self, words: Value) -> Result<(), serde_json::Error>;
    /// Turns the field, as it appears in the envelope, into the form that readers get after its words were erased.
    fn erase(&mut self);
}

/// An entry body that has words.
pub(crate) trait HasWords {
    fn words_mut(&mut self) -> Vec<&mut dyn Words>;
}

/// Implements [`HasWords`] for a body: fields that are words, then fields that hold a text in some of their forms.
macro_rules! has_words {
    ($body:ty: $($field:ident),* $(; within $($holder:ident),+)?) => {
        impl $crate::entry::words::HasWords for $body {
            fn words_mut(&mut self) -> Vec<&mut dyn $crate::entry::words::Words> {
                let mut all: Vec<&mut dyn $crate::entry::words::Words> = vec![$(&mut self.$field),*];
                $($(if let Some(text) = self.$holder.words_mut() { all.push(text); })+)?
                all.shrink_to_fit();
                all
            }
        }
    };
}
pub(crate) use has_words;

/// How an envelope refers to words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordsRef {
    /// Their length in bytes, as JSON.
    pub len: u64,
    /// The SHA-256 of these bytes.
    pub sha256: Digest,
}

impl WordsRef {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len() as u64,
            sha256: Digest::of(bytes),
        }
    }
}

/// Takes all words out of the fields; none where no field has any.
pub(crate) fn take(fields: Vec<&mut dyn Words>) -> Option<Vec<Value>> {
    let taken: Vec<Value> = fields.into_iter().map(Words::take).collect();
    taken.iter().any(|words| !words.is_null()).then_some(taken)
}

/// Puts words back into the fields that they were taken from.
pub(crate) fn put(fields: Vec<&mut dyn Words>, words: Vec<Value>) -> Result<(), serde_json::Error> {
    if fields.len() != words.len() {
        let (found, expected) = (words.len(), fields.len());
        return Err(invalid(format_args!(
            "there are words for {found} fields, the entry has {expected}"
        )));
    }
    let mut all = fields.into_iter().zip(words);
    all.try_for_each(|(field, words)| if words.is_null() { Ok(()) } else { field.put(words) })
}

fn invalid(problem: impl std::fmt::Display) -> serde_json::Error {
    serde::de::Error::custom(problem)
}

impl Words for String {
    fn take(&mut self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        Value::String(std::mem::take(self))
    }

    fn put(&mut self, words: Value) -> Result<(), serde_json::Error> {
        *self = serde_json::from_value(words)?;
        Ok(())
    }

    fn erase(&mut self) {
        ERASED.clone_into(self);
    }
}

impl Words for BTreeMap<Key, String> {
    fn take(&mut self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        let labels = std::mem::take(self).into_iter();
        Value::Object(
            labels
                .map(|(key, text)| (key.into(), Value::String(text)))
                .collect(),
        )
    }

    fn put(&mut self, words: Value) -> Result<(), serde_json::Error> {
        *self = serde_json::from_value(words)?;
        Ok(())
    }

    fn erase(&mut self) {
        self.clear();
    }
}

impl Words for Delta {
    /// The keys stay: a key whose value was erased reads as removed, so that no earlier value comes back.
    fn take(&mut self) -> Value {
        let values = self.0.iter_mut().filter_map(|(key, json)| {
            let json = json.take()?;
            Some((key.to_string(), Value::String(json.into())))
        });
        let values: serde_json::Map<String, Value> = values.collect();
        if values.is_empty() {
            return Value::Null;
        }
        Value::Object(values)
    }

    fn put(&mut self, words: Value) -> Result<(), serde_json::Error> {
        let values: BTreeMap<Key, Json> = serde_json::from_value(words)?;
        for (key, json) in values {
            let place = self.0.get_mut(&key);
            *place.ok_or_else(|| {
                invalid(format_args!("there is a value for '{key}', which did not change"))
            })? = Some(json);
        }
        Ok(())
    }

    fn erase(&mut self) {
        self.0.values_mut().for_each(|json| *json = None);
    }
}

impl Words for Vec<Part> {
    fn take(&mut self) -> Value {
        if self.is_empty() {
            return Value::Null;
        }
        serde_json::to_value(std::mem::take(self)).expect("parts have a JSON form")
    }

    fn put(&mut self, words: Value) -> Result<(), serde_json::Error> {
        *self = serde_json::from_value(words)?;
        Ok(())
    }

    fn erase(&mut self) {
        self.clear();
    }
}
