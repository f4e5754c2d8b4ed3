//! The world around the tested agent: a model and an upstream that check the journal before they act, and report calls that the client
//! should not have made.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::core::id::{GateName, Holder, Seq, SignalId, StreamId};
use tape_client::core::time::Timestamp;
use tape_client::{Answer, Call, CallError, Currency, Error, Payload, Run, RunId, RunResult, Tape};
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_store::clock::{Clock, SystemClock};
use tape_store::contract::{Batch, CommitOutcome, Committed, Head, JournalStore};
use tape_store::error::{CommitError, StoreError};
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// Everything that outlives an agent process.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn JournalStore>,
    pub(crate) clock: Arc<VirtualClock>,
    /// How long its processes try to reach the journal.
    retry_for: Duration,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    asked: BTreeMap<String, u32>,
    acts: BTreeMap<String, u32>,
    /// Calls that the client should not have made.
    wrongs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) number: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()), Duration::from_millis(1))
    }

    /// A world on a store whose commits take real time.
    pub(crate) async fn on_disk(dir: &Path) -> Self {
        let url = format!("sqlite:{}", dir.join("tape.db").display());
        Self::on(
            tape_store::open::open(&url).await.unwrap(),
            Duration::from_secs(60),
        )
    }

    fn on(store: Arc<dyn JournalStore>, retry_for: Duration) -> Self {
        Self {
            store,
            clock: Arc::new(VirtualClock::new()),
            retry_for,
            counts: Arc::default(),
        }
    }

    /// A process with a client of its own, on this world's store or a decorator of it.
    pub(crate) async fn process(&self, name: &str, store: Arc<dyn JournalStore>) -> Tape {
        Tape::over(Engine::new(store, self.clock.clone()))
            .holder(Holder::new(name).unwrap())
            .lease(LEASE)
            .retry_for(self.retry_for)
            .connect()
            .await
            .unwrap()
    }

    /// A process that tries for as long as a client does by default to reach the journal.
    pub(crate) async fn patient_process(&self, name: &str) -> Tape {
        let tape = Tape::over(Engine::new(self.store.clone(), self.clock.clone()));
        tape.holder(Holder::new(name).unwrap())
            .lease(LEASE)
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn journal(&self) -> Vec<Entry> {
        let stream = StreamId::Run(id());
        let stored = self.store.read(&stream, Seq::ZERO, 4096).await.unwrap();
        stored.iter().map(|stored| decode(stored).unwrap()).collect()
    }

    pub(crate) async fn signal(&self) {
        self.signal_by(&self.process("person", self.store.clone()).await)
            .await;
    }

    pub(crate) async fn signal_by(&self, tape: &Tape) {
        let yes = Payload::json(&json!(true));
        tape.signal(
            &id(),
            GateName::new("approval").unwrap(),
            SignalId::new("x").unwrap(),
            yes,
        )
        .await
        .unwrap();
    }

    pub(crate) async fn model(&self, request: &str) -> Result<Answer, Error> {
        let answer = Answer::json(&format!("do {request}"))?
            .model("scripted")
            .policy_version("p1");
        *self
            .counts
            .lock()
            .unwrap()
            .asked
            .entry(request.to_owned())
            .or_default() += 1;
        let recorded = self.journal().await.into_iter().any(|entry| match entry.body {
            EntryBody::DecisionRecorded(recorded) => {
                recorded.response.bytes().unwrap().as_ref() == format!("\"do {request}\"").as_bytes()
            }
            _ => false,
        });
        if recorded {
            self.counts
                .lock()
                .unwrap()
                .wrongs
                .push(format!("the model was asked again: {request}"));
        }
        Ok(answer)
    }

    /// An upstream that honours idempotency keys: one act a key, however often it is sent.
    pub(crate) async fn act(&self, call: Call) -> Result<Receipt, CallError> {
        let mut standing = "not begun";
        for entry in self.journal().await {
            match entry.body {
                EntryBody::EffectBegun(begun) if begun.effect == *call.effect() => standing = "begun",
                EntryBody::EffectConfirmed(confirmed) if confirmed.effect == *call.effect() => {
                    standing = "confirmed"
                }
                _ => {}
            }
        }
        let mut counts = self.counts.lock().unwrap();
        if standing != "begun" {
            counts.wrongs.push(format!(
                "effect {} was called when it was {standing}",
                call.effect()
            ));
        }
        let number = u32::try_from(counts.acts.len()).unwrap() + 1;
        let number = *counts.acts.entry(call.key().to_owned()).or_insert(number);
        Ok(Receipt { number })
    }

    /// Calls that the client should not have made; a test expects none.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.counts.lock().unwrap().wrongs.clone()
    }

    pub(crate) fn asked(&self) -> BTreeMap<String, u32> {
        self.counts.lock().unwrap().asked.clone()
    }

    /// Acts by their keys.
    pub(crate) fn acts(&self) -> BTreeSet<String> {
        self.counts.lock().unwrap().acts.keys().cloned().collect()
    }
}

pub(crate) fn id() -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap()
}

pub(crate) async fn begin(tape: &Tape) -> Result<Run, Error> {
    tape.run(id())
        .label("desk", "fx")
        .input_json(&json!({"day": 1}))
        .begin()
        .await?
        .driving()
}

/// Uses every feature of a run that the agent itself drives.
pub(crate) async fn agent(run: Run, world: World) -> Result<RunResult, Error> {
    run.open_budget("usd", Currency::MicroUsd, 1_000).await?;
    let first = run
        .decide(&json!({"ask": "sweep"}), || world.model("sweep"))
        .await?;
    let args = json!({"from": "a", "to": "b"});
    let transfer = run
        .effect(&first, "bank", "transfer")
        .args(&args)
        .undo("reverse", &args)
        .reserve("usd", 100);
    let receipt: Receipt = transfer.run(async |call| world.act(call).await).await?;
    run.checkpoint("swept", &receipt).await?;
    let hedges =
        futures::future::try_join(branch(&run, &world, "left"), branch(&run, &world, "right")).await?;
    let (now, uuid) = (run.now().await?, run.uuid().await?);
    let price: u32 = run.sample("price", || async { Ok::<_, Error>(42) }).await?;
    let answer = run
        .gate("approval")
        .deadline(Duration::from_secs(3600))
        .wait()
        .await?;
    run.sleep("cool down", Duration::from_millis(1)).await?;
    let second = run
        .decision(&json!({"ask": "report"}))
        .reserve("usd", 10)
        .ask(|| world.model("report"))
        .await?;
    let balance = run.effect(&second, "bank", "balance").read_only();
    let read: Receipt = balance.run(async |call| world.act(call).await).await?;
    let numbers = [receipt, hedges.0, hedges.1, read].map(|receipt| receipt.number);
    let seen = json!({"now": now.as_micros(), "uuid": uuid.to_string(), "price": price});
    run.complete(&json!({"numbers": numbers, "approved": answer.json::<bool>()?, "seen": seen}))
        .await
}

async fn branch(run: &Run, world: &World, name: &str) -> Result<Receipt, Error> {
    let branch = run.scope(name)?;
    let decision = branch.decide(&json!({"ask": name}), || world.model(name)).await?;
    let hedge = branch.effect(&decision, "market", "hedge");
    hedge.run(async |call| world.act(call).await).await
}

/// Tokio's clock as the time of a journal, which a test can also advance. If tokio's clock is paused, it stands still while a task runs and
/// leaps while all tasks wait.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    started: tokio::time::Instant,
    started_at: Timestamp,
    ahead_ms: AtomicU64,
}

impl VirtualClock {
    fn new() -> Self {
        Self {
            started: tokio::time::Instant::now(),
            started_at: SystemClock.now(),
            ahead_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.ahead_ms
            .fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        self.started_at
            .plus_millis(elapsed + self.ahead_ms.load(Ordering::SeqCst))
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

/// When a store of this kind stops to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dies {
    /// Before the n-th commit, from 0.
    Before(u64),
    /// After the n-th commit, whose answer is lost.
    After(u64),
}

/// A store that stops working for a process at a commit, as if the process were killed.
pub(crate) struct Dying {
    inner: Arc<dyn JournalStore>,
    dies: Dies,
    commits: AtomicU64,
}

impl Dying {
    pub(crate) fn new(inner: Arc<dyn JournalStore>, dies: Dies) -> Self {
        Self {
            inner,
            dies,
            commits: AtomicU64::new(0),
        }
    }

    fn alive(&self) -> Result<(), StoreError> {
        let commits = self.commits.load(Ordering::SeqCst);
        let dead = match self.dies {
            Dies::Before(n) | Dies::After(n) => commits > n,
        };
        if dead { Err(gone()) } else { Ok(()) }
    }

    /// Whether it died at all.
    pub(crate) fn died(&self) -> bool {
        self.alive().is_err()
    }
}

fn gone() -> StoreError {
    let source: Box<dyn std::error::Error + Send + Sync> = "the process is gone".into();
    StoreError::Unavailable {
        doing: "dies",
        source: source.into(),
    }
}

#[async_trait]
impl Layer for Dying {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let n = self.commits.fetch_add(1, Ordering::SeqCst);
        let lost = || batches.iter().map(|_| Err(CommitError::Store(gone()))).collect();
        match self.dies {
            Dies::Before(last) if n >= last => lost(),
            Dies::After(last) if n > last => lost(),
            Dies::After(last) if n == last => {
                let answers = lost();
                let _ = self.inner.commit(batches).await;
                self.commits.fetch_add(1, Ordering::SeqCst);
                answers
            }
            _ => self.inner.commit(batches).await,
        }
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.alive()?;
        self.inner.head(stream).await
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.alive()?;
        self.inner.read(stream, after, limit).await
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        self.alive()?;
        self.inner.resolve(batch).await
    }
}
