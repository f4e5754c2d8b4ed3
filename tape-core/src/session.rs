//! Sessions: events, and state in scopes.

use crate::id::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of state: keys with their new JSON text, or none where the key is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delta(pub BTreeMap<Key, Option<Json>>);

impl Delta {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A JSON text, kept to the letter: numbers are not read and written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Json(String);

impl Json {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Json {
    type Error = serde_json::Error;
    fn try_from(text: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<serde::de::IgnoredAny>(&text)?;
        Ok(Self(text))
    }
}

impl From<Json> for String {
    fn from(json: Json) -> Self {
        json.0
    }
}
