//! What the agents of both languages work with: a server over a file, a worker, a person, and a ledger for each run.

use crate::interpreter::Python;
use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use tape_client::core::command::AttemptOutcome;
use tape_client::core::id::{ConnectorName, GateName, Holder, SignalId, StreamId};
use tape_client::{Begun, Payload, RunId, Tail, Tape};
use tape_examples::acts;
use tape_examples::programs::program;
use tape_examples::server::Servers;
use tape_reactors::api::Journal;
use tape_reactors::{
    Call, Compensation, Connector, Connectors, NotUndone, Observation, Outbox, Reactor, Runner, Worker,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The language of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
}

impl Language {
    pub(crate) const BOTH: [Self; 2] = [Self::Rust, Self::Python];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Rust => Self::Python,
            Self::Python => Self::Rust,
        }
    }
}

/// A server over a journal in a file, and what is beside it. Everything ends when it is dropped.
pub(crate) struct World {
    dir: tempfile::TempDir,
    python: Python,
    address: String,
    servers: Option<Servers>,
    pub(crate) tape: Tape,
    stop: CancellationToken,
}

impl World {
    pub(crate) async fn new(python: &Python) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let store = format!("sqlite:{}", dir.path().join("journal").display());
        let servers = Servers::start(&store, 1, &dir.path().join("errors")).await?;
        let url = servers.url(0);
        let tape = Tape::connect(&url).await?;
        let stop = CancellationToken::new();
        let world = Self {
            python: python.clone(),
            address: url.trim_start_matches("tape://").to_owned(),
            servers: Some(servers),
            tape,
            stop,
            dir,
        };
        world.start_workers().await?;
        let person = answer_gates(world.tape.clone());
        tokio::spawn(async move {
            if let Err(error) = person.await {
                eprintln!("no gate is answered any more: {error:#}");
            }
        });
        Ok(world)
    }

    async fn start_workers(&self) -> Result<()> {
        let lease = std::time::Duration::from_secs(10);
        let store = self.store().parse()?;
        let journal = tape_client::open(&store, lease, tape_client::environment::machine()).await?;
        let office = Office(self.dir.path().to_owned());
        let mut connectors = Connectors::new();
        for name in ["mail", "bank"] {
            connectors = connectors.with(ConnectorName::new(name)?, office.clone(), 8);
        }
        let worker = Worker::new(
            journal.clone(),
            connectors,
            Holder::new("office")?,
            Default::default(),
        );
        self.start(&journal, Arc::new(Outbox::new(worker.clone())));
        self.start(&journal, Arc::new(Compensation::new(worker)));
        Ok(())
    }

    fn start(&self, journal: &Arc<dyn Journal>, reactor: Arc<dyn Reactor>) {
        let runner = Runner::new(journal.clone(), reactor, Default::default());
        tokio::spawn(runner.run(self.stop.clone()));
    }

    /// An agent's process, ready to start.
    pub(crate) fn agent(&self, language: Language, run: &str, kind: &str) -> Command {
        self.agent_at(&self.address, language, run, kind)
    }

    /// The same with other servers, separated by commas.
    pub(crate) fn agent_at(&self, servers: &str, language: Language, run: &str, kind: &str) -> Command {
        let mut agent = match language {
            Language::Rust => Command::new(env!("CARGO_BIN_EXE_polyglot")),
            Language::Python => self.python.agent(),
        };
        agent
            .args([servers, run])
            .arg(ledger_of(self.dir.path(), run))
            .arg(kind);
        agent
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        agent
    }

    /// Drives an agent to the end: what it says last.
    pub(crate) async fn drive(&self, language: Language, run: &str) -> Result<Value> {
        said(&self.agent(language, run, "treasury").output().await?)
    }

    /// Has an agent killed at its `n`-th point. False where it came to its end before.
    pub(crate) async fn kill(
        &self,
        language: Language,
        run: &str,
        n: u64,
        only: Option<&str>,
    ) -> Result<bool> {
        const SIGKILL: i32 = 9;
        let mut agent = self.agent(language, run, "treasury");
        agent.env("TAPE_KILL", n.to_string());
        agent.envs(only.map(|only| ("TAPE_KILL_ONLY", only)));
        let output = agent.output().await?;
        if output.status.signal() == Some(SIGKILL) {
            return Ok(true);
        }
        said(&output).map(|_| false)
    }

    /// The output of a run that is completed.
    pub(crate) async fn output(&self, run: &str) -> Result<Value> {
        match self.tape.run(run_id(run)).existing().begin().await? {
            Begun::Ended(ended) => Ok(ended.output()?),
            Begun::Driving(run) => bail!("{:?} is not completed", run.id()),
        }
    }

    /// The lines of a run's ledger.
    pub(crate) fn ledger(&self, run: &str) -> Result<Vec<Value>> {
        Ok(acts::read(&ledger_of(self.dir.path(), run))?)
    }

    /// Ends the server, and has `tape verify` read everything.
    pub(crate) async fn verify(mut self) -> Result<()> {
        self.stop.cancel();
        drop(self.servers.take());
        let store = self.store();
        let verified = Command::new(program("tape-cli", "tape")?)
            .args(["verify", "--store", &store, "--all"])
            .output()
            .await?;
        ensure!(verified.status.success(), "tape verify: {verified:?}");
        Ok(())
    }

    pub(crate) fn store(&self) -> String {
        format!("sqlite:{}", self.dir.path().join("journal").display())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The name of a run.
pub(crate) fn run_id(run: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s/1 é", run).expect("it is a name")
}

/// The last line of an agent that came to its end.
pub(crate) fn said(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().filter(|_| output.status.success());
    let line =
        line.with_context(|| format!("{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    Ok(serde_json::from_str(line)?)
}

fn ledger_of(dir: &Path, run: &str) -> PathBuf {
    dir.join(format!("ledger-{run}"))
}

/// Answers each gate `approve` once it is open, as a person would.
async fn answer_gates(tape: Tape) -> Result<()> {
    let pattern = "acme.run.treasury.*.*.*.gate.opened".parse()?;
    let mut feed = tape.tail(&Tail {
        from_start: true,
        ..Tail::new(pattern)
    });
    while let Some(page) = feed.next().await {
        for (stream, entry) in page?.entries {
            let envelope: Value = serde_json::from_slice(&entry.envelope)?;
            let (StreamId::Run(run), "approve") = (
                stream,
                envelope["entry"]["body"]["gate"].as_str().unwrap_or_default(),
            ) else {
                continue;
            };
            if !run.invocation.to_string().starts_with("waits") {
                let answer = Payload::json(&json!({ "ok": true, "höhe": 1.0 }));
                tape.signal(&run, GateName::new("approve")?, SignalId::new("olga-1")?, answer)
                    .await?;
            }
        }
    }
    Ok(())
}

/// The worker's upstreams: they write the ledger of the run.
#[derive(Clone)]
struct Office(PathBuf);

impl Office {
    fn act(&self, call: &Call) -> std::io::Result<Payload> {
        let ledger = ledger_of(&self.0, &call.run.invocation.to_string());
        let args: Value = serde_json::from_slice(call.args.bytes().map(AsRef::as_ref).unwrap_or_default())?;
        let operation = call.operation.to_string();
        acts::act(&ledger, &operation, &args, &call.key)?;
        Ok(Payload::json(&json!({ "done": operation })))
    }
}

#[async_trait]
impl Connector for Office {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        self.act(call)
            .map_or_else(AttemptOutcome::unknown, AttemptOutcome::confirmed)
    }

    async fn observe(&self, _: &Call) -> Observation {
        Observation::inconclusive("the office does not say")
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        self.act(call).map_err(NotUndone::unknown)
    }
}
