//! Events: entries of the journal as CloudEvents 1.0.

use crate::event_attributes::Attributes;
use crate::event_data::{Contents, Data};
use crate::event_format::EventFormat;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};
use tape_core::codec::{Opened, StoredEntry};
use tape_core::id::{Seq, StreamId};
use tape_core::time::Timestamp;

/// The version of CloudEvents.
pub const SPEC_VERSION: &str = "1.0";
/// The content type of an event's [data](Event::data).
pub const DATA_CONTENT_TYPE: &str = "application/json";
/// The content type of an event in [structured mode](Event::to_json).
pub const EVENT_CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";
/// What the type of an event has before the kind of its entry, as in `io.tape.effect.confirmed`.
pub const TYPE_PREFIX: &str = "io.tape.";

/// Most bytes of the attributes of an event, and of what its data has beside envelope and payloads: the names of a stream have a bound.
const FRAME_BYTES_MAX: usize = 12 * 1024;
/// Most bytes of data for a byte of the entry: what JSON writes for a control character in a text.
const ESCAPE_BYTES_MAX: usize = 6;

/// An entry of the journal as a CloudEvents 1.0 event, which [`EventFormat`] makes.
///
/// The page `docs/relays.md` says what each attribute and the data are, and how a consumer verifies what it got. Two events of one entry
/// have the same [`id`](Self::id) and `source`. An event holds its entry, as it was read and verified. Attributes and data are made of that
/// the first time that they are asked for. Copies are cheap: they share all of it.
#[derive(Clone)]
pub struct Event(Arc<Inner>);

struct Inner {
    format: EventFormat,
    stream: StreamId,
    stored: StoredEntry,
    opened: Opened,
    attributes: OnceLock<Attributes>,
    data: OnceLock<Bytes>,
}

impl Event {
    /// The event of an entry, which was just read from `stored`.
    pub(crate) fn new(format: EventFormat, stream: StreamId, stored: StoredEntry, opened: Opened) -> Self {
        Self(Arc::new(Inner {
            format,
            stream,
            stored,
            opened,
            attributes: OnceLock::new(),
            data: OnceLock::new(),
        }))
    }

    /// The stream of its entry. Events of one stream are delivered in order.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.0.stream
    }

    /// The entry's number in the stream.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.0.stored.seq
    }

    /// When the entry was written, by the journal's time.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.0.opened.entry.at
    }

    /// The attribute `id`, `STREAM/SEQ`: with `source` it names the event, however often that is delivered.
    #[must_use]
    pub fn id(&self) -> &str {
        self.attribute("id").unwrap_or_default()
    }

    /// An attribute by its name, without `ce-` or another prefix.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut all = self.attributes();
        all.find_map(|(found, value)| (found == name).then_some(value))
    }

    /// All attributes, `specversion` and `datacontenttype` among them, in the order in which they are written.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.attributes().iter()
    }

    /// The data: a JSON object of the content type [`DATA_CONTENT_TYPE`].
    #[must_use]
    pub fn data(&self) -> &Bytes {
        self.0.data.get_or_init(|| {
            let mut data = Vec::with_capacity(self.0.usual_size());
            self.0.make_data(&mut data);
            Bytes::from(data)
        })
    }

    /// Bytes of the event: those of its data and attributes, without escapes that JSON or headers add to attributes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.attributes().size() + self.data().len()
    }

    /// A bound of the [size](Self::size), for which nothing is made.
    pub(crate) fn size_at_most(&self) -> usize {
        let entry = self.0.stored.size();
        let most = entry
            .saturating_mul(ESCAPE_BYTES_MAX)
            .saturating_add(FRAME_BYTES_MAX);
        most.min(self.0.format.event_bytes_max())
    }

    /// The event in structured mode: one JSON object of the type [`EVENT_CONTENT_TYPE`], without line breaks. The member `data` has the
    /// bytes of [`data`](Self::data).
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(2 * self.0.usual_size());
        self.write_json(&mut json);
        json
    }

    /// Appends the event in structured mode.
    pub(crate) fn write_json(&self, to: &mut Vec<u8>) {
        to.push(b'{');
        for (name, value) in self.attributes() {
            // Names have letters and digits alone.
            to.push(b'"');
            to.extend_from_slice(name.as_bytes());
            to.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *to, value).expect("a text has a JSON form");
            to.push(b',');
        }
        to.extend_from_slice(b"\"data\":");
        match self.0.data.get() {
            Some(data) => to.extend_from_slice(data),
            None => self.0.make_data(to),
        }
        to.push(b'}');
    }

    /// The headers of the event in HTTP binary mode, where the body is [`data`](Self::data): `content-type`, and each other attribute with
    /// the prefix `ce-` and its value percent-encoded as the HTTP binding of CloudEvents says.
    pub fn http_headers(&self) -> impl Iterator<Item = (String, String)> {
        self.attributes().map(|(name, value)| match name {
            "datacontenttype" => ("content-type".to_owned(), value.to_owned()),
            _ => (format!("ce-{name}"), percent_encoded(value)),
        })
    }
}

impl Inner {
    fn attributes(&self) -> &Attributes {
        self.attributes
            .get_or_init(|| Attributes::of(self.format.source(), &self.stream, &self.opened.entry))
    }

    /// Appends the data with all that fits: payloads and envelope, the envelope alone, or neither.
    fn make_data(&self, to: &mut Vec<u8>) {
        let data = Data::new(&self.stored, &self.opened);
        let room = self
            .format
            .event_bytes_max()
            .saturating_sub(self.attributes().size());
        let begin = to.len();
        for contents in [Contents::Whole(self.format.payload()), Contents::Envelope] {
            data.write(contents, to);
            if to.len() - begin <= room {
                return;
            }
            to.truncate(begin);
        }
        data.write(Contents::References, to);
    }

    /// Bytes that data has room in where little has to be escaped.
    fn usual_size(&self) -> usize {
        self.stored.size() * 5 / 4 + 256
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.at() == other.at() && self.attributes().eq(other.attributes()) && self.data() == other.data()
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data: &RawValue = serde_json::from_slice(self.data()).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.attributes() {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("data", data)?;
        map.end()
    }
}

/// A value as a header: space, `"`, `%` and everything outside of printable ASCII as the `%` escapes of their UTF-8 bytes.
fn percent_encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::pen::Pen;
    use crate::event_format::{EVENT_BYTES_MAX_HIGHEST, SOURCE_BYTES_MAX};
    use crate::payload_rule::PayloadRule;
    use tape_core::entry::{EntryBody, erasure, run, value};
    use tape_core::payload::Payload;

    /// Checks that an event is within its bound, and returns both.
    fn check(pen: &mut Pen, body: impl Into<EntryBody>) -> (usize, usize) {
        let source = "s".repeat(SOURCE_BYTES_MAX);
        let format = EventFormat::new(&source, PayloadRule::Include, EVENT_BYTES_MAX_HIGHEST).unwrap();
        let stored = pen.write(body);
        let event = format.event(pen.stream(), &stored).unwrap();
        let (most, size) = (event.size_at_most(), event.size());
        assert!(size <= most, "{size} bytes of at most {most}");
        (size, most)
    }

    #[test]
    fn no_event_is_larger_than_its_bound() {
        // The longest names, each character of which is escaped.
        let part = "%2A".repeat(200);
        let mut pen = Pen::new(&format!("{part}/run/{part}/{part}/{part}/{part}"));
        let put = |bytes: Vec<u8>, content_type: &str| value::Put {
            version: 1,
            value: Payload::new(content_type, bytes).unwrap(),
            previous: None,
        };
        // Most of the bound is reached where all has to be escaped.
        let (size, most) = check(&mut pen, put(vec![1; 100_000], "text/plain"));
        assert!(size > most * 9 / 10, "{size} of {most}");
        check(&mut pen, put(vec![0xff; 100_000], &"\"".repeat(100)));
        check(&mut pen, put(Vec::new(), &"\\".repeat(100)));
        check(
            &mut pen,
            run::CancelRequested {
                reason: "\u{1}".repeat(1_000),
            },
        );
        check(
            &mut pen,
            erasure::Erased {
                entries: (1..5_000).map(Seq).collect(),
                reason: "asked for".to_owned(),
            },
        );
    }

    #[test]
    fn json_is_the_same_whether_data_was_asked_for_before() {
        let event = Pen::new("acme/value/rate").event(&serde_json::json!({ "amount": 1 }));
        let json = event.to_json();
        assert_eq!(event.size(), event.clone().size());
        assert_eq!(event.to_json(), json);
        assert_eq!(serde_json::to_vec(&event).unwrap(), json);
    }
}
