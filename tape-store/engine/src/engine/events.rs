//! The events of a session, read back from its end in pages that are bounded by bytes.

use super::Parts;
use crate::stream_service::{EngineError, damaged};
use std::collections::VecDeque;
use std::sync::Arc;
use tape_core::codec::{StoredEntry, decode};
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, SessionId, StreamId};
use tape_store::error::StoreError;

/// Entries that are read at once, from the newest back.
const BLOCK_ENTRIES: u64 = 256;

/// Where a page of events ends: before an entry, among the events that later rewinds did not undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsFrom {
    /// Only events before this entry.
    pub before: Seq,
    /// Only events up to this entry: a later rewind undid those after it.
    pub counts_to: Seq,
}

impl EventsFrom {
    /// The end of the session.
    pub const END: Self = Self {
        before: Seq(u64::MAX),
        counts_to: Seq(u64::MAX),
    };
}

impl std::fmt::Display for EventsFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.before, self.counts_to)
    }
}

impl std::str::FromStr for EventsFrom {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let read = text.split_once('.').and_then(|(before, counts_to)| {
            Some(Self {
                before: Seq(before.parse().ok()?),
                counts_to: Seq(counts_to.parse().ok()?),
            })
        });
        let read = read.filter(|read| read.to_string() == text);
        read.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made by a page of a session".to_owned(),
        })
    }
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsPage {
    /// The entries of the events, oldest first.
    pub events: Vec<StoredEntry>,
    /// Where the page of older events ends; none where there are no older events.
    pub older: Option<EventsFrom>,
}

impl Parts {
    pub(super) async fn session_events(
        &self,
        session: &SessionId,
        from: EventsFrom,
        after: Seq,
        max: u32,
        bytes_max: usize,
    ) -> Result<EventsPage, EngineError> {
        let stream = StreamId::Session(session.clone());
        let state = self.sessions.state(&stream).await?;
        let Some(state) = state.filter(|state| state.id().is_some()) else {
            return Ok(EventsPage {
                events: Vec::new(),
                older: None,
            });
        };
        let head = tape_core::decider::Decider::seq(state.as_ref());
        let mut newest = Newest {
            after: after.max(state.created()),
            max: usize::try_from(max).unwrap_or(usize::MAX),
            bytes_max,
            bytes: 0,
            from,
            found: VecDeque::new(),
            full: max == 0,
        };
        let mut end = head.min(Seq(from.before.0.saturating_sub(1)));
        while end > newest.after && !newest.full {
            let start = Seq(end.0.saturating_sub(BLOCK_ENTRIES)).max(newest.after);
            for stored in self.block(&stream, start, end).await?.into_iter().rev() {
                newest.look_at(&stream, stored)?;
            }
            end = start;
        }
        Ok(EventsPage {
            older: newest.full.then_some(newest.from),
            events: newest.found.into(),
        })
    }

    /// The entries after `start` up to `end`.
    async fn block(&self, stream: &StreamId, start: Seq, end: Seq) -> Result<Vec<StoredEntry>, EngineError> {
        let (mut block, mut at) = (Vec::new(), start);
        while at < end {
            let limit = u32::try_from(end.0 - at.0).expect("a block is small");
            let page = self.store.read(stream, at, limit).await?;
            let Some(last) = page.last() else { break };
            at = last.seq;
            block.extend(page);
        }
        Ok(block)
    }
}

/// The newest events that count, found from the last entry back.
struct Newest {
    after: Seq,
    max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Where the entries that are not read yet end.
    from: EventsFrom,
    found: VecDeque<StoredEntry>,
    /// Whether there is an older one, or may be.
    full: bool,
}

impl Newest {
    fn look_at(&mut self, stream: &StreamId, stored: StoredEntry) -> Result<(), EngineError> {
        if self.full || stored.seq > self.from.counts_to {
            return Ok(());
        }
        let entry = decode(&stored).map_err(|error| damaged(stream, Arc::new(error)))?;
        match entry.body {
            EntryBody::SessionRewound(rewound) => self.from.counts_to = rewound.to,
            EntryBody::SessionEventAppended(_) => self.take(stored),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, stored: StoredEntry) {
        // A page whose first event is larger than the bound has that event alone.
        let fits = self.bytes + stored.size() <= self.bytes_max || self.found.is_empty();
        self.full = self.found.len() == self.max || !fits;
        if !self.full {
            self.bytes += stored.size();
            self.from.before = stored.seq;
            self.found.push_front(stored);
        }
    }
}
