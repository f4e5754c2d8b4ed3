//! A relay: what it sends where, and how it runs in a process.

use crate::counts::{Counters, Counts, add};
use crate::event_format::EventFormat;
use crate::filter::Filter;
use crate::health::Health;
use crate::owned::Owned;
use crate::part::Part;
use crate::settings::Settings;
use crate::sink::Sink;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_api::query::Tail;
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::id::{Holder, RelayId, RelayPart};
use tape_core::outage::Outage;
use tape_core::subject::Pattern;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the log repeats that the journal cannot be reached.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Sends the entries that its filter chooses to its sink, as events.
///
/// Any number of processes may run the same relay. One of them carries each part at a time; the others take over when it ends or falls silent.
/// Each event is delivered at least once, and in order within its stream.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its name, which is that of its places in the journal.
    pub id: RelayId,
    /// What it sends.
    pub filter: Filter,
    /// As what.
    pub format: EventFormat,
    /// Where to.
    pub sink: Arc<dyn Sink>,
    /// How it works.
    pub settings: Settings,
}

/// Relays of a process.
#[derive(Debug)]
pub struct Running {
    counters: Arc<Counters>,
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    /// Cancelled once the task is gone, also by a panic.
    ended: CancellationToken,
}

impl Relay {
    /// Starts carrying the relay in this process, under the name `holder`, which no other process has.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(self, journal: Arc<dyn Journal>, holder: Holder) -> Running {
        let counters = Arc::new(Counters::default());
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let end = ended.clone().drop_guard();
        let run = run(
            Arc::new(self),
            journal,
            holder,
            Arc::clone(&counters),
            stop.clone(),
        );
        let task = tokio::spawn(async move {
            run.await;
            drop(end);
        });
        Running {
            counters,
            task,
            stop,
            ended,
        }
    }
}

impl Running {
    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Whether it still carries parts, or waits for some.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// Waits until the call of the sink that is under way is done, moves the places and gives the parts back, so that others take over at
    /// once.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    relay: Arc<Relay>,
    journal: Arc<dyn Journal>,
    holder: Holder,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let shards = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        shards = shards(&relay, journal.as_ref()) => shards,
    };
    let count = if relay.settings.together { 1 } else { shards };
    let health = Arc::new(Health::default());
    let mut parts = JoinSet::new();
    for part in 0..count {
        let part = Part {
            part: RelayPart {
                relay: relay.id.clone(),
                part,
            },
            relay: Arc::clone(&relay),
            journal: Arc::clone(&journal),
            holder: holder.clone(),
            counters: Arc::clone(&counters),
            health: Arc::clone(&health),
            stop: stop.clone(),
        };
        parts.spawn(supervise(part));
    }
    parts.join_all().await;
    if let Err(error) = relay.sink.close().await {
        tracing::warn!(relay = %relay.id, %error, "the sink was not closed in order");
    }
}

/// Carries a part, again after a panic, which is a defect of ours or of the sink: what it concerns stays its own.
async fn supervise(part: Part) {
    let settings = part.relay.settings;
    let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
    loop {
        let mut task = Owned(tokio::spawn(part.clone().run()));
        let Err(died) = (&mut task.0).await else { return };
        add(&part.counters.panics, 1);
        tracing::error!(part = %part.part, error = %died, "carrying the part panicked; beginning again");
        tokio::select! {
            biased;
            () = part.stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next(part.chance())) => {}
        }
    }
}

/// The number of shards of the feed, once the journal tells it.
async fn shards(relay: &Relay, journal: &dyn Journal) -> u16 {
    let settings = relay.settings;
    let mut outage = Outage::new(SAID_AGAIN);
    let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
    loop {
        // The first page of a feed that is followed has no entries, and comes at once.
        let first = journal.tail(&Tail::new(Pattern::all())).next().await;
        let error = match first {
            Some(Ok(page)) => return page.shards,
            Some(Err(error)) => error,
            None => JournalError::unavailable("the journal ended the feed"),
        };
        let error = Causes(&error).to_string();
        if let Some(spell) = outage.lost(Instant::now().into_std(), &error) {
            tracing::warn!(relay = %relay.id, error, %spell, "the journal does not tell its shards; trying again");
        }
        tokio::time::sleep(backoff.next(journal.environment().chance())).await;
    }
}
