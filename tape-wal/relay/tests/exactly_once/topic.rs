//! A topic in the emulator of Pub/Sub, and what fails on the way to it.

use crate::proxy::Proxy;
use crate::pubsub_emulator::Emulator;
use crate::pubsub_front::{Front, Wrong};
use crate::pubsub_inbox::Inbox;

const TOPIC: &str = "entries";
const SUBSCRIPTION: &str = "consumer";

/// Publishers reach the emulator through a proxy that cuts connections and a server that knows what the emulator took.
pub(crate) struct Topic {
    emulator: Emulator,
    name: String,
    subscription: String,
    front: Front,
    front_port: u16,
    proxy: Proxy,
}

impl Topic {
    /// Starts an emulator with a topic and a subscription; none where it is not installed, which is reported.
    pub(crate) async fn start() -> Option<Self> {
        let emulator = Emulator::start()?;
        let front = Front::start(emulator.endpoint()).await;
        front.forget_messages();
        let front_port = front.address().rsplit(':').next().unwrap().parse().unwrap();
        let name = emulator.create_topic(TOPIC);
        Some(Self {
            subscription: emulator.create_subscription(SUBSCRIPTION, &name),
            emulator,
            name,
            proxy: Proxy::start(front_port).await,
            front,
            front_port,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where publishers find an emulator.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }

    /// A new subscriber.
    pub(crate) async fn inbox(&self) -> Inbox {
        Inbox::open(&self.emulator.endpoint(), &self.subscription).await
    }

    /// Cuts the connections of all publishers.
    pub(crate) fn cut(&self) {
        self.proxy.lead_to(self.front_port);
    }

    /// Loses the next answer to a publisher.
    pub(crate) fn lose_an_answer(&self) {
        self.front.let_go_wrong(Wrong::LosesOneAnswer);
    }

    /// Takes no more messages. Returns the names of those that were taken since the last pause.
    pub(crate) async fn pause(&self) -> Vec<String> {
        self.front.pause().await
    }

    /// Kills the emulator, and starts another one with the same topic and subscription.
    pub(crate) fn start_again(&mut self) {
        self.emulator.start_again();
        self.emulator.create_topic(TOPIC);
        self.emulator.create_subscription(SUBSCRIPTION, &self.name);
    }

    /// Takes messages again.
    pub(crate) fn go_on(&self) {
        self.front.let_go_wrong(Wrong::Nothing);
    }
}
