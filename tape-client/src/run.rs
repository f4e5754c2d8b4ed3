//! Runs: beginning or taking over, driving, ending.

mod begin;
mod flight;
mod handed;
mod refusal;
mod wait;

pub(crate) use begin::Beginnings;
pub use begin::{Begun, RunBuilder};
pub(crate) use wait::Due;

use crate::client::Tape;
use crate::error::Error;
use crate::lease::{Lease, millis};
use crate::{budget, decision, effect, gate, json, timer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tape_core::budget::Currency;
use tape_core::command::DriverCommand;
use tape_core::entry::TraceParent;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{AgentVersion, Epoch, Key, RunId, Scope};
use tape_core::payload::Payload;
use tape_core::replay::{Drift, Replay};
use tape_core::reply::ClosingPhase;
use tokio::sync::Semaphore;

/// A run that this process drives.
///
/// Every request is answered from the journal if the journal has it, and otherwise carried out and recorded: the same code serves a fresh
/// run and one that is re-driven after a crash. Cheap to clone; the lease is renewed in the background for as long as a clone is alive. A
/// run that is dropped before it ends is recovered once its lease has run out.
///
/// # Order
/// Before anything new is done in a scope, the agent must have asked again for everything that the journal has in it, and entered every
/// scope within it that the journal has. Otherwise the call fails with [`Error::Drift`]. Order is free between scopes, and between the
/// calls of one decision. A new effect begins under the newest decision of its scope; asked for after a later decision, it is
/// [`Error::Invalid`] in each drive. Gates, timers, samples, budgets and checkpoints belong to no decision. If branches run in parallel in
/// one scope, a call waits up to three seconds for the others before it reports drift.
///
/// # Cancellation
/// Every future of this API may be dropped at any await, for example by a timeout, a `select!` or a panic in one of the agent's closures. A
/// command that was sent is still recorded, once, and the next call continues from the journal. Ask again for the same: the record made
/// meanwhile is returned, and a different request in its place is drift. The journal does not record that a future was dropped. If the
/// agent behaves differently after a drop, it must record the reason, for example as a [sample](Run::sample); otherwise a re-drive drifts.
///
/// Within one [scope](Run::scope), decisions and samples are asked for one after the other; parallel branches take a scope
/// each.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: Scope,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tape: Tape,
    pub(crate) lease: Lease,
    trace: Option<TraceParent>,
    labels: BTreeMap<Key, String>,
    agent_version: Option<AgentVersion>,
    input: Payload,
    replay: Mutex<Replay>,
    /// Scopes in which a decision or a sample is being taken.
    taking: Mutex<BTreeSet<(Scope, &'static str)>>,
    /// Model and tool calls under way: the run is not suspended over them.
    busy: AtomicUsize,
    /// Permits to send a command: fewer than the replies that the run remembers.
    sending: Semaphore,
    flight: flight::Flight,
    /// Held while a refusal is recorded.
    refusing: tokio::sync::Mutex<()>,
    /// Whether the journal said that the run waits for a person.
    stuck: AtomicBool,
    /// The command by which this driver ended the run, and the result.
    ended: OnceLock<(DriverCommand, RunResult)>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunResult {
    /// Completed, with this output.
    Completed(Payload),
    /// Failed.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// Cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It ends as failed or cancelled once its effects are undone; the agent's part is over. A `tape-reactor` with a connector for each
    /// [undo](effect::Effect::undo) undoes it; without one the run stays like this.
    Undoing,
}

impl RunResult {
    /// The output of a completed run, read as JSON.
    ///
    /// # Errors
    /// [`Error::Ended`] where the run failed or was cancelled, [`Error::Closing`] where it is being undone,
    /// [`Error::Unreadable`] where the output is not such a value, [`Error::Erased`] where it was erased. An empty output is read as
    /// `null`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self {
            Self::Completed(output) => json::read("the output", output),
            Self::Failed { error } => Err(Error::Ended(RunOutcome::Failed { error: error.clone() })),
            Self::Cancelled { reason } => Err(Error::Ended(RunOutcome::Cancelled {
                reason: reason.clone(),
            })),
            Self::Undoing => Err(Error::Closing {
                phase: ClosingPhase::Compensating,
            }),
        }
    }

    fn of(ended: RunOutcome, output: Option<Payload>) -> Self {
        match ended {
            RunOutcome::Completed => Self::Completed(output.unwrap_or_else(Payload::empty)),
            RunOutcome::Failed { error } => Self::Failed { error },
            RunOutcome::Cancelled { reason } => Self::Cancelled { reason },
        }
    }
}

impl Run {
    /// The run's name.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.inner.lease.run
    }

    /// The epoch of this driver: it grows with every driver of the run.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.lease.epoch
    }

    /// What the run was begun with.
    #[must_use]
    pub fn input(&self) -> &Payload {
        &self.inner.input
    }

    /// What the run was begun with, read as JSON.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where it is not such a value, [`Error::Erased`] where it was erased. An empty input is read as `null`.
    pub fn input_json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::read("the input", self.input())
    }

    /// The version of the agent that began the run ([`Connect::agent_version`](crate::Connect::agent_version)), where it had one and
    /// that was not erased. This agent may be of another.
    #[must_use]
    pub fn agent_version(&self) -> Option<&AgentVersion> {
        self.inner.agent_version.as_ref()
    }

    /// The labels the run was begun with, without those of the journal's own.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<Key, String> {
        &self.inner.labels
    }

    /// The same run in the scope `name` within this one, for a sub-agent or a parallel branch: its decisions and samples have their own
    /// numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the name is empty, has a `/` or `#`, or the path gets too deep.
    pub fn scope(&self, name: &str) -> Result<Self, Error> {
        Ok(Self {
            inner: self.inner.clone(),
            scope: self.scope.child(name)?,
        })
    }

    /// The scope of this value.
    #[must_use]
    pub const fn scope_path(&self) -> &Scope {
        &self.scope
    }

    /// Whether the agent has asked again for everything that the journal has, so that all that follows is new.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.replay().is_live()
    }

    /// Completes when this driver may no longer act for the run: its lease is lost or over, or the run ended or was suspended. Race a tool
    /// call against this if it must not continue without the lease.
    ///
    /// A lease that could not be renewed in time ends by this process's monotonic clock, counted from before the lease was requested. So it
    /// never ends later here than in the journal. As long as no other driver takes the run, a renewal or another write may still succeed:
    /// the journal decides. [`Run::holds_lease`] returns the current state.
    pub async fn gone(&self) {
        self.inner.lease.over().await;
    }

    /// Whether this driver holds the lease, as far as this process can know.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.inner.lease.is_held()
    }

    /// Asks for the next decision of this scope: the recorded one, or else what `model` answers.
    ///
    /// See [`Run::decision`] for what can be recorded with the answer.
    ///
    /// # Cancellation
    /// If this future is dropped while the model is asked, nothing is recorded, and the next call asks it again. If it is dropped later,
    /// the answer is still recorded, and the next call with the same request returns it.
    ///
    /// # Errors
    /// [`Error::Drift`] where the journal has the answer to another request here; [`Error::NoAnswer`] where the model
    /// fails.
    pub async fn decide<A, E, F>(
        &self,
        request: &impl Serialize,
        model: impl FnOnce() -> F,
    ) -> Result<decision::Decision, Error>
    where
        F: Future<Output = Result<A, E>>,
        A: Into<decision::Answer>,
        E: Into<tape_api::Source>,
    {
        self.decision(request).ask(model).await
    }

    /// Prepares the next decision of this scope.
    pub fn decision(&self, request: &impl Serialize) -> decision::Asking {
        decision::Asking::new(self.clone(), request)
    }

    /// Prepares an effect, authorised by a decision. Effects of one decision are numbered in the order of these calls.
    ///
    /// It can begin only under the newest decision of its scope: ask for it before the next decision, or give the branch that makes further
    /// decisions a [scope](Run::scope) of its own. An effect that began in time can be asked for again later by its number
    /// ([`Effect::call`](effect::Effect::call)).
    ///
    /// If the future of an effect was dropped or ended without an outcome, the next effect that is equal in every part gets its number: it
    /// is the same effect, with the same key. See [`Effect::call`](effect::Effect::call) for numbers that you choose.
    pub fn effect(&self, by: &decision::Decision, connector: &str, operation: &str) -> effect::Effect {
        effect::Effect::new(self.clone(), by, connector, operation)
    }

    /// Prepares a durable wait for a signal. A gate's name is unique in its run.
    pub fn gate(&self, name: &str) -> gate::Gate {
        gate::Gate::new(self.clone(), name)
    }

    /// Prepares a durable timer. A timer's name is unique in its run.
    pub fn timer(&self, name: &str) -> timer::Timer {
        timer::Timer::new(self.clone(), name)
    }

    /// Sleeps for a while, through crashes; the name is unique in its run. A long sleep suspends the run.
    ///
    /// # Errors
    /// [`Error::Suspended`] where the run waits without this driver.
    pub async fn sleep(&self, name: &str, length: Duration) -> Result<(), Error> {
        self.timer(name).after(length).await
    }

    /// Opens a budget, from which decisions and effects reserve; on a re-drive, it is open already.
    ///
    /// # Errors
    /// [`Error::Drift`] where it is open with another limit or currency.
    ///
    /// # Cancellation
    /// If this future is dropped, the budget may still be opened. The next call finds it open.
    pub async fn open_budget(&self, name: &str, currency: Currency, limit: u64) -> Result<(), Error> {
        budget::open(self, name, None, currency, limit).await
    }

    /// Opens a budget within another: what is reserved here is reserved there too.
    ///
    /// # Errors
    /// As [`Run::open_budget`].
    pub async fn open_budget_within(
        &self,
        parent: &str,
        name: &str,
        currency: Currency,
        limit: u64,
    ) -> Result<(), Error> {
        budget::open(self, name, Some(parent), currency, limit).await
    }

    /// Records how far the agent is, for people who look at the run.
    ///
    /// # Errors
    /// [`Error::Drift`] where the journal has another state here.
    ///
    /// # Cancellation
    /// If this future is dropped, the checkpoint may still be recorded. A repeated call records it once.
    pub async fn checkpoint(&self, label: &str, state: &impl Serialize) -> Result<(), Error> {
        let label = Key::new(label)?;
        let state = json::payload("checkpoint", state)?;
        let doing = self.doing().await?;
        let recorded = self.ask(|replay| replay.ask_checkpoint(&self.scope, &label, &state));
        if !recorded.await? {
            let command = DriverCommand::Checkpoint {
                label: label.clone(),
                state,
            };
            self.drive(command.within(&self.scope)).await?;
            self.note(|replay| replay.checkpointed(&self.scope, &label));
        }
        doing.done();
        Ok(())
    }

    /// Completes the run.
    ///
    /// # Errors
    /// [`Error::Drift`] where the journal has decisions, effects or samples that this drive never asked for, or where this driver has
    /// completed the run with another output; [`Error::Rejected`] with [`Unsettled`](tape_core::reply::Rejection::Unsettled) where an
    /// effect is not settled: return, and be re-driven.
    ///
    /// # Cancellation
    /// If this future is dropped, it may still end the run. A repeated call with the same output returns how the run ended.
    pub async fn complete(&self, output: &impl Serialize) -> Result<RunResult, Error> {
        let output = json::payload("output", output)?;
        self.end(DriverCommand::Complete { output }).await
    }

    /// Ends the run as failed, once its effects are undone ([`RunResult::Undoing`] until then). The first 8 KiB of a long error are kept.
    ///
    /// # Errors
    /// As any call that writes.
    ///
    /// # Cancellation
    /// As [`Run::complete`].
    pub async fn fail(&self, error: impl Into<String>) -> Result<RunResult, Error> {
        let error = effect::text(error.into());
        self.end(DriverCommand::Fail { error }).await
    }

    /// Accepts a cancellation that [`Error::Cancelled`] announced: the run ends as cancelled once its effects are undone. If the lease ends
    /// before this is called, recovery ends the run without the agent.
    ///
    /// # Errors
    /// As any call that writes.
    ///
    /// # Cancellation
    /// As [`Run::complete`].
    pub async fn accept_cancel(&self) -> Result<RunResult, Error> {
        self.end(DriverCommand::AcceptCancel).await
    }

    /// Releases the run without ending it, so that another driver can take it at once instead of when the lease ends. A driver that gives
    /// up on an error should call this; recovery re-drives the run after `redrive_in`.
    ///
    /// # Errors
    /// As any call that writes.
    ///
    /// # Cancellation
    /// If this future is dropped, it may still release the run.
    pub async fn release(&self, redrive_in: Duration) -> Result<(), Error> {
        if self.inner.lease.is_released() {
            return Ok(());
        }
        self.drive(DriverCommand::ReleaseLease {
            redrive_in_ms: millis(redrive_in),
            undriven: false,
        })
        .await?;
        Ok(())
    }

    /// What an agent is told that drifted.
    pub(crate) fn drift(&self, drift: Drift) -> Error {
        let begun = self.inner.agent_version.clone();
        let driving = self.inner.tape.settings.agent_version.clone();
        Error::Drift(drift.between(begun, driving).into())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.inner.lease.check()
    }

    /// The replay. Never held over an await.
    pub(crate) fn replay(&self) -> MutexGuard<'_, Replay> {
        self.inner
            .replay
            .lock()
            .expect("nothing panics while it holds the replay")
    }

    /// Takes the turn for a decision or sample in this scope: two at once would get their numbers in random order.
    pub(crate) fn take_turn(&self, what: &'static str) -> Result<Turn, Error> {
        let key = (self.scope.clone(), what);
        let mut taking = self
            .inner
            .taking
            .lock()
            .expect("nothing panics while it holds the turns");
        if !taking.insert(key.clone()) {
            let problem = format!(
                "is taken in scope '{}' already: parallel branches take a scope each",
                self.scope
            );
            return Err(Error::invalid(what, problem));
        }
        Ok(Turn {
            inner: self.inner.clone(),
            key,
        })
    }

    /// Marks that a model or a tool is being called.
    pub(crate) fn busy(&self) -> Busy {
        self.inner.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.inner.clone())
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.inner.busy.load(Ordering::Relaxed) > 0
    }
}

/// The turn for a decision or sample of a scope, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    inner: Arc<Inner>,
    key: (Scope, &'static str),
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.inner
            .taking
            .lock()
            .expect("nothing panics while it holds the turns")
            .remove(&self.key);
    }
}

/// A model or tool call under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Inner>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
