//! Carries one part of a relay: claims it, reads ahead, delivers, and moves its place.

use crate::counts::{Counters, add, change};
use crate::delivery::{Delivery, Refusal, Round};
use crate::reader::{Batch, PAGES_AHEAD, Reader};
use crate::refusals::Refusals;
use crate::relay::Relay;
use crate::settings::Start;
use crate::unmoved::Unmoved;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tape_api::backoff::{Backoff, jittered};
use tape_api::query::Tail;
use tape_api::relays::{ClaimAnswer, MoveAnswer};
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::id::{Epoch, Holder, RelayPart};
use tape_core::outage::Outage;
use tape_core::relay::{Held, Place, Progress};
use tape_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many times in a lease it is renewed.
const RENEWALS: u32 = 3;
/// How often the log repeats that a sink or the journal fails.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// A part of a relay, in one process.
pub(crate) struct Part {
    pub(crate) relay: Arc<Relay>,
    pub(crate) part: RelayPart,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) holder: Holder,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
}

/// Why a process carries a part no longer.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// It is told to stop.
    #[error("it is told to stop")]
    Stopped,
    /// Another process has the part, or a person has changed it.
    #[error("the part is another's by now")]
    Lost,
    /// The journal does not let it go on.
    #[error("the journal does not let it go on")]
    Journal(#[from] JournalError),
}

/// A task that ends with its owner.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Part {
    /// Carries the part whenever no other process does, until it is told to stop.
    pub(crate) async fn run(self) {
        let settings = self.relay.settings;
        let mut outage = Outage::new(SAID_AGAIN);
        let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
        while !self.stop.is_cancelled() {
            let wait = match self.claim().await {
                Ok(Some((epoch, place))) => {
                    self.say_back(&mut outage);
                    match self.carry(epoch, place).await {
                        Ended::Stopped => return,
                        Ended::Lost => {
                            add(&self.counters.takeovers, 1);
                            tracing::info!(part = %self.part, "another process carries the part");
                            self.next_claim()
                        }
                        Ended::Journal(error) => {
                            self.say(&mut outage, &error);
                            backoff.next(self.chance())
                        }
                    }
                }
                Ok(None) => {
                    self.say_back(&mut outage);
                    backoff = Backoff::new(settings.backoff, settings.backoff_max);
                    self.next_claim()
                }
                Err(error) => {
                    self.say(&mut outage, &error);
                    backoff.next(self.chance())
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn claim(&self) -> Result<Option<(Epoch, Place)>, JournalError> {
        let relays = self.journal.relays();
        let claim = relays.claim(&self.part, &self.holder, self.relay.settings.lease);
        match claim.await? {
            ClaimAnswer::Claimed { epoch, place } => Ok(Some((epoch, *place))),
            ClaimAnswer::Held(Held::Disabled(disabled)) => {
                tracing::debug!(part = %self.part, reason = disabled.reason, "the relay is disabled");
                Ok(None)
            }
            ClaimAnswer::Held(held) => {
                tracing::debug!(part = %self.part, %held, "the part is not free");
                Ok(None)
            }
        }
    }

    /// When to claim again a part that another process carries.
    fn next_claim(&self) -> Duration {
        jittered(self.relay.settings.lease / RENEWALS, self.chance())
    }

    fn chance(&self) -> f64 {
        self.journal.environment().chance()
    }

    fn say(&self, outage: &mut Outage, error: &JournalError) {
        let error = Causes(error).to_string();
        if let Some(spell) = outage.lost(Instant::now().into_std(), &error) {
            tracing::warn!(part = %self.part, error, %spell, "the relay cannot go on; trying again");
        }
    }

    fn say_back(&self, outage: &mut Outage) {
        if let Some(spell) = outage.back(Instant::now().into_std()) {
            tracing::info!(part = %self.part, %spell, "the relay goes on");
        }
    }

    async fn carry(&self, epoch: Epoch, place: Place) -> Ended {
        tracing::info!(part = %self.part, %epoch, "carrying the part");
        change(&self.counters.parts, 1);
        let mut carried = Carried::begin(self, epoch, place);
        let ended = match carried.follow().await {
            Err(ended) => ended,
            Ok(never) => match never {},
        };
        drop(carried);
        change(&self.counters.parts, -1);
        ended
    }
}

/// A part while this process holds its lease.
struct Carried<'a> {
    part: &'a Part,
    epoch: Epoch,
    unmoved: Unmoved,
    /// Since when the sink takes nothing, by the journal's time as far as the place says it.
    failing: Option<Timestamp>,
    renewed: Instant,
    batches: mpsc::Receiver<Batch>,
    reader: Owned<Result<(), JournalError>>,
}

impl<'a> Carried<'a> {
    fn begin(part: &'a Part, epoch: Epoch, place: Place) -> Self {
        let settings = part.relay.settings;
        let (to, batches) = mpsc::channel(PAGES_AHEAD);
        let reader = Reader {
            journal: Arc::clone(&part.journal),
            filter: part.relay.filter.clone(),
            format: part.relay.format.clone(),
            counters: Arc::clone(&part.counters),
            backoff: (settings.backoff, settings.backoff_max),
        };
        let placed = place.cursors.keys().copied().collect();
        let shards = if settings.together {
            BTreeSet::new()
        } else {
            BTreeSet::from([part.part.part])
        };
        let tail = Tail {
            tenant: part.relay.id.tenant.clone(),
            pattern: part.relay.filter.pattern().clone(),
            cursors: place.cursors,
            shards,
            from_start: settings.start == Start::Beginning,
            follow: true,
        };
        Self {
            part,
            epoch,
            unmoved: Unmoved::new(placed, &settings),
            failing: place.failing,
            renewed: Instant::now(),
            batches,
            reader: Owned(tokio::spawn(reader.read(tail, to))),
        }
    }

    /// Delivers until something ends it.
    async fn follow(&mut self) -> Result<std::convert::Infallible, Ended> {
        loop {
            let move_at = self.unmoved.move_at().min(self.renew_at());
            tokio::select! {
                biased;
                () = self.part.stop.cancelled() => return self.leave().await,
                // Before the next batch, so that a busy feed does not hold up the place.
                () = tokio::time::sleep_until(move_at) => self.advance().await?,
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.take(batch).await?,
                    None => return Err(self.reader_ended().await),
                },
            }
        }
    }

    fn renew_at(&self) -> Instant {
        self.renewed + self.part.relay.settings.lease / RENEWALS
    }

    async fn reader_ended(&mut self) -> Ended {
        match (&mut self.reader.0).await {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) => JournalError::unavailable("the journal ended the feed").into(),
            Err(died) => JournalError::damaged(died).into(),
        }
    }

    /// Delivers a batch to its end, and notes that the place can move past it.
    async fn take(&mut self, batch: Batch) -> Result<(), Ended> {
        let oldest = batch.oldest.map_or(0, Timestamp::as_micros);
        self.part.counters.oldest_waiting_us.store(oldest, Relaxed);
        let mut delivery = Delivery::new(batch.events, Arc::clone(&self.part.counters));
        let settings = &self.part.relay.settings;
        let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
        let mut outage = Outage::new(SAID_AGAIN);
        while !delivery.is_done() {
            let round = self.round(&mut delivery).await?;
            self.note(&round, &mut outage);
            self.record(round.refused).await?;
            if let Some(reason) = round.disabled.or_else(|| self.fails_too_long()) {
                return self.disable(reason).await;
            }
            if !delivery.is_done() {
                let asked = round.retry_after.unwrap_or_default().min(settings.backoff_max);
                if round.failure.is_none() {
                    // Nothing failed, so the sink knows when to go on.
                    backoff = Backoff::new(settings.backoff, settings.backoff_max);
                }
                let wait = match round.failure {
                    Some(_) => asked.max(backoff.next(self.part.chance())),
                    None => asked.max(settings.backoff),
                };
                self.wait(wait).await?;
            }
        }
        self.part.counters.oldest_waiting_us.store(0, Relaxed);
        self.unmoved.pass(batch.shard, batch.cursor, batch.reached);
        if self.unmoved.is_due() {
            self.advance().await?;
        }
        Ok(())
    }

    /// A round of the sink, with the lease renewed meanwhile. A lost lease ends it: what the sink then takes is delivered again by another.
    async fn round(&mut self, delivery: &mut Delivery) -> Result<Round, Ended> {
        let sink = Arc::clone(&self.part.relay.sink);
        let mut round = std::pin::pin!(delivery.round(&*sink));
        loop {
            tokio::select! {
                biased;
                round = &mut round => return Ok(round),
                () = tokio::time::sleep_until(self.renew_at()) => self.advance().await?,
            }
        }
    }

    fn note(&mut self, round: &Round, outage: &mut Outage) {
        self.unmoved.add(round.confirmed, round.refused.len());
        let now = Instant::now().into_std();
        let works = round.confirmed > 0 || !round.refused.is_empty();
        match &round.failure {
            Some(failure) => {
                if let Some(spell) = outage.lost(now, failure) {
                    tracing::warn!(part = %self.part.part, failure, %spell, "the sink does not take an event; trying again");
                }
            }
            None => {
                let _ = outage.back(now);
                if let Some(reason) = &round.waits {
                    tracing::debug!(part = %self.part.part, reason, "the sink waits");
                }
            }
        }
        if works || round.failure.is_none() {
            self.failing = None;
        } else {
            self.failing
                .get_or_insert_with(|| self.part.journal.environment().wall());
        }
    }

    fn fails_too_long(&self) -> Option<String> {
        let limit = self.part.relay.settings.disable_after?;
        let failing = self.failing?;
        let millis = self.part.journal.environment().wall().millis_since(failing);
        (Duration::from_millis(millis) >= limit)
            .then(|| format!("the sink has taken nothing for {} s", millis / 1_000))
    }

    async fn record(&mut self, refused: Vec<Refusal>) -> Result<(), Ended> {
        for refusal in refused {
            let refusals = Refusals::new(&self.part.journal, &self.part.relay.id);
            let mut record = std::pin::pin!(refusals.record(&refusal));
            loop {
                tokio::select! {
                    biased;
                    recorded = &mut record => break recorded?,
                    () = tokio::time::sleep_until(self.renew_at()) => self.advance().await?,
                }
            }
        }
        Ok(())
    }

    async fn wait(&mut self, wait: Duration) -> Result<(), Ended> {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                () = self.part.stop.cancelled() => return self.leave().await.map(|never| match never {}),
                () = tokio::time::sleep_until(self.renew_at().min(until)) => {}
            }
            if Instant::now() >= until {
                return Ok(());
            }
            self.advance().await?;
        }
    }

    /// Moves the place, and renews the lease. A journal that is out of reach costs nothing while the lease lasts.
    async fn advance(&mut self) -> Result<(), Ended> {
        self.send(self.unmoved.progress(self.failing.is_some())).await
    }

    async fn send(&mut self, progress: Progress) -> Result<(), Ended> {
        let lease = self.part.relay.settings.lease;
        let relays = self.part.journal.relays();
        match relays.advance(&self.part.part, self.epoch, progress, lease).await {
            Ok(MoveAnswer::Moved) => {
                add(&self.part.counters.moves, 1);
                self.renewed = Instant::now();
                self.unmoved.moved();
                Ok(())
            }
            Ok(MoveAnswer::NotMoved(refused)) => {
                tracing::info!(part = %self.part.part, %refused, "the place is not moved");
                Err(Ended::Lost)
            }
            Err(error @ JournalError::Unavailable(_)) if self.renewed.elapsed() < lease => {
                tracing::debug!(part = %self.part.part, error = %Causes(&error), "the place is not moved yet");
                let settings = &self.part.relay.settings;
                tokio::time::sleep(jittered(settings.backoff, self.part.chance())).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stops the relay, until a person enables it.
    async fn disable(&mut self, reason: String) -> Result<(), Ended> {
        tracing::error!(part = %self.part.part, reason, "the relay is disabled until a person enables it");
        let progress = Progress {
            disable: Some(reason),
            ..self.unmoved.progress(true)
        };
        self.send(progress).await?;
        Err(Ended::Lost)
    }

    /// Moves the place past what was delivered, and gives the part back.
    async fn leave(&mut self) -> Result<std::convert::Infallible, Ended> {
        if self.unmoved.is_something() {
            self.advance().await?;
        }
        self.part
            .journal
            .relays()
            .release(&self.part.part, self.epoch)
            .await?;
        Err(Ended::Stopped)
    }
}
