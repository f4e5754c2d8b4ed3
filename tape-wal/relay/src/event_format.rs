//! How a relay makes events of entries.

use crate::event::{DATA_CONTENT_TYPE, Event, SPEC_VERSION, TYPE_PREFIX, size};
use crate::event_data::{Contents, Data};
use crate::payload_rule::PayloadRule;
use bytes::Bytes;
use tape_core::codec::{self, DecodeError, StoredEntry};
use tape_core::entry::Entry;
use tape_core::id::{Seq, StreamId};
use tape_core::subject::Subject;
use tape_core::time::Timestamp;

/// The `source` of events unless a relay says another.
pub const DEFAULT_SOURCE: &str = "tape";
/// Longest `source`, in bytes.
pub const SOURCE_BYTES_MAX: usize = 256;
/// The bound of an event unless a relay says another, in bytes.
pub const DEFAULT_EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Lowest bound of an event, in bytes: the attributes of every entry fit, and say what was left out.
pub const EVENT_BYTES_MAX_LOWEST: usize = 32 * 1024;
/// Highest bound of an event, in bytes: every entry fits with its payloads, also in base64.
pub const EVENT_BYTES_MAX_HIGHEST: usize = 8 * 1024 * 1024;

/// How a relay makes events: their source, what becomes of payloads, and how large they may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFormat {
    source: String,
    payload: PayloadRule,
    event_bytes_max: usize,
}

/// Why a format cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventFormat {
    /// The source is not a URI reference.
    #[error(
        "source '{source_text}' is not a URI reference of 1 to {SOURCE_BYTES_MAX} bytes: \
         use letters, digits and -._~:/?#[]@!$&'()*+,;= with other characters as %XX"
    )]
    Source {
        /// The text.
        source_text: String,
    },
    /// The bound is too low or too high.
    #[error(
        "event_bytes_max is {found}, it must be from {EVENT_BYTES_MAX_LOWEST} to {EVENT_BYTES_MAX_HIGHEST}"
    )]
    EventBytes {
        /// The bound.
        found: usize,
    },
}

impl Default for EventFormat {
    /// Payloads are included, and the other settings have their defaults.
    fn default() -> Self {
        Self {
            source: DEFAULT_SOURCE.to_owned(),
            payload: PayloadRule::Include,
            event_bytes_max: DEFAULT_EVENT_BYTES_MAX,
        }
    }
}

impl EventFormat {
    /// A format whose events have at most `event_bytes_max` [bytes](Event::size). An event over it has no payload, and says so; if it is
    /// still over it, it has no envelope either.
    ///
    /// # Errors
    /// [`InvalidEventFormat`] names the setting that is wrong.
    pub fn new(
        source: &str,
        payload: PayloadRule,
        event_bytes_max: usize,
    ) -> Result<Self, InvalidEventFormat> {
        if !is_uri_reference(source) {
            let source_text = source.chars().take(SOURCE_BYTES_MAX).collect();
            return Err(InvalidEventFormat::Source { source_text });
        }
        if !(EVENT_BYTES_MAX_LOWEST..=EVENT_BYTES_MAX_HIGHEST).contains(&event_bytes_max) {
            let found = event_bytes_max;
            return Err(InvalidEventFormat::EventBytes { found });
        }
        let source = source.to_owned();
        Ok(Self {
            source,
            payload,
            event_bytes_max,
        })
    }

    /// The event of an entry.
    ///
    /// # Errors
    /// [`DecodeError`] where the entry cannot be read: it is damaged, or a newer build wrote it.
    pub fn event(&self, stream: &StreamId, stored: &StoredEntry) -> Result<Event, DecodeError> {
        let entry = codec::decode(stored)?;
        let attributes = self.attributes(stream, &entry);
        let data = self.data(&attributes, stored, &entry)?;
        Ok(Event::new(stream.clone(), stored.seq, entry.at, attributes, data))
    }

    fn attributes(&self, stream: &StreamId, entry: &Entry) -> Vec<(&'static str, String)> {
        let kind = entry.body.kind();
        let name = stream.to_string();
        let mut all = vec![
            ("specversion", SPEC_VERSION.to_owned()),
            ("id", event_id(stream, entry.seq)),
            ("source", self.source.clone()),
            ("type", format!("{TYPE_PREFIX}{kind}")),
            ("subject", Subject::new(stream, kind).to_string()),
        ];
        all.extend(rfc3339(entry.at).map(|time| ("time", time)));
        all.push(("datacontenttype", DATA_CONTENT_TYPE.to_owned()));
        let trace = entry.trace.as_ref();
        all.extend(trace.map(|trace| ("traceparent", trace.as_str().to_owned())));
        all.extend([
            ("tenant", stream.tenant().to_string()),
            ("stream", name),
            ("seq", entry.seq.to_string()),
            ("kind", kind.to_owned()),
            ("chaindigest", entry.digest.to_string()),
        ]);
        let payloads = entry.body.payloads();
        let first = payloads.first();
        all.extend(first.map(|payload| ("payloaddigest", payload.digest().to_string())));
        all
    }

    /// The data with all that fits: payloads and envelope, the envelope alone, or neither.
    fn data(
        &self,
        attributes: &[(&'static str, String)],
        stored: &StoredEntry,
        entry: &Entry,
    ) -> Result<Bytes, DecodeError> {
        let fits = |data: &Bytes| size(attributes, data) <= self.event_bytes_max;
        let data = Data::new(stored, entry)?;
        for contents in [Contents::Whole(&self.payload), Contents::Envelope] {
            let bytes = data.to_bytes(contents);
            if fits(&bytes) {
                return Ok(bytes);
            }
        }
        Ok(data.to_bytes(Contents::References))
    }
}

/// The `id` of the event of an entry: the stream's full name, `/` and the entry's number.
#[must_use]
pub fn event_id(stream: &StreamId, seq: Seq) -> String {
    format!("{stream}/{seq}")
}

/// The time as RFC 3339 writes it, in UTC; none outside of the years 0000 to 9999, which no clock of a server showed.
fn rfc3339(at: Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
    let text = time.to_string();
    (!text.starts_with('-')).then_some(text)
}

fn is_uri_reference(text: &str) -> bool {
    let escape = |at: usize| {
        text.get(at + 1..at + 3)
            .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let taken = |(at, byte): (usize, u8)| match byte {
        b'%' => escape(at),
        _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
    };
    (1..=SOURCE_BYTES_MAX).contains(&text.len()) && text.bytes().enumerate().all(taken)
}
