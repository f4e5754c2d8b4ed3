//! A test kit for authors of agents. It checks that an agent does the same wherever it is killed.
//!
//! [`Kit::check`] drives an agent over a journal in memory, undisturbed at first, over as many processes as its waits make of it. Then it
//! drives it again from the start for each way in which it can be disturbed: killed before and after each write to the journal, killed at each
//! await, with each request to the journal and each answer of it lost, with each request to the upstream and each answer of it lost. One
//! drive is disturbed once, in whichever of its processes, and the agent is driven again until the run ends. Its decisions, its effects, its acts
//! at the [`Upstream`] and its end must be those of the undisturbed drive.
//!
//! Time is virtual: use the kit in a test with `#[tokio::test(start_paused = true)]`. Then leases, backoffs and sleeps of any length take no
//! time.
//!
//! All drives take the same [samples](crate::Run::sample), those of the undisturbed drive, so that what the agent derives from them is the same
//! too. The answers of its models have to be so by themselves.
//!
//! # Limits
//! An effect for the outbox is a [`Violation`]: the kit has no worker. So is a wait for a signal that the kit was not [given](Kit::signal),
//! and a run that takes more than 100 processes. Nothing of an upstream other than the kit's is lost. A process that was killed writes
//! nothing more, but tasks that the agent has spawned go on. Only tokio's clock is virtual: an agent that reads the system's clock without a
//! sample may see the same time in all drives, and passes.
//!
//! ```
//! use serde_json::{Value, json};
//! use tape_client::testing::{Kit, Upstream};
//! use tape_client::{Answer, Error, Run, RunResult};
//!
//! async fn agent(run: Run, bank: Upstream) -> Result<RunResult, Error> {
//!     let order: Value = run.input_json()?;
//!     let decision = run.decide(&order, || async { Answer::json(&json!("pay")) }).await?;
//!     let payment = run.effect(&decision, "bank", "pay").args(&order);
//!     let receipt: Value = payment
//!         .run(async |call| bank.act(&call, || json!({ "paid": order })).await)
//!         .await?;
//!     run.complete(&receipt).await
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let report = Kit::new(agent).input_json(&json!({ "cents": 100 })).check().await.unwrap();
//! assert!(report.kills > 0);
//! # });
//! ```

mod clock;
mod course;
mod disturbance;
mod journal;
mod outcome;
mod samples;
mod trial;
mod upstream;

pub use disturbance::Disturbance;
pub(crate) use samples::Samples;
pub use upstream::Upstream;

use crate::error::Error;
use crate::json;
use crate::run::{Run, RunResult};
use outcome::Outcome;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use tape_core::id::GateName;
use tape_core::payload::Payload;
use trial::Trial;

/// Checks an agent.
#[derive(Debug)]
#[must_use = "nothing happens before `check`"]
pub struct Kit<A> {
    agent: A,
    script: Result<Script, Error>,
}

/// The inputs of an agent: what its run begins with, and its signals.
#[derive(Clone, Debug)]
struct Script {
    input: Payload,
    answers: Vec<(GateName, Payload)>,
}

/// What a check did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Drives from the start in which a process was killed.
    pub kills: u32,
    /// Drives from the start in which one message was lost.
    pub losses: u32,
}

/// An agent that did not do the same when it was disturbed.
pub struct Violation {
    disturbance: Disturbance,
    problem: String,
}

impl<A, F> Kit<A>
where
    A: Fn(Run, Upstream) -> F,
    F: Future<Output = Result<RunResult, Error>>,
{
    /// Checks `agent`. The agent gets the run and an upstream to act on.
    pub fn new(agent: A) -> Self {
        let script = Script {
            input: Payload::empty(),
            answers: Vec::new(),
        };
        Self {
            agent,
            script: Ok(script),
        }
    }

    /// What the run begins with, as JSON.
    pub fn input_json(self, input: &impl Serialize) -> Self {
        let input = json::payload("input", input);
        self.with(|script| {
            script.input = input?;
            Ok(())
        })
    }

    /// A signal that the run is sent as soon as it has begun: the answer of a gate that the agent opens.
    pub fn signal(self, gate: &str, answer: &impl Serialize) -> Self {
        let signal = GateName::new(gate)
            .map_err(Error::from)
            .and_then(|gate| Ok((gate, json::payload("signal", answer)?)));
        self.with(|script| {
            script.answers.push(signal?);
            Ok(())
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Script) -> Result<(), Error>) -> Self {
        self.script = self.script.and_then(|mut script| {
            change(&mut script)?;
            Ok(script)
        });
        self
    }

    /// Drives the agent undisturbed, and then once for each disturbance.
    ///
    /// # Errors
    /// [`Violation`] for the first disturbance under which the agent did not do the same or its run did not end; also where the run does
    /// not end undisturbed, or the kit's own inputs are invalid.
    pub async fn check(self) -> Result<Report, Violation> {
        let script = self.script.map_err(|error| Violation {
            disturbance: Disturbance::None,
            problem: format!("the kit was given what makes no sense: {error}"),
        })?;
        let samples = Arc::default();
        let trial = |disturbance| Trial::of(&self.agent, &script, &samples, disturbance).run();
        let undisturbed = trial(Disturbance::None).await?;
        let mut report = Report::default();
        for disturbance in undisturbed.moments.disturbances() {
            let tried = trial(disturbance).await?;
            same(&undisturbed.outcome, &tried.outcome, disturbance)?;
            if tried.fired {
                report.count(disturbance);
            }
        }
        Ok(report)
    }
}

impl Report {
    const fn count(&mut self, disturbance: Disturbance) {
        if disturbance.kills() {
            self.kills += 1;
        } else {
            self.losses += 1;
        }
    }
}

fn same(expected: &Outcome, found: &Outcome, disturbance: Disturbance) -> Result<(), Violation> {
    match expected.difference(found) {
        None => Ok(()),
        Some(problem) => Err(Violation { disturbance, problem }),
    }
}

impl Violation {
    /// What disturbed the agent.
    #[must_use]
    pub const fn disturbance(&self) -> Disturbance {
        self.disturbance
    }

    /// What it did differently.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.disturbance, self.problem)
    }
}

/// As `Display`, for tests that unwrap it.
impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}
