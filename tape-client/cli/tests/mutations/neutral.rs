//! Changes that change nothing that counts: another way to write the same lines, and what the page lets a file have or lack.

use crate::changes::Change;
use crate::journals::{Base, written};
use crate::random::Random;
use serde_json::{Value, json};

/// Members that no reader knows.
const UNKNOWN: [&str; 6] = [
    r#""new":null"#,
    r#""new":[1e400,-0.0,{"":null}]"#,
    r#""new":1,"new":{"seq":[]}"#,
    r#""Stream":"a""#,
    r#""new":"\u0000\ud83d\ude00""#,
    r#""new":{"stream":1,"seq":2}"#,
];

pub(crate) fn any(base: &Base, random: &mut Random) -> Change {
    let (what, data) = match random.below(8) {
        0 => spaced(base, random),
        1 => with_unknown(base, random),
        2 => reordered(base, random),
        3 => escaped(base, random),
        4 => again(base, random),
        5 => moved(base, random),
        6 => without_snapshot(base, random),
        _ => appended_meanwhile(base, random),
    };
    let counts = Some(false);
    Change { what, data, counts }
}

/// The file with one line written in another way.
fn with_line(base: &Base, at: usize, line: &str) -> Vec<u8> {
    let lines = base.lines.iter().enumerate().map(|(n, old)| {
        if n == at {
            format!("{line}\n")
        } else {
            format!("{old}\n")
        }
    });
    lines.collect::<String>().into_bytes()
}

/// White space where JSON lets it be.
fn spaced(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let at = random.below(base.lines.len());
    let (mut text, mut within) = (String::new(), false);
    let mut escape = false;
    for char in base.lines[at].to_string().chars() {
        let is_token = !within && "{}[]:,".contains(char);
        if is_token && random.below(3) == 0 {
            text.push_str(["", " ", "\t", "\r"][random.below(4)]);
        }
        text.push(char);
        within ^= char == '"' && !escape;
        escape = char == '\\' && !escape;
    }
    (
        format!("line {} has white space", at + 1),
        with_line(base, at, &text),
    )
}

fn with_unknown(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let at = random.below(base.lines.len());
    let (member, text) = (random.of_all(&UNKNOWN), base.lines[at].to_string());
    let text = match random.below(2) {
        0 => format!("{{{member},{}", &text[1..]),
        _ => format!("{},{member}}}", &text[..text.len() - 1]),
    };
    (
        format!("line {} has {member}", at + 1),
        with_line(base, at, &text),
    )
}

/// The members in another order.
fn reordered(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let at = random.below(base.lines.len());
    let members = base.lines[at].as_object().unwrap().iter();
    let mut members: Vec<String> = members
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    let count = members.len();
    members.rotate_left(random.below(count));
    members.swap(0, random.below(count));
    let text = format!("{{{}}}", members.join(","));
    (
        format!("line {} has another order", at + 1),
        with_line(base, at, &text),
    )
}

/// A text of a line with more escapes.
fn escaped(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let at = random.below(base.lines.len());
    let members = base.lines[at].as_object().unwrap().iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(
            || value.to_string(),
            |text| {
                let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
                format!("\"{}\"", units.collect::<String>())
            },
        );
        format!("{}:{value}", json!(name))
    });
    let members: Vec<String> = members.collect();
    (
        format!("line {} is escaped", at + 1),
        with_line(base, at, &format!("{{{}}}", members.join(","))),
    )
}

/// The lines of a stream: where they begin, and where they end.
fn stream(lines: &[Value], random: &mut Random) -> (usize, usize) {
    let begins = (0..lines.len()).filter(|n| lines[*n]["stream"].is_string());
    let begins: Vec<usize> = begins.collect();
    let begin = *random.of_all(&begins);
    let length = lines[begin..].iter().position(|line| line["end"].is_string());
    (begin, begin + length.unwrap() + 1)
}

/// A stream that was read up to an entry before, or twice.
fn again(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let (begin, end) = stream(&base.lines, random);
    let read = begin + 1 + random.below(end - begin);
    let before = base.lines[begin..read].to_vec();
    let mut lines = base.lines.clone();
    lines.splice(begin..begin, before);
    (
        format!("lines {} to {read} come again", begin + 1),
        written(&lines),
    )
}

/// A stream at another place.
fn moved(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let (begin, end) = stream(&base.lines, random);
    let mut lines = base.lines.clone();
    let moved: Vec<Value> = lines.drain(begin..end).collect();
    let (to, _) = stream(&lines, random);
    lines.splice(to..to, moved);
    (
        format!("lines {} to {end} stand at line {}", begin + 1, to + 1),
        written(&lines),
    )
}

/// Deleting a snapshot is harmless.
fn without_snapshot(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let mut lines = base.lines.clone();
    let has_one = (0..lines.len()).filter(|n| lines[*n]["snapshot"].is_object());
    let has_one: Vec<usize> = has_one.collect();
    if has_one.is_empty() {
        return again(base, random);
    }
    let at = *random.of_all(&has_one);
    lines[at]["snapshot"] = Value::Null;
    (
        format!("the snapshot of line {} is left out", at + 1),
        written(&lines),
    )
}

/// The journal's head when the reading began was an earlier entry.
fn appended_meanwhile(base: &Base, random: &mut Random) -> (String, Vec<u8>) {
    let mut lines = base.lines.clone();
    let (begin, end) = stream(&lines, random);
    let at = begin + 1 + random.below(end - begin - 2);
    let (seq, digest) = (lines[at]["seq"].clone(), lines[at]["digest"].clone());
    lines[begin]["head"] = json!({"seq": seq, "digest": digest});
    (
        format!("the head of line {} is that of line {}", begin + 1, at + 1),
        written(&lines),
    )
}
