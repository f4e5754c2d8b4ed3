//! Which part of a change of state is recorded, and how large state may be.

use crate::id::Key;
use crate::limits::{STATE_BYTES_MAX, STATE_DELTA_KEYS_MAX, STATE_KEYS_MAX};
use crate::reply::{Limit, Rejection};
use crate::state::{Delta, Json, State, StateScope};

/// The recorded part of a change: all but `temp:` keys.
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

/// Refuses a change that makes the state too large. A state that an earlier build let grow larger may still shrink.
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

/// The bytes of a text within a JSON string: entries contain a state in that form when a session is rewound or repeated values are erased.
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
