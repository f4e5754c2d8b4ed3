//! Commands under way, and the doubts that dropped futures leave.
//!
//! An agent may drop any future of the run API at any await, for example by a timeout. So a separate task sends each command: the command
//! is sent once and answered, whether or not its caller still waits. A call that is dropped, or fails, before it has returned its outcome
//! leaves a doubt: the journal may have more than the replay knows. The next call of the run clears the doubt: it waits for the commands
//! that were under way, reads the new entries of the journal, and continues from there as a re-drive would.

use super::{Inner, Run, begin};
use crate::error::Error;
use crate::lease::Hold;
use crate::run::RunResult;
use crate::watched::Watched;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::entry::run::RunOutcome;
use tape_core::id::Seq;
use tape_core::replay::{Drift, Replay};
use tape_core::reply::{ClosingPhase, Rejection, Reply, ReplyResult};
use tokio::sync::{Mutex, Notify};
use tracing::Instrument as _;

/// How long a call waits for parallel branches that may ask for the journal's next items, counted from the last request of any branch.
const BRANCHES_ASK_WITHIN: Duration = Duration::from_secs(3);

/// The commands of one driver that are under way, and the doubts about the outcomes of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Commands under way, by number.
    under_way: Watched<BTreeSet<u64>>,
    begun: AtomicU64,
    /// How many calls ended without returning their outcome, and for how many of them the journal was read since.
    doubts: AtomicU64,
    cleared: AtomicU64,
    clearing: Mutex<()>,
    /// The last entry that the journal acknowledged.
    acknowledged: AtomicU64,
    /// Told when anything is asked for, for those who wait for parallel branches.
    asked: Notify,
}

impl Flight {
    pub(super) fn asked(&self) {
        self.asked.notify_waiters();
    }

    /// Waits until every command that is under way now has been answered.
    async fn landed(&self) {
        let newest = self.begun.load(Ordering::SeqCst);
        let landed = |under_way: &BTreeSet<u64>| under_way.first().is_none_or(|first| *first > newest);
        self.under_way.wait_for(landed).await;
    }
}

/// A command under way, until it is dropped.
struct Flying {
    inner: Arc<Inner>,
    number: u64,
}

impl Flying {
    fn new(inner: Arc<Inner>) -> Self {
        let number = inner.flight.begun.fetch_add(1, Ordering::SeqCst) + 1;
        inner
            .flight
            .under_way
            .change(|under_way| under_way.insert(number));
        Self { inner, number }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.inner
            .flight
            .under_way
            .change(|under_way| under_way.remove(&self.number));
    }
}

/// A call of the run API under way. Unless it is [done](Doing::done) it leaves a doubt.
#[derive(Debug)]
pub(crate) struct Doing(Option<Arc<Inner>>);

impl Doing {
    /// The call returned its outcome, and the replay has what it recorded.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            inner.flight.doubts.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Run {
    /// Begins a call: where the outcome of an earlier one is in doubt, the journal is read first.
    ///
    /// # Errors
    /// Why this driver may no longer act for the run, or why the journal cannot be read.
    pub(crate) async fn doing(&self) -> Result<Doing, Error> {
        self.check()?;
        self.clear_doubts().await?;
        self.check()?;
        Ok(Doing(Some(self.inner.clone())))
    }

    /// Reads the entries that the journal has beyond the replay, even if there is no doubt.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        self.inner.flight.doubts.fetch_add(1, Ordering::SeqCst);
        self.clear_doubts().await
    }

    async fn clear_doubts(&self) -> Result<(), Error> {
        let flight = &self.inner.flight;
        let in_doubt = || flight.doubts.load(Ordering::SeqCst) != flight.cleared.load(Ordering::SeqCst);
        if !in_doubt() {
            return Ok(());
        }
        let _alone = flight.clearing.lock().await;
        if !in_doubt() {
            return Ok(());
        }
        let doubts = flight.doubts.load(Ordering::SeqCst);
        flight.landed().await;
        let through = Seq(flight.acknowledged.load(Ordering::SeqCst));
        begin::catch_up(&self.inner.tape, self.id(), &self.inner.replay, through).await?;
        flight.cleared.store(doubts, Ordering::SeqCst);
        Ok(())
    }

    /// Asks the replay. If the journal has other items first, a parallel branch may be about to ask for them: the call waits a while before
    /// it reports drift.
    pub(crate) async fn ask<T>(
        &self,
        mut ask: impl FnMut(&mut Replay) -> Result<T, Box<Drift>>,
    ) -> Result<T, Error> {
        let flight = &self.inner.flight;
        loop {
            let others = flight.asked.notified();
            let outcome = ask(&mut self.replay());
            let drift = match outcome {
                Ok(found) => {
                    flight.asked();
                    return Ok(found);
                }
                Err(drift) if drift.skipped => drift,
                Err(drift) => return Err(self.drift(*drift)),
            };
            tokio::select! {
                biased;
                () = others => {}
                () = self.inner.lease.gone() => self.check()?,
                () = tokio::time::sleep(BRANCHES_ASK_WITHIN) => return Err(self.drift(*drift)),
            }
        }
    }

    /// Notes in the replay what this driver recorded itself.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Replay)) {
        note(&mut self.replay());
        self.inner.flight.asked();
    }

    /// Sends a command as the driver; it is completed even if this future is dropped. A lost lease is noted, so that every further call
    /// fails in the same way.
    pub(crate) async fn drive(&self, command: DriverCommand) -> Result<Reply, Error> {
        self.check()?;
        let inner = self.inner.clone();
        let flying = Flying::new(inner.clone());
        let sent = async move {
            let outcome = inner.send(command).await;
            drop(flying);
            outcome
        };
        match tokio::spawn(sent.in_current_span()).await {
            Ok(outcome) => outcome,
            Err(broken_off) => Err(Error::Unavailable {
                source: broken_off.into(),
            }),
        }
    }
}

impl Inner {
    async fn send(&self, command: DriverCommand) -> Result<Reply, Error> {
        let _turn = self.sending.acquire().await;
        self.lease.check()?;
        let body = RunCommand::Drive(self.lease.epoch, command.clone());
        let outcome = self.tape.command(&self.lease.run, body, self.trace.clone()).await;
        match &outcome {
            Ok(reply) => self.answered(command, reply),
            Err(Error::Rejected(rejection)) if matches!(**rejection, Rejection::Fenced { .. }) => {
                self.lease.let_go(Hold::Lost);
                // If this driver released the run itself in the meantime, that is the reason to report.
                return Err(self.lease.check().err().unwrap_or_else(|| Error::LostLease {
                    run: self.lease.run.clone(),
                }));
            }
            Err(error) => self.refused(error),
        }
        outcome
    }

    /// Notes what an error of the journal says of the run.
    fn refused(&self, error: &Error) {
        match error {
            Error::Ended(ended) => self.lease.let_go(Hold::Ended(Some(ended.clone()))),
            Error::Suspended => self.lease.let_go(Hold::Suspended),
            Error::Closing {
                phase: ClosingPhase::Compensating,
            } => self.lease.let_go(Hold::Ended(None)),
            Error::Closing {
                phase: ClosingPhase::Stuck,
            } => self.stuck.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Notes what an answer means for the lease.
    fn answered(&self, command: DriverCommand, reply: &Reply) {
        self.flight.acknowledged.fetch_max(reply.seq.0, Ordering::SeqCst);
        let hold = match (&command, &reply.result) {
            (DriverCommand::Suspend { .. }, _) => Hold::Suspended,
            (DriverCommand::ReleaseLease { .. }, _) => Hold::Released,
            (
                DriverCommand::Complete { .. } | DriverCommand::Fail { .. } | DriverCommand::AcceptCancel,
                _,
            ) => {
                match ending(&command, &reply.result) {
                    Some((hold, ending)) => {
                        // The first end counts.
                        let _ = self.ended.set((command, ending));
                        hold
                    }
                    None => return,
                }
            }
            _ => return,
        };
        self.lease.let_go(hold);
    }
}

/// How the run ended, from the answer to the command that ends it.
fn ending(command: &DriverCommand, result: &ReplyResult) -> Option<(Hold, RunResult)> {
    let output = match command {
        DriverCommand::Complete { output } => Some(output.clone()),
        _ => None,
    };
    match result {
        ReplyResult::Ended { ending } => {
            let hold = Hold::Ended(Some(ending.clone()));
            Some((hold, RunResult::of(ending.clone(), output)))
        }
        ReplyResult::Compensating | ReplyResult::Stuck { .. } => {
            Some((Hold::Ended(None), RunResult::Undoing))
        }
        _ => None,
    }
}

impl Run {
    /// Ends the run. If this driver has ended it by an equal command already, for example in a dropped call, returns that result.
    pub(crate) async fn end(&self, command: DriverCommand) -> Result<RunResult, Error> {
        if let Some(ending) = self.ended_by(&command)? {
            return Ok(ending);
        }
        match self.try_end(&command).await {
            Ok(reply) => match ending(&command, &reply.result) {
                Some((_, ending)) => Ok(ending),
                None => Err(Error::unexpected("the end of the run", &reply.result)),
            },
            Err(error) => match self.ended_by(&command)? {
                Some(ending) => Ok(ending),
                None => self.recorded_end(&command, error).await,
            },
        }
    }

    async fn try_end(&self, command: &DriverCommand) -> Result<Reply, Error> {
        let doing = self.doing().await?;
        if matches!(command, DriverCommand::Complete { .. }) {
            self.ask(|replay| replay.leftover().map_or(Ok(()), Err)).await?;
        }
        let reply = self.drive(command.clone()).await?;
        doing.done();
        Ok(reply)
    }

    /// How `command`, or an equal one, ended the run in this process.
    fn ended_by(&self, command: &DriverCommand) -> Result<Option<RunResult>, Error> {
        match (self.inner.ended.get(), command) {
            (Some((by, ending)), _) if by == command => Ok(Some(ending.clone())),
            (Some((DriverCommand::Complete { output: by }, _)), DriverCommand::Complete { output }) => {
                Replay::check_output(by, output).map_err(|drift| self.drift(*drift))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The journal answers that the run has ended. If the answer to an earlier try was lost, that try ended it.
    async fn recorded_end(&self, command: &DriverCommand, error: Error) -> Result<RunResult, Error> {
        let (Error::Ended(RunOutcome::Completed), DriverCommand::Complete { output }) = (&error, command)
        else {
            return Err(error);
        };
        self.catch_up().await?;
        let standing = self.replay().standing().clone();
        match standing {
            tape_core::replay::Standing::Ended(RunOutcome::Completed, Some(recorded)) => {
                Replay::check_output(&recorded, output).map_err(|drift| self.drift(*drift))?;
                let result = RunResult::Completed(output.clone());
                let _ = self.inner.ended.set((command.clone(), result.clone()));
                Ok(result)
            }
            _ => Err(error),
        }
    }
}
