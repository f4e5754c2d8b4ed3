//! Random histories of commands, played through an engine over every store at once: all give the same replies and end with the same
//! journals. The store in memory is the reference.
//!
//! At full size: `TAPE_HISTORIES=10000`; `TAPE_HISTORIES_FROM` is the first seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "bigtable")]
mod bigtable_emulator;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "spanner")]
mod spanner_emulator;
#[path = "../../tape-core/tests/support/mod.rs"]
mod support;

use futures::StreamExt as _;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::alphabet::LINES;
use support::names::payload;
use support::run_line;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RelayCommand, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::id::{
    BusinessKey, ConnectorName, EventId, Key, RelayScope, RelayStream, RequestId, RunId, Seq, StreamId,
    ValueName,
};
use tape_core::payload::Digest;
use tape_core::state::{Delta, Json};
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_engine::EngineError;
use tape_store::clock::{Clock as _, ManualClock};
use tape_store::contract::{JournalStore, RunFilter};
use tape_store::memory::MemoryStore;
use tape_store::sqlite::SqliteStore;

/// Commands of a history.
const STEPS: usize = 30;
/// Histories that are played at the same time.
const AT_ONCE: usize = 16;
const RUNS: usize = 2;

/// The commands that claim business keys: two runs want the same key.
const CLAIMING: &[&str] = &[
    "effect #0.3 outbox non-idempotent key=k",
    "effect #1.3 outbox idempotent key=k undo=u",
    "claim #0.3 w",
    "done #0.3 w last ok",
    "done #0.3 w last failed no",
];

/// The commands that an effect needs before it can begin.
const OPENING: &[&str] = &["begin a", "decide #0", "decide #1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_gives_the_same_replies_and_journals() {
    let number = |name, default| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let (from, histories): (u64, u64) = (number("TAPE_HISTORIES_FROM", 0), number("TAPE_HISTORIES", 32));
    let (stores, _kept) = stores().await;
    let names: Vec<_> = stores.iter().map(|(name, _)| *name).collect();
    let plays = (from..from + histories).map(|seed| {
        let stores = stores.clone();
        tokio::spawn(async move { History::new(seed, &stores).play().await })
    });
    let asked =
        futures::stream::iter(plays)
            .buffer_unordered(AT_ONCE)
            .fold((0, 0), |sum, played| async move {
                let (taken, refused) = played.unwrap();
                (sum.0 + taken, sum.1 + refused)
            });
    let (taken, refused) = asked.await;
    println!("{histories} histories over {names:?}: {taken} commands taken, {refused} refused, all alike");
}

type Stores = Vec<(&'static str, Arc<dyn JournalStore>)>;

/// Every available store, the one in memory first, and values that must live while they are used.
async fn stores() -> (Stores, Vec<Box<dyn Any + Send>>) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(&directory.path().join("tape.db"))
        .await
        .unwrap();
    let stores: Stores = vec![
        ("memory", Arc::new(MemoryStore::new())),
        ("sqlite", Arc::new(sqlite)),
    ];
    let kept: Vec<Box<dyn Any + Send>> = vec![Box::new(directory)];
    #[cfg(any(feature = "postgres", feature = "bigtable", feature = "spanner"))]
    let (mut stores, mut kept) = (stores, kept);
    #[cfg(feature = "postgres")]
    if let Some(database) = postgres_server::Database::create() {
        stores.push(("postgres", tape_store::open::open(&database.url()).await.unwrap()));
        kept.push(Box::new(database));
    }
    #[cfg(feature = "bigtable")]
    if let Some(table) = bigtable_emulator::Table::new() {
        stores.push(("bigtable", tape_store::open::open(&table.url()).await.unwrap()));
        kept.push(Box::new(table));
    }
    #[cfg(feature = "spanner")]
    if let Some(database) = spanner_emulator::Database::create() {
        stores.push(("spanner", tape_store::open::open(&database.url()).await.unwrap()));
        kept.push(Box::new(database));
    }
    (stores, kept)
}

/// One store with the engine that is over it now.
struct Side {
    name: &'static str,
    store: Arc<dyn JournalStore>,
    engine: Engine,
}

/// A repeatable command.
#[derive(Clone, Debug)]
enum Asked {
    Run(RunId, Box<Command<RunCommand>>),
    Session(Command<SessionCommand>),
    Rewind(Command<Rewind>),
    Value(Command<ValueCommand>),
    Relay(Command<RelayCommand>),
}

struct History {
    seed: u64,
    dice: StdRng,
    clock: Arc<ManualClock>,
    sides: Vec<Side>,
    runs: Vec<RunId>,
    value: ValueName,
    asked: Vec<Asked>,
}

impl History {
    /// A history in a tenant of its own.
    fn new(seed: u64, stores: &Stores) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
        let tenant = format!("history-{seed}");
        let run = |n| RunId::new(&tenant, "treasury", "ann", "s1", &format!("i{n}")).unwrap();
        let side = |(name, store): &(&'static str, Arc<dyn JournalStore>)| Side {
            name,
            store: Arc::clone(store),
            engine: Engine::new(Arc::clone(store), Arc::clone(&clock) as _),
        };
        Self {
            seed,
            dice: StdRng::seed_from_u64(seed),
            sides: stores.iter().map(side).collect(),
            clock,
            runs: (0..RUNS).map(run).collect(),
            value: ValueName::new("rate").unwrap(),
            asked: Vec::new(),
        }
    }

    /// Plays the history. Returns how many commands were accepted, and how many refused.
    async fn play(mut self) -> (usize, usize) {
        let (mut taken, mut refused) = (0, 0);
        for step in 0..STEPS {
            self.clock
                .advance_ms(*[0, 0, 0, 100, 500, 1_000].choose(&mut self.dice).unwrap());
            self.restart_some();
            let asked = self.next(step).await;
            match self.ask(&asked, step).await {
                true => taken += 1,
                false => refused += 1,
            }
            self.asked.push(asked);
        }
        self.compare().await;
        (taken, refused)
    }

    /// A restarted server knows only what is stored.
    fn restart_some(&mut self) {
        for side in &mut self.sides {
            if self.dice.random_ratio(1, 20) {
                side.engine = Engine::new(Arc::clone(&side.store), Arc::clone(&self.clock) as _);
            }
        }
    }

    async fn next(&mut self, step: usize) -> Asked {
        if let Some(line) = OPENING.get(step) {
            let run = self.runs[0].clone();
            return self.run(run, line).await;
        }
        match self.dice.random_range(0..20) {
            0 => self.asked.choose(&mut self.dice).unwrap().clone(),
            1 => Asked::Session(self.command(Self::session)),
            2 => self.rewind_or_create(),
            3 => Asked::Value(self.command(Self::put)),
            4 => Asked::Relay(self.command(Self::report)),
            n => {
                let run = self.runs.choose(&mut self.dice).unwrap().clone();
                let alphabet = if n < 7 { CLAIMING } else { LINES };
                let mut asked = self.any_of(&run, alphabet).await;
                // Most commands do not fit the state, so this searches for one that does.
                for _ in 0..6 {
                    if self.fits(&asked).await {
                        break;
                    }
                    asked = self.any_of(&run, alphabet).await;
                }
                asked
            }
        }
    }

    fn command<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> Command<T> {
        let request = RequestId::new(self.clock.now(), self.asked.len() as u128);
        Command::new(request, body(self))
    }

    async fn any_of(&mut self, run: &RunId, alphabet: &[&str]) -> Asked {
        let line = *alphabet.choose(&mut self.dice).unwrap();
        self.run(run.clone(), line).await
    }

    /// Missing parts of a line come from the run in the reference store.
    async fn run(&mut self, run: RunId, line: &str) -> Asked {
        let state = self.sides[0]
            .engine
            .run_state(&run)
            .await
            .unwrap()
            .unwrap_or_default();
        let mut body = run_line::command(line, &state);
        if let RunCommand::Begin(begin) = &mut body {
            begin.run = run.clone();
        }
        Asked::Run(run, Box::new(self.command(|_| body)))
    }

    /// Whether the run would accept a command.
    async fn fits(&self, asked: &Asked) -> bool {
        let Asked::Run(run, command) = asked else {
            return true;
        };
        let state = self.sides[0]
            .engine
            .run_state(run)
            .await
            .unwrap()
            .unwrap_or_default();
        state.decide(command, self.clock.now()).is_ok()
    }

    fn session(&mut self) -> SessionCommand {
        if self.dice.random_ratio(1, 30) {
            return SessionCommand::Delete;
        }
        let event = EventId::new(format!("e{}", self.dice.random_range(0..8))).unwrap();
        SessionCommand::Append {
            event,
            expected: None,
            invocation: None,
            author: "ann".to_owned(),
            delta: self.delta(),
            content: payload("said"),
        }
    }

    fn delta(&mut self) -> Delta {
        let mut delta = BTreeMap::new();
        for key in ["own", "app:all", "user:hers", "temp:gone"] {
            let json = format!("{}", self.dice.random_range(0..100));
            match self.dice.random_range(0..3) {
                0 => drop(delta.insert(Key::new(key).unwrap(), Some(Json::try_from(json).unwrap()))),
                1 => drop(delta.insert(Key::new(key).unwrap(), None)),
                _ => {}
            }
        }
        Delta(delta)
    }

    fn rewind_or_create(&mut self) -> Asked {
        if self.dice.random_ratio(1, 3) {
            let to = Seq(self.dice.random_range(0..6));
            let expected = None;
            return Asked::Rewind(self.command(|_| Rewind { to, expected }));
        }
        let session = self.runs[0].session();
        Asked::Session(self.command(|history| SessionCommand::Create {
            session,
            state: history.delta(),
        }))
    }

    fn put(&mut self) -> ValueCommand {
        let expected = self.dice.random_bool(0.5).then(|| self.dice.random_range(0..4));
        if self.dice.random_ratio(1, 5) {
            return ValueCommand::Delete { expected };
        }
        let value = payload(&self.dice.random_range(0..9).to_string());
        ValueCommand::Put { value, expected }
    }

    fn report(&mut self) -> RelayCommand {
        let seq = Seq(self.dice.random_range(0..3));
        let stream: StreamId = self.runs[0].clone().into();
        match self.dice.random_range(0..3) {
            0 => RelayCommand::Redelivered {
                refusal: Seq(self.dice.random_range(0..6)),
            },
            1 => RelayCommand::Receipt {
                subscriber: "lake".parse().unwrap(),
                erasure: RecordedErasure { stream, seq },
            },
            _ => RelayCommand::Refuse {
                entry: SentEntry {
                    stream,
                    seq,
                    digest: Digest::default(),
                },
                attempts: 1,
                reason: "no".to_owned(),
            },
        }
    }

    fn relay(&self) -> RelayStream {
        RelayStream {
            tenant: self.runs[0].tenant.clone(),
            scope: RelayScope::Own,
            name: "lake".parse().unwrap(),
        }
    }

    /// Sends a command to all sides, which must agree. Returns whether they accepted it.
    async fn ask(&self, asked: &Asked, step: usize) -> bool {
        let replies = join_all(self.sides.iter().map(|side| self.ask_one(side, asked))).await;
        let (first, at) = (
            &replies[0],
            format!("history {}, step {step}: {asked:?}", self.seed),
        );
        for (side, reply) in self.sides.iter().zip(&replies) {
            assert_eq!(reply, first, "{} at {at}", side.name);
        }
        first.is_ok()
    }

    /// The reply as text; an unavailable store gives no reply.
    async fn ask_one(&self, side: &Side, asked: &Asked) -> Result<String, String> {
        let (engine, session) = (&side.engine, self.runs[0].session());
        let reply = match asked.clone() {
            Asked::Run(run, command) => engine.run(&run, *command).await,
            Asked::Session(command) => engine.session(&session, command).await,
            Asked::Rewind(to) => engine.rewind_session(&session, to).await,
            Asked::Value(command) => engine.value(&session.tenant, &self.value, command).await,
            Asked::Relay(command) => engine.record(&self.relay(), command).await,
        };
        match reply {
            Ok(reply) => Ok(format!("{reply:?}")),
            Err(EngineError::Rejected(rejection)) => Err(format!("{rejection:?}")),
            Err(other) => panic!("{} in history {}: {asked:?}: {other:?}", side.name, self.seed),
        }
    }

    /// The journals, entry by entry, and the lists of runs.
    async fn compare(&self) {
        let ended = join_all(self.sides.iter().map(|side| self.journals(side))).await;
        for (side, journals) in self.sides.iter().zip(&ended) {
            assert_eq!(journals, &ended[0], "{} after history {}", side.name, self.seed);
        }
    }

    async fn journals(&self, side: &Side) -> (Vec<Vec<StoredEntry>>, Vec<String>) {
        // Some sides may not have carried over changes of shared state yet.
        let session = self.runs[0].session();
        side.engine.session_state(&session).await.unwrap();
        let mut journals = Vec::new();
        for stream in self.streams() {
            journals.push(side.store.read(&stream, Seq(0), 1_000).await.unwrap());
        }
        let listed = side
            .store
            .runs(&RunFilter::all(session.tenant), None, 100)
            .await
            .unwrap();
        let mut listed: Vec<_> = listed.runs.iter().map(|run| format!("{run:?}")).collect();
        // Runs that began at the same time come in any order.
        listed.sort();
        (journals, listed)
    }

    fn streams(&self) -> Vec<StreamId> {
        let session = self.runs[0].session();
        let tenant = session.tenant.clone();
        let shared = [None, Some(session.user.clone())].map(|user| StreamId::Shared {
            tenant: tenant.clone(),
            app: session.app.clone(),
            user,
        });
        let value = StreamId::Value {
            tenant: tenant.clone(),
            name: self.value.clone(),
        };
        let claim = StreamId::KeyOwner {
            tenant: tenant.clone(),
            connector: ConnectorName::new("bank").unwrap(),
            key: BusinessKey::new("k").unwrap(),
        };
        let runs = self.runs.iter().cloned().map(StreamId::Run);
        runs.chain(shared)
            .chain([
                value,
                claim,
                StreamId::Session(session),
                StreamId::Relay(self.relay()),
            ])
            .collect()
    }
}
