//! Messages of Pub/Sub that wake workers: two processes of `tape-relay` publish one for each entry of a journal, and are killed meanwhile.

use crate::built::built;
use crate::pubsub_emulator::Emulator;
#[cfg(feature = "cloud-tasks")]
use crate::pushes::Pushes;
use crate::relays::Relays;
use futures::StreamExt as _;
use std::sync::{Arc, Mutex};
use tape_engine::Engine;
use tape_environment::{Environment as _, Machine};
use tape_reactors::api::Journal as _;
use tape_reactors::api::query::Tail;
use tokio::task::JoinHandle;

/// The process that carries the relay is killed each time that the journal has this many more entries.
const ENTRIES_PER_KILL: usize = 40;
const TOPIC: &str = "entries";
/// Hints need no order, and of an entry nothing but that there is one.
const RELAY: &str = "*/hints";

/// A topic with a message for each entry of a journal.
pub(crate) struct Hints {
    emulator: Emulator,
    topic: String,
    relays: Arc<tokio::sync::Mutex<Relays>>,
    killing: JoinHandle<()>,
    /// The ids of the workers' subscriptions.
    subscriptions: Mutex<Vec<String>>,
    /// None where workers pull.
    #[cfg(feature = "cloud-tasks")]
    pushes: Option<Pushes>,
}

/// What a worker is given, so that messages wake it and it does without the sweep.
#[derive(Default)]
pub(crate) struct Woken {
    pub(crate) flags: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// More of its configuration.
    pub(crate) config: String,
    /// The port that is pushed to.
    pub(crate) port: Option<u16>,
}

impl Hints {
    /// Starts relays for the journal at a URL, all that it has and will have; none where the emulator is not installed, which is reported.
    pub(crate) fn of(url: &str, engine: &Engine) -> Option<Self> {
        let emulator = Emulator::start()?;
        let topic = emulator.create_topic(TOPIC);
        let mut features = vec!["pubsub"];
        features.extend(cfg!(feature = "postgres").then_some("postgres"));
        let program = built("tape-relay", "tape-relay", &features).unwrap();
        let to = format!("topic = \"{topic}\"\nordered = false");
        let relays = Relays::start(&program, url, RELAY, &to, &emulator.address());
        let relays = Arc::new(tokio::sync::Mutex::new(relays));
        Some(Self {
            killing: tokio::spawn(kill(engine.clone(), Arc::clone(&relays))),
            emulator,
            topic,
            relays,
            subscriptions: Mutex::default(),
            #[cfg(feature = "cloud-tasks")]
            pushes: None,
        })
    }

    /// The same, with messages that are pushed to workers, and tasks of Cloud Tasks for timers.
    #[cfg(feature = "cloud-tasks")]
    pub(crate) async fn pushed(url: &str, engine: &Engine) -> Option<Self> {
        let mut hints = Self::of(url, engine)?;
        hints.pushes = Some(Pushes::start().await);
        Some(hints)
    }

    /// What pushes messages and tasks.
    #[cfg(feature = "cloud-tasks")]
    pub(crate) fn pushes(&self) -> &Pushes {
        self.pushes.as_ref().unwrap()
    }

    /// A new subscription, and the address of the emulator that has it.
    pub(crate) fn subscription(&self) -> (String, String) {
        let id = format!("worker-{}", Machine.uuid());
        let subscription = self.emulator.create_subscription(&id, &self.topic);
        self.subscriptions.lock().unwrap().push(id);
        (subscription, self.emulator.address())
    }

    /// Whether a subscription has a message that is not acknowledged.
    pub(crate) fn has_message(&self, subscription: &str) -> bool {
        let body = r#"{"maxMessages": 1, "returnImmediately": true}"#;
        let pulled = self
            .emulator
            .request(&format!("POST /v1/{subscription}:pull"), body);
        pulled.contains("receivedMessages")
    }

    /// What a worker with a subscription of its own is given.
    pub(crate) fn worker(&self) -> Woken {
        #[cfg(feature = "cloud-tasks")]
        if let Some(pushes) = &self.pushes {
            let (woken, endpoint) = pushes.worker();
            let id = format!("worker-{}", Machine.uuid());
            self.emulator.create_push(&id, &self.topic, &endpoint);
            return woken;
        }
        let (subscription, emulator) = self.subscription();
        let flags = ["--wake", "pubsub", "--sweep", "off", "--subscription"];
        let flags = flags.map(str::to_owned).into_iter().chain([subscription]);
        Woken {
            flags: flags.collect(),
            env: vec![("PUBSUB_EMULATOR_HOST", emulator)],
            ..Woken::default()
        }
    }

    /// A worker is ready.
    pub(crate) fn ready(&self, woken: &Woken) {
        #[cfg(feature = "cloud-tasks")]
        if let (Some(pushes), Some(port)) = (&self.pushes, woken.port) {
            pushes.ready(port);
        }
        #[cfg(not(feature = "cloud-tasks"))]
        let Woken { port: None, .. } = woken else {
            panic!("workers pull in this build");
        };
    }

    /// Kills the relay that carries the journal, and starts another one.
    pub(crate) async fn kill_the_relay(&self, engine: &Engine) {
        self.relays.lock().await.kill_the_holder(engine).await;
    }

    /// Kills all relays: nothing more is published.
    pub(crate) async fn stop(&self) {
        self.killing.abort();
        self.relays.lock().await.kill_all();
    }

    /// Starts relays again.
    pub(crate) async fn go_on(&self) {
        self.relays.lock().await.fill();
    }

    /// Starts the emulator again, with the topic and the subscriptions and without a message.
    pub(crate) fn start_again(&mut self) {
        self.emulator.start_again();
        self.emulator.create_topic(TOPIC);
        for id in self.subscriptions.lock().unwrap().iter() {
            self.emulator.create_subscription(id, &self.topic);
        }
    }

    /// Publishes one message.
    pub(crate) fn publish(&self, attributes: &[(&str, &str)]) {
        self.emulator.publish(&self.topic, attributes);
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.killing.abort();
    }
}

/// Kills the relay that carries the journal as the journal grows.
async fn kill(engine: Engine, relays: Arc<tokio::sync::Mutex<Relays>>) {
    let mut pages = engine.tail(&Tail {
        from_start: true,
        ..Tail::new(">".parse().unwrap())
    });
    let (mut entries, mut next) = (0, ENTRIES_PER_KILL);
    while let Some(page) = pages.next().await {
        entries += page.unwrap().entries.len();
        if entries >= next {
            relays.lock().await.kill_the_holder(&engine).await;
            next = entries + ENTRIES_PER_KILL;
        }
    }
}
