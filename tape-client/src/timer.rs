//! Timers: durable waits for a time.

use crate::error::Error;
use crate::lease::millis;
use crate::run::{Due, Run};
use std::time::Duration;
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::replay::TimerState;
use tape_core::reply::ReplyResult;
use tape_core::time::Deadline;
use tape_core::time::Timestamp;

/// A timer of a run.
#[derive(Debug)]
#[must_use = "nothing is set before `after` or `at`"]
pub struct Timer {
    run: Run,
    name: String,
    note: Payload,
}

impl Timer {
    pub(crate) fn new(run: Run, name: &str) -> Self {
        Self {
            run,
            name: name.to_owned(),
            note: Payload::empty(),
        }
    }

    /// What it carries, for people who look at the run.
    pub fn note(mut self, note: Payload) -> Self {
        self.note = note;
        self
    }

    /// Sets it, where it is not set yet, and waits until it fires. A long wait suspends the run.
    ///
    /// # Errors
    /// [`Error::Suspended`] where the run waits without this driver; [`Error::Drift`] where the journal has the timer with another time
    /// or note, or something else of this scope first.
    ///
    /// # Cancellation
    /// If this future is dropped, the timer stays set, or is still set. A repeated wait is for the same timer; its time counts from when it
    /// was set.
    pub async fn after(self, length: Duration) -> Result<(), Error> {
        self.wait(Deadline::InMs(millis(length))).await
    }

    /// As [`Timer::after`], until a time. Take a time that depends on a clock from [`Run::now`], so that a re-drive asks for the same.
    ///
    /// # Errors
    /// As [`Timer::after`].
    pub async fn at(self, time: Timestamp) -> Result<(), Error> {
        self.wait(Deadline::At(time)).await
    }

    /// Cancels it, if it is set and has not fired; waits for it end.
    ///
    /// # Errors
    /// [`Error::Rejected`] with [`TimerDone`](tape_core::reply::Rejection::TimerDone) where it has fired, in this drive and every other.
    ///
    /// # Cancellation
    /// If this future is dropped, the timer may still be cancelled. A repeated call finds it cancelled.
    pub async fn cancel(self) -> Result<(), Error> {
        let timer = TimerName::new(&self.name)?;
        let run = &self.run;
        let doing = run.doing().await?;
        let cancelled = run.ask(|replay| replay.ask_cancel(&run.scope, &timer));
        if !cancelled.await? {
            run.drive(DriverCommand::CancelTimer { timer }).await?;
        }
        doing.done();
        Ok(())
    }

    async fn wait(self, due: Deadline) -> Result<(), Error> {
        let (run, timer) = (&self.run, TimerName::new(&self.name)?);
        let doing = run.doing().await?;
        let recorded = run
            .ask(|replay| {
                let recorded = replay.ask_timer(&run.scope, &timer, due, &self.note)?;
                Ok(recorded.map(|record| record.due_at))
            })
            .await?;
        let at = match recorded {
            Some(due_at) => due_at,
            None => set(run, &timer, due, self.note.clone()).await?,
        };
        let due = Due {
            at,
            say: Some(ExternalCommand::FireTimer { timer: timer.clone() }),
            alone: true,
        };
        run.wait_until(Some(due), |replay| {
            (replay.timer(&timer)?.state != TimerState::Waiting).then_some(())
        })
        .await?;
        doing.done();
        Ok(())
    }
}

async fn set(run: &Run, timer: &TimerName, due: Deadline, note: Payload) -> Result<Timestamp, Error> {
    let set = DriverCommand::SetTimer {
        timer: timer.clone(),
        due,
        note,
    };
    match run.drive(set.within(&run.scope)).await?.result {
        ReplyResult::TimerSet { due_at } => Ok(due_at),
        other => Err(Error::unexpected("the setting of a timer", &other)),
    }
}
