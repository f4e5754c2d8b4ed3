//! Reads a part of the feed ahead of the sink, and makes events of it.

use crate::counts::{Counters, Waiting, add};
use crate::event::Event;
use crate::event_format::{EventFormat, open};
use crate::filter::Filter;
use crate::owned::Owned;
use bytes::Bytes;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_api::query::{FeedPage, Tail};
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::codec::{DecodeError, StoredEntry, decode};
use tape_core::id::StreamId;
use tape_core::outage::Outage;
use tape_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Pages whose events wait for the sink. With the one that is delivered, the one whose events are made, the one that waits for that and the one
/// that was just read, a part holds five, each bounded by the journal.
pub(crate) const PAGES_AHEAD: usize = 1;
/// How often the log repeats that the journal cannot be read, or that the filter has no answer.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// What a page of the feed came to.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What is to be delivered, in order.
    pub(crate) events: Vec<Event>,
    /// They count as waiting until this is gone.
    pub(crate) waiting: Waiting,
    /// The shard of the page.
    pub(crate) shard: u16,
    /// Where the shard is once the part is done with the batch.
    pub(crate) cursor: Bytes,
    /// The time of the last entry of the page; none where it has none.
    pub(crate) reached: Option<Timestamp>,
    /// The time of the first event.
    pub(crate) oldest: Option<Timestamp>,
}

/// Reads the shards of a part.
pub(crate) struct Reader {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) filter: Filter,
    pub(crate) format: EventFormat,
    pub(crate) counters: Arc<Counters>,
    pub(crate) backoff: (Duration, Duration),
}

impl Reader {
    /// Reads the feed and hands on what it chooses, until the receiver is gone.
    ///
    /// # Errors
    /// [`JournalError`] where the feed cannot go on: its cursor is of another journal, or the journal is damaged.
    pub(crate) async fn read(self, tail: Tail, batches: mpsc::Sender<Batch>) -> Result<(), JournalError> {
        // In a task of its own: a page is read while events are made of the one before.
        let (to, mut pages) = mpsc::channel(1);
        let _reading = Owned(tokio::spawn(pages_of(Arc::clone(&self.journal), tail, to)));
        while let Some(page) = pages.recv().await {
            if batches.send(self.batch(page?).await?).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn batch(&self, page: FeedPage) -> Result<Batch, JournalError> {
        add(&self.counters.entries_read, page.entries.len());
        for damaged in &page.damaged {
            add(&self.counters.entries_unreadable, 1);
            let stream = damaged
                .stream
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::error!(
                stream,
                problem = damaged.problem,
                "an entry cannot be read and is not delivered"
            );
        }
        let reached = page.entries.last().and_then(|(_, entry)| time(entry));
        let chosen = self.chosen(&page.entries).await;
        let mut events = Vec::with_capacity(page.entries.len());
        for ((stream, entry), is_chosen) in page.entries.into_iter().zip(chosen) {
            if is_chosen {
                events.extend(self.event(stream, entry)?);
            }
        }
        Ok(Batch {
            oldest: events.first().map(Event::at),
            waiting: Waiting::new(&self.counters, events.len()),
            events,
            shard: page.shard,
            cursor: page.cursor,
            reached,
        })
    }

    /// Which entries are chosen. Nothing is passed over because the filter had no answer: it is asked until it has one.
    async fn chosen(&self, entries: &[(StreamId, StoredEntry)]) -> Vec<bool> {
        let mut outage = Outage::new(SAID_AGAIN);
        let mut backoff = Backoff::new(self.backoff.0, self.backoff.1);
        loop {
            match self.filter.choose(entries).await {
                Ok(chosen) => {
                    self.counters
                        .predicate_failures
                        .fetch_add(chosen.failed, std::sync::atomic::Ordering::Relaxed);
                    if let Some(failure) = &chosen.failure {
                        let (stream, seq) = (&failure.stream, failure.seq);
                        tracing::debug!(%stream, %seq, problem = failure.problem, "the predicate failed on an entry");
                    }
                    return chosen.matches;
                }
                Err(error) => {
                    say(&mut outage, "the filter", &error.to_string());
                    tokio::time::sleep(backoff.next(self.journal.environment().chance())).await;
                }
            }
        }
    }

    /// The event of an entry; none where the entry is damaged.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] where a newer build wrote the entry: the part stays before it until this process is upgraded.
    fn event(&self, stream: StreamId, entry: StoredEntry) -> Result<Option<Event>, JournalError> {
        match open(&entry) {
            Ok(opened) => Ok(Some(Event::new(self.format.clone(), stream, entry, opened))),
            Err(newer @ (DecodeError::NewerVersion { .. } | DecodeError::UnknownKind { .. })) => {
                let problem =
                    format!("the relay stops before an entry of {stream}: {newer}; upgrade this program");
                Err(JournalError::damaged(problem))
            }
            Err(problem) => {
                add(&self.counters.entries_unreadable, 1);
                let (seq, problem) = (entry.seq, Causes(&problem));
                tracing::error!(%stream, %seq, %problem, "an entry cannot be read and is not delivered");
                Ok(None)
            }
        }
    }
}

/// Reads pages of the feed. After a failure that may pass it goes on at the same place, after a pause of its own; another one is the last.
async fn pages_of(journal: Arc<dyn Journal>, tail: Tail, to: mpsc::Sender<Result<FeedPage, JournalError>>) {
    let mut pages = journal.tail(&tail);
    let mut outage = Outage::new(SAID_AGAIN);
    while let Some(page) = pages.next().await {
        if let Err(failure @ JournalError::Unavailable(_)) = &page {
            say(&mut outage, "the feed", &Causes(failure).to_string());
            continue;
        }
        if let Some(spell) = outage.back(Instant::now().into_std()) {
            tracing::info!(%spell, "the feed is read again");
        }
        let is_last = page.is_err();
        if to.send(page).await.is_err() || is_last {
            return;
        }
    }
}

fn say(outage: &mut Outage, what: &str, error: &str) {
    let now = Instant::now().into_std();
    if let Some(spell) = outage.lost(now, error) {
        tracing::warn!(error, %spell, "{what} gives no answer; trying again");
    }
}

fn time(entry: &StoredEntry) -> Option<Timestamp> {
    decode(entry).ok().map(|entry| entry.at)
}
