//! Keeping a run's lease alive in the background.

use crate::client::Tape;
use crate::error::Error;
use std::time::Duration;
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::id::{Epoch, RunId};
use tape_core::reply::{Ended, Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Whether a driver may still speak for its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It holds the lease, as far as it knows. The store's own commit has the last word.
    Held,
    /// Another driver took the run.
    Lost,
    /// It let the run wait without a driver.
    Suspended,
    /// It let the run go.
    Released,
    /// The run has ended, or ends once what it did is undone.
    Ended(Option<Ended>),
}

/// The lease of one driver; dropping it stops the renewal, so that the lease runs out by itself.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) run: RunId,
    pub(crate) epoch: Epoch,
    hold: watch::Sender<Hold>,
    clock: watch::Sender<ServerClock>,
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
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Lease {
    /// Keeps the lease that was just granted until `until`.
    pub(crate) fn keep(tape: &Tape, run: RunId, epoch: Epoch, until: Timestamp) -> Self {
        let hold = watch::Sender::new(Hold::Held);
        let clock = watch::Sender::new(ServerClock::at_grant(until, tape.settings.lease));
        let renewal = renew(tape.clone(), run.clone(), epoch, hold.clone(), clock.clone());
        let renewal = tokio::spawn(renewal).abort_handle();
        Self {
            run,
            epoch,
            hold,
            clock,
            renewal,
        }
    }

    /// # Errors
    /// Why the driver may no longer speak for the run.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &*self.hold.borrow() {
            Hold::Held => Ok(()),
            Hold::Lost => Err(Error::LostLease {
                run: self.run.clone(),
            }),
            Hold::Suspended => Err(Error::Suspended),
            Hold::Released => Err(Error::invalid("run", "this driver has released it")),
            Hold::Ended(Some(ended)) => Err(Error::Ended(ended.clone())),
            Hold::Ended(None) => Err(Error::Closing {
                phase: "compensating",
            }),
        }
    }

    /// Whether the driver let the run go by itself.
    pub(crate) fn is_released(&self) -> bool {
        *self.hold.borrow() == Hold::Released
    }

    /// Notes that the driver no longer holds the run. What was noted first stands.
    pub(crate) fn let_go(&self, next: Hold) {
        self.hold.send_if_modified(|hold| {
            let held = *hold == Hold::Held;
            if held {
                *hold = next;
            }
            held
        });
        self.renewal.abort();
    }

    /// Completes when the driver no longer holds the run.
    pub(crate) async fn gone(&self) {
        // The sender lives as long as this lease, so waiting ends by a change only.
        let _ = self.hold.subscribe().wait_for(|hold| *hold != Hold::Held).await;
    }

    pub(crate) fn clock(&self) -> ServerClock {
        *self.clock.borrow()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(
    tape: Tape,
    run: RunId,
    epoch: Epoch,
    hold: watch::Sender<Hold>,
    clock: watch::Sender<ServerClock>,
) {
    let lease = tape.settings.lease;
    let mut lost = tape.backend.lost_connections();
    lost.mark_unchanged();
    loop {
        tokio::select! {
            () = tokio::time::sleep(lease / 3) => {}
            // The server may take the end of the connection for the end of the driver: it is told at once that it is not.
            Ok(()) = lost.changed() => {}
        }
        lost.mark_unchanged();
        let body = RunCommand::Drive(
            epoch,
            DriverCommand::RenewLease {
                lease_ms: millis(lease),
            },
        );
        match tape.command(&run, body, None).await {
            Ok(Reply {
                result: ReplyResult::Leased { until, .. },
                ..
            }) => {
                clock.send_replace(ServerClock::at_grant(until, lease));
            }
            Ok(_) => {}
            Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::Fenced { .. }) => {
                tracing::warn!(run = %tape_core::id::StreamId::Run(run), "another driver took the run");
                hold.send_replace(Hold::Lost);
                return;
            }
            // The lease may have run out by now; while nobody else took the run, a later renewal still succeeds.
            Err(Error::Unavailable { source }) => {
                tracing::warn!(error = %source, "the lease could not be renewed")
            }
            // The run came to its end or is being undone; the driver's next command is told so.
            Err(_) => return,
        }
    }
}
