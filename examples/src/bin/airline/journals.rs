//! The journals of a scenario: the servers and workers over their store, and recovery.

use crate::agreement;
use crate::airline;
use crate::backing::Begin;
use crate::messages::Messages;
use crate::recording::Conversation;
use crate::verdict::{Kept, KeptDecision};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_client::core::effect::Semantics;
use tape_client::core::entry::EntryBody;
use tape_client::core::limits::PAGE_ENTRIES_MAX;
use tape_client::{RunId, Tape};
use tape_engine::Engine;
use tape_environment::{Environment as _, Machine};
use tape_examples::copies::{Copies, Setting};
use tape_examples::non_idempotent_upstream::{BOOKS, WORKER};
use tape_examples::record::{self, Record};
use tape_examples::recovery::{Handover, RecoveredRuns};
use tape_examples::retry::until_it_works;
use tape_examples::server::Servers;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long an agent's lease lasts. A dead agent's connection closes, which ends its lease at once; this is for agents that die
/// while their server is down too, and must outlast a server's start on a busy machine.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How long an agent waits for a worker; then its run waits without the agent.
pub(crate) const SUSPEND_AFTER: Duration = Duration::from_secs(2);
/// How long a worker's claim lasts: much longer than a process stands still, or a commit takes, on a busy machine.
const CLAIM: Duration = Duration::from_secs(5);
/// Recovery does not hand over an ended run, so this is how often to check whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Journals that are read at a time.
const READ_AT_ONCE: usize = 8;

/// The parts of the journals.
pub(crate) struct Plan<'a> {
    /// The URL of the store.
    pub(crate) store: &'a str,
    /// How many servers serve it; with none, each process opens it.
    pub(crate) servers: usize,
    /// How many workers there are; with none, recovery is a part of the scenario.
    pub(crate) reactors: Option<usize>,
    /// How many relays publish messages that wake the workers; with none, the journal wakes them.
    pub(crate) relays: Option<usize>,
    /// How many agents run at a time.
    pub(crate) agents: usize,
    /// Where the airline is.
    pub(crate) airline: &'a str,
    /// Where files of the scenario are kept.
    pub(crate) dir: &'a Path,
    /// Where its processes write errors.
    pub(crate) errors: &'a Path,
}

/// The journals of a scenario.
pub(crate) struct Journals {
    /// The tenant, which no other scenario shares.
    tenant: String,
    tape: Tape,
    store: String,
    clients: AtomicUsize,
    /// None where the agents open the store themselves.
    servers: Option<Servers>,
    /// None where the agents make all calls themselves.
    reactors: Option<Copies>,
    /// None where the journal wakes the workers.
    messages: Option<Messages>,
    recovery: RecoveredRuns,
}

/// The name of a conversation's run.
pub(crate) fn run_id(tenant: &str, run: &str) -> Result<RunId> {
    Ok(RunId::new(tenant, "service", "customer", run, "talk")?)
}

impl Journals {
    pub(crate) async fn start(plan: &Plan<'_>) -> Result<Self> {
        let tenant = format!("airline-{}", &Machine.uuid().simple().to_string()[..8]);
        let servers = match plan.servers {
            0 => None,
            count => Some(Servers::start(plan.store, count, plan.errors).await?),
        };
        // Reactors need a journal that exists.
        let tape = Tape::connect(&journal(servers.as_ref(), plan.store, 0)).await?;
        let messages = match plan.relays {
            None => None,
            Some(count) => Some(Messages::start(plan, &tenant, servers.as_ref(), count).await?),
        };
        let (recovery, reactors) = match plan.reactors {
            None => {
                let store = tape_store::open::open(plan.store).await?;
                let engine = Engine::start(store);
                (RecoveredRuns::start(Arc::new(engine), plan.agents)?, None)
            }
            Some(count) => {
                let (recovery, redrive) = RecoveredRuns::served().await?;
                let mut settings = Vec::new();
                for n in 0..count {
                    let mut setting = setting(plan, &tenant, servers.as_ref(), &redrive, n)?;
                    if let Some(messages) = &messages {
                        messages.wake(&mut setting, n).await?;
                    }
                    settings.push(setting);
                }
                (recovery, Some(Copies::reactors(settings, plan.errors).await?))
            }
        };
        Ok(Self {
            tenant,
            tape,
            store: plan.store.to_owned(),
            clients: AtomicUsize::new(0),
            servers,
            reactors,
            messages,
            recovery,
        })
    }

    /// The arguments of an agent about them.
    pub(crate) fn args(&self, begin: &Begin) -> Vec<String> {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        let url = journal(self.servers.as_ref(), &self.store, client);
        let mut args = ["--tape", &url, "--tenant", &self.tenant]
            .map(str::to_owned)
            .to_vec();
        if let Begin::HandedOver(handover) = begin {
            args.extend(["--adopt".to_owned(), handover.epoch.to_string()]);
        }
        args
    }

    pub(crate) fn handovers(&self, run: &str) -> Result<UnboundedReceiver<Handover>> {
        Ok(self.recovery.of_run(run_id(&self.tenant, run)?))
    }

    /// The servers.
    pub(crate) fn servers(&self) -> Result<&Servers> {
        self.servers.as_ref().context("there are no servers to kill")
    }

    /// The workers.
    pub(crate) fn reactors(&self) -> Result<&Copies> {
        self.reactors.as_ref().context("there are no workers to kill")
    }

    /// The relays.
    pub(crate) fn relays(&self) -> Result<&Copies> {
        let messages = self.messages.as_ref();
        messages
            .map(Messages::relays)
            .context("there are no relays to kill")
    }

    pub(crate) async fn recover(
        &self,
        run: &str,
        handovers: &mut UnboundedReceiver<Handover>,
    ) -> Result<Option<Begin>> {
        let id = run_id(&self.tenant, run)?;
        loop {
            // Its agent may have died before it began.
            let head = until_it_works(|| self.tape.head(&id).map_err(Into::into)).await?;
            if head.is_none() {
                return Ok(Some(Begin::Anew));
            }
            match tokio::time::timeout(LOOK_AGAIN, handovers.recv()).await {
                Ok(handover) => {
                    let mut handover = handover.context("recovery has ended")?;
                    // Where a worker dies during a handover, another hands the run over again.
                    while let Ok(newer) = handovers.try_recv() {
                        handover = newer;
                    }
                    return Ok(Some(Begin::HandedOver(handover)));
                }
                Err(_) if self.read(&id).await?.over() => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// Waits until a run that ended badly is undone.
    pub(crate) async fn until_undone(&self, run: &str) -> Result<()> {
        let run = run_id(&self.tenant, run)?;
        while !self.read(&run).await?.failed() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn read(&self, run: &RunId) -> Result<Record> {
        until_it_works(|| record::read(&self.tape, run)).await
    }

    pub(crate) async fn kept(&self, runs: &[Conversation]) -> Result<Vec<Kept>> {
        let all = futures::stream::iter(runs.iter().map(|run| self.kept_of(run)));
        all.buffered(READ_AT_ONCE).try_collect().await
    }

    async fn kept_of(&self, conversation: &Conversation) -> Result<Kept> {
        let run = run_id(&self.tenant, &conversation.name)?;
        let record = self.read(&run).await?;
        let decisions = record.decisions()?.into_iter();
        let decisions = decisions.map(|decided| KeptDecision {
            k: decided.k,
            message: decided.answer,
            at_us: decided.at_us,
            epoch: decided.epoch,
        });
        if let Err(problem) = &record.chain {
            tape_examples::processes::say(&format!(
                "  the chain of {} is broken: {problem}",
                run.session.as_str()
            ));
        }
        Ok(Kept {
            decisions: decisions.collect(),
            said: self.said(&run).await?,
            keys: confirmed(&record, &run),
            acts: agreement::acts(&record)?,
            ended: if conversation.regretted {
                record.failed()
            } else {
                record.completed()
            },
            chain: Some(record.chain.is_ok()),
        })
    }

    async fn said(&self, run: &RunId) -> Result<Vec<String>> {
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
        Ok(said)
    }
}

/// Where the n-th client finds its journal. Behind servers, workers are clients like all others: one process owns the SQLite file, and
/// workers wait until the server pushes due work.
pub(crate) fn journal(servers: Option<&Servers>, store: &str, n: usize) -> String {
    servers.map_or_else(|| store.to_owned(), |servers| servers.url(n))
}

/// The setting of the n-th worker.
fn setting(
    plan: &Plan<'_>,
    tenant: &str,
    servers: Option<&Servers>,
    redrive: &str,
    n: usize,
) -> Result<Setting> {
    let config = plan.dir.join(format!("reactor-{n}.toml"));
    std::fs::write(&config, configuration(tenant, plan.airline, redrive, n))?;
    let journal = journal(servers, plan.store, n);
    Ok(Setting {
        journal,
        config,
        ..Setting::default()
    })
}

fn configuration(tenant: &str, airline: &str, redrive: &str, n: usize) -> String {
    let (claim, timeout) = (CLAIM.as_millis(), airline::TIMEOUT.as_millis());
    format!(
        "claim_ms = {claim}\n\
         lease_ms = {claim}\n\
         timeout_ms = {timeout}\n\
         sweep_ms = 1000\n\
         [connectors.{tenant}]\n\
         headers = {{ {WORKER} = \"{n}\" }}\n\
         [connectors.{tenant}.http]\n\
         dispatch = \"{airline}/act/{{operation}}/{{business_key}}\"\n\
         observe = \"{airline}/acts/{{business_key}}\"\n\
         found = {{ status = 200, headers = {{ {BOOKS} = \"acts\" }} }}\n\
         absent = {{ status = 404, json = {{ \"/acts\" = 0 }} }}\n\
         compensate = \"{airline}/undo\"\n\
         undone = \"{airline}/undone/{{business_key}}\"\n\
         is_undone = {{ status = 200, headers = {{ {BOOKS} = \"undos\" }} }}\n\
         not_undone = {{ status = 404, json = {{ \"/undos\" = 0 }} }}\n\
         [agents.service]\n\
         url = \"{redrive}\"\n"
    )
}

/// The keys of the confirmed acts of a journal; one for each confirmation.
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
