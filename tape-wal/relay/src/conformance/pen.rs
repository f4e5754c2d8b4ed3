//! Writes entries, for tests.

use crate::event::Event;
use crate::event_format::EventFormat;
use tape_core::chain::Chain;
use tape_core::codec::{Stamp, StoredEntry};
use tape_core::entry::{EntryBody, value};
use tape_core::id::{RequestId, Seq, StreamId};
use tape_core::payload::Payload;
use tape_core::time::Timestamp;

/// 2026-11-30T12:00:00Z.
const NOON: Timestamp = Timestamp::from_micros(1_796_040_000_000_000);

/// The end of a stream, as a test's writer sees it.
#[derive(Clone, Debug)]
pub struct Pen {
    chain: Chain,
}

impl Pen {
    /// A stream without entries.
    ///
    /// # Panics
    /// Where the text is not the name of a stream.
    #[must_use]
    pub fn new(stream: &str) -> Self {
        let stream: StreamId = stream.parse().expect("the test names a stream");
        Self {
            chain: Chain::new(&stream),
        }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        self.chain.stream()
    }

    /// The next entry with a body. It is stamped by its number alone.
    pub fn write(&mut self, body: impl Into<EntryBody>) -> StoredEntry {
        let Seq(seq) = self.chain.seq();
        let stamp = Stamp {
            at: NOON.plus_millis(seq),
            request: RequestId::from_u128(u128::from(seq) + 1),
            principal: None,
            trace: None,
            command: None,
        };
        self.write_stamped(&stamp, body)
    }

    /// The next entry with a stamp and body.
    pub fn write_stamped(&mut self, stamp: &Stamp, body: impl Into<EntryBody>) -> StoredEntry {
        self.chain.seal(stamp, body.into()).1
    }

    /// The next entry: a value that changed.
    pub fn put(&mut self, value: Payload) -> StoredEntry {
        let version = self.chain.seq().next().0;
        self.write(value::Put {
            version,
            value,
            previous: None,
        })
    }

    /// The event of the next entry, a value that changed, with default settings.
    ///
    /// # Panics
    /// Where the value is too large for a payload.
    pub fn event(&mut self, value: &serde_json::Value) -> Event {
        let stored = self.put(Payload::json(value));
        let event = EventFormat::default().event(self.stream(), &stored);
        event.expect("the entry was just written")
    }
}
