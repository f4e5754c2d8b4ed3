//! Beginning a run, or taking up the one that is there.

use super::{Ending, Inner, Run};
use crate::backend::Until;
use crate::client::Tape;
use crate::error::Error;
use crate::json;
use crate::lease::{Lease, millis};
use futures::StreamExt as _;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use tape_core::codec;
use tape_core::command::{Begin, Create, RunCommand};
use tape_core::entry::TraceParent;
use tape_core::id::{Epoch, Key, RunId, Scope, Seq, StreamId};
use tape_core::limits::COMMANDS_UNDER_WAY_MAX;
use tape_core::payload::Payload;
use tape_core::replay::{Replay, Standing};
use tape_core::reply::{Ended, Reply, ReplyResult};
use tokio::sync::Semaphore;

/// Sets up a run.
#[derive(Debug)]
#[must_use = "nothing happens before `begin`"]
pub struct RunBuilder {
    tape: Tape,
    run: RunId,
    labels: Vec<(String, String)>,
    input: Result<Payload, Error>,
    adopt: Option<Epoch>,
    create: bool,
    trace: Option<TraceParent>,
}

/// What beginning a run came to.
#[derive(Debug)]
pub enum Begun {
    /// This process drives the run, whether it is new or taken up again.
    Driving(Run),
    /// The run has ended, and this is how.
    Ended(Ending),
}

impl Begun {
    /// The run, where it has not ended.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Closing`] where it has.
    pub fn driving(self) -> Result<Run, Error> {
        match self {
            Self::Driving(run) => Ok(run),
            Self::Ended(Ending::Completed(_)) => Err(Error::Ended(Ended::Completed)),
            Self::Ended(ending) => Err(ending
                .output::<()>()
                .err()
                .unwrap_or(Error::Ended(Ended::Completed))),
        }
    }
}

impl RunBuilder {
    pub(crate) fn new(tape: Tape, run: RunId) -> Self {
        let input = Ok(Payload::empty());
        Self {
            tape,
            run,
            labels: Vec::new(),
            input,
            adopt: None,
            create: true,
            trace: None,
        }
    }

    /// Adds a label, by which the run is found.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What the agent is given. A run that is there already keeps the input it was begun with.
    pub fn input(mut self, input: Payload) -> Self {
        self.input = Ok(input);
        self
    }

    /// What the agent is given, as JSON.
    pub fn input_json(mut self, input: &impl Serialize) -> Self {
        self.input = json::payload("input", input);
        self
    }

    /// Takes the run over from recovery, which took it at this epoch to hand it to an agent.
    pub const fn adopt(mut self, epoch: Epoch) -> Self {
        self.adopt = Some(epoch);
        self
    }

    /// Takes up only a run that is there.
    pub const fn existing(mut self) -> Self {
        self.create = false;
        self
    }

    /// The trace that the run's commands are part of.
    pub fn trace(mut self, trace: TraceParent) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Begins the run, or takes up the one that is there: its journal is read once, and what it has is replayed from memory.
    ///
    /// # Errors
    /// [`Error::Busy`] where another driver is at work on it; [`Error::Closing`] where it waits for a person.
    pub async fn begin(self) -> Result<Begun, Error> {
        let create = self.create()?;
        let begin = Begin {
            run: self.run.clone(),
            create,
            holder: self.tape.settings.holder.clone(),
            lease_ms: millis(self.tape.settings.lease),
            adopt: self.adopt,
            recovery: false,
        };
        let reply = self
            .tape
            .command(&self.run, RunCommand::Begin(begin), self.trace.clone())
            .await;
        match reply {
            Ok(Reply {
                seq,
                result: ReplyResult::Leased { epoch, until },
            }) => {
                let lease = Lease::keep(&self.tape, self.run.clone(), epoch, until);
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
                phase: "compensating",
            }) => Ok(Begun::Ended(Ending::Undoing)),
            Ok(Reply {
                result: ReplyResult::Stuck { .. },
                ..
            }) => Err(Error::Closing { phase: "stuck" }),
            Ok(other) => Err(Error::unexpected("the beginning of the run", other)),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> Result<Option<Create>, Error> {
        if !self.create {
            return Ok(None);
        }
        let label = |(key, value): &(String, String)| Ok((Key::new(key)?, value.clone()));
        let labels = self
            .labels
            .iter()
            .map(label)
            .collect::<Result<BTreeMap<_, _>, Error>>()?;
        let input = match &self.input {
            Ok(input) => input.clone(),
            Err(error) => return Err(Error::invalid("input", error)),
        };
        Ok(Some(Create {
            labels,
            input,
            forked_from: None,
        }))
    }

    async fn drive(self, lease: Lease, through: Seq) -> Result<Begun, Error> {
        let replay = load(&self.tape, &self.run, through).await?;
        let begun = replay
            .begun()
            .ok_or_else(|| Error::damaged("the journal does not begin with the run"))?;
        let inner = Inner {
            tape: self.tape,
            lease,
            trace: self.trace,
            labels: begun.labels.clone(),
            input: begun.input.clone(),
            replay: Mutex::new(replay),
            taking: Mutex::new(BTreeSet::new()),
            busy: AtomicUsize::new(0),
            sending: Semaphore::new(COMMANDS_UNDER_WAY_MAX),
        };
        Ok(Begun::Driving(Run {
            inner: inner.into(),
            scope: Scope::root(),
        }))
    }

    async fn ended(&self, ending: Ended) -> Result<Begun, Error> {
        if ending != Ended::Completed {
            return Ok(Begun::Ended(Ending::of(ending, None)));
        }
        let replay = load(&self.tape, &self.run, Seq::ZERO).await?;
        match replay.standing() {
            Standing::Ended(ended, output) => Ok(Begun::Ended(Ending::of(ended.clone(), output.clone()))),
            other => Err(Error::unexpected("the end of the run", other)),
        }
    }
}

/// Reads and folds the journal of a run, once.
async fn load(tape: &Tape, run: &RunId, through: Seq) -> Result<Replay, Error> {
    let mut replay = Replay::default();
    let mut failures = 0;
    while replay.seq() < through || replay.seq() == Seq::ZERO {
        let mut pages = tape.backend.entries(run, replay.seq(), Until::End);
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                // What was read so far is kept: the next try goes on from there.
                Err(crate::backend::Failure::Retryable(source)) if failures < READ_FAILURES_MAX => {
                    tracing::debug!(error = %source, "reading the journal broke off; going on");
                    break;
                }
                Err(failure) => return Err(failure.into()),
            };
            for stored in &page {
                let entry = codec::decode(stored).map_err(Error::damaged)?;
                replay.apply(entry).map_err(Error::damaged)?;
            }
        }
        if replay.seq() < through || replay.seq() == Seq::ZERO {
            failures += 1;
            if failures > READ_FAILURES_MAX {
                return Err(Error::damaged(format!(
                    "the journal of {} ends at entry {}",
                    StreamId::Run(run.clone()),
                    replay.seq()
                )));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20 << failures)).await;
        }
    }
    Ok(replay)
}

/// Most times that reading a journal is taken up again.
const READ_FAILURES_MAX: u32 = 8;
