//! Beginning a run, or taking over the existing one.

use super::flight::Flight;
use super::{Inner, Run, RunResult};
use crate::client::Tape;
use crate::error::Error;
use crate::json;
use crate::lease::{Lease, millis};
use futures::StreamExt as _;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tape_api::JournalError;
use tape_api::query::Until;
use tape_core::agent_version::{self, OWN};
use tape_core::codec::{self, StoredEntry};
use tape_core::command::{Begin, Create, RunCommand};
use tape_core::entry::TraceParent;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Epoch, Key, RunId, Scope, Seq, StreamId};
use tape_core::limits::COMMANDS_UNDER_WAY_MAX;
use tape_core::payload::Payload;
use tape_core::replay::{Replay, Standing};
use tape_core::reply::{ClosingPhase, Reply, ReplyResult};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Sets up a run.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `begin`"]
pub struct RunBuilder {
    tape: Tape,
    run: RunId,
    labels: Vec<(String, String)>,
    input: Option<Result<Payload, Arc<Error>>>,
    adopt: Option<Epoch>,
    create: bool,
    trace: Option<TraceParent>,
}

/// The result of beginning a run.
#[derive(Debug)]
pub enum Begun {
    /// This process drives the run, whether it is new or taken over.
    Driving(Run),
    /// The run has ended, and this is how.
    Ended(RunResult),
}

impl Begun {
    /// The run, where it has not ended.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Closing`] where it has.
    pub fn driving(self) -> Result<Run, Error> {
        match self {
            Self::Driving(run) => Ok(run),
            Self::Ended(RunResult::Completed(_)) => Err(Error::Ended(RunOutcome::Completed)),
            Self::Ended(ending) => Err(ending
                .output::<()>()
                .err()
                .unwrap_or(Error::Ended(RunOutcome::Completed))),
        }
    }
}

impl RunBuilder {
    pub(crate) fn new(tape: Tape, run: RunId) -> Self {
        Self {
            tape,
            run,
            labels: Vec::new(),
            input: None,
            adopt: None,
            create: true,
            trace: None,
        }
    }

    pub(crate) const fn id(&self) -> &RunId {
        &self.run
    }

    /// Adds a label, by which the run is found. Keys that begin with `tape.` are the journal's own, and are refused.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The agent's input. An existing run must have been begun with the same input; without this call, it keeps its own.
    pub fn input(mut self, input: Payload) -> Self {
        self.input = Some(Ok(input));
        self
    }

    /// The agent's input, as JSON.
    pub fn input_json(mut self, input: &impl Serialize) -> Self {
        self.input = Some(json::payload("input", input).map_err(Arc::new));
        self
    }

    /// Takes the run over from recovery, which took it at this epoch to hand it to an agent.
    ///
    /// An epoch is adopted once. [`RunBuilder::begin`] fails with [`Error::Rejected`] and does nothing where the run was adopted already, was
    /// taken again since ([`Fenced`](tape_core::reply::Rejection::Fenced)), or was let go
    /// ([`NotFound`](tape_core::reply::Rejection::NotFound)): leave it then, since recovery hands it over again where it is due.
    pub const fn adopt(mut self, epoch: Epoch) -> Self {
        self.adopt = Some(epoch);
        self
    }

    /// Takes over only an existing run.
    pub const fn existing(mut self) -> Self {
        self.create = false;
        self
    }

    /// The trace that the run's commands are part of.
    pub fn trace(mut self, trace: TraceParent) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Begins the run, or takes over the existing one. Its journal is read once and replayed from memory.
    ///
    /// # Errors
    /// [`Error::Busy`] where another driver has it; [`Error::Closing`] where it waits for a person. [`Error::Drift`] where an input or
    /// labels are given and the run began with others.
    ///
    /// # Cancellation
    /// If this future is dropped, it may still begin or take over the run; then it releases the run again. A later `begin` of the run
    /// through the same client waits for that release.
    pub async fn begin(self) -> Result<Begun, Error> {
        let turn = self.tape.settings.beginnings.of(&self.run);
        let begin = async move {
            let turn = turn.lock_owned().await;
            let begun = self.begin_now().await;
            Unclaimed {
                begun: Some(begun),
                turn: Some(turn),
            }
        };
        match tokio::spawn(begin.in_current_span()).await {
            Ok(unclaimed) => unclaimed.claim(),
            Err(broken_off) => Err(Error::Unavailable {
                source: broken_off.into(),
            }),
        }
    }

    async fn begin_now(self) -> Result<Begun, Error> {
        let create = self.create()?;
        let begin = Begin {
            run: self.run.clone(),
            create,
            holder: self.tape.holder.clone(),
            lease_ms: millis(self.tape.settings.lease),
            adopt: self.adopt,
            recovery: false,
        };
        let asked = Instant::now();
        let reply = self
            .tape
            .command(&self.run, RunCommand::Begin(begin), self.trace.clone())
            .await;
        match reply {
            Ok(Reply {
                seq,
                result: ReplyResult::Leased { epoch, until },
            }) => {
                let lease = Lease::keep(&self.tape, self.run.clone(), epoch, until, asked);
                self.drive(lease, seq).await
            }
            Ok(Reply {
                result: ReplyResult::Ended { ending },
                ..
            })
            | Err(Error::Ended(ending)) => self.ended(ending).await,
            Ok(Reply {
                result: ReplyResult::Compensating,
                ..
            })
            | Err(Error::Closing {
                phase: ClosingPhase::Compensating,
            }) => Ok(Begun::Ended(RunResult::Undoing)),
            Ok(Reply {
                result: ReplyResult::Stuck { .. },
                ..
            }) => Err(Error::Closing {
                phase: ClosingPhase::Stuck,
            }),
            Ok(other) => Err(Error::unexpected("the beginning of the run", &other.result)),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> Result<Option<Create>, Error> {
        if !self.create {
            return Ok(None);
        }
        let version = self.tape.settings.agent_version.as_ref();
        let version = version.map(|version| (agent_version::key(), version.to_string()));
        Ok(Some(Create {
            labels: self.labels()?.into_iter().chain(version).collect(),
            input: self.input_given()?.cloned().unwrap_or_else(Payload::empty),
            forked_from: None,
        }))
    }

    fn labels(&self) -> Result<BTreeMap<Key, String>, Error> {
        let label = |(key, value): &(String, String)| {
            if key.starts_with(OWN) {
                let problem = format!("'{key}' begins with '{OWN}', which names of the journal's own do");
                return Err(Error::invalid("label", problem));
            }
            Ok((Key::new(key)?, value.clone()))
        };
        self.labels.iter().map(label).collect()
    }

    fn input_given(&self) -> Result<Option<&Payload>, Error> {
        match &self.input {
            None => Ok(None),
            Some(Ok(input)) => Ok(Some(input)),
            Some(Err(error)) => Err(Error::invalid("input", error)),
        }
    }

    async fn drive(self, lease: Lease, through: Seq) -> Result<Begun, Error> {
        let replay = load(&self.tape, &self.run, through).await?;
        let beginning = replay.check_beginning(self.input_given()?, &self.labels()?);
        let begun = replay
            .begun()
            .ok_or_else(|| Error::damaged("the journal does not begin with the run"))?;
        let mut labels = begun.labels.clone();
        let agent_version = agent_version::of(&labels);
        labels.retain(|key, _| !key.as_str().starts_with(OWN));
        let inner = Inner {
            tape: self.tape,
            lease,
            trace: self.trace,
            labels,
            agent_version,
            input: begun.input.clone(),
            replay: Mutex::new(replay),
            taking: Mutex::new(BTreeSet::new()),
            busy: AtomicUsize::new(0),
            sending: Semaphore::new(COMMANDS_UNDER_WAY_MAX),
            flight: Flight::default(),
            refusing: tokio::sync::Mutex::default(),
            stuck: AtomicBool::new(false),
            ended: OnceLock::new(),
        };
        let run = Run {
            inner: inner.into(),
            scope: Scope::root(),
        };
        if let Err(drift) = beginning {
            // This driver goes no further; another may.
            run.release(Duration::ZERO).await?;
            return Err(run.drift(*drift));
        }
        Ok(Begun::Driving(run))
    }

    async fn ended(&self, ending: RunOutcome) -> Result<Begun, Error> {
        if ending != RunOutcome::Completed {
            return Ok(Begun::Ended(RunResult::of(ending, None)));
        }
        let replay = load(&self.tape, &self.run, Seq::ZERO).await?;
        match replay.standing() {
            Standing::Ended(ended, output) => Ok(Begun::Ended(RunResult::of(ended.clone(), output.clone()))),
            _ => Err(Error::damaged(
                "the run has ended, but its entries do not say how",
            )),
        }
    }
}

/// The runs that a client is beginning. Only one call begins a run at a time, so that a dropped call has released the run before the next
/// one begins it.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<BTreeMap<RunId, Weak<tokio::sync::Mutex<()>>>>);

impl Beginnings {
    fn of(&self, run: &RunId) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self
            .0
            .lock()
            .expect("nothing panics while it holds the beginnings");
        if let Some(turn) = all.get(run).and_then(Weak::upgrade) {
            return turn;
        }
        // Finished entries are removed whenever the map has doubled.
        if all.len().is_power_of_two() {
            all.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        all.insert(run.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// A run that was begun, until it is handed to the caller. If the caller is gone, the run is released.
struct Unclaimed {
    begun: Option<Result<Begun, Error>>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Unclaimed {
    fn claim(mut self) -> Result<Begun, Error> {
        self.begun
            .take()
            .unwrap_or_else(|| Err(Error::damaged("the beginning of the run was lost")))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let (begun, turn) = (self.begun.take(), self.turn.take());
        let Some(Ok(Begun::Driving(run))) = begun else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = run.release(Duration::ZERO).await {
                tracing::debug!(%error, "a run whose beginning was dropped is let go when its lease runs out");
            }
            drop(turn);
        });
    }
}

/// Reads and folds the journal of a run, once.
async fn load(tape: &Tape, run: &RunId, through: Seq) -> Result<Replay, Error> {
    let replay = Mutex::new(Replay::default());
    catch_up(tape, run, &replay, through).await?;
    Ok(replay
        .into_inner()
        .expect("nothing panics while it holds the replay"))
}

/// Folds what the journal of a run has beyond `replay`, at least up to the entry `through`.
pub(super) async fn catch_up(
    tape: &Tape,
    run: &RunId,
    replay: &Mutex<Replay>,
    through: Seq,
) -> Result<(), Error> {
    let seq = || {
        let replay = replay.lock().expect("nothing panics while it holds the replay");
        replay.seq()
    };
    let retry_for = tape.settings.retry_for;
    let (mut failures, mut deadline) = (0, Instant::now() + retry_for);
    loop {
        let mut broken_off = None;
        let mut pages = tape.journal.entries(run, seq(), Until::End);
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => {
                    fold(replay, &page)?;
                    deadline = Instant::now() + retry_for;
                }
                // The entries read so far are kept, and the next try continues from there.
                Err(JournalError::Unavailable(source)) => {
                    tracing::debug!(error = %source, "reading the journal broke off; going on");
                    broken_off = Some(source);
                    break;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let seq = seq();
        if broken_off.is_none() && seq >= through && seq > Seq::ZERO {
            return Ok(());
        }
        failures += 1;
        // A journal that hangs takes long to fail.
        let too_late = broken_off.is_some() && Instant::now() >= deadline;
        if failures > READ_FAILURES_MAX || too_late {
            let ends = || {
                format!(
                    "the journal of {} ends at entry {seq}",
                    StreamId::Run(run.clone())
                )
            };
            return Err(
                broken_off.map_or_else(|| Error::damaged(ends()), |source| Error::Unavailable { source })
            );
        }
        tokio::time::sleep(Duration::from_millis(20 << failures)).await;
    }
}

/// Folds entries that the replay does not have. Several calls may read the journal of one run; each entry is folded once.
pub(super) fn fold(replay: &Mutex<Replay>, page: &[StoredEntry]) -> Result<(), Error> {
    let mut replay = replay.lock().expect("nothing panics while it holds the replay");
    for stored in page {
        if stored.seq > replay.seq() {
            let entry = codec::decode(stored).map_err(Error::damaged)?;
            replay.apply(entry).map_err(Error::damaged)?;
        }
    }
    Ok(())
}

/// Most times that reading a journal is resumed.
const READ_FAILURES_MAX: u32 = 8;
