//! Keeping a run's lease alive in the background.

use crate::client::Tape;
use crate::error::Error;
use crate::retry;
use crate::watched::Watched;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tape_core::causes::Causes;
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Epoch, RunId, StreamId};
use tape_core::reply::{ClosingPhase, Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often a lease is renewed before it would end.
const RENEWALS_PER_LEASE: u32 = 3;
/// The least number of tries to renew a lease before it ends, if renewals fail.
const TRIES_PER_LEASE: u32 = 10;
/// Connections that are lost within this time of each other count as one loss.
const TOGETHER: Duration = Duration::from_millis(5);

/// Whether a driver may still act for its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It holds the lease, as far as it knows. The store's commit decides.
    Held,
    /// The lease is over by its clock. As long as no other driver takes the run, a renewal or a write may still succeed.
    Over,
    /// Another driver took the run.
    Lost,
    /// It suspended the run.
    Suspended,
    /// It released the run.
    Released,
    /// The run has ended, or ends once its effects are undone.
    Ended(Option<RunOutcome>),
}

impl Hold {
    const fn may_write(&self) -> bool {
        matches!(self, Self::Held | Self::Over)
    }
}

/// The lease of one driver; dropping it stops the renewal, so that the lease runs out by itself.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) run: RunId,
    pub(crate) epoch: Epoch,
    hold: Arc<Watched<Hold>>,
    clock: Arc<Mutex<ServerClock>>,
    renewal: AbortHandle,
}

/// The server's time by this process's monotonic clock: the two need not agree on what time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerClock {
    server: Timestamp,
    here: Instant,
}

impl ServerClock {
    /// A lease of `lease` that was granted just now ends at `until`.
    fn at_grant(until: Timestamp, lease: Duration) -> Self {
        let server = Timestamp::from_micros(until.as_micros().saturating_sub_unsigned(micros(lease)));
        Self {
            server,
            here: Instant::now(),
        }
    }

    /// How long until the server's clock shows `due`; zero where it does already.
    pub(crate) fn until(&self, due: Timestamp) -> Duration {
        let elapsed = self.here.elapsed();
        let ahead = u64::try_from(due.as_micros().saturating_sub(self.server.as_micros())).unwrap_or(0);
        Duration::from_micros(ahead).saturating_sub(elapsed)
    }

    /// What the server's clock shows after `wait`.
    pub(crate) fn after(&self, wait: Duration) -> Timestamp {
        let passed = micros(self.here.elapsed().saturating_add(wait));
        Timestamp::from_micros(self.server.as_micros().saturating_add_unsigned(passed))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Lease {
    /// Keeps the lease that was granted until `until`, and was asked for at `asked`.
    pub(crate) fn keep(tape: &Tape, run: RunId, epoch: Epoch, until: Timestamp, asked: Instant) -> Self {
        let hold = Arc::new(Watched::new(Hold::Held));
        let clock = Arc::new(Mutex::new(ServerClock::at_grant(until, tape.settings.lease)));
        let renewal = Renewal {
            tape: tape.clone(),
            run: run.clone(),
            epoch,
            hold: Arc::clone(&hold),
            clock: Arc::clone(&clock),
            over: asked + tape.settings.lease,
            failures: 0,
        };
        let renewal = tokio::spawn(renewal.keep(asked)).abort_handle();
        Self {
            run,
            epoch,
            hold,
            clock,
            renewal,
        }
    }

    /// # Errors
    /// Why the driver may no longer act for the run.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.hold.get() {
            Hold::Held | Hold::Over => Ok(()),
            Hold::Lost => Err(Error::LostLease {
                run: self.run.clone(),
            }),
            Hold::Suspended => Err(Error::Suspended),
            Hold::Released => Err(Error::invalid("run", "this driver has released it")),
            Hold::Ended(Some(ended)) => Err(Error::Ended(ended.clone())),
            Hold::Ended(None) => Err(Error::Closing {
                phase: ClosingPhase::Compensating,
            }),
        }
    }

    /// Whether the driver released the run itself.
    pub(crate) fn is_released(&self) -> bool {
        *self.hold.get() == Hold::Released
    }

    /// Whether the lease is over by this process's clock, and no other driver is known to have taken the run.
    pub(crate) fn is_over(&self) -> bool {
        *self.hold.get() == Hold::Over
    }

    /// Notes that the driver no longer holds the run. The first note counts.
    pub(crate) fn let_go(&self, next: Hold) {
        note(&self.hold, next);
        self.renewal.abort();
    }

    /// Completes when the driver can write nothing more to the run.
    pub(crate) async fn gone(&self) {
        self.hold.wait_for(|hold| !hold.may_write()).await;
    }

    /// Completes when the driver no longer holds the lease, as far as it can know.
    pub(crate) async fn over(&self) {
        self.hold.wait_for(|hold| *hold != Hold::Held).await;
    }

    pub(crate) fn is_held(&self) -> bool {
        *self.hold.get() == Hold::Held
    }

    pub(crate) fn clock(&self) -> ServerClock {
        *lock(&self.clock)
    }
}

fn lock(clock: &Mutex<ServerClock>) -> MutexGuard<'_, ServerClock> {
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(hold: &Watched<Hold>, next: Hold) {
    hold.change(|hold| {
        let held = hold.may_write();
        if held {
            *hold = next;
        }
        held
    });
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Keeps one lease alive.
struct Renewal {
    tape: Tape,
    run: RunId,
    epoch: Epoch,
    hold: Arc<Watched<Hold>>,
    clock: Arc<Mutex<ServerClock>>,
    /// When the lease is over unless renewed.
    over: Instant,
    /// Renewals in a row that did not succeed.
    failures: u32,
}

/// The outcome of an attempt at a renewal.
enum Renewed {
    /// The lease is renewed until then.
    Until(Timestamp),
    /// There is nothing left to renew.
    Gone(Hold),
    /// It may succeed yet.
    Failed(Error),
}

impl Renewal {
    /// Renews until there is nothing left to renew. It tries again after every other answer, since a proxy between this process and the
    /// journal may answer anything.
    async fn keep(mut self, asked: Instant) {
        let lease = self.tape.settings.lease;
        let mut lost = self.tape.journal.lost_connections();
        lost.mark_unchanged();
        let (mut next, mut backoff) = (asked + lease / RENEWALS_PER_LEASE, retry::backoff());
        loop {
            self.wait(next, &mut lost).await;
            let sent = Instant::now();
            match self.attempt().await {
                Renewed::Until(until) => {
                    *lock(&self.clock) = ServerClock::at_grant(until, lease);
                    self.renewed(sent + lease);
                    (next, backoff) = (sent + lease / RENEWALS_PER_LEASE, retry::backoff());
                }
                Renewed::Gone(hold) => {
                    tracing::warn!(run = %StreamId::Run(self.run.clone()), ?hold, "the lease is gone");
                    note(&self.hold, hold);
                    return;
                }
                Renewed::Failed(error) => {
                    self.failed(&error);
                    next = Instant::now()
                        + backoff
                            .next(self.tape.environment.chance())
                            .min(lease / TRIES_PER_LEASE);
                }
            }
        }
    }

    /// Waits until the next renewal: until its time, or until a connection is lost, which the server may take for the end of its
    /// drivers. Notes meanwhile where the lease is over.
    async fn wait(&mut self, next: Instant, lost: &mut watch::Receiver<u64>) {
        loop {
            let held = *self.hold.get() == Hold::Held;
            tokio::select! {
                // The end of the lease is noted before anything else is tried.
                biased;
                () = tokio::time::sleep_until(self.over), if held => self.note_over(),
                () = tokio::time::sleep_until(next) => return,
                Ok(()) = lost.changed() => {
                    // Streams that share a connection are lost together.
                    tokio::time::sleep(TOGETHER).await;
                    lost.mark_unchanged();
                    return;
                }
            }
        }
    }

    async fn attempt(&self) -> Renewed {
        let lease_ms = millis(self.tape.settings.lease);
        let body = RunCommand::Drive(self.epoch, DriverCommand::RenewLease { lease_ms });
        let renewing = self.tape.journal.run(&self.run, self.tape.stamp(body));
        let held = *self.hold.get() == Hold::Held;
        let mut renewing = std::pin::pin!(renewing);
        let answer = tokio::select! {
            // An answer that is there in time counts.
            biased;
            answer = &mut renewing => answer,
            () = tokio::time::sleep_until(self.over), if held => {
                self.note_over();
                renewing.await
            }
        };
        match answer.map_err(Error::from) {
            Ok(Reply {
                result: ReplyResult::Leased { until, .. },
                ..
            }) => Renewed::Until(until),
            Ok(other) => Renewed::Failed(Error::unexpected("the renewal of the lease", &other.result)),
            Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::Fenced { .. }) => {
                Renewed::Gone(Hold::Lost)
            }
            Err(Error::Ended(ended)) => Renewed::Gone(Hold::Ended(Some(ended))),
            Err(Error::Suspended) => Renewed::Gone(Hold::Suspended),
            Err(Error::Closing {
                phase: ClosingPhase::Compensating,
            }) => Renewed::Gone(Hold::Ended(None)),
            Err(error) => Renewed::Failed(error),
        }
    }

    fn renewed(&mut self, over: Instant) {
        if self.failures > 0 {
            tracing::debug!(run = %StreamId::Run(self.run.clone()), after = self.failures, "the lease is renewed again");
        }
        (self.over, self.failures) = (over, 0);
        self.hold.change(|hold| {
            let was_over = *hold == Hold::Over;
            if was_over {
                *hold = Hold::Held;
            }
            was_over
        });
    }

    /// Notes a failed renewal. A failure that may pass is logged once the lease is over; an unexpected answer is logged the first time.
    fn failed(&mut self, error: &Error) {
        self.failures += 1;
        let run = StreamId::Run(self.run.clone());
        let passes = matches!(error, Error::Unavailable { .. });
        if self.failures == 1 && !passes {
            tracing::warn!(%run, error = %Causes(error), "the lease could not be renewed; trying again");
        } else {
            tracing::debug!(%run, error = %Causes(error), failures = self.failures, "the lease could not be renewed; trying again");
        }
    }

    fn note_over(&self) {
        let noted = self.hold.change(|hold| {
            let held = *hold == Hold::Held;
            if held {
                *hold = Hold::Over;
            }
            held
        });
        if noted {
            let run = StreamId::Run(self.run.clone());
            tracing::warn!(%run, failures = self.failures, "the lease is over: it could not be renewed in time");
        }
    }
}
