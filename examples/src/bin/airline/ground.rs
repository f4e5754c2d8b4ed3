//! What the agents of a play stand on: Tape, or nothing but their own notes.

use crate::recording::Conversation;
use crate::verdict::{Kept, KeptDecision};
use anyhow::{Context as _, Result, bail};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_client::core::effect::Semantics;
use tape_client::core::entry::EntryBody;
use tape_client::core::limits::PAGE_ENTRIES_MAX;
use tape_client::{RunId, Tape};
use tape_examples::child::Child;
use tape_examples::comeback::{Comeback, Handover};
use tape_examples::notes;
use tape_examples::record::{self, Record};
use tape_examples::server::Servers;
use tape_store::clock::SystemClock;
use tape_store::engine::Engine;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long an agent's lease lasts. A dead agent's connection closes, which ends its lease at once; this is for agents that die
/// while their server is down too, and must outlast a server's start on a busy machine.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// How an agent begins its drive.
#[derive(Debug)]
pub(crate) enum Begin {
    /// By itself.
    Anew,
    /// It is handed the run by recovery.
    HandedOver(Handover),
}

/// What the agents stand on.
pub(crate) enum Ground {
    /// A journal, with recovery.
    Tape(Box<Journals>),
    /// Notes files in a directory.
    Notes(PathBuf),
}

/// The journals of a play.
pub(crate) struct Journals {
    /// The tenant, which no other play shares.
    tenant: String,
    tape: Tape,
    store: String,
    clients: AtomicUsize,
    /// None where the agents open the store themselves.
    servers: Option<Servers>,
    handovers: HashMap<String, Mutex<UnboundedReceiver<Handover>>>,
    _comeback: Comeback,
}

/// The name of a conversation's run.
pub(crate) fn run_id(tenant: &str, run: &str) -> Result<RunId> {
    Ok(RunId::new(tenant, "service", "customer", run, "talk")?)
}

impl Ground {
    /// Notes files in `dir`.
    pub(crate) fn notes(dir: &Path) -> Self {
        Self::Notes(dir.to_owned())
    }

    /// Journals in the store at a URL, behind so many servers, with recovery for so many agents.
    pub(crate) async fn tape(
        store: &str,
        servers: usize,
        agents: usize,
        runs: &[Conversation],
        errors: &Path,
    ) -> Result<Self> {
        let tenant = format!("airline-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let servers = if servers == 0 {
            None
        } else {
            Some(Servers::start(store, servers, errors).await?)
        };
        let url = servers
            .as_ref()
            .map_or_else(|| store.to_owned(), |servers| servers.url(0));
        let engine = Engine::new(tape_store::open::open(store).await?, Arc::new(SystemClock));
        let comeback = Comeback::start(Arc::new(engine), agents)?;
        let mut handovers = HashMap::new();
        for run in runs {
            handovers.insert(
                run.name.clone(),
                Mutex::new(comeback.of_run(run_id(&tenant, &run.name)?)),
            );
        }
        let tape = Tape::connect(&url).await?;
        Ok(Self::Tape(Box::new(Journals {
            tenant,
            tape,
            store: store.to_owned(),
            clients: AtomicUsize::new(0),
            servers,
            handovers,
            _comeback: comeback,
        })))
    }

    /// What an agent is told about it.
    pub(crate) fn args(&self, run: &str, begin: &Begin) -> Vec<String> {
        match self {
            Self::Notes(dir) => vec!["--notes".to_owned(), notes_file(dir, run).display().to_string()],
            Self::Tape(journals) => {
                let mut args = ["--tape", &journals.url(), "--tenant", &journals.tenant]
                    .map(str::to_owned)
                    .to_vec();
                if let Begin::HandedOver(handover) = begin {
                    args.extend(["--adopt".to_owned(), handover.epoch.to_string()]);
                }
                args
            }
        }
    }

    /// Waits until a run whose agent is dead may be driven again.
    pub(crate) async fn recover(&self, run: &str) -> Result<Begin> {
        match self {
            // Nobody looks after such an agent; it is started again.
            Self::Notes(_) => Ok(Begin::Anew),
            Self::Tape(journals) => {
                let handovers = journals
                    .handovers
                    .get(run)
                    .context("every run has its handovers")?;
                let handover = handovers
                    .lock()
                    .await
                    .recv()
                    .await
                    .context("recovery has ended")?;
                Ok(Begin::HandedOver(handover))
            }
        }
    }

    /// Kills a server, tells the agent to go on, and starts the server again.
    pub(crate) async fn kill_server(&self, server: usize, agent: &mut Child) -> Result<()> {
        let go = async || agent.command("go").await;
        match self {
            Self::Tape(journals) => match &journals.servers {
                Some(servers) => servers.kill(server, go).await,
                None => bail!("there is no server to kill"),
            },
            Self::Notes(_) => bail!("there is no server to kill"),
        }
    }

    /// What was kept of the runs.
    pub(crate) async fn kept(&self, runs: &[Conversation]) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for run in runs {
            kept.push(match self {
                Self::Notes(dir) => noted(&notes_file(dir, &run.name))?,
                Self::Tape(journals) => journals.kept(&run.name).await?,
            });
        }
        Ok(kept)
    }
}

impl Journals {
    /// Where the next agent finds its journal.
    fn url(&self) -> String {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        self.servers
            .as_ref()
            .map_or_else(|| self.store.clone(), |servers| servers.url(client))
    }

    async fn kept(&self, run: &str) -> Result<Kept> {
        let run = run_id(&self.tenant, run)?;
        let record = record::read(&self.tape, &run).await?;
        let decisions = record.decisions()?.into_iter();
        let decisions = decisions.map(|decided| KeptDecision {
            k: decided.k,
            message: decided.answer,
            at_us: decided.at_us,
            epoch: decided.epoch,
        });
        let session = self.tape.session(run.session()).get(PAGE_ENTRIES_MAX).await?;
        let mut said = Vec::new();
        for event in session.map(|view| view.events).unwrap_or_default() {
            let content = event.event.content.bytes().context("an event was erased")?;
            let content: serde_json::Value = serde_json::from_slice(content)?;
            said.push(
                content["content"]
                    .as_str()
                    .context("an event has a text")?
                    .to_owned(),
            );
        }
        if let Err(problem) = &record.chain {
            crate::say(&format!(
                "  the chain of {} is broken: {problem}",
                run.session.as_str()
            ));
        }
        Ok(Kept {
            decisions: decisions.collect(),
            said,
            keys: confirmed(&record, &run),
            ended: record.completed(),
            chain: Some(record.chain.is_ok()),
        })
    }
}

/// The keys of the acts that a journal says were done; one for each confirmation.
fn confirmed(record: &Record, run: &RunId) -> Vec<String> {
    let bodies = || record.entries.iter().map(|entry| &entry.body);
    let begun = bodies().filter_map(|body| match body {
        EntryBody::EffectBegun(begun) if begun.spec.semantics != Semantics::ReadOnly => Some(&begun.effect),
        _ => None,
    });
    let changing: std::collections::BTreeSet<_> = begun.collect();
    let keys = bodies().filter_map(|body| match body {
        EntryBody::EffectConfirmed(done) if changing.contains(&done.effect) => {
            Some(done.effect.idempotency_key(run))
        }
        _ => None,
    });
    keys.collect()
}

fn notes_file(dir: &Path, run: &str) -> PathBuf {
    dir.join(format!("{run}.notes"))
}

fn noted(file: &Path) -> Result<Kept> {
    let notes = notes::read(file)?;
    let decisions = notes
        .iter()
        .filter(|note| note.step == notes::DECISION)
        .enumerate();
    let decisions = decisions.map(|(k, note)| KeptDecision {
        k,
        message: note.value.clone(),
        at_us: note.at_us,
        epoch: None,
    });
    let decisions = decisions.collect();
    let heard = notes.iter().filter(|note| note.step.starts_with("user-"));
    let said = heard
        .filter_map(|note| Some(note.value["content"].as_str()?.to_owned()))
        .collect();
    let ended = notes.last().is_some_and(|note| note.step == notes::FINISHED);
    Ok(Kept {
        decisions,
        said,
        keys: Vec::new(),
        ended,
        chain: None,
    })
}
