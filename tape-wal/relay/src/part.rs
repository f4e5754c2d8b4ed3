//! One part of a relay in one process: claims it whenever no other process carries it.

use crate::carried::Carried;
use crate::counts::{Counters, add, change};
use crate::health::Health;
use crate::incarnation::Whose;
use crate::relay::Relay;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::{Backoff, jittered};
use tape_api::relays::{ClaimAnswer, Control};
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::id::{Epoch, Holder, RelayPart};
use tape_core::outage::Outage;
use tape_core::relay::{Held, Place};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many times in a lease it is renewed.
pub(crate) const RENEWALS: u32 = 3;
/// How often the log repeats that a sink or the journal fails.
pub(crate) const SAID_AGAIN: Duration = Duration::from_secs(60);
/// How often it repeats that the relay is disabled.
const SAID_DISABLED_AGAIN: Duration = Duration::from_secs(3_600);

/// A part of a relay, in one process.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) relay: Arc<Relay>,
    pub(crate) part: RelayPart,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) holder: Holder,
    pub(crate) counters: Arc<Counters>,
    /// Of the sink, which the parts have in common.
    pub(crate) health: Arc<Health>,
    pub(crate) stop: CancellationToken,
}

/// Why a process carries a part no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// It is told to stop.
    #[error("it is told to stop")]
    Stopped,
    /// Another process has the part, or a person has changed it.
    #[error("the part is another's by now")]
    Lost,
    /// The relay is disabled.
    #[error("the relay is disabled")]
    Disabled,
    /// Its sink has failed for so long that another process may try.
    #[error("its sink fails here")]
    GivenUp,
    /// The journal does not let it go on.
    #[error("the journal does not let it go on")]
    Journal(#[from] JournalError),
}

impl Part {
    /// Carries the part whenever no other process does, until it is told to stop.
    pub(crate) async fn run(self) {
        let settings = self.relay.settings;
        let mut outage = Outage::new(SAID_AGAIN);
        let mut disabled = Outage::new(SAID_DISABLED_AGAIN);
        // Whether it was taken away, by another process or by a person.
        let mut had = false;
        let mut backoff = Backoff::new(settings.backoff, settings.backoff_max);
        while !self.stop.is_cancelled() {
            let wait = match self.claim(&mut disabled, &mut had).await {
                Ok(Some((epoch, place))) if self.whose(&place) == Whose::Own => {
                    self.say_back(&mut outage);
                    let begun = Instant::now();
                    let ended = self.carry(epoch, place).await;
                    if begun.elapsed() > settings.lease {
                        backoff = Backoff::new(settings.backoff, settings.backoff_max);
                    }
                    match ended {
                        Ended::Stopped => return,
                        Ended::Lost => {
                            had = true;
                            self.next_claim()
                        }
                        Ended::Disabled => self.next_claim(),
                        // Time for a process whose sink works to take the part.
                        Ended::GivenUp => settings.lease,
                        Ended::Journal(error) => {
                            self.say(&mut outage, &error);
                            backoff.next(self.chance())
                        }
                    }
                }
                Ok(Some((epoch, place))) => match self.leave_to_its_relay(epoch, &place).await {
                    Ok(wait) => wait,
                    Err(error) => {
                        self.say(&mut outage, &error);
                        backoff.next(self.chance())
                    }
                },
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

    async fn claim(&self, said: &mut Outage, had: &mut bool) -> Result<Option<(Epoch, Place)>, JournalError> {
        let relays = self.journal.relays();
        let claim = relays.claim(&self.part, &self.holder, self.relay.settings.lease);
        let claim = self.in_time(claim).await?;
        let now = Instant::now().into_std();
        match claim {
            ClaimAnswer::Claimed { epoch, place } => {
                (*had, _) = (false, said.back(now));
                Ok(Some((epoch, *place)))
            }
            ClaimAnswer::Held(Held::Disabled(disabled)) => {
                let (since, reason) = (disabled.since, disabled.reason);
                if said.lost(now, &reason).is_some() {
                    tracing::warn!(part = %self.part, %since, reason, "the relay is disabled and sends nothing until a person enables it");
                }
                Ok(None)
            }
            ClaimAnswer::Held(held) => {
                if std::mem::take(had) {
                    add(&self.counters.takeovers, 1);
                    tracing::info!(part = %self.part, %held, "another process carries the part now");
                }
                tracing::debug!(part = %self.part, %held, "the part is not free");
                Ok(None)
            }
        }
    }

    /// What the journal answers within a third of a lease. A call that hangs must not hold up a stop, nor take the time of the next one.
    pub(crate) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let limit = self.relay.settings.lease / RENEWALS;
        let answer = tokio::time::timeout(limit, call).await;
        answer.unwrap_or_else(|_| Err(JournalError::unavailable("the journal has not answered")))
    }

    fn whose(&self, place: &Place) -> Whose {
        let own = self.relay.settings.incarnation;
        own.map_or(Whose::Own, |own| own.whose(place))
    }

    /// Forgets the place of an earlier relay of the name, and gives that of a later one back. When to claim again.
    async fn leave_to_its_relay(&self, epoch: Epoch, place: &Place) -> Result<Duration, JournalError> {
        let relays = self.journal.relays();
        if self.whose(place) == Whose::Earlier {
            // No other process has the part meanwhile, so the place is still that.
            self.in_time(relays.control(&self.relay.id, &Control::Forget))
                .await?;
            tracing::info!(part = %self.part, "the place is that of an earlier relay of the name, and is forgotten");
            return Ok(Duration::ZERO);
        }
        tracing::info!(part = %self.part, "another relay of the name was made since");
        self.in_time(relays.release(&self.part, epoch)).await?;
        Ok(self.next_claim())
    }

    /// When to claim again a part that another process carries.
    fn next_claim(&self) -> Duration {
        jittered(self.relay.settings.lease / RENEWALS, self.chance())
    }

    pub(crate) fn chance(&self) -> f64 {
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
        let lease = u64::try_from(self.relay.settings.lease.as_millis()).unwrap_or(u64::MAX);
        self.relay.sink.claimed(place.until.minus_millis(lease));
        let ended = match Carried::begin(self, epoch, place).follow().await {
            Err(ended) => ended,
            Ok(never) => match never {},
        };
        change(&self.counters.parts, -1);
        self.counters.oldest(self.part.part, None);
        // Another process may need what the sink holds, such as the lock on a file.
        if let Err(error) = self.relay.sink.close().await {
            tracing::warn!(part = %self.part, %error, "the sink was not closed in order");
        }
        ended
    }
}
