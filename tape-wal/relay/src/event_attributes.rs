//! The context attributes of an event.

use crate::event::{DATA_CONTENT_TYPE, SPEC_VERSION, TYPE_PREFIX};
use std::fmt::{Display, Write as _};
use tape_core::entry::Entry;
use tape_core::id::{Seq, StreamId};
use tape_core::subject::Subject;
use tape_core::time::Timestamp;

/// Bytes that an attribute takes in JSON beside its name and value: quotes, colon and comma.
const OVERHEAD_BYTES: usize = 6;
/// How many attributes an event has at most.
const NAMES_MAX: usize = 14;
/// What the values of most events have room in, in bytes.
const USUAL_BYTES: usize = 512;

/// Attributes in the order in which they are written. All of them are texts, so that no reader bends a number.
///
/// The values are parts of one text: an event has many, and each is short.
#[derive(Debug)]
pub(crate) struct Attributes {
    values: String,
    /// Each name with the place in `values` where its value ends. It begins where the one before it ends.
    ends: Vec<(&'static str, usize)>,
}

impl Attributes {
    /// Those of the event of an entry.
    pub(crate) fn of(source: &str, stream: &StreamId, entry: &Entry) -> Self {
        let kind = entry.body.kind();
        let name = stream.to_string();
        let mut all = Self {
            values: String::with_capacity(USUAL_BYTES),
            ends: Vec::with_capacity(NAMES_MAX),
        };
        all.add("specversion", SPEC_VERSION);
        all.add("id", id(&name, entry.seq));
        all.add("source", source);
        all.add("type", format_args!("{TYPE_PREFIX}{kind}"));
        all.add("subject", Subject::new(stream, kind));
        if let Some(time) = rfc3339(entry.at) {
            all.add("time", time);
        }
        all.add("datacontenttype", DATA_CONTENT_TYPE);
        if let Some(trace) = &entry.trace {
            all.add("traceparent", trace.as_str());
        }
        all.add("tenant", stream.tenant());
        all.add("stream", name);
        all.add("seq", entry.seq);
        all.add("kind", kind);
        all.add("chaindigest", entry.digest);
        if let Some(payload) = entry.body.payloads().first() {
            all.add("payloaddigest", payload.digest());
        }
        all
    }

    fn add(&mut self, name: &'static str, value: impl Display) {
        write!(self.values, "{value}").expect("a string takes text");
        self.ends.push((name, self.values.len()));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |(name, end)| {
            let value = &self.values[begin..*end];
            begin = *end;
            (*name, value)
        })
    }

    /// Bytes of names and values, without escapes that JSON or headers add.
    pub(crate) fn size(&self) -> usize {
        let names = self.ends.iter().map(|(name, _)| name.len() + OVERHEAD_BYTES);
        self.values.len() + names.sum::<usize>()
    }
}

/// The `id` of the event of an entry in the stream with a full name.
pub(crate) fn id(stream: impl Display, seq: Seq) -> String {
    format!("{stream}/{seq}")
}

/// The time as RFC 3339 writes it, in UTC; none outside of the years 0000 to 9999, which no clock of a server showed.
fn rfc3339(at: Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
    let text = time.to_string();
    (!text.starts_with('-')).then_some(text)
}
