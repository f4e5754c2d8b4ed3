//! The points where a process will be killed. The plan is made beforehand; the agent reports when it is there and waits, so a kill always
//! hits the point it was planned for.

use crate::parent::Parent;
use crate::upstream::Fault;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A moment within a step of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before the agent has recorded its intent.
    BeforeIntent,
    /// Between recording the intent and calling the upstream.
    BeforeCall,
    /// Between the upstream's commit and its answer.
    BeforeAnswer,
    /// Between the answer and recording it.
    BeforeRecord,
    /// While the agent replays recorded steps.
    Redrive,
    /// While the agent waits for a person.
    AtGate,
    /// While a worker asks the upstream what happened.
    Observing,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeIntent => "before the intent",
            Self::BeforeCall => "between intent and call",
            Self::BeforeAnswer => "between the upstream's commit and its answer",
            Self::BeforeRecord => "between answer and record",
            Self::Redrive => "during re-drive",
            Self::AtGate => "while waiting at the gate",
            Self::Observing => "while asking what happened",
        })
    }
}

/// The process or answer that is lost at a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// A server of the journal; the agent continues.
    Server(usize),
    /// The agent.
    Agent,
    /// No process, only the upstream's answer is lost; the agent continues.
    Answer,
    /// The worker that calls the upstream.
    Reactor,
}

/// One planned stop.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stop {
    /// The agent's name of the step.
    pub step: String,
    /// The moment within it.
    pub point: Point,
    /// The process or answer that is lost.
    pub victim: Victim,
}

/// The stops of one drive of an agent, in the order in which it comes to them.
#[derive(Clone, Debug)]
pub struct Stops {
    left: Arc<Mutex<VecDeque<Stop>>>,
    parent: Parent,
}

impl Stops {
    /// The planned stops, reported to `parent`.
    #[must_use]
    pub fn new(stops: Vec<Stop>, parent: Parent) -> Self {
        Self {
            left: Arc::new(Mutex::new(stops.into())),
            parent,
        }
    }

    /// Passes a moment: where a stop is planned here, reports `stop` and waits until the parent says `go`, if it ever does.
    pub async fn pass(&self, step: &str, point: Point) {
        while self.take(step, point).is_some() {
            self.parent.say("stop");
            let _go = self.parent.command().await;
        }
    }

    /// How the upstream is to fail in this step: it holds back its answer until the agent is dead, or loses it.
    #[must_use]
    pub fn fault(&self, step: &str) -> Option<Fault> {
        match self.take(step, Point::BeforeAnswer)?.victim {
            Victim::Answer => {
                self.parent.say("lost");
                Some(Fault::Lose)
            }
            Victim::Agent | Victim::Server(_) | Victim::Reactor => Some(Fault::Hold),
        }
    }

    /// Checks that the next stop is not one during re-drive: the agent has reached a step that is not recorded yet.
    ///
    /// # Errors
    /// Where the next stop is one, which means that the journal lost something.
    pub fn going_live(&self, step: &str) -> Result<()> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let replaying = left.front().is_some_and(|next| next.point == Point::Redrive);
        ensure!(
            !replaying,
            "{step} is not recorded, although the agent has been beyond it"
        );
        Ok(())
    }

    fn take(&self, step: &str, point: Point) -> Option<Stop> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.pop_front_if(|next| next.step == step && next.point == point)
    }
}
