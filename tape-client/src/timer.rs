//! Timers: durable waits for a time.

use crate::error::Error;
use crate::lease::millis;
use crate::run::{Due, Run};
use std::time::Duration;
use tape_core::command::{Deadline, DriverCommand, OutsideCommand};
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::replay::TimerState;
use tape_core::reply::ReplyResult;
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
    /// [`Error::Suspended`] where the run waits without this driver.
    pub async fn after(self, length: Duration) -> Result<(), Error> {
        self.wait(Deadline::InMs(millis(length))).await
    }

    /// As [`Timer::after`], until a time.
    ///
    /// # Errors
    /// As [`Timer::after`].
    pub async fn at(self, time: Timestamp) -> Result<(), Error> {
        self.wait(Deadline::At(time)).await
    }

    /// Cancels it, where it is set and has not fired; what waits for it goes on.
    ///
    /// # Errors
    /// [`Error::Rejected`] where it has fired.
    pub async fn cancel(self) -> Result<(), Error> {
        let timer = TimerName::new(&self.name)?;
        self.run.check()?;
        let state = self.run.replay().ask_timer(&timer).map(|record| record.state);
        if state != Some(TimerState::Cancelled) {
            self.run.drive(DriverCommand::CancelTimer { timer }).await?;
        }
        Ok(())
    }

    async fn wait(self, due: Deadline) -> Result<(), Error> {
        let (run, timer) = (&self.run, TimerName::new(&self.name)?);
        run.check()?;
        let recorded = run.replay().ask_timer(&timer).cloned();
        let at = match recorded {
            Some(record) => record.due_at,
            None => set(run, &timer, due, self.note.clone()).await?,
        };
        let due = Due {
            at,
            say: OutsideCommand::FireTimer { timer: timer.clone() },
            alone: true,
        };
        run.wait_until(Some(due), |replay| {
            (replay.timer(&timer)?.state != TimerState::Waiting).then_some(())
        })
        .await
    }
}

async fn set(run: &Run, timer: &TimerName, due: Deadline, note: Payload) -> Result<Timestamp, Error> {
    let set = DriverCommand::SetTimer {
        timer: timer.clone(),
        due,
        note,
    };
    match run.drive(set).await?.result {
        ReplyResult::TimerSet { due_at } => Ok(due_at),
        other => Err(Error::unexpected("the setting of a timer", other)),
    }
}
