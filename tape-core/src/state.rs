//! State: keys with JSON texts, and their scopes.

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

    /// The changes of one scope, keys without their prefix.
    #[must_use]
    pub fn of(&self, scope: StateScope) -> Self {
        let own = self
            .0
            .iter()
            .filter_map(|(key, json)| Some((scope.strip(key)?, json.clone())));
        Self(own.collect())
    }
}

/// The scope of a key of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateScope {
    /// Every session of the app.
    App,
    /// Every session of the user in the app.
    User,
    /// This invocation only.
    Temp,
    /// This session.
    Session,
}

impl StateScope {
    /// The scope that a key's prefix says.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        match key.as_str().split_once(':') {
            Some(("app", _)) => Self::App,
            Some(("user", _)) => Self::User,
            Some(("temp", _)) => Self::Temp,
            _ => Self::Session,
        }
    }

    /// The prefix of its keys.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::App => "app:",
            Self::User => "user:",
            Self::Temp => "temp:",
            Self::Session => "",
        }
    }

    pub(crate) fn strip(self, key: &Key) -> Option<Key> {
        if Self::of(key) != self {
            return None;
        }
        Key::new(key.as_str().strip_prefix(self.prefix())?).ok()
    }
}

/// State: keys with their JSON texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct State(pub BTreeMap<Key, Json>);

impl State {
    /// Applies a change.
    pub fn change(&mut self, delta: &Delta) {
        for (key, json) in &delta.0 {
            match json {
                Some(json) => self.0.insert(key.clone(), json.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

/// A JSON text, kept as written: numbers are not parsed and written again.
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
