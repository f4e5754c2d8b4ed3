//! JSON of the agent's own values, in one form: digests of it must not change with the order of a map.

use crate::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tape_core::payload::Payload;

/// The JSON value of `value`, the members of its objects sorted by name.
pub(crate) fn value(what: &'static str, value: &(impl Serialize + ?Sized)) -> Result<Value, Error> {
    let mut value = serde_json::to_value(value).map_err(|error| Error::invalid(what, error))?;
    value.sort_all_objects();
    Ok(value)
}

/// The JSON text of `value` as a payload.
pub(crate) fn payload(what: &'static str, of: &(impl Serialize + ?Sized)) -> Result<Payload, Error> {
    Ok(Payload::new(Payload::JSON, value(what, of)?.to_string())?)
}

/// Reads the JSON text of a payload.
pub(crate) fn read<T: DeserializeOwned>(what: &str, payload: &Payload) -> Result<T, Error> {
    let bytes = payload.bytes().ok_or_else(|| Error::Erased {
        what: what.to_owned(),
    })?;
    let problem = |error| format!("{what} is not what the agent reads it as: {error}");
    serde_json::from_slice(bytes).map_err(|error| Error::invalid("recorded value", problem(error)))
}
