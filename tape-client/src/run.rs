//! Runs: beginning or taking up, driving, ending.

mod begin;
mod wait;

pub use begin::{Begun, RunBuilder};
pub(crate) use wait::Due;

use crate::client::Tape;
use crate::error::Error;
use crate::lease::{Hold, Lease, millis};
use crate::{budget, decision, effect, gate, json, timer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tape_core::budget::Currency;
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::entry::TraceParent;
use tape_core::id::{Epoch, Key, RunId, Scope};
use tape_core::payload::Payload;
use tape_core::replay::Replay;
use tape_core::reply::{Ended, Rejection, Reply, ReplyResult};
use tokio::sync::Semaphore;

/// A run that this process drives.
///
/// Everything asked of it is answered from the journal where the journal has it, and done and recorded where not: a fresh run
/// and one that is re-driven after a crash take the same code. Cheap to clone; the lease is renewed in the
/// background for as long as a clone is alive. A run that is dropped without an end is recovered once its lease has run out.
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
    input: Payload,
    replay: Mutex<Replay>,
    /// Scopes in which a decision or a sample is being taken.
    taking: Mutex<BTreeSet<(Scope, &'static str)>>,
    /// Model and tool calls under way: the run is not suspended over them.
    busy: AtomicUsize,
    /// Turns to send a command, fewer than the replies that the run remembers.
    sending: Semaphore,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Well, with this output.
    Completed(Payload),
    /// In failure.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// Cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It ends as failed or cancelled once what it did is undone; the agent has no more part in it.
    Undoing,
}

impl Ending {
    /// The output of a run that ended well, read as JSON.
    ///
    /// # Errors
    /// [`Error::Ended`] where the run failed or was cancelled, [`Error::Closing`] where it is being undone,
    /// [`Error::Invalid`] where the output is no such value.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self {
            Self::Completed(output) => json::read("the output", output),
            Self::Failed { error } => Err(Error::Ended(Ended::Failed { error: error.clone() })),
            Self::Cancelled { reason } => Err(Error::Ended(Ended::Cancelled {
                reason: reason.clone(),
            })),
            Self::Undoing => Err(Error::Closing {
                phase: "compensating",
            }),
        }
    }

    fn of(ended: Ended, output: Option<Payload>) -> Self {
        match ended {
            Ended::Completed => Self::Completed(output.unwrap_or_else(Payload::empty)),
            Ended::Failed { error } => Self::Failed { error },
            Ended::Cancelled { reason } => Self::Cancelled { reason },
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
    /// [`Error::Invalid`] where it is no such value.
    pub fn input_json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::read("the input", self.input())
    }

    /// The labels the run was begun with.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<Key, String> {
        &self.inner.labels
    }

    /// The same run in the scope `name` within this one, for a sub-agent or a parallel branch: its decisions and samples are
    /// counted by themselves.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the name is empty, has a `/` or `#`, or the path gets too deep.
    pub fn scope(&self, name: &str) -> Result<Self, Error> {
        Ok(Self {
            inner: self.inner.clone(),
            scope: self.scope.child(name)?,
        })
    }

    /// The scope this value speaks in.
    #[must_use]
    pub const fn scope_path(&self) -> &Scope {
        &self.scope
    }

    /// Whether everything that the journal had is asked for again, so that all that follows is new.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.replay().is_live()
    }

    /// Completes when this driver may no longer speak for the run: its lease is lost, or the run ended or waits.
    pub async fn gone(&self) {
        self.inner.lease.gone().await;
    }

    /// Asks for the next decision of this scope: the recorded one, or else what `model` answers.
    ///
    /// See [`Run::decision`] for what can be recorded beside the answer.
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
        E: Into<crate::error::Source>,
    {
        self.decision(request).ask(model).await
    }

    /// Prepares the next decision of this scope.
    pub fn decision(&self, request: &impl Serialize) -> decision::Asking {
        decision::Asking::new(self.clone(), request)
    }

    /// Prepares an effect, authorised by a decision. Effects of one decision are numbered in the order of these calls.
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
    /// As any call that writes.
    pub async fn checkpoint(&self, label: &str, state: &impl Serialize) -> Result<(), Error> {
        let label = Key::new(label)?;
        self.check()?;
        if self.replay().ask_checkpoint(&label) {
            return Ok(());
        }
        let state = json::payload("checkpoint", state)?;
        self.drive(DriverCommand::Checkpoint { label, state }).await?;
        Ok(())
    }

    /// Ends the run well.
    ///
    /// # Errors
    /// [`Error::Drift`] where the journal has decisions, effects or samples that this drive never asked for;
    /// [`Error::Rejected`] where an effect is not settled.
    pub async fn complete(&self, output: &impl Serialize) -> Result<Ending, Error> {
        let output = json::payload("output", output)?;
        self.check()?;
        if let Some(drift) = self.replay().leftover() {
            return Err(Error::Drift(drift));
        }
        self.end(
            DriverCommand::Complete {
                output: output.clone(),
            },
            Some(output),
        )
        .await
    }

    /// Ends the run in failure, once what it did is undone.
    ///
    /// # Errors
    /// As any call that writes.
    pub async fn fail(&self, error: impl Into<String>) -> Result<Ending, Error> {
        self.end(DriverCommand::Fail { error: error.into() }, None).await
    }

    /// Ends the run as cancelled, once what it did is undone, after [`Error::Cancelled`] said that somebody asked for it.
    ///
    /// # Errors
    /// As any call that writes.
    pub async fn accept_cancel(&self) -> Result<Ending, Error> {
        self.end(DriverCommand::AcceptCancel, None).await
    }

    async fn end(&self, command: DriverCommand, output: Option<Payload>) -> Result<Ending, Error> {
        let reply = self.drive(command).await?;
        match reply.result {
            ReplyResult::Ended { ending } => {
                self.inner.lease.let_go(Hold::Ended(Some(ending.clone())));
                Ok(Ending::of(ending, output))
            }
            ReplyResult::Compensating | ReplyResult::Stuck { .. } => {
                self.inner.lease.let_go(Hold::Ended(None));
                Ok(Ending::Undoing)
            }
            other => Err(Error::unexpected("the end of the run", other)),
        }
    }

    /// Lets the run go without an end, so that another driver can take it at once instead of after the lease. A driver
    /// that gives up on an error does well to call it; recovery re-drives the run after `redrive_in`.
    ///
    /// # Errors
    /// As any call that writes.
    pub async fn release(&self, redrive_in: Duration) -> Result<(), Error> {
        self.drive(DriverCommand::ReleaseLease {
            redrive_in_ms: millis(redrive_in),
            undriven: false,
        })
        .await?;
        self.inner.lease.let_go(Hold::Released);
        Ok(())
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

    /// Sends a command as the driver. A lost lease is noted, so that every further call fails alike.
    pub(crate) async fn drive(&self, command: DriverCommand) -> Result<Reply, Error> {
        let _turn = self.inner.sending.acquire().await;
        self.check()?;
        let lease = &self.inner.lease;
        let command = RunCommand::Drive(lease.epoch, command);
        let outcome = self
            .inner
            .tape
            .command(&lease.run, command, self.inner.trace.clone())
            .await;
        match outcome {
            Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::Fenced { .. }) => {
                lease.let_go(Hold::Lost);
                // Where this driver let the run go by itself in the meantime, that is the reason to tell.
                Err(lease.check().err().unwrap_or_else(|| Error::LostLease {
                    run: lease.run.clone(),
                }))
            }
            Err(Error::Ended(ended)) => {
                lease.let_go(Hold::Ended(Some(ended.clone())));
                Err(Error::Ended(ended))
            }
            other => other,
        }
    }

    /// Takes the right to take a decision or sample in this scope: two at once would have their numbers by chance.
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

/// The right to take a decision or sample of a scope, until it is dropped.
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
