//! Gates: durable waits for a signal.

use crate::error::Error;
use crate::json;
use crate::lease::millis;
use crate::run::{Due, Run};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::entry::gate::AnsweredBy;
use tape_core::id::{GateName, Principal};
use tape_core::payload::Payload;
use tape_core::time::Deadline;
use tape_core::time::Timestamp;

const ANSWER: &str = "the answer of the gate";

/// A gate about to be waited at.
#[derive(Debug)]
#[must_use = "nothing is opened before `wait`"]
pub struct Gate {
    run: Run,
    name: String,
    deadline: Option<Deadline>,
}

/// What ended a wait at a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// A signal, or the deadline.
    pub by: AnsweredBy,
    /// What the signal carried; empty after a deadline.
    pub payload: Payload,
}

impl GateAnswer {
    /// Whether the deadline passed without a signal.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self.by, AnsweredBy::Deadline)
    }

    /// Who sent the signal, where it is known.
    #[must_use]
    pub const fn who(&self) -> Option<&Principal> {
        match &self.by {
            AnsweredBy::Signal { who, .. } | AnsweredBy::EarlierSignal { who, .. } => who.as_ref(),
            AnsweredBy::Deadline => None,
        }
    }

    /// What the signal carried, read as JSON. After a deadline there is no answer: ask [`GateAnswer::is_timeout`] first.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where it is not such a value, also where the deadline passed without a signal. An empty answer of a signal is
    /// read as `null`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if self.is_timeout() {
            return Err(Error::Unreadable {
                what: ANSWER.to_owned(),
                problem: "the deadline passed without one".to_owned(),
                payload: Box::new(self.payload.clone()),
            });
        }
        json::read(ANSWER, &self.payload)
    }
}

impl Gate {
    pub(crate) fn new(run: Run, name: &str) -> Self {
        Self {
            run,
            name: name.to_owned(),
            deadline: None,
        }
    }

    /// Ends the wait after a while without a signal, counted from when the gate opens.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(Deadline::InMs(millis(after)));
        self
    }

    /// Ends the wait at a time without a signal. Take a time that depends on a clock from [`Run::now`], so that a re-drive asks for the
    /// same.
    pub const fn deadline_at(mut self, at: Timestamp) -> Self {
        self.deadline = Some(Deadline::At(at));
        self
    }

    /// Waits for the signal or the deadline. After the wait that the client allows (`suspend_after`) the run is suspended.
    ///
    /// # Errors
    /// [`Error::Suspended`] where the run waits without this driver: return, and be re-driven when the signal comes;
    /// [`Error::Drift`] where the journal has the gate with another deadline, or something else of this scope first.
    ///
    /// # Cancellation
    /// If this future is dropped, the gate stays open, or is still opened. A repeated wait is at the same gate; its deadline counts from
    /// when it opened.
    pub async fn wait(self) -> Result<GateAnswer, Error> {
        let (run, gate) = (&self.run, GateName::new(&self.name)?);
        let doing = run.doing().await?;
        let recorded = run
            .ask(|replay| {
                let recorded = replay.ask_gate(&run.scope, &gate, self.deadline)?;
                Ok(recorded.map(|record| record.deadline))
            })
            .await?;
        let deadline = match recorded {
            Some(deadline) => deadline,
            None => {
                let open = DriverCommand::OpenGate {
                    gate: gate.clone(),
                    deadline: self.deadline,
                };
                opened(&run.drive(open.within(&run.scope)).await?.result)
            }
        };
        let say = ExternalCommand::ExpireGate { gate: gate.clone() };
        let due = deadline.map(|at| Due {
            at,
            say: Some(say),
            alone: false,
        });
        let answer = run.wait_until(due, |replay| replay.gate(&gate)?.answer.clone());
        let (by, payload) = answer.await?;
        doing.done();
        let payload = json::there(|| ANSWER.to_owned(), payload)?;
        Ok(GateAnswer { by, payload })
    }
}

const fn opened(result: &tape_core::reply::ReplyResult) -> Option<Timestamp> {
    match result {
        tape_core::reply::ReplyResult::GateOpen { deadline } => *deadline,
        _ => None,
    }
}
