//! Acting on the last of several entries that follow each other quickly.

use super::clock::Clock;
use crate::event::Event;
use crate::filter::Filter;
use crate::sink::SinkError;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::codec::{StoredEntry, decode};
use tape_core::id::{Seq, StreamId};
use tape_core::limits::CLOCK_ERROR_MS_MAX;
use tape_core::time::Timestamp;

/// Entries that are read at a time where a run is looked at.
const PAGE: u32 = 256;

/// The rule: an entry counts if no other that the filter chooses comes in its stream within a time after it, by the times that the entries
/// have. So a process that applies it again comes to the same.
#[derive(Debug)]
pub(super) struct Debounce {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<Clock>,
    pub(super) filter: Filter,
    pub(super) millis: u64,
}

impl Debounce {
    /// Whether an event counts, where `later` are events after it that the filter chose.
    ///
    /// # Errors
    /// [`SinkError::Waits`] where it is too early to tell, [`SinkError::Unavailable`] where the journal does not.
    pub(super) async fn counts(&self, event: &Event, later: &[Event]) -> Result<bool, SinkError> {
        // A time outside of what can be written is of no clock of a server.
        let Some(at) = time(event) else { return Ok(true) };
        let end = at.plus_millis(self.millis);
        let mut follow = later.iter().filter(|other| other.stream() == event.stream());
        if follow.any(|other| time(other).is_some_and(|at| at <= end)) {
            return Ok(false);
        }
        // The clock of the server that writes next may be behind this one by as much.
        let certain = end.plus_millis(CLOCK_ERROR_MS_MAX);
        let now = self.clock.now();
        if now < certain {
            return Err(SinkError::Waits {
                reason: format!("waits whether another entry comes until {end}"),
                retry_after: Duration::from_millis(certain.millis_since(now).max(1)),
            });
        }
        let another = self.another(event.stream(), event.seq(), end).await;
        let another = another.map_err(|error| SinkError::unavailable(Causes(&error)))?;
        Ok(!another)
    }

    /// Whether an entry that the filter chooses comes after one, until a time.
    async fn another(&self, stream: &StreamId, after: Seq, end: Timestamp) -> Result<bool, JournalError> {
        let StreamId::Run(run) = stream else {
            return self.another_of_any(stream, after, end).await;
        };
        let mut after = after;
        loop {
            let page = self.journal.read(run, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(false) };
            after = last.seq;
            if let Some(found) = self.found(stream, page, end).await? {
                return Ok(found);
            }
        }
    }

    /// The same for streams of other kinds, which are read from their beginning.
    async fn another_of_any(
        &self,
        stream: &StreamId,
        after: Seq,
        end: Timestamp,
    ) -> Result<bool, JournalError> {
        let mut pages = self.journal.stream_entries(stream);
        while let Some(page) = pages.next().await {
            let mut page = page?;
            page.retain(|entry| entry.seq > after);
            if let Some(found) = self.found(stream, page, end).await? {
                return Ok(found);
            }
        }
        Ok(false)
    }

    /// Whether a page has such an entry; none where it has not, and ends before the time.
    async fn found(
        &self,
        stream: &StreamId,
        page: Vec<StoredEntry>,
        end: Timestamp,
    ) -> Result<Option<bool>, JournalError> {
        let mut within = Vec::with_capacity(page.len());
        let mut over = false;
        for entry in page {
            over = decode(&entry).map_err(JournalError::damaged)?.at > end;
            if over {
                break;
            }
            within.push((stream.clone(), entry));
        }
        let chosen = self
            .filter
            .choose(&within)
            .await
            .map_err(JournalError::unavailable)?;
        let found = chosen.matches.contains(&true);
        Ok((found || over).then_some(found))
    }
}

fn time(event: &Event) -> Option<Timestamp> {
    let time: jiff::Timestamp = event.attribute("time")?.parse().ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}
