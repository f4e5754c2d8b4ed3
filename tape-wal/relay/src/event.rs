//! Events: entries of the journal as CloudEvents 1.0.

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::fmt::Write as _;
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

/// Bytes that an attribute takes in JSON beside its name and value: quotes, colon and comma.
const ATTRIBUTE_OVERHEAD_BYTES: usize = 6;

/// An entry of the journal as a CloudEvents 1.0 event, which [`EventFormat`](crate::event_format::EventFormat) makes.
///
/// The page `docs/relays.md` says what each attribute and the data are, and how a consumer verifies what it got. Two events of one entry
/// have the same [`id`](Self::id) and `source`. An event is cheap neither to make nor to copy: it has the bytes of its payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    stream: StreamId,
    seq: Seq,
    at: Timestamp,
    /// Context attributes in the order in which they are written. All of them are strings, so that no reader bends a number.
    attributes: Vec<(&'static str, String)>,
    /// A JSON object.
    data: Bytes,
}

impl Event {
    /// An event with these attributes and this JSON object as its data.
    pub(crate) const fn new(
        stream: StreamId,
        seq: Seq,
        at: Timestamp,
        attributes: Vec<(&'static str, String)>,
        data: Bytes,
    ) -> Self {
        Self {
            stream,
            seq,
            at,
            attributes,
            data,
        }
    }

    /// The stream of its entry. Events of one stream are delivered in order.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The entry's number in the stream.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// When the entry was written, by the journal's time.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
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
        self.attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// The data: a JSON object of the content type [`DATA_CONTENT_TYPE`].
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.data
    }

    /// Bytes of the event: those of its data and attributes, without escapes that JSON or headers add to attributes.
    #[must_use]
    pub fn size(&self) -> usize {
        size(&self.attributes, &self.data)
    }

    /// The event in structured mode: one JSON object of the type [`EVENT_CONTENT_TYPE`], without line breaks. The member `data` has the
    /// bytes of [`data`](Self::data).
    ///
    /// # Panics
    /// Never: attributes and data have a JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("attributes are texts, the data is JSON")
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

/// Bytes of an event with these attributes and data.
pub(crate) fn size(attributes: &[(&'static str, String)], data: &[u8]) -> usize {
    let each = |(name, value): &(&str, String)| name.len() + value.len() + ATTRIBUTE_OVERHEAD_BYTES;
    data.len() + attributes.iter().map(each).sum::<usize>()
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data: &RawValue = serde_json::from_slice(&self.data).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(Some(self.attributes.len() + 1))?;
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
