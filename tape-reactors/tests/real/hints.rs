//! Messages of Pub/Sub that wake workers: one for each entry of a journal, published from its feed.

use crate::pubsub_emulator::Emulator;
use futures::StreamExt as _;
use std::sync::{Arc, Mutex};
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_engine::Engine;
use tape_environment::{Environment as _, Machine};
use tape_reactors::api::Journal as _;
use tape_reactors::api::query::Tail;
use tokio::task::JoinHandle;

/// A topic with a message for each new entry of a journal.
pub(crate) struct Hints {
    emulator: Arc<Emulator>,
    topic: String,
    publisher: JoinHandle<()>,
    /// The ids of the workers' subscriptions.
    subscriptions: Mutex<Vec<String>>,
}

impl Hints {
    /// Publishes the entries of a journal, all that it has and will have; none where the emulator is not installed, which is reported.
    pub(crate) fn of(engine: &Engine) -> Option<Self> {
        let emulator = Arc::new(Emulator::start()?);
        let topic = emulator.create_topic("entries");
        let publisher = tokio::spawn(publish(engine.clone(), Arc::clone(&emulator), topic.clone()));
        Some(Self {
            emulator,
            topic,
            publisher,
            subscriptions: Mutex::default(),
        })
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

    /// What lets a worker pull from a subscription of its own, and do without the sweep: its flags, and its environment.
    pub(crate) fn worker(&self) -> (Vec<String>, (&'static str, String)) {
        let (subscription, emulator) = self.subscription();
        let flags = ["--wake", "pubsub", "--sweep", "off", "--subscription"];
        let flags = flags.map(str::to_owned).into_iter().chain([subscription]);
        (flags.collect(), ("PUBSUB_EMULATOR_HOST", emulator))
    }

    /// Publishes nothing more.
    pub(crate) fn stop(&self) {
        self.publisher.abort();
    }

    /// Stops, and starts the emulator again, with the topic and the subscriptions and without a message.
    pub(crate) async fn start_again(&mut self) {
        self.stop();
        let _ = (&mut self.publisher).await;
        // The last message may be on its way still.
        while Arc::get_mut(&mut self.emulator).is_none() {
            tokio::task::yield_now().await;
        }
        let emulator = Arc::get_mut(&mut self.emulator).unwrap();
        emulator.start_again();
        emulator.create_topic("entries");
        for id in self.subscriptions.lock().unwrap().iter() {
            emulator.create_subscription(id, &self.topic);
        }
    }

    /// Publishes one message.
    pub(crate) fn publish(&self, attributes: &[(&str, &str)]) {
        self.emulator.publish(&self.topic, attributes);
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

async fn publish(engine: Engine, emulator: Arc<Emulator>, topic: String) {
    // From the start: the first entries may be there before the first page is asked for.
    let mut pages = engine.tail(&Tail {
        from_start: true,
        ..Tail::new(">".parse().unwrap())
    });
    while let Some(page) = pages.next().await {
        let entries = page.unwrap().entries;
        if entries.is_empty() {
            continue;
        }
        let (emulator, topic) = (Arc::clone(&emulator), topic.clone());
        let published = tokio::task::spawn_blocking(move || {
            let messages: Vec<_> = entries
                .iter()
                .map(|(stream, entry)| event(stream, entry))
                .collect();
            let messages: Vec<Vec<(&str, &str)>> = messages
                .iter()
                .map(|message| {
                    message
                        .iter()
                        .map(|(name, value)| (*name, value.as_str()))
                        .collect()
                })
                .collect();
            let messages: Vec<&[(&str, &str)]> = messages.iter().map(Vec::as_slice).collect();
            emulator.publish_all(&topic, &messages);
        });
        published.await.unwrap();
    }
}

/// An entry as an event in the attributes of a message.
fn event(stream: &StreamId, entry: &StoredEntry) -> [(&'static str, String); 4] {
    [
        ("ce-id", format!("{stream}/{}", entry.seq)),
        ("ce-source", "//tape".to_owned()),
        ("tenant", stream.tenant().to_string()),
        ("stream", stream.to_string()),
    ]
}
