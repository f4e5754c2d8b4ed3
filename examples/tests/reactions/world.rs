//! The processes, and the journal that they share.

use crate::agent;
use crate::copies::{Copy, Start};
use crate::definitions::ALL;
use crate::ledger::Ledger;
use crate::story::Size;

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_client::api::relays::{Lag, PartStatus, PlaceQuery};
use tape_client::core::id::{Key, RelayId, Tenant, ValueName};
use tape_client::core::reaction;
use tape_client::core::status::RunStatus;
use tape_client::environment::machine;
use tape_client::{Begun, Error, Journal, JournalError, Payload, RunId, RunQuery, Tape};
use tape_examples::copies::{Copies, Setting};
use tape_examples::programs::program;
use tape_examples::retry::until_it_works;
use tape_examples::server::Servers;
use tokio::sync::watch;

const COPIES: usize = 2;
/// How long a call may take while servers are killed and started again, one after the other.
const LEASE: Duration = Duration::from_secs(60);
/// How long it is waited between two looks.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) servers: Servers,
    pub(crate) relays: Vec<Copy>,
    pub(crate) reactors: Copies,
    pub(crate) agents: Vec<Copy>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) journal: Arc<dyn Journal>,
    /// How many events were written and booked.
    pub(crate) progress: watch::Sender<usize>,
    tape: Tape,
}

impl World {
    pub(crate) async fn start(store: &str, servers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let errors = dir.path().join("errors");
        let servers = Servers::start(store, servers, &errors).await.unwrap();
        let progress = watch::Sender::new(0);
        let (ledger, upstream) = Ledger::serve(progress.clone()).await;
        let (mut relays, mut agents, mut settings) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..COPIES {
            let url = servers.url(n);
            relays.push(Copy::of(relay(&url), &errors).await);
            let first = agent::start(&url, "127.0.0.1:0");
            let (running, address) = first.start(&errors).await.unwrap();
            agents.push(Copy::running(agent::start(&url, &address), running, &errors));
            settings.push(setting(dir.path(), n, url, &upstream, &address));
        }
        let url = servers.url(0);
        Self {
            reactors: Copies::reactors(settings, &errors).await.unwrap(),
            journal: tape_client::open(&url.parse().unwrap(), LEASE, machine())
                .await
                .unwrap(),
            tape: Tape::at(&url).lease(LEASE).connect().await.unwrap(),
            dir,
            servers,
            relays,
            agents,
            ledger,
            progress,
        }
    }

    /// Puts a value of `acme` that no other task puts, once: what is sent again expects the version that it was sent for.
    pub(crate) async fn put(&self, name: &str, value: &serde_json::Value) {
        let value = Payload::json(value);
        let kept = self.tape.value(acme(), ValueName::new(name).unwrap());
        let version = until_it_works(async || Ok(kept.get().await?)).await.unwrap();
        let version = version.map_or(0, |kept| kept.version);
        loop {
            match kept.compare_and_set(version, value.clone()).await {
                // The answer to an earlier one was lost.
                Ok(_) | Err(Error::Rejected(_)) => return,
                Err(Error::Unavailable { .. }) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    pub(crate) async fn begin_and_complete(&self, run: RunId) {
        let begun = self.tape.run(run).begin().await.unwrap();
        if let Begun::Driving(run) = begun {
            run.complete(&()).await.unwrap();
        }
    }

    /// Waits until so many of the events whose runs act were written or booked, both counted.
    pub(crate) async fn has_written(&self, events: usize) {
        let mut progress = self.progress.subscribe();
        progress.wait_for(|progress| *progress >= events).await.unwrap();
    }

    /// How many runs a reaction has begun.
    pub(crate) async fn count(&self, reaction: &str) -> u64 {
        self.counted(Some(reaction), BTreeSet::new()).await
    }

    async fn counted(&self, reaction: Option<&str>, statuses: BTreeSet<RunStatus>) -> u64 {
        let key: Key = reaction::key();
        let query = RunQuery {
            label: reaction.map(|reaction| (key, reaction.to_owned())),
            statuses,
            ..RunQuery::all(acme())
        };
        let count = async || -> Result<u64> {
            let (mut count, mut from) = (0, None);
            loop {
                let page = self.journal.count_runs(&query, from.as_deref()).await?;
                count += page.by_status.values().sum::<u64>();
                from = page.next;
                if from.is_none() {
                    return Ok(count);
                }
            }
        };
        until_it_works(count).await.unwrap()
    }

    async fn part(&self, reaction: &str) -> Option<PartStatus> {
        let relay: RelayId = format!("acme/reaction:{reaction}").parse().unwrap();
        let query = PlaceQuery::Relay(relay);
        let places = async || -> Result<Vec<PartStatus>, anyhow::Error> {
            let page = self.journal.relays().places(&query, None, 8).await;
            Ok(page.map_err(|error: JournalError| error)?.parts)
        };
        let mut parts = until_it_works(places).await.unwrap();
        assert!(parts.len() <= 1, "one process carries all shards");
        parts.pop()
    }

    /// Waits until each copy has seen that a reaction is paused: none carries it for as long as a copy looks twice, however late.
    pub(crate) async fn nothing_carries(&self, reaction: &str) {
        const LOOKS: usize = 20;
        let mut free = 0;
        while free < LOOKS {
            let part = self.part(reaction).await;
            free = if part.is_some_and(|part| part.left_ms == 0) {
                free + 1
            } else {
                0
            };
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the reactions have passed everything, and no run is unfinished.
    pub(crate) async fn all_is_done(&self, size: &Size) {
        let unfinished = || {
            RunStatus::ALL
                .into_iter()
                .filter(|status| !status.is_final())
                .collect()
        };
        let events = u64::try_from(size.events).unwrap();
        loop {
            let mut through =
                self.count("audit").await >= events && self.counted(None, unfinished()).await == 0;
            for reaction in ALL {
                let part = self.part(reaction).await;
                through &= part.is_some_and(|part| part.lag == Ok(Lag::default()));
            }
            if through {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The last lines that any of the processes wrote to standard error.
    pub(crate) fn said_last(&self) -> String {
        const LINES: usize = 40;
        let text = std::fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

pub(crate) fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn relay(journal: &str) -> Start {
    let args = [
        "--store",
        journal,
        "--reactions",
        "acme",
        "--reactions-ms",
        "100",
        "--reactions-lease-ms",
        "1500",
        "--log",
        "warn",
    ];
    Start {
        program: program("tape-relay", "tape-relay")
            .context("tape-relay is not built")
            .unwrap(),
        args: args.map(str::to_owned).into(),
        env: Vec::new(),
        word: "tape-relay",
    }
}

fn setting(dir: &Path, n: usize, journal: String, upstream: &str, agent: &str) -> Setting {
    let config = dir.join(format!("reactor-{n}.toml"));
    let mut text = "claim_ms = 3000\nlease_ms = 3000\ntimeout_ms = 60000\nsweep_ms = 1000\n".to_owned();
    text.push_str(&Ledger::connector(upstream));
    for app in ["audit", "slow", "rested", "quick", "a", "b"] {
        text.push_str(&format!("[agents.{app}]\nurl = \"http://{agent}/redrive\"\n"));
    }
    std::fs::write(&config, text).unwrap();
    Setting {
        journal,
        config,
        ..Setting::default()
    }
}
