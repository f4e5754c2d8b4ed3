//! Times, payloads and amounts, for people and as JSON.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt::Write as _;
use tape_client::core::payload::Payload;
use tape_client::core::time::Timestamp;

/// Most characters of a payload in a line.
const PREVIEW_CHARS: usize = 80;
/// Most characters of a line of an error.
const LINE_CHARS: usize = 600;
/// Most characters of what a journal or file says that may be of any length. All names of streams have fewer.
const QUOTED_CHARS: usize = 4096;

/// A point in time, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.as_micros()) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => at.to_string(),
    }
}

/// Only the time of day.
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

/// A payload as JSON: its own text where it is JSON, numbers and all, else its text as a string.
pub(crate) fn raw(payload: &Payload) -> Box<RawValue> {
    let own = || {
        let text = std::str::from_utf8(payload.bytes()?).ok()?;
        let json = payload.content_type() == Payload::JSON;
        RawValue::from_string(text.to_owned()).ok().filter(|_| json)
    };
    own().unwrap_or_else(|| {
        let text = about(payload).to_string();
        RawValue::from_string(text).expect("a value has a JSON form")
    })
}

fn about(payload: &Payload) -> Value {
    let sha256 = payload.digest().to_string();
    match payload.bytes() {
        None => json!({"erased": true, "len": payload.len(), "sha256": sha256}),
        Some(bytes) => std::str::from_utf8(bytes).map_or_else(
            |_| json!({"type": payload.content_type(), "len": payload.len(), "sha256": sha256}),
            Value::from,
        ),
    }
}

/// A text in which characters that could end the line or control a terminal are written as escapes such as `\n` or `\u{1b}`. So a reason, a
/// label or an error cannot imitate another line or other text.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if steers(char) {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    safe.into()
}

/// The same JSON with characters that could control a terminal as `\u` escapes. They occur in JSON only within strings.
pub(crate) fn plain_json(json: &str) -> Cow<'_, str> {
    if !json.contains(steers) {
        return json.into();
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for char in json.chars() {
        if steers(char) {
            let units = u32::from(char);
            // All of them have one UTF-16 unit.
            let _ = write!(safe, "\\u{units:04x}");
        } else {
            safe.push(char);
        }
    }
    safe.into()
}

/// Whether a character controls the text around it instead of being shown.
pub(crate) fn steers(char: char) -> bool {
    // Unicode's line and paragraph separators and the characters that change the direction of writing are not in its category of controls.
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number with its noun.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A text with the middle of its overlong lines left out, such as a name into which a file was pasted by mistake.
pub(crate) fn cut(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| shorter(line, LINE_CHARS)).collect();
    lines.join("\n")
}

/// What a journal or file says, with its middle left out where it is longer than any name of a stream.
pub(crate) fn quoted(text: &str) -> String {
    shorter(text, QUOTED_CHARS)
}

fn shorter(text: &str, most: usize) -> String {
    let chars = text.chars().count();
    if chars <= most {
        return text.to_owned();
    }
    let part = most / 2;
    let begin: String = text.chars().take(part).collect();
    let end: String = text.chars().skip(chars - part).collect();
    format!("{begin} [{} characters] {end}", chars - 2 * part)
}

#[cfg(test)]
mod tests {
    use super::{LINE_CHARS, QUOTED_CHARS, cut, plain, plain_json, quoted};
    use tape_client::core::id::StreamId;

    #[test]
    fn json_keeps_its_value_and_steers_no_terminal() {
        let text = "a\u{9b}31m\u{202e}b\u{2028}\u{1f}";
        let json = serde_json::to_string(&text).unwrap();
        let safe = plain_json(&json);
        assert!(!safe.contains(super::steers), "{safe:?}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }

    #[test]
    fn what_steers_a_terminal_is_written_as_an_escape() {
        let fine = "naïve \\n {\"a\": \"\u{4f60}\"}";
        assert_eq!(plain(fine), fine);
        assert_eq!(
            plain("a\r\n\t\u{1b}[31m \u{7f}\u{9b}2J \u{2028}\u{202e}\u{2066}"),
            r"a\r\n\t\u{1b}[31m \u{7f}\u{9b}2J \u{2028}\u{202e}\u{2066}"
        );
    }

    #[test]
    fn the_longest_name_of_a_stream_is_quoted_whole() {
        let part = "%25".repeat(200);
        let name = format!("{part}/run/{part}/{part}/{part}/{part}");
        name.parse::<StreamId>().unwrap();
        assert_eq!(quoted(&name), name);
        let long = quoted(&"a".repeat(10_000_000));
        assert!(long.len() < QUOTED_CHARS + 40, "{}", long.len());
    }

    #[test]
    fn only_overlong_lines_are_cut() {
        let fine = format!("error: a\n{}\n", "é".repeat(LINE_CHARS));
        assert_eq!(cut(&fine), fine);
        let long = format!("error: {}: why\nusage", "é".repeat(100_000));
        let short = cut(&long);
        assert!(
            short.starts_with("error: éé") && short.ends_with("éé: why\nusage"),
            "{short}"
        );
        assert!(short.contains(" characters] "), "{short}");
        assert!(short.chars().count() < LINE_CHARS + 40, "{short}");
    }
}
