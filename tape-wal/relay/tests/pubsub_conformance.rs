//! The sink for Pub/Sub keeps the promises of every sink.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pubsub_emulator;
mod pubsub_front;

use async_trait::async_trait;
use pubsub_emulator::Emulator;
use pubsub_front::{Front, Published, Wrong};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tape_relay::conformance::{Fault, Fixture, Received, TESTS};
use tape_relay::sink::Sink;
use tape_relay::sinks::pubsub::{PubSub, Settings};
use tonic::Code;

#[derive(Debug)]
struct Topic {
    front: Front,
    settings: Settings,
    sink: Arc<PubSub>,
}

impl Topic {
    async fn new(emulator: &Emulator, id: &str) -> Self {
        let topic = emulator.create_topic(id);
        let front = Front::start(emulator.endpoint()).await;
        let mut settings = Settings::new(topic.parse().unwrap());
        settings.emulator = Some(front.address().to_owned());
        // Other tests may keep the machine busy.
        settings.timeout = Duration::from_secs(60);
        let sink = Arc::new(PubSub::new(settings.clone()));
        Self {
            front,
            settings,
            sink,
        }
    }
}

#[async_trait]
impl Fixture for Topic {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(&self.sink) as Arc<dyn Sink>
    }

    async fn received(&self) -> Option<Vec<Received>> {
        let taken = self.front.taken();
        Some(taken.iter().map(received).collect())
    }

    async fn fail(&self, fault: Fault) -> bool {
        self.front.let_go_wrong(match fault {
            Fault::None => Wrong::Nothing,
            Fault::Down => Wrong::Answers(Code::Unavailable),
            Fault::Refuses(id) => Wrong::AnswersAt(id, Code::InvalidArgument),
            // A request of several messages fails as a whole, so no message fails alone; and a topic that is gone may be made again.
            Fault::FailsAt(_) | Fault::Gone => return false,
        });
        true
    }

    async fn reopen(&self) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(PubSub::new(self.settings.clone())))
    }
}

/// A message in binary mode as the event that it has.
fn received(message: &Published) -> Received {
    let text = |text: &str| Value::String(text.to_owned());
    let attributes = message.attributes.iter();
    let attributes = attributes.map(|(name, value)| match name.strip_prefix("ce-") {
        Some(name) => (name.to_owned(), text(value)),
        None => ("datacontenttype".to_owned(), text(value)),
    });
    let data: Value = serde_json::from_slice(&message.data).unwrap();
    let event = attributes.chain([("data".to_owned(), data)]).collect();
    Received {
        id: message.attribute("ce-id").to_owned(),
        event: Value::Object(event),
    }
}

/// All of them in one test, since an emulator takes seconds to start.
#[test]
fn the_sink_keeps_the_promises_of_every_sink() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    for (n, test) in TESTS.iter().enumerate() {
        eprintln!("{}", test.name);
        runtime.block_on(async {
            let topic = Topic::new(&emulator, &format!("conformance-{n}")).await;
            (test.body)(Arc::new(topic)).await;
        });
    }
}
