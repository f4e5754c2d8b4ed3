//! Times, payloads and amounts, for people and as JSON.

use serde_json::{Value, json};
use tape_client::core::payload::Payload;
use tape_client::core::time::Timestamp;

/// Most characters of a payload in a line.
const PREVIEW_CHARS: usize = 80;

/// A point in time, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.as_micros()) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => at.to_string(),
    }
}

/// The time of the day alone.
pub(crate) fn clock(at: Timestamp) -> String {
    time(at)
        .split_once(' ')
        .map_or_else(|| time(at), |(_, clock)| clock.to_owned())
}

/// As much of a payload as fits into a line.
pub(crate) fn preview(payload: &Payload) -> String {
    let Some(bytes) = payload.bytes() else {
        return format!("[{} bytes, erased]", payload.len());
    };
    match std::str::from_utf8(bytes) {
        Ok("") => String::new(),
        Ok(text) if !text.contains(char::is_control) => {
            let short: String = text.chars().take(PREVIEW_CHARS).collect();
            if short.len() == text.len() {
                short
            } else {
                format!("{short}...")
            }
        }
        _ => format!("[{} bytes of {}]", payload.len(), payload.content_type()),
    }
}

/// A payload as JSON: its value where it is JSON, its text where it is text.
pub(crate) fn value(payload: &Payload) -> Value {
    let Some(bytes) = payload.bytes() else {
        return json!({"erased": true, "len": payload.len(), "sha256": payload.digest().to_string()});
    };
    let text = std::str::from_utf8(bytes).ok();
    let parsed = || {
        serde_json::from_slice(bytes)
            .ok()
            .filter(|_| payload.content_type() == Payload::JSON)
    };
    parsed().or_else(|| text.map(Value::from)).unwrap_or_else(|| {
        json!({"type": payload.content_type(), "len": payload.len(), "sha256": payload.digest().to_string()})
    })
}
