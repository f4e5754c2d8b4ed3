//! A subscriber of the emulator of Pub/Sub, by streaming pull.

#![allow(dead_code, reason = "each test file needs some of it")]

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::MessageStream;

/// Takes the messages of a subscription.
pub(crate) struct Inbox {
    stream: MessageStream,
}

impl Inbox {
    /// A subscriber of the subscription with this full name, of the emulator at a URL.
    pub(crate) async fn open(emulator: &str, subscription: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let subscriber = Subscriber::builder()
            .with_endpoint(emulator)
            .with_credentials(anonymous::Builder::new().build());
        let subscriber = subscriber.build().await.expect("the emulator is there");
        let stream = subscriber.subscribe(subscription).build();
        Self { stream }
    }

    /// The next message, which is acknowledged once `take` has it.
    pub(crate) async fn take(&mut self, take: impl FnOnce(&Message)) {
        let next = self.stream.next().await.expect("the stream goes on");
        let (message, handler) = next.expect("the subscription is there");
        take(&message);
        handler.ack();
    }

    /// The next message, which is acknowledged.
    pub(crate) async fn next(&mut self) -> Message {
        let next = self.stream.next().await.expect("the stream goes on");
        let (message, handler) = next.expect("the subscription is there");
        handler.ack();
        message
    }
}

/// The stream of the event of a message and the entry's number.
pub(crate) fn place(message: &Message) -> (String, u64) {
    let attribute = |name: &str| message.attributes.get(name).expect("every event has it");
    let seq = attribute("ce-seq").parse().expect("it is a number");
    (attribute("ce-stream").clone(), seq)
}
