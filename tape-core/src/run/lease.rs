//! Leases: one driver at a time, fenced by an epoch.

use super::check::{lease_length, room, text};
use super::{Effect, Obligation, Phase, Run};
use crate::agenda::{Item, Queue};
use crate::agent_version;
use crate::command::{Begin, Create};
use crate::decider::Decider as _;
use crate::entry::EntryBody;
use crate::entry::lease::{Acquired, Released, Renewed};
use crate::entry::run::{Begun, Stuck, UnhappyOutcome};
use crate::id::{EffectId, Epoch, Holder, RunId, Seq};
use crate::limits::{BACKOFF_MS_MAX, LABELS_MAX, REDRIVES_WITHOUT_PROGRESS_MAX};
use crate::reply::decided;
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};

/// The first wait after a re-drive that made no progress, in milliseconds; it doubles each time.
const REDRIVE_BACKOFF_MS: u64 = 1_000;
/// The longest such wait.
const REDRIVE_BACKOFF_MS_MAX: u64 = 300_000;

/// The lease of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Lease {
    /// The run has no driver and needs none.
    #[default]
    None,
    /// A driver, until a time.
    Held {
        /// The driver.
        holder: Holder,
        /// The end of its lease.
        until: Timestamp,
        /// If the driver vanishes, recovery waits until then.
        retry_at: Timestamp,
    },
    /// The run has no driver; recovery may take it from a time on.
    Released {
        /// The driver that had it.
        holder: Holder,
        /// The time.
        redrive_at: Timestamp,
        /// Since when the run has no driver.
        since: Timestamp,
        /// Whether the driver released the run itself.
        by_driver: bool,
    },
}

/// The driver of a run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A driver has the lease, until a time.
    Driven {
        /// The driver.
        holder: Holder,
        /// The end of its lease, unless renewed.
        until: Timestamp,
    },
    /// The run has no driver, and cannot continue without one.
    Alone {
        /// The last driver; none where the run has waited since.
        last: Option<Holder>,
        /// Since when.
        since: Timestamp,
        /// From when on recovery may have it driven again.
        redrive_at: Timestamp,
        /// Why its cancellation was requested, if it was: then recovery ends the run without an agent.
        cancel: Option<String>,
    },
    /// The run needs no driver: it waits, is being undone, waits for a person or has ended.
    Unneeded,
}

impl Lease {
    pub(super) const fn redrive_at(&self) -> Option<Timestamp> {
        match self {
            Self::None => None,
            Self::Held { retry_at, .. } => Some(*retry_at),
            Self::Released { redrive_at, .. } => Some(*redrive_at),
        }
    }

    const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Held { until, .. } => Some(*until),
            Self::None | Self::Released { .. } => None,
        }
    }

    fn driver(&self) -> Option<&Holder> {
        match self {
            Self::None => None,
            Self::Held { holder, .. } | Self::Released { holder, .. } => Some(holder),
        }
    }

    /// Whether the driver released the run itself.
    pub(super) const fn given_up(&self) -> bool {
        matches!(self, Self::Released { by_driver: true, .. })
    }

    /// Releases a held lease now; recovery may take the run from `redrive_at` on.
    pub(super) fn released(&self, redrive_at: Timestamp, now: Timestamp, by_driver: bool) -> Self {
        let Some(since) = self.left_at(now) else {
            return Self::None;
        };
        let released = |holder| Self::Released {
            holder,
            redrive_at,
            since,
            by_driver,
        };
        self.driver().cloned().map_or(Self::None, released)
    }

    /// Since when the run has no driver, if the lease is released or ended now.
    fn left_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::None => None,
            Self::Held { until, .. } => Some(now.min(*until)),
            Self::Released { since, .. } => Some(*since),
        }
    }

    fn holder_at(&self, now: Now) -> Result<Option<(&Holder, Timestamp)>, Rejection> {
        let Self::Held { holder, until, .. } = self else {
            return Ok(None);
        };
        let over = now.judge(*until, || "the run".to_owned())?;
        Ok((!over).then_some((holder, *until)))
    }
}

impl Run {
    /// The driver of the run.
    #[must_use]
    pub fn driver(&self, now: impl Into<Now>) -> Driver {
        let now = now.into();
        // A lease that is not certainly over counts as held.
        let held = match (self.lease.holder_at(now), &self.lease) {
            (Ok(held), _) => held,
            (Err(_), Lease::Held { holder, until, .. }) => Some((holder, *until)),
            (Err(_), _) => None,
        };
        if let Some((holder, until)) = held {
            return Driver::Driven {
                holder: holder.clone(),
                until,
            };
        }
        match self.recovery_due() {
            // It waits for a time that has not come.
            Some(due) if due > now.at() && matches!(self.phase, Phase::Suspended { .. }) => Driver::Unneeded,
            Some(redrive_at) => Driver::Alone {
                last: self.lease.driver().cloned(),
                since: self.lease.left_at(now.at()).unwrap_or(redrive_at),
                redrive_at,
                cancel: self.cancel.clone(),
            },
            None => Driver::Unneeded,
        }
    }

    /// Whether an item of the agenda waits only for a lease or claim that ends after [`Now::ends_max`] and so is over. The item's time on
    /// the agenda is as far ahead as the wrong clock was under which it was written.
    #[must_use]
    pub fn is_outlived(&self, item: &Item, now: Now) -> bool {
        let until = match item {
            Item::Run => self.lease.until(),
            Item::Effect(id) => self.effects.get(id).and_then(Effect::claimed_until),
            Item::Obligation(id) => self.obligation(id).ok().and_then(Obligation::claimed_until),
            Item::Gate(_) | Item::Timer(_) | Item::Merge | Item::Erasure => None,
        };
        until.is_some_and(|until| now.is_sure() && until > now.ends_max())
    }

    /// Whether a driver has the run.
    ///
    /// # Errors
    /// [`Rejection::TimeUnsure`] where the server cannot tell.
    pub(super) fn driver_at(&self, now: Now) -> Result<bool, Rejection> {
        Ok(self.lease.holder_at(now)?.is_some())
    }

    pub(super) fn begin(&self, begin: &Begin, now: Now) -> Result<Decided, Rejection> {
        lease_length(begin.lease_ms)?;
        if begin
            .create
            .as_ref()
            .is_some_and(|create| create.forked_from.is_some())
        {
            return Err(Rejection::Invalid {
                field: Field::Run,
                problem: "forks are not built yet".to_owned(),
            });
        }
        match &self.phase {
            Phase::New => self.begin_new(begin, now.at()),
            Phase::Ended { ending } => Ok(self.already(ReplyResult::Ended {
                ending: ending.clone(),
            })),
            Phase::Compensating { .. } => Ok(self.already(ReplyResult::Compensating)),
            Phase::Running | Phase::Suspended { .. } => self.take_up(begin, now),
        }
    }

    fn begin_new(&self, begin: &Begin, now: Timestamp) -> Result<Decided, Rejection> {
        // What is handed over is there already.
        let create = begin.create.as_ref().filter(|_| begin.adopt.is_none());
        let create = create.ok_or(Rejection::not_found(Missing::Run))?;
        let begun = begun(&begin.run, create)?;
        let acquired = self.acquired(begin, 0, now);
        Ok(decided(self.seq, vec![begun.into(), acquired.into()]))
    }

    fn take_up(&self, begin: &Begin, now: Now) -> Result<Decided, Rejection> {
        if let Some(reason) = &self.stuck {
            return Ok(self.already(ReplyResult::Stuck {
                reason: reason.clone(),
            }));
        }
        match begin.adopt {
            Some(epoch) => self.handed_over(epoch)?,
            None => self.undriven_at(now)?,
        }
        let outlived = matches!(self.lease, Lease::Held { until, .. } if until > now.at());
        let now = now.at();
        if let Some(reason) = &self.cancel {
            return self.close(
                UnhappyOutcome::Cancelled {
                    reason: reason.clone(),
                },
                now,
            );
        }
        if !begin.recovery {
            return self.append(self.acquired(begin, self.redrives, now));
        }
        let due = self.agenda().due(Queue::Recovery, &Item::Run);
        // A lease that is over because it ends too far in the future makes the run due now.
        if due.is_none_or(|due| due > now && !outlived) {
            return Err(Rejection::NotDue { due });
        }
        let driven = self.driven;
        if driven >= REDRIVES_WITHOUT_PROGRESS_MAX {
            let reason = format!("{driven} re-drives in a row made no progress");
            return self.append(Stuck { reason });
        }
        // A wake-up from a wait is not a failure of the previous driver.
        let failed = matches!(self.phase, Phase::Running);
        self.append(self.acquired(begin, self.redrives + u32::from(failed), now))
    }

    /// Refuses to take a run that a driver has.
    fn undriven_at(&self, now: Now) -> Result<(), Rejection> {
        match self.lease.holder_at(now)? {
            Some((holder, until)) => Err(Rejection::LeaseHeld {
                holder: holder.clone(),
                until,
            }),
            None => Ok(()),
        }
    }

    /// Refuses to adopt a run from an epoch that is not its own, or whose holder gave it up. So each handover is adopted once, and one that
    /// comes late or again has no effect.
    fn handed_over(&self, epoch: Epoch) -> Result<(), Rejection> {
        if epoch != self.epoch {
            return Err(Rejection::Fenced {
                given: epoch,
                current: self.epoch,
            });
        }
        // A lease that ran out, or whose holder lost its connection, is still handed over: an agent may take long to start.
        if self.lease == Lease::None || self.lease.given_up() {
            return Err(Rejection::not_found(Missing::Driver));
        }
        Ok(())
    }

    fn acquired(&self, begin: &Begin, redrives: u32, now: Timestamp) -> Acquired {
        let until = now.plus_millis(begin.lease_ms);
        Acquired {
            epoch: self.epoch.next(),
            holder: begin.holder.clone(),
            until,
            recovery: begin.recovery,
            redrives,
            retry_at: until.plus_millis(redrive_backoff(redrives)),
        }
    }

    pub(super) fn renew_lease(&self, lease_ms: u64, now: Timestamp) -> Result<Decided, Rejection> {
        // A renewal that was sent before the release and arrives after it must not block the next driver. But a driver whose connection was
        // lost gets its lease back by a renewal.
        if self.lease.given_up() {
            return Err(Rejection::not_found(Missing::Driver));
        }
        let until = now.plus_millis(lease_length(lease_ms)?);
        let retry_at = until.plus_millis(redrive_backoff(self.redrives));
        self.append(Renewed {
            epoch: self.epoch,
            until,
            retry_at,
        })
    }

    pub(super) fn release_lease(
        &self,
        redrive_in_ms: u64,
        undriven: bool,
        by_driver: bool,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        if redrive_in_ms > BACKOFF_MS_MAX {
            let (limit, max) = (Limit::RedriveDelay, BACKOFF_MS_MAX);
            return Err(Rejection::LimitExceeded {
                limit,
                max,
                given: redrive_in_ms,
            });
        }
        // Ending a cancelled run needs no driver, so a driver that releases it does not delay that.
        let wait = if by_driver && self.cancel.is_some() {
            0
        } else {
            redrive_in_ms.max(redrive_backoff(self.redrives))
        };
        self.append(Released {
            epoch: self.epoch,
            redrive_at: now.plus_millis(wait),
            undriven,
            by_driver,
        })
    }

    pub(super) fn driver_vanished(
        &self,
        epoch: Epoch,
        seen: Seq,
        grace_ms: u64,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        if self.phase == Phase::New {
            return Err(Rejection::not_found(Missing::Run));
        }
        let gone = self.epoch != epoch || !matches!(self.lease, Lease::Held { .. });
        let lives = self.driver_wrote > seen;
        if gone || lives {
            Ok(self.already(ReplyResult::Recorded))
        } else {
            self.release_lease(grace_ms, false, false, now)
        }
    }

    /// Whether the driver wrote the entry, and so was alive when the entry was committed. An entry of an inline effect counts, although a
    /// person may have settled it.
    pub(super) fn is_of_driver(&self, body: &EntryBody) -> bool {
        use EntryBody as B;
        let inline = |id: &EffectId| self.effects.get(id).is_some_and(Effect::is_inline);
        match body {
            B::LeaseAcquired(_)
            | B::LeaseRenewed(_)
            | B::DecisionRecorded(_)
            | B::EffectBegun(_)
            | B::GateOpened(_)
            | B::TimerSet(_)
            | B::TimerCancelled(_)
            | B::BudgetOpened(_)
            | B::BudgetReserved(_)
            | B::BudgetReleased(_)
            | B::SampleRecorded(_)
            | B::RunCheckpoint(_) => true,
            B::EffectStarted(e) => inline(&e.effect),
            B::EffectConfirmed(e) => inline(&e.effect),
            B::EffectFailed(e) => inline(&e.effect),
            B::EffectDeferred(e) => inline(&e.effect),
            B::EffectUnknown(e) => inline(&e.effect),
            // No catch-all: an entry kind of the driver that fell into it would make a live driver count as gone.
            B::RunBegun(_)
            | B::RunSuspended(_)
            | B::RunCancelRequested(_)
            | B::RunCompensating(_)
            | B::RunStuck(_)
            | B::RunRetried(_)
            | B::RunCompleted(_)
            | B::RunFailed(_)
            | B::RunCancelled(_)
            | B::RunRetired(_)
            | B::LeaseReleased(_)
            | B::EffectClaimRenewed(_)
            | B::EffectObserving(_)
            | B::EffectObserved(_)
            | B::EffectResendAllowed(_)
            | B::ObligationArmed(_)
            | B::ObligationStarted(_)
            | B::ObligationClaimRenewed(_)
            | B::ObligationDone(_)
            | B::ObligationDeferred(_)
            | B::ObligationStuck(_)
            | B::ObligationRetried(_)
            | B::GateAnswered(_)
            | B::SignalReceived(_)
            | B::TimerFired(_)
            | B::SessionCreated(_)
            | B::SessionEventAppended(_)
            | B::SessionMerged(_)
            | B::SessionRewound(_)
            | B::SessionDeleted(_)
            | B::SharedMerged(_)
            | B::ValuePut(_)
            | B::ValueDeleted(_)
            | B::KeyTaken(_)
            | B::RelayRefused(_)
            | B::RelayRedelivered(_)
            | B::RelayReceipt(_)
            | B::PayloadErased(_)
            | B::ErasureFinished(_) => false,
        }
    }

    /// Whether the entry shows that the driver is an agent: recovery keeps its lease, and writes nothing else with it.
    pub(super) fn is_of_agent(&self, body: &EntryBody) -> bool {
        use EntryBody as B;
        match body {
            B::RunSuspended(_) => true,
            // A person may have settled the effect. Where the driver did, that is progress.
            B::LeaseAcquired(_) | B::LeaseRenewed(_) | B::EffectConfirmed(_) | B::EffectFailed(_) => false,
            _ => self.is_of_driver(body),
        }
    }

    pub(super) fn fold_acquired(&mut self, e: &Acquired, at: Timestamp) -> Result<(), String> {
        if e.epoch != self.epoch.next() {
            return Err(format!("epoch {} follows epoch {}", e.epoch, self.epoch));
        }
        if matches!(self.phase, Phase::Suspended { .. }) {
            self.enter(Phase::Running, at);
        }
        let counts = e.redrives > self.redrives;
        (self.epoch, self.redrives) = (e.epoch, e.redrives);
        if e.recovery {
            self.handing_over = counts;
        } else {
            self.reached_an_agent();
        }
        self.lease = Lease::Held {
            holder: e.holder.clone(),
            until: e.until,
            retry_at: e.retry_at,
        };
        Ok(())
    }

    pub(super) fn fold_renewed(&mut self, e: &Renewed) -> Result<(), String> {
        self.check_epoch(e.epoch)?;
        // A driver that lost its connection may come back before another driver took the run.
        let holder = self.lease.driver().cloned();
        let holder = holder.ok_or_else(|| "the run has no driver".to_owned())?;
        self.lease = Lease::Held {
            holder,
            until: e.until,
            retry_at: e.retry_at,
        };
        Ok(())
    }

    pub(super) fn fold_released(&mut self, e: &Released, at: Timestamp) -> Result<(), String> {
        self.check_epoch(e.epoch)?;
        self.lease = self.lease.released(e.redrive_at, at, e.by_driver);
        if e.undriven {
            self.handing_over = false;
        } else if e.by_driver {
            self.reached_an_agent();
        }
        Ok(())
    }

    fn check_epoch(&self, epoch: Epoch) -> Result<(), String> {
        if epoch == self.epoch {
            Ok(())
        } else {
            Err(format!("it has epoch {epoch}, the run is at {}", self.epoch))
        }
    }

    /// Notes progress: earlier re-drives no longer count.
    pub(super) const fn progress(&mut self) {
        (self.redrives, self.driven, self.handing_over) = (0, 0, false);
    }

    /// Counts the re-drive that is under way, if it is not counted yet: an agent has the run. A re-drive of which the journal never shows
    /// that says nothing about the run, whether recovery gave it up, vanished or was not told that it had taken the run.
    pub(super) const fn reached_an_agent(&mut self) {
        self.driven += self.handing_over as u32;
        self.handing_over = false;
    }

    pub(super) fn retry_run(&self, reason: &str, seen: Seq) -> Result<Decided, Rejection> {
        self.alive()?;
        text(Field::Reason, reason)?;
        let Some(stuck) = &self.stuck else {
            return Err(Rejection::Invalid {
                field: Field::Run,
                problem: "is not stuck".to_owned(),
            });
        };
        let standing = || format!("stuck: {stuck}");
        self.as_seen(|| "the run".to_owned(), self.stuck_at, seen, standing)?;
        self.append(crate::entry::run::Retried {
            reason: reason.to_owned(),
        })
    }
}

fn begun(run: &RunId, create: &Create) -> Result<Begun, Rejection> {
    let labels = create.labels.len();
    room(Limit::Labels, labels.saturating_sub(1), LABELS_MAX)?;
    agent_version::check_labels(&create.labels)?;
    create
        .labels
        .values()
        .filter(|value| !value.is_empty())
        .try_for_each(|value| text(Field::Label, value))?;
    Ok(Begun {
        run: run.clone(),
        labels: create.labels.clone(),
        input: create.input.clone(),
        forked_from: None,
    })
}

/// How long recovery waits after so many re-drives without progress.
fn redrive_backoff(redrives: u32) -> u64 {
    match redrives.checked_sub(1) {
        None => 0,
        Some(n) => REDRIVE_BACKOFF_MS
            .saturating_mul(1 << n.min(20))
            .min(REDRIVE_BACKOFF_MS_MAX),
    }
}
