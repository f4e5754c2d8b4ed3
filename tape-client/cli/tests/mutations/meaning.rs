//! What a reader has of a file, by docs/format.md. Two files with one meaning have one verdict.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The members that the page lists, by the one that says what a line is.
const KNOWN: [(&str, &[&str]); 4] = [
    ("stream", &["stream", "head", "snapshot"]),
    ("seq", &["seq", "digest", "envelope", "payload"]),
    ("end", &["end", "broken"]),
    ("streams", &["streams", "broken"]),
];

/// The known members of the lines of each stream, from the last of its first lines on, and those of the file's last line.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Meaning {
    streams: BTreeMap<String, Stream>,
    footer: Vec<Value>,
}

#[derive(Debug, Default, PartialEq)]
struct Stream {
    lines: Vec<Value>,
    ended: bool,
}

impl Meaning {
    /// The meaning of a file; none where it is no export.
    pub(crate) fn of(data: &[u8]) -> Option<Self> {
        let mut meaning = Self::default();
        let mut current: Option<String> = None;
        let text = std::str::from_utf8(data).ok()?;
        for line in text.split_inclusive('\n') {
            let (sort, line) = known(line)?;
            if !meaning.footer.is_empty() {
                return None;
            }
            match sort {
                "stream" => {
                    let name = line["stream"].as_str()?.to_owned();
                    let begun = Stream {
                        lines: vec![line],
                        ended: false,
                    };
                    meaning.streams.insert(name.clone(), begun);
                    current = Some(name);
                }
                "streams" => meaning.footer.push(line),
                _ => {
                    let name = current.as_ref()?;
                    if sort == "end" && line["end"] != name.as_str() {
                        return None;
                    }
                    let stream = meaning.streams.get_mut(name)?;
                    stream.lines.push(line);
                    stream.ended = sort == "end";
                    current.take_if(|_| sort == "end");
                }
            }
        }
        let whole = !meaning.footer.is_empty() && meaning.streams.values().all(|stream| stream.ended);
        whole.then_some(meaning)
    }

    /// Whether a file means what this one does, or lacks bytes that were erased in it and were still there.
    pub(crate) fn is_that_of(&self, data: &[u8]) -> bool {
        let Some(other) = Self::of(data) else { return false };
        let streams = self.streams.iter().all(|(name, stream)| {
            let other = other.streams.get(name);
            other.is_some_and(|other| stream.is_that_of(other))
        });
        streams && self.streams.len() == other.streams.len() && self.footer == other.footer
    }
}

impl Stream {
    fn is_that_of(&self, other: &Self) -> bool {
        let pairs = || self.lines.iter().zip(&other.lines);
        let same = |mine: &Value, other: &Value| {
            let mut without = mine.clone();
            mine == other
                || (self.erases(mine) && without["payload"].take().is_string() && {
                    without.as_object_mut().unwrap().remove("payload");
                    without == *other
                })
        };
        self.lines.len() == other.lines.len() && pairs().all(|(mine, other)| same(mine, other))
    }

    /// Whether a later entry erases the bytes of this one.
    fn erases(&self, line: &Value) -> bool {
        let seq = &line["seq"];
        self.lines.iter().any(|later| {
            let envelope: Value = later["envelope"]
                .as_str()
                .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            let entry = &envelope["entry"];
            entry["kind"] == "payload.erased"
                && later["seq"].as_u64() > seq.as_u64()
                && entry["body"]["entries"]
                    .as_array()
                    .is_some_and(|all| all.contains(seq))
        })
    }
}

fn known(line: &str) -> Option<(&'static str, Value)> {
    let Value::Object(line) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let mut sorts = KNOWN.iter().filter(|(sort, _)| line.contains_key(*sort));
    let (Some((sort, known)), None) = (sorts.next(), sorts.next()) else {
        return None;
    };
    let members = line.into_iter().map(|(name, value)| (name, plain(value)));
    let members: Map<String, Value> = members
        .filter(|(name, _)| known.contains(&name.as_str()))
        .collect();
    Some((*sort, Value::Object(members)))
}

/// The object of a head or snapshot without members that are not known.
fn plain(value: Value) -> Value {
    let Value::Object(members) = value else {
        return value;
    };
    let known = ["seq", "digest", "sha256", "bytes"];
    Value::Object(
        members
            .into_iter()
            .filter(|(name, _)| known.contains(&name.as_str()))
            .collect(),
    )
}
