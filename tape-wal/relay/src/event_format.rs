//! How a relay makes events of entries.

use crate::event::Event;
use crate::event_attributes;
use crate::event_data::envelope;
use crate::payload_rule::PayloadRule;
use std::sync::Arc;
use tape_core::codec::{self, DecodeError, Opened, StoredEntry};
use tape_core::id::{Seq, StreamId};

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

/// How a relay makes events: their source, what becomes of payloads, and how large they may be. Copies are cheap: events have one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFormat(Arc<Settings>);

#[derive(Debug, PartialEq, Eq)]
struct Settings {
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
        Self(Arc::new(Settings {
            source: DEFAULT_SOURCE.to_owned(),
            payload: PayloadRule::Include,
            event_bytes_max: DEFAULT_EVENT_BYTES_MAX,
        }))
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
        Ok(Self(Arc::new(Settings {
            source: source.to_owned(),
            payload,
            event_bytes_max,
        })))
    }

    /// The event of an entry.
    ///
    /// # Errors
    /// [`DecodeError`] where the entry cannot be read: it is damaged, or a newer build wrote it.
    pub fn event(&self, stream: &StreamId, stored: &StoredEntry) -> Result<Event, DecodeError> {
        let opened = open(stored)?;
        Ok(Event::new(self.clone(), stream.clone(), stored.clone(), opened))
    }

    pub(crate) fn source(&self) -> &str {
        &self.0.source
    }

    pub(crate) fn payload(&self) -> &PayloadRule {
        &self.0.payload
    }

    pub(crate) fn event_bytes_max(&self) -> usize {
        self.0.event_bytes_max
    }
}

/// Reads an entry for its event. What is found to be wrong with it is found here, before the event is delivered.
///
/// # Errors
/// [`DecodeError`] where the entry cannot be read: it is damaged, or a newer build wrote it.
pub(crate) fn open(stored: &StoredEntry) -> Result<Opened, DecodeError> {
    let opened = codec::open(stored)?;
    envelope(stored).map_err(|problem| DecodeError::Damaged {
        seq: stored.seq,
        source: serde::de::Error::custom(problem),
    })?;
    Ok(opened)
}

/// The `id` of the event of an entry: the stream's full name, `/` and the entry's number.
#[must_use]
pub fn event_id(stream: &StreamId, seq: Seq) -> String {
    event_attributes::id(stream, seq)
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
