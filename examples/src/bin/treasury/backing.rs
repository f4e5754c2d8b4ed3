//! The backing of the agent: Tape, or only its own notes.

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::id::StreamId;
use tape_client::core::id::{GateName, Principal, SignalId};
use tape_client::core::subject::{Pattern, Subject};
use tape_client::{Error, Payload, RunId, Tail, Tape};
use tape_engine::Engine;
use tape_examples::child::Child;
use tape_examples::recovery::{Handover, RecoveredRuns};
use tape_examples::server::Servers;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a driver's lease lasts: short, so that the demonstration does not wait long for a driver that died while the
/// server was down too.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// The person who approves payments.
pub(crate) const PERSON: &str = "dana";

/// The run of the demonstration.
pub(crate) fn run() -> Result<RunId> {
    Ok(RunId::new("demo", "treasury", "desk", "2026-03-31", "close")?)
}

/// The backing of the agent.
pub(crate) enum Backing {
    /// A journal behind a server, with recovery.
    Tape(Box<Journaled>),
    /// A notes file.
    Notes(PathBuf),
}

/// A journal, its server and its recovery.
pub(crate) struct Journaled {
    tape: Tape,
    url: String,
    servers: Servers,
    _recovery: RecoveredRuns,
    handovers: UnboundedReceiver<Handover>,
    taken: Option<Handover>,
}

impl Backing {
    /// Starts a server over an SQLite file in `dir`, and recovery.
    pub(crate) async fn tape(dir: &Path, errors: &Path) -> Result<Self> {
        let store = format!("sqlite:{}", dir.join("journal.db").display());
        let servers = Servers::start(&store, 1, errors).await?;
        let url = servers.url(0);
        let tape = Tape::at(&url)
            .principal(Principal::new(PERSON)?)
            .connect()
            .await?;
        let engine = Engine::start(tape_store::open::open(&store).await?);
        let recovery = RecoveredRuns::start(Arc::new(engine), 1)?;
        let handovers = recovery.of_run(run()?);
        Ok(Self::Tape(Box::new(Journaled {
            tape,
            url,
            servers,
            _recovery: recovery,
            handovers,
            taken: None,
        })))
    }

    /// The arguments of the agent about it.
    pub(crate) fn args(&self) -> Vec<String> {
        match self {
            Self::Notes(file) => vec!["--notes".to_owned(), file.display().to_string()],
            Self::Tape(journal) => {
                let mut args = vec!["--tape".to_owned(), journal.url.clone()];
                if let Some(handover) = &journal.taken {
                    args.extend(["--adopt".to_owned(), handover.epoch.to_string()]);
                }
                args
            }
        }
    }

    /// Waits until the agent's death is noticed. Returns what noticed it.
    pub(crate) async fn recover(&mut self) -> Result<&'static str> {
        match self {
            Self::Notes(_) => Ok("started again by a script; it reads its notes"),
            Self::Tape(journal) => {
                // The previous drive is over.
                journal.taken = None;
                journal.taken = Some(journal.handovers.recv().await.context("recovery has ended")?);
                Ok("started by Tape's recovery; it reads the journal")
            }
        }
    }

    /// Kills the server and starts it again.
    pub(crate) async fn kill_server(&self, agent: &mut Child) -> Result<()> {
        match self {
            Self::Notes(_) => Ok(()),
            Self::Tape(journal) => journal.servers.kill(0, agent.command("go")).await,
        }
    }

    /// Waits until the agent's wait for a person is recorded.
    pub(crate) async fn gate_is_open(&self) -> Result<()> {
        let Self::Tape(journal) = self else { return Ok(()) };
        let subject = Subject::new(&StreamId::Run(run()?), "gate.opened");
        let pattern: Pattern = subject.as_str().parse()?;
        let tail = Tail {
            from_start: true,
            ..Tail::new(pattern)
        };
        let mut pages = journal.tape.tail(&tail);
        while let Some(page) = pages.next().await {
            match page {
                // The feed continues at the next poll.
                Err(Error::Unavailable { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(page) if page.entries.is_empty() => {}
                Ok(_) => return Ok(()),
            }
        }
        bail!("the feed has ended")
    }

    /// Approves, as a person, what the agent waits for.
    pub(crate) async fn approve(&self, gate: &str, agent: &mut Child) -> Result<()> {
        match self {
            Self::Notes(_) => agent.command("approved").await,
            Self::Tape(journal) => {
                let answer = Payload::json(&"approved".into());
                let (gate, id) = (GateName::new(gate)?, SignalId::new("phone call at 16:40")?);
                journal.tape.signal(&run()?, gate, id, answer).await?;
                Ok(())
            }
        }
    }

    /// The journal's client, where there is a journal.
    pub(crate) fn client(&self) -> Option<&Tape> {
        match self {
            Self::Tape(journal) => Some(&journal.tape),
            Self::Notes(_) => None,
        }
    }
}
