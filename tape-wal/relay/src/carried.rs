//! Carries a part under its lease: reads ahead, delivers, and moves its place.

use crate::counts::add;
use crate::delivery::{Delivery, Refusal, Round};
use crate::failing::Failing;
use crate::kept::{Kept, Skip};
use crate::offer::Call;
use crate::owned::Owned;
use crate::part::{Ended, Part, RENEWALS, SAID_AGAIN};
use crate::reader::{Batch, PAGES_AHEAD, Reader};
use crate::refusals::Refusals;
use crate::settings::Start;
use crate::sink::SinkError;
use crate::unmoved::Unmoved;
use crate::window::{Done, Window};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::backoff::{Backoff, jittered};
use tape_api::query::Tail;
use tape_api::relays::{Control, MoveAnswer};
use tape_core::causes::Causes;
use tape_core::id::Epoch;
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::outage::Outage;
use tape_core::relay::{Place, Progress};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// For so many leases a process keeps a part whose sink takes nothing; then another one may try.
const FAILING_LEASES: u32 = 4;

/// A part while this process holds its lease.
pub(crate) struct Carried<'a> {
    part: &'a Part,
    epoch: Epoch,
    window: Window,
    delivery: Delivery,
    unmoved: Unmoved,
    skip: Skip,
    failing: Failing,
    outage: Outage,
    /// Whether the place has something that is kept beside its cursors.
    has_kept: bool,
    /// Whether the place says of which relay of the name it is, where names are used again.
    says_whose: bool,
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
        let kept = Kept::read(&place.state);
        let says_whose = kept.incarnation == settings.incarnation;
        Self {
            part,
            epoch,
            window: Window::default(),
            delivery: Delivery::new(settings, &part.counters, &part.health),
            unmoved: Unmoved::new(placed, &settings),
            failing: Failing::known(place.failing.is_some(), kept.failed),
            skip: kept.into_skip(settings.window_events.saturating_add(PAGE_ENTRIES_MAX.into())),
            outage: Outage::new(SAID_AGAIN),
            has_kept: !place.state.is_empty(),
            says_whose,
            renewed: Instant::now(),
            batches,
            reader: Owned(tokio::spawn(reader.read(tail, to))),
        }
    }

    /// Delivers until something ends it.
    pub(crate) async fn follow(&mut self) -> Result<Infallible, Ended> {
        loop {
            self.pass().await?;
            if self.part.stop.is_cancelled() {
                return self.leave().await;
            }
            let now = Instant::now();
            let next = self.delivery.next_at(now);
            if next.is_some_and(|next| next <= now) {
                self.deliver().await?;
                continue;
            }
            // What was not offered yet is offered before more is read.
            let takes_more = self.delivery.is_offered() && self.window.has_room(&self.part.relay.settings);
            let advance_at = self.advance_at();
            let wake = next.map_or(advance_at, |next| next.min(advance_at));
            tokio::select! {
                biased;
                () = self.part.stop.cancelled() => {}
                () = tokio::time::sleep_until(wake) => {}
                batch = self.batches.recv(), if takes_more => match batch {
                    Some(batch) => self.take(batch),
                    None => return Err(self.reader_ended().await),
                },
            }
        }
    }

    fn renew_at(&self) -> Instant {
        self.renewed + self.part.relay.settings.lease / RENEWALS
    }

    /// When the place is to be moved, or the lease to be renewed.
    fn advance_at(&self) -> Instant {
        let renew_at = self.renew_at();
        self.unmoved
            .move_at()
            .map_or(renew_at, |move_at| move_at.min(renew_at))
    }

    async fn reader_ended(&mut self) -> Ended {
        match (&mut self.reader.0).await {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) => JournalError::unavailable("the journal ended the feed").into(),
            Err(died) => JournalError::damaged(died).into(),
        }
    }

    /// Takes up a page of the feed.
    fn take(&mut self, batch: Batch) {
        let (page, events) = self.window.add(batch);
        for event in events {
            if self.skip.is_done(&event) {
                self.window.done(page, Done::of(&event));
            } else {
                self.delivery.push(event, page);
            }
        }
        self.tell_oldest();
    }

    fn tell_oldest(&self) {
        let oldest = self.window.oldest();
        self.part.counters.oldest(self.part.part.part, oldest);
    }

    /// Notes which pages are done with, and moves the place where it is time.
    async fn pass(&mut self) -> Result<(), Ended> {
        let passed = self.window.pass();
        if !passed.is_empty() {
            self.tell_oldest();
        }
        for page in passed {
            self.unmoved.pass(page.shard, page.cursor, page.reached);
        }
        if self.unmoved.is_due() || self.advance_at() <= Instant::now() {
            self.advance().await?;
        }
        let settings = &self.part.relay.settings;
        let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
        // Nothing is delivered before the journal has where the shard begins.
        while self.unmoved.is_new() {
            self.wait(backoff.next(self.part.chance())).await?;
            self.advance().await?;
        }
        Ok(())
    }

    /// A call of the sink, and what follows from it.
    async fn deliver(&mut self) -> Result<(), Ended> {
        let call = self.delivery.call(Instant::now());
        if call.is_empty() {
            // All of it was of streams that are held.
            return Ok(());
        }
        let answers = self.offer(&call).await?;
        let part = self.part;
        let chance = || part.chance();
        let round = self.delivery.answered(call, answers, Instant::now(), chance);
        self.note(&round);
        self.unmoved.add(round.confirmed, round.refused.len());
        self.record(round.refused).await?;
        for (page, done) in round.done {
            self.window.done(page, done);
        }
        if let Some(reason) = round.disabled.or_else(|| self.fails_too_long()) {
            return self.disable(reason).await;
        }
        self.let_others_try().await
    }

    /// The answers of the sink, with the lease renewed meanwhile. A lost lease ends it: what the sink then takes is delivered again by another.
    async fn offer(&mut self, call: &Call) -> Result<Vec<Result<(), SinkError>>, Ended> {
        let sink = Arc::clone(&self.part.relay.sink);
        let mut answers = std::pin::pin!(call.offer(&*sink));
        loop {
            tokio::select! {
                biased;
                answers = &mut answers => return Ok(answers),
                () = tokio::time::sleep_until(self.renew_at()) => self.advance().await?,
            }
        }
    }

    /// Gives the part back where the sink has taken nothing here for long: it may be this process that cannot reach it.
    async fn let_others_try(&mut self) -> Result<(), Ended> {
        let limit = self.part.relay.settings.lease * FAILING_LEASES;
        if self.failing.here() < limit {
            return Ok(());
        }
        self.give_back().await?;
        Err(Ended::GivenUp)
    }

    fn note(&mut self, round: &Round) {
        let now = Instant::now();
        match &round.failure {
            Some(failure) => {
                if let Some(spell) = self.outage.lost(now.into_std(), failure) {
                    tracing::warn!(part = %self.part.part, failure, %spell, "the sink does not take an event; trying again");
                }
            }
            None => {
                if let Some(spell) = self.outage.back(now.into_std()) {
                    tracing::info!(part = %self.part.part, %spell, "the sink takes events again");
                }
                if let Some(reason) = &round.waits {
                    tracing::debug!(part = %self.part.part, reason, "the sink waits");
                }
            }
        }
        if self.delivery.is_down() {
            self.failing.failed(now);
        } else if round.took_something() || round.failure.is_none() {
            self.failing.works();
        }
    }

    fn fails_too_long(&self) -> Option<String> {
        let limit = self.part.relay.settings.disable_after?;
        let failed = self.failing.total();
        (self.failing.is_failing() && failed >= limit)
            .then(|| format!("the sink has taken nothing for {} s", failed.as_secs()))
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
        // While the place moves, what lies beyond it changes all the time, and is soon passed.
        let keeps = !self.unmoved.is_something() || self.failing.is_failing() || !self.says_whose;
        let kept = keeps.then(|| self.kept());
        self.send(kept).await
    }

    /// What the process that carries the part next has to know beside the place.
    fn kept(&self) -> Bytes {
        let incarnation = self.part.relay.settings.incarnation;
        Kept::write(self.failing.total(), self.window.beyond(), incarnation)
    }

    async fn send(&mut self, kept: Option<Bytes>) -> Result<(), Ended> {
        let lease = self.part.relay.settings.lease;
        let state = kept.filter(|kept| self.has_kept || !kept.is_empty());
        let says_whose = self.says_whose || state.is_some();
        let has_kept = state.as_ref().map_or(self.has_kept, |state| !state.is_empty());
        let progress = Progress {
            state,
            ..self.unmoved.progress(self.failing.is_failing())
        };
        let relays = self.part.journal.relays();
        let moved = relays.advance(&self.part.part, self.epoch, progress, lease);
        match self.part.in_time(moved).await {
            Ok(MoveAnswer::Moved) => {
                add(&self.part.counters.moves, 1);
                self.renewed = Instant::now();
                (self.has_kept, self.says_whose) = (has_kept, says_whose);
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
        self.send(Some(self.kept())).await?;
        let relay = &self.part.relay.id;
        let disable = Control::Disable {
            reason: reason.clone(),
        };
        let disabled = self.part.journal.relays().control(relay, &disable);
        self.part.in_time(disabled).await?;
        tracing::error!(%relay, reason, "the relay is disabled until a person enables it");
        Err(Ended::Disabled)
    }

    /// Moves the place past what was delivered, and gives the part back.
    async fn leave(&mut self) -> Result<Infallible, Ended> {
        self.give_back().await?;
        Err(Ended::Stopped)
    }

    async fn give_back(&mut self) -> Result<(), Ended> {
        let kept = self.kept();
        if self.unmoved.is_something() || self.has_kept || !kept.is_empty() {
            self.send(Some(kept)).await?;
        }
        let release = self.part.journal.relays().release(&self.part.part, self.epoch);
        Ok(self.part.in_time(release).await?)
    }
}
