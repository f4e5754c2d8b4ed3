//! JSON of the agent's own values, in one canonical form: its digest must not depend on the order of a map nor on the release of a library,
//! and numbers are recorded and sent exactly as the value was serialized.

use crate::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tape_core::json;
use tape_core::payload::Payload;

/// The JSON text of `value`, the members of its objects sorted by name. It is never parsed on the way, so no number changes.
pub(crate) fn text(what: &'static str, value: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    let text = json::text(value).map_err(|error| Error::invalid(what, error))?;
    json::canonical(&text).map_err(|error| Error::invalid(what, error))
}

/// The JSON text of `value` as a payload.
pub(crate) fn payload(what: &'static str, of: &(impl Serialize + ?Sized)) -> Result<Payload, Error> {
    Ok(Payload::new(Payload::JSON, text(what, of)?)?)
}

/// A recorded payload, unless it was erased: an agent must not mistake a payload without bytes for an empty one.
pub(crate) fn there(what: impl FnOnce() -> String, payload: Payload) -> Result<Payload, Error> {
    match payload.bytes() {
        Some(_) => Ok(payload),
        None => Err(Error::Erased { what: what() }),
    }
}

/// Reads the JSON text of a payload.
pub(crate) fn read<T: DeserializeOwned>(what: &str, payload: &Payload) -> Result<T, Error> {
    let bytes = payload.bytes().ok_or_else(|| Error::Erased {
        what: what.to_owned(),
    })?;
    let unreadable = |problem: String| Error::Unreadable {
        what: what.to_owned(),
        problem,
        payload: Box::new(payload.clone()),
    };
    if let Some(unkept) = payload.as_unkept() {
        let (least, len) = (if unkept.more { "at least " } else { "" }, unkept.len);
        return Err(unreadable(format!(
            "it had {least}{len} bytes, which were too many to be kept"
        )));
    }
    // An upstream without a result answers with no bytes.
    let text = if bytes.is_empty() { b"null" } else { &bytes[..] };
    serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))
}

/// What can be kept of `value`, the result of something that happened: its JSON text; or what is known of the text if it is too long; or
/// why there is no text. A payload that is not JSON reads as [`Error::Unreadable`] in each drive.
pub(crate) fn kept(what: &'static str, of: &(impl Serialize + ?Sized)) -> Payload {
    match text(what, of) {
        Ok(text) => Payload::kept(Payload::JSON, text),
        Err(error) => Payload::kept("text/plain", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tape_core::limits::PAYLOAD_BYTES_MAX;

    #[test]
    fn what_is_no_json_is_an_error_that_keeps_it_and_nothing_reads_as_null() {
        let empty = Payload::empty();
        assert_eq!(read::<Value>("the answer", &empty).unwrap(), Value::Null);
        assert_eq!(read::<Option<u32>>("the answer", &empty).unwrap(), None);
        for (kind, bytes) in [
            ("text/plain", &b"OK"[..]),
            (Payload::JSON, b"{\"fee\": NaN}"),
            (Payload::JSON, b"\"cut \\ud83d\""),
            (Payload::BYTES, b"\xff\xfe"),
            (Payload::JSON, &vec![b' '; PAYLOAD_BYTES_MAX + 1]),
        ] {
            let payload = Payload::kept(kind, bytes.to_vec());
            match read::<Value>("the answer", &payload) {
                Err(Error::Unreadable { payload: kept, .. }) => assert_eq!(*kept, payload),
                other => panic!("{other:?}"),
            }
        }
    }
}
