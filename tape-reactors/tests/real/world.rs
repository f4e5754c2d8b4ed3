//! A journal that several processes share, the runs in it, and real workers on it.

use crate::process::Child;
use crate::served::Server;
use crate::upstream::Upstream;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command as Program;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{
    Begin, Command, Create, DriverCommand, ExternalCommand, RecordDecision, RunCommand,
};
use tape_core::decider::Decider as _;
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics, Status, Undo};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{BusinessKey, ConnectorName, EffectId, Epoch, Holder, Operation, RunId, Seq, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::{Reply, ReplyResult};
use tape_core::run::Run;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_engine::EngineError;
use tape_environment::{Environment as _, Machine};

/// Claims of the workers, in milliseconds: short, since they are killed all the time, and long enough not to lapse on a busy machine.
const CLAIM_MS: u64 = 1_500;
/// The same where an emulator and relays keep the machine busy, too.
#[cfg(feature = "pubsub")]
const CLAIM_BESIDE_RELAYS_MS: u64 = 5_000;

/// A journal in a directory of its own.
pub(crate) struct World {
    /// What wakes the workers instead of the journal, if anything does. Its relays end before the file that they read is gone.
    #[cfg(feature = "pubsub")]
    pub(crate) hints: Option<crate::hints::Hints>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) engine: Engine,
    #[cfg(feature = "postgres")]
    _database: Option<crate::postgres_server::Database>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("tape.db").display());
        Self {
            engine: engine(&url).await,
            dir,
            url,
            #[cfg(feature = "postgres")]
            _database: None,
            #[cfg(feature = "pubsub")]
            hints: None,
        }
    }

    /// A journal whose workers are woken by messages of Pub/Sub alone, without a sweep; none where the emulator is not installed, which is
    /// reported.
    #[cfg(feature = "pubsub")]
    pub(crate) async fn woken() -> Option<Self> {
        let world = Self::sqlite().await;
        let hints = Some(crate::hints::Hints::of(&world.url, &world.engine)?);
        Some(Self { hints, ..world })
    }

    /// The same, where Pub/Sub pushes, and Cloud Tasks wakes timers.
    #[cfg(all(feature = "cloud-tasks", feature = "pubsub"))]
    pub(crate) async fn pushed() -> Option<Self> {
        let world = Self::sqlite().await;
        let hints = Some(crate::hints::Hints::pushed(&world.url, &world.engine).await?);
        Some(Self { hints, ..world })
    }

    /// The same journal, for workers that reach it through a server.
    pub(crate) fn behind(mut self, server: &Server) -> Self {
        self.url = server.url();
        self
    }

    /// None where PostgreSQL is not installed, which is reported.
    #[cfg(feature = "postgres")]
    pub(crate) async fn postgres() -> Option<Self> {
        let database = crate::postgres_server::Database::create()?;
        let url = database.url();
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            engine: engine(&url).await,
            url,
            _database: Some(database),
            #[cfg(feature = "pubsub")]
            hints: None,
        })
    }

    /// A worker with the connector `bank` for an upstream.
    pub(crate) fn worker(&self, upstream: &Upstream) -> Child {
        self.worker_with(upstream, "", &[])
    }

    /// A worker with more in its configuration, and more flags.
    pub(crate) fn worker_with(&self, upstream: &Upstream, more: &str, flags: &[&str]) -> Child {
        self.start(upstream, self.claim_ms(), more, flags, &[])
    }

    /// A worker with more in its configuration and its environment.
    pub(crate) fn worker_in(&self, upstream: &Upstream, more: &str, env: &[(&str, &str)]) -> Child {
        self.start(upstream, self.claim_ms(), more, &[], env)
    }

    /// A worker with claims of its own length.
    pub(crate) fn worker_claiming(&self, upstream: &Upstream, claim_ms: u64, more: &str) -> Child {
        self.start(upstream, claim_ms, more, &[], &[])
    }

    /// The same of one reactor only.
    pub(crate) fn worker_only(&self, upstream: &Upstream, claim_ms: u64, reactor: &str) -> Child {
        self.start(upstream, claim_ms, "", &["--only", reactor], &[])
    }

    /// A worker that answers health checks, and its address.
    pub(crate) fn worker_listening(&self, upstream: &Upstream, flags: &[&str]) -> (Child, String) {
        let flags = [&["--listen", "127.0.0.1:0"], flags].concat();
        let (child, ready) = self.launch(upstream, self.claim_ms(), "", &flags, &[]);
        let address = ready.strip_prefix("tape-reactor ready on ").unwrap();
        (child, format!("http://{address}"))
    }

    fn claim_ms(&self) -> u64 {
        #[cfg(feature = "pubsub")]
        if self.hints.is_some() {
            return CLAIM_BESIDE_RELAYS_MS;
        }
        CLAIM_MS
    }

    fn start(
        &self,
        upstream: &Upstream,
        claim_ms: u64,
        more: &str,
        flags: &[&str],
        env: &[(&str, &str)],
    ) -> Child {
        self.launch(upstream, claim_ms, more, flags, env).0
    }

    /// Starts a worker. Also returns its line once it is ready.
    fn launch(
        &self,
        upstream: &Upstream,
        claim_ms: u64,
        more: &str,
        flags: &[&str],
        env: &[(&str, &str)],
    ) -> (Child, String) {
        let url = upstream.url();
        let config = self.dir.path().join(format!("{}.toml", Machine.uuid()));
        let text = format!(
            "claim_ms = {claim_ms}\n{more}\n[connectors.bank.http]\n\
             dispatch = \"{url}/act/{{operation}}\"\nobserve = \"{url}/find/{{business_key}}\"\n\
             found = {{ status = 200, headers = {{ upstream-found = \"act\" }} }}\n\
             absent = {{ status = 404, json = {{ \"/error\" = \"no such act\" }} }}\n\
             not_done = {{ status = 429, json = {{ \"\" = \"as told\" }} }}\n\
             undone = \"{url}/undone/{{business_key}}\"\n\
             is_undone = {{ status = 200, headers = {{ upstream-found = \"refund\" }} }}\n\
             not_undone = {{ status = 404, json = {{ \"/error\" = \"no such refund\" }} }}\n"
        );
        #[cfg(feature = "pubsub")]
        let woken = self.hints.as_ref().map(crate::hints::Hints::worker);
        #[cfg(feature = "pubsub")]
        let text = text + woken.as_ref().map_or("", |woken| &woken.config);
        std::fs::write(&config, text).unwrap();
        let mut program = Program::new(env!("CARGO_BIN_EXE_tape-reactor"));
        program
            .env_clear()
            .args(["--store", &self.url, "--log", "warn", "--config"])
            .arg(&config)
            .args(flags)
            .envs(env.iter().copied());
        #[cfg(feature = "pubsub")]
        if let Some(woken) = &woken {
            program.args(&woken.flags).envs(woken.env.iter().cloned());
        }
        let mut child = Child::start(&mut program);
        let ready = child.line();
        assert!(ready.starts_with("tape-reactor ready"));
        #[cfg(feature = "pubsub")]
        if let (Some(hints), Some(woken)) = (&self.hints, &woken) {
            hints.ready(woken);
        }
        (child, ready)
    }

    /// Begins a run that has taken its first decision, and is driven for an hour.
    pub(crate) async fn run(&self, name: &str) -> Driven {
        self.run_of("acme", name).await
    }

    /// The same of another tenant.
    pub(crate) async fn run_of(&self, tenant: &str, name: &str) -> Driven {
        let run = RunId::new(tenant, "treasury", "ann", "s1", name).unwrap();
        self.begin(run, 3_600_000).await
    }

    /// Begins a run whose driver is gone after a while.
    pub(crate) async fn begin(&self, run: RunId, lease_ms: u64) -> Driven {
        Driven::begin_on(&self.engine, run, lease_ms).await
    }
}

impl Driven {
    /// Begins a run that has taken its first decision, and whose driver is gone after a while.
    pub(crate) async fn begin_on(engine: &Engine, run: RunId, lease_ms: u64) -> Self {
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels: BTreeMap::new(),
                input: Payload::empty(),
                forked_from: None,
            }),
            holder: Holder::new("agent").unwrap(),
            lease_ms,
            adopt: None,
            recovery: false,
        };
        let reply = ask(engine, &run, RunCommand::Begin(begin)).await.unwrap();
        let ReplyResult::Leased { epoch, .. } = reply.result else {
            panic!("not leased: {reply:?}");
        };
        let driven = Self {
            engine: engine.clone(),
            run,
            epoch,
        };
        driven.drive(decision()).await;
        driven
    }
}

pub(crate) async fn engine(url: &str) -> Engine {
    let store = tape_store::open::open(url).await.unwrap();
    Engine::start(store)
}

pub(crate) async fn ask(engine: &Engine, run: &RunId, command: RunCommand) -> Result<Reply, EngineError> {
    let request = engine.request_id();
    engine.run(run, Command::new(request, command)).await
}

fn decision() -> DriverCommand {
    DriverCommand::RecordDecision(RecordDecision {
        position: "#0".parse().unwrap(),
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: Payload::empty(),
        model: "m".to_owned(),
        usage: Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    })
}

/// A run that this process drives.
#[derive(Clone)]
pub(crate) struct Driven {
    pub(crate) engine: Engine,
    pub(crate) run: RunId,
    pub(crate) epoch: Epoch,
}

/// An effect of the outbox: one act at the bank under a business key.
pub(crate) fn spec(semantics: Semantics, business_key: &str) -> EffectSpec {
    EffectSpec {
        connector: ConnectorName::new("bank").unwrap(),
        operation: Operation::new("pay").unwrap(),
        semantics,
        mode: Mode::Outbox,
        args: Payload::json(&json!({"for": business_key})),
        business_key: Some(BusinessKey::new(business_key).unwrap()),
        undo: Some(Undo {
            operation: Operation::new("refund").unwrap(),
            args: Payload::json(&json!({"of": business_key})),
        }),
        reserve: Vec::new(),
        policy: EffectPolicy {
            backoff_ms: 50,
            backoff_max_ms: 400,
            ..EffectPolicy::default()
        },
    }
}

pub(crate) fn effect(call: usize) -> EffectId {
    format!("#0.{call}").parse().unwrap()
}

impl Driven {
    pub(crate) async fn drive(&self, command: DriverCommand) -> Reply {
        let command = RunCommand::Drive(self.epoch, command);
        ask(&self.engine, &self.run, command).await.unwrap()
    }

    pub(crate) async fn tell(&self, told: ExternalCommand) -> Result<Reply, EngineError> {
        ask(&self.engine, &self.run, RunCommand::External(told)).await
    }

    pub(crate) async fn begin(&self, call: usize, spec: EffectSpec) {
        self.drive(DriverCommand::BeginEffect {
            effect: effect(call),
            spec,
        })
        .await;
    }

    /// The last entry of its journal.
    pub(crate) async fn end(&self) -> Seq {
        self.state().await.seq()
    }

    pub(crate) async fn state(&self) -> Arc<Run> {
        self.engine.run_state(&self.run).await.unwrap().unwrap()
    }

    /// Waits until the state of the run satisfies a condition.
    pub(crate) async fn until(&self, what: impl Fn(&Run) -> bool) {
        loop {
            // This is requested before the read, so that an entry written in between is not missed.
            let changed = self.engine.store().changed();
            if what(&*self.state().await) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until an effect has this status.
    pub(crate) async fn until_effect(&self, call: usize, status: Status) {
        let id = effect(call);
        self.until(|run| {
            run.effects()
                .get(&id)
                .is_some_and(|effect| effect.status == status)
        })
        .await;
    }

    /// Waits until an effect is settled or waits for a person. Returns its status.
    pub(crate) async fn until_seen_to(&self, call: usize) -> Status {
        let id = effect(call);
        let over = |status: Status| status.is_settled() || status == Status::Stuck;
        self.until(|run| run.effects().get(&id).is_some_and(|effect| over(effect.status)))
            .await;
        self.state().await.effects()[&id].status
    }

    pub(crate) async fn until_run(&self, status: RunStatus) {
        self.until(|run| run.summary().is_some_and(|summary| summary.status == status))
            .await;
    }

    /// Waits until the run has ended or waits for a person. Returns its status.
    pub(crate) async fn until_over(&self) -> RunStatus {
        let over = |status: RunStatus| status.is_final() || status == RunStatus::Stuck;
        self.until(|run| over(run.status())).await;
        self.state().await.status()
    }

    /// The journal.
    pub(crate) async fn entries(&self) -> Vec<EntryBody> {
        let stream = StreamId::Run(self.run.clone());
        let (mut entries, mut after) = (Vec::new(), Seq::ZERO);
        loop {
            let page = self.engine.store().read(&stream, after, 1_000).await.unwrap();
            let Some(last) = page.last() else { return entries };
            after = last.seq;
            entries.extend(page.iter().map(|stored| decode(stored).unwrap().body));
        }
    }

    /// When entries of some kind were made.
    pub(crate) async fn times(&self, which: impl Fn(&EntryBody) -> bool) -> Vec<Timestamp> {
        let stream = StreamId::Run(self.run.clone());
        let page = self.engine.store().read(&stream, Seq::ZERO, 1_000).await.unwrap();
        let entries = page.iter().map(|stored| decode(stored).unwrap());
        entries
            .filter(|entry| which(&entry.body))
            .map(|entry| entry.at)
            .collect()
    }

    /// Waits until the journal has `n` entries of a kind.
    pub(crate) async fn until_count(&self, kind: &str, n: usize) {
        loop {
            let changed = self.engine.store().changed();
            if self.count(kind).await >= n {
                return;
            }
            changed.await;
        }
    }

    /// How many entries of a kind the journal has.
    pub(crate) async fn count(&self, kind: &str) -> usize {
        let entries = self.entries().await;
        entries.iter().filter(|body| body.kind() == kind).count()
    }
}
