//! A journal, what writes to it, and processes that carry its reactions.

use std::sync::Arc;
use std::time::Duration;
use tape_api::query::{RunQuery, ValueQuery};
use tape_api::relays::{Control, Lag, PartStatus, PlaceQuery};
use tape_api::sending::ask;
use tape_api::{Journal, Relays as _};
use tape_core::codec::decode;
use tape_core::command::{Begin, Command, Create, DriverCommand, RunCommand, ValueCommand};
use tape_core::entry::EntryBody;
use tape_core::entry::relay::Refused;
use tape_core::id::{Epoch, Holder, RelayId, RunId, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;
use tape_core::status::Summary;
use tape_engine::Engine;
use tape_relay::Settings;
use tape_relay::reactions::Reactions;
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;

/// How long a test waits between two looks at what it waits for.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct World {
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::with_shards(3)))
    }

    pub(crate) fn over(store: Arc<dyn JournalStore>) -> Self {
        Self {
            engine: Engine::start(store),
        }
    }

    pub(crate) fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.engine.clone())
    }

    /// A process that carries the reactions of `acme`.
    pub(crate) fn process(&self, holder: &str) -> Reactions {
        self.process_over(self.journal(), holder)
    }

    /// The same over a journal that is not as it should be.
    pub(crate) fn process_over(&self, journal: Arc<dyn Journal>, holder: &str) -> Reactions {
        let settings = Settings {
            lease: Duration::from_millis(600),
            move_every: Duration::from_millis(5),
            pass_every: Duration::from_millis(5),
            backoff: Duration::from_millis(1),
            // What waits for a bound does not wait as what fails.
            backoff_max: Duration::from_secs(60),
            ..Settings::default()
        };
        let holder = Holder::new(holder).unwrap();
        let every = Duration::from_millis(10);
        Reactions::start(journal, holder, vec![acme()], settings, every)
    }

    /// Puts a value of `acme`.
    pub(crate) async fn put(&self, name: &str, value: &serde_json::Value) {
        let value = Payload::json(value);
        let command = ValueCommand::Put {
            value,
            expected: None,
        };
        self.value(name, command).await;
    }

    pub(crate) async fn define(&self, reaction: &str, definition: serde_json::Value) {
        self.put(&format!("tape.reaction/{reaction}"), &definition).await;
    }

    pub(crate) async fn remove(&self, reaction: &str) {
        let command = ValueCommand::Delete { expected: None };
        self.value(&format!("tape.reaction/{reaction}"), command).await;
    }

    async fn value(&self, name: &str, command: ValueCommand) {
        let command = Command::new(self.engine.request_id(), command);
        let name = ValueName::new(name).unwrap();
        self.engine.value(&acme(), &name, command).await.unwrap();
    }

    /// Begins a run of `acme` and drives it.
    pub(crate) async fn begin(&self, run: &str) -> (RunId, Epoch) {
        let StreamId::Run(run) = format!("acme/run/{run}").parse().unwrap() else {
            panic!("{run} is no run")
        };
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels: Default::default(),
                input: Payload::empty(),
                forked_from: None,
            }),
            holder: Holder::new("agent").unwrap(),
            lease_ms: 60_000,
            adopt: None,
            recovery: false,
        };
        let reply = ask(&self.engine, &run, RunCommand::Begin(begin)).await.unwrap();
        let ReplyResult::Leased { epoch, .. } = reply.result else {
            panic!("{reply:?}")
        };
        (run, epoch)
    }

    pub(crate) async fn drive(&self, run: &RunId, epoch: Epoch, command: DriverCommand) {
        let command = RunCommand::Drive(epoch, command);
        ask(&self.engine, run, command).await.unwrap();
    }

    /// Takes over a run that a reaction began, and completes it.
    pub(crate) async fn complete(&self, run: &RunId) {
        let begin = Begin {
            run: run.clone(),
            create: None,
            holder: Holder::new("agent").unwrap(),
            lease_ms: 60_000,
            adopt: None,
            recovery: true,
        };
        let Ok(reply) = ask(&self.engine, run, RunCommand::Begin(begin)).await else {
            return;
        };
        if let ReplyResult::Leased { epoch, .. } = reply.result {
            let output = Payload::empty();
            self.drive(run, epoch, DriverCommand::Complete { output }).await;
        }
    }

    /// The runs of `acme` that a reaction began, the newest first.
    pub(crate) async fn runs_of(&self, reaction: &str) -> Vec<(RunId, Summary)> {
        let query = RunQuery {
            label: Some(("tape.reaction".parse().unwrap(), reaction.to_owned())),
            ..RunQuery::all(acme())
        };
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = self.engine.runs(&query, from.as_deref(), 500).await.unwrap();
            all.extend(page.runs);
            from = page.next;
            if from.is_none() {
                return all;
            }
        }
    }

    pub(crate) async fn bodies(&self, run: &RunId) -> Vec<EntryBody> {
        let read = self.engine.read(run, Seq::ZERO, 1_000).await.unwrap();
        read.iter().map(|stored| decode(stored).unwrap().body).collect()
    }

    /// What the reaction refused, as it is on record.
    pub(crate) async fn refusals(&self, reaction: &str) -> Vec<Refused> {
        let stream: StreamId = format!("acme/relay/own/reaction:{reaction}").parse().unwrap();
        let read = self.engine.store().read(&stream, Seq::ZERO, 1_000).await.unwrap();
        let bodies = read.iter().map(|stored| decode(stored).unwrap().body);
        bodies
            .filter_map(|body| match body {
                EntryBody::RelayRefused(refused) => Some(refused),
                _ => None,
            })
            .collect()
    }

    pub(crate) async fn places(&self, reaction: &str) -> Vec<PartStatus> {
        let query = PlaceQuery::Relay(relay(reaction));
        self.engine.places(&query, None, 64).await.unwrap().parts
    }

    /// Waits until a reaction has passed everything.
    pub(crate) async fn is_through(&self, reaction: &str) {
        loop {
            let parts = self.places(reaction).await;
            assert!(parts.len() <= 1, "one process carries all shards");
            let is_through =
                |part: &PartStatus| !part.place.cursors.is_empty() && part.lag == Ok(Lag::default());
            if !parts.is_empty() && parts.iter().all(is_through) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a reaction is carried, so that what is written from then on is after its beginning.
    pub(crate) async fn is_carried(&self, reaction: &str) {
        while !self
            .places(reaction)
            .await
            .iter()
            .any(|part| part.place.cursors.len() == 3)
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a process carries a reaction that has done nothing yet.
    pub(crate) async fn begins_anew(&self, reaction: &str, process: &str) {
        let begins = |part: &PartStatus| {
            let place = &part.place;
            let holder = place.holder.as_ref().map(Holder::as_str);
            (place.delivered, place.cursors.len(), holder) == (0, 3, Some(process))
        };
        while !self.places(reaction).await.iter().any(begins) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the sink of the one reaction that a process carries has answered that an event cannot be done, now or ever.
    pub(crate) async fn has_failed(&self, process: &Reactions) {
        let failed = |process: &Reactions| {
            let mut running = process.running().into_iter();
            running.any(|(_, running)| running.counts().events_retried + running.counts().events_refused > 0)
        };
        while !failed(process) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a process has looked at all definitions as they are now.
    pub(crate) async fn has_looked(&self, process: &Reactions) {
        let before = process.counts().looks;
        while process.counts().looks < before + 2 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has a reaction react to everything again.
    pub(crate) async fn again(&self, reaction: &str) {
        let control = Control::ToBeginning;
        assert_eq!(
            self.engine
                .control(&relay(reaction), &control)
                .await
                .unwrap()
                .parts,
            1
        );
    }

    pub(crate) async fn definitions(&self) -> usize {
        let query = ValueQuery {
            tenant: acme(),
            prefix: Some(ValueName::new("tape.reaction/").unwrap()),
        };
        self.engine.values(&query, None, 100).await.unwrap().values.len()
    }
}

pub(crate) fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

fn relay(reaction: &str) -> RelayId {
    format!("acme/reaction:{reaction}").parse().unwrap()
}

/// A reaction to values whose names begin with `in` that begins runs of an app.
pub(crate) fn begins(app: &str) -> serde_json::Value {
    serde_json::json!({
        "form": 1,
        "when": { "pattern": "acme.value.>", "predicate": "stream.contains('/value/in')" },
        "then": { "begin": { "app": app } },
        "start": "beginning",
    })
}
