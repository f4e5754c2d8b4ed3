//! State: keys with JSON texts, how far they reach, and how much of it there may be.

use crate::id::Key;
use crate::limits::{STATE_BYTES_MAX, STATE_DELTA_KEYS_MAX, STATE_KEYS_MAX};
use crate::reply::{Limit, Rejection};
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

/// How far a piece of state reaches.
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

    pub(super) fn strip(self, key: &Key) -> Option<Key> {
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

/// What of a change is recorded: all but `temp:` keys.
pub(super) fn recorded(delta: &Delta) -> Delta {
    let kept = delta
        .0
        .iter()
        .filter(|(key, _)| StateScope::of(key) != StateScope::Temp);
    Delta(kept.map(|(key, json)| (key.clone(), json.clone())).collect())
}

/// Refuses a change that is too large, or makes the state too large.
pub(crate) fn check_size(state: &State, delta: &Delta) -> Result<(), Rejection> {
    if delta.0.len() > STATE_DELTA_KEYS_MAX {
        return over(Limit::DeltaKeys, STATE_DELTA_KEYS_MAX, delta.0.len());
    }
    check_state(state, delta)
}

/// Refuses a change that makes the state too large. What an earlier build let grow further may still get smaller.
pub(super) fn check_state(state: &State, delta: &Delta) -> Result<(), Rejection> {
    let written = |(key, json): (&Key, &Json)| written(key.as_str()) + written(json.as_str());
    let (kept, goes): (Vec<_>, Vec<_>) = state.0.iter().partition(|(key, _)| !delta.0.contains_key(*key));
    let comes = delta
        .0
        .iter()
        .filter_map(|(key, json)| Some((key, json.as_ref()?)));
    let comes: Vec<(&Key, &Json)> = comes.collect();
    let keys = kept.len() + comes.len();
    if keys > STATE_KEYS_MAX && comes.len() > goes.len() {
        return over(Limit::StateKeys, STATE_KEYS_MAX, keys);
    }
    let [kept, goes, comes] = [kept, goes, comes].map(|part| part.into_iter().map(written).sum::<usize>());
    if kept + comes > STATE_BYTES_MAX && comes > goes {
        return over(Limit::StateBytes, STATE_BYTES_MAX, kept + comes);
    }
    Ok(())
}

/// The bytes of a text within a JSON string: a state stands in entries that way, when a session is put back or what it repeats is erased.
fn written(text: &str) -> usize {
    let escapes = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..=0x1f => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(escapes).sum::<usize>()
}

fn over(limit: Limit, max: usize, given: usize) -> Result<(), Rejection> {
    Err(Rejection::LimitExceeded {
        limit,
        max: max as u64,
        given: given as u64,
    })
}
