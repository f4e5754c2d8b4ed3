//! How many events a second are confirmed.

use crate::STREAMS;
use crate::pubsub_emulator::Emulator;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::model::Message;
use serde_json::json;
use std::time::{Duration, Instant};
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::sink::{DELIVERY_EVENTS_MAX, Sink as _};
use tape_relay::sinks::pubsub::{PubSub, Settings, ordering_key};

/// By the client library alone, with as many messages under way as a call of the sink has.
pub(crate) async fn client(emulator: &Emulator, topic: &str, span: Duration) -> f64 {
    let publisher = publisher(emulator, &emulator.create_topic(topic)).await;
    let messages: Vec<Message> = events().iter().map(message).collect();
    let begun = Instant::now();
    let mut confirmed = 0;
    while begun.elapsed() < span {
        let each: Vec<_> = messages
            .iter()
            .map(|message| publisher.publish(message.clone()))
            .collect();
        publisher.flush().await;
        for answer in each {
            answer.await.expect("the emulator takes it");
            confirmed += 1;
        }
    }
    f64::from(confirmed) / begun.elapsed().as_secs_f64()
}

/// By the sink, in full calls.
pub(crate) async fn sink(emulator: &Emulator, span: Duration) -> f64 {
    let topic = emulator.create_topic("sink");
    let mut settings = Settings::new(topic.parse().expect("it is the name of a topic"));
    settings.emulator = Some(emulator.address());
    let sink = PubSub::new(settings);
    let events = events();
    let begun = Instant::now();
    let mut confirmed = 0;
    while begun.elapsed() < span {
        for answer in sink.deliver(&events).await {
            answer.expect("the emulator takes it");
            confirmed += 1;
        }
    }
    f64::from(confirmed) / begun.elapsed().as_secs_f64()
}

/// A publisher without a wait for further messages.
pub(crate) async fn publisher(emulator: &Emulator, topic: &str) -> Publisher {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let publisher = Publisher::builder(topic)
        .with_endpoint(emulator.endpoint())
        .with_credentials(anonymous::Builder::new().build())
        .set_message_count_threshold(1_000);
    publisher.build().await.expect("the emulator is there")
}

/// A full call: events of all streams, interleaved.
fn events() -> Vec<Event> {
    let mut pens: Vec<Pen> = (0..STREAMS)
        .map(|n| Pen::new(&format!("acme/value/v{n}")))
        .collect();
    let mut events = Vec::new();
    for n in 0..DELIVERY_EVENTS_MAX / STREAMS {
        events.extend(
            pens.iter_mut()
                .map(|pen| pen.event(&json!({ "n": n, "text": "x".repeat(400) }))),
        );
    }
    events
}

/// The message of an event, as the sink makes it.
pub(crate) fn message(event: &Event) -> Message {
    let attributes = event
        .attributes()
        .map(|(name, value)| (format!("ce-{name}"), value));
    Message::new()
        .set_data(event.data().clone())
        .set_attributes(attributes)
        .set_ordering_key(ordering_key(event.stream()))
}
