//! Carries a part under its lease: reads ahead, delivers, and moves its place.

use crate::counts::add;
use crate::delivery::{Delivery, Refusal, Round};
use crate::owned::Owned;
use crate::part::{Ended, Part, RENEWALS, SAID_AGAIN};
use crate::reader::{Batch, PAGES_AHEAD, Reader};
use crate::refusals::Refusals;
use crate::settings::Start;
use crate::unmoved::Unmoved;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::backoff::{Backoff, jittered};
use tape_api::query::Tail;
use tape_api::relays::{Control, MoveAnswer};
use tape_core::causes::Causes;
use tape_core::id::Epoch;
use tape_core::outage::Outage;
use tape_core::relay::{Place, Progress};
use tape_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// For so many leases a process keeps a part whose sink takes nothing; then another one may try.
const FAILING_LEASES: u32 = 4;

/// A part while this process holds its lease.
pub(crate) struct Carried<'a> {
    part: &'a Part,
    epoch: Epoch,
    unmoved: Unmoved,
    /// Since when the sink takes nothing, by the journal's time as far as the place says it.
    failing: Option<Timestamp>,
    /// Since when it takes nothing from this process.
    failing_here: Option<Instant>,
    renewed: Instant,
    batches: mpsc::Receiver<Batch>,
    reader: Owned<Result<(), JournalError>>,
}

impl<'a> Carried<'a> {
    pub(crate) fn begin(part: &'a Part, epoch: Epoch, place: Place) -> Self {
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
            failing_here: None,
            renewed: Instant::now(),
            batches,
            reader: Owned(tokio::spawn(reader.read(tail, to))),
        }
    }

    /// Delivers until something ends it.
    pub(crate) async fn follow(&mut self) -> Result<std::convert::Infallible, Ended> {
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
        self.part.counters.oldest(self.part.part.part, batch.oldest);
        let mut delivery = Delivery::new(batch.events, batch.waiting);
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
                self.let_others_try().await?;
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
        self.part.counters.oldest(self.part.part.part, None);
        self.unmoved.pass(batch.shard, batch.cursor, batch.reached);
        if self.unmoved.is_due() {
            self.advance().await?;
        }
        // Nothing is delivered before the journal has where the shard begins.
        while self.unmoved.is_new() {
            self.wait(backoff.next(self.part.chance())).await?;
            self.advance().await?;
        }
        Ok(())
    }

    /// Gives the part back where the sink has taken nothing here for long: it may be this process that cannot reach it.
    async fn let_others_try(&mut self) -> Result<(), Ended> {
        let limit = self.part.relay.settings.lease * FAILING_LEASES;
        if self.failing_here.is_none_or(|since| since.elapsed() < limit) {
            return Ok(());
        }
        self.give_back().await?;
        Err(Ended::GivenUp)
    }

    /// A round of the sink, with the lease renewed meanwhile. A lost lease ends it: what the sink then takes is delivered again by another.
    async fn round(&mut self, delivery: &mut Delivery) -> Result<Round, Ended> {
        let sink = Arc::clone(&self.part.relay.sink);
        let stop = self.part.stop.clone();
        let mut round = std::pin::pin!(delivery.round(&*sink, &stop));
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
                if let Some(spell) = outage.back(now) {
                    tracing::info!(part = %self.part.part, %spell, "the sink takes events again");
                }
                if let Some(reason) = &round.waits {
                    tracing::debug!(part = %self.part.part, reason, "the sink waits");
                }
            }
        }
        if works || round.failure.is_none() {
            (self.failing, self.failing_here) = (None, None);
        } else {
            self.failing
                .get_or_insert_with(|| self.part.journal.environment().wall());
            self.failing_here.get_or_insert_with(Instant::now);
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
            let refusals = Refusals::new(&self.part.journal, &self.part.relay.id, &self.part.counters);
            let mut record = std::pin::pin!(refusals.record(&refusal));
            loop {
                tokio::select! {
                    biased;
                    () = &mut record => break,
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
        let moved = relays.advance(&self.part.part, self.epoch, progress, lease);
        // One that hangs must not take the time of the next ones.
        let moved = tokio::time::timeout(lease / RENEWALS, moved).await;
        match moved.unwrap_or_else(|_| Err(JournalError::unavailable("the journal has not answered"))) {
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

    /// Stops the whole relay, until a person enables it: its other parts have the same sink.
    async fn disable(&mut self, reason: String) -> Result<(), Ended> {
        self.advance().await?;
        let relay = &self.part.relay.id;
        let disable = Control::Disable {
            reason: reason.clone(),
        };
        self.part.journal.relays().control(relay, &disable).await?;
        tracing::error!(%relay, reason, "the relay is disabled until a person enables it");
        Err(Ended::Disabled)
    }

    /// Moves the place past what was delivered, and gives the part back.
    async fn leave(&mut self) -> Result<std::convert::Infallible, Ended> {
        self.give_back().await?;
        Err(Ended::Stopped)
    }

    async fn give_back(&mut self) -> Result<(), Ended> {
        if self.unmoved.is_something() {
            self.advance().await?;
        }
        self.part
            .journal
            .relays()
            .release(&self.part.part, self.epoch)
            .await?;
        Ok(())
    }
}
