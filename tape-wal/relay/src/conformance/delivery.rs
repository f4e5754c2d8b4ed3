//! Events arrive.

use super::pen::Pen;
use super::{Fixture, deliver_all, first_received, ids, in_order, two_streams};
use crate::event::Event;
use crate::event_format::{EVENT_BYTES_MAX_HIGHEST, EventFormat};
use crate::payload_rule::PayloadRule;
use crate::sink::{DELIVERY_BYTES_MAX, DELIVERY_EVENTS_MAX};
use serde_json::{Value, json};
use std::sync::Arc;
use tape_core::limits::PAYLOAD_BYTES_MAX;
use tape_core::payload::Payload;

pub(super) async fn every_event_has_its_answer(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    assert_eq!(sink.deliver(&[]).await, Vec::new(), "no events have no answers");
    let events = two_streams();
    for n in 1..=events.len() {
        let answers = sink.deliver(&events[..n]).await;
        assert_eq!(answers.len(), n, "there is one answer for each event");
    }
}

pub(super) async fn what_is_confirmed_is_there(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let mut confirmed = Vec::new();
    for event in two_streams() {
        deliver_all(&*sink, std::slice::from_ref(&event)).await;
        confirmed.push(event);
        let Some(received) = first_received(&*fixture).await else {
            return;
        };
        let there = received.iter().map(|one| one.id.clone()).collect();
        assert_eq!(
            ids(&confirmed),
            there,
            "what is confirmed is there at once, and nothing else"
        );
    }
}

pub(super) async fn events_of_a_stream_arrive_in_order(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let mut pens: Vec<Pen> = (0..16).map(|n| Pen::new(&format!("acme/value/v{n}"))).collect();
    let mut events = Vec::new();
    for round in 0..8 {
        for pen in &mut pens {
            events.push(pen.event(&json!({"round": round})));
        }
    }
    deliver_all(&*sink, &events).await;
    if let Some(received) = first_received(&*fixture).await {
        assert_eq!(in_order(&events, &received), ids(&events));
    }
}

pub(super) async fn an_event_arrives_as_it_is(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let mut events = Vec::new();
    let mut pen = Pen::new("a%2Ecme/run/treas%20ury/ü\u{1f4b8}/s%2F1/100%25");
    let largest = "x".repeat(PAYLOAD_BYTES_MAX);
    for payload in [
        Payload::new(
            Payload::JSON,
            r#"{"big":9007199254740993,"float":1.10,"nul":"\u0000","line":"a\nb"}"#,
        ),
        Payload::new("text/plain", "one line\nand \u{2028} another\r\n"),
        Payload::new(Payload::BYTES, vec![0, 0xff, 0x0a, 0x80]),
        Payload::new("text/plain", largest),
        Ok(Payload::empty()),
    ] {
        let stored = pen.put(payload.expect("the payload is within its limit"));
        let format = EventFormat::new(
            "//journal.example/ü".trim_end_matches('ü'),
            PayloadRule::Include,
            EVENT_BYTES_MAX_HIGHEST,
        );
        let event = format.expect("the format is valid").event(pen.stream(), &stored);
        events.push(event.expect("the entry was just written"));
    }
    deliver_all(&*sink, &events).await;
    let Some(received) = first_received(&*fixture).await else {
        return;
    };
    for event in &events {
        let sent: Value = serde_json::from_slice(&event.to_json()).expect("an event is JSON");
        let one = received.iter().find(|one| one.id == event.id());
        let one = one.expect("what is confirmed is there");
        assert_eq!(one.event, sent, "an event arrives as it is");
    }
}

pub(super) async fn an_event_that_comes_again_is_confirmed_again(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let events = two_streams();
    deliver_all(&*sink, &events).await;
    // As after a crash between the delivery and the record of it.
    deliver_all(&*sink, &events[2..]).await;
    deliver_all(&*sink, &events).await;
    if let Some(received) = first_received(&*fixture).await {
        assert_eq!(in_order(&events, &received), ids(&events));
    }
}

pub(super) async fn a_full_call_is_taken(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let mut pen = Pen::new("acme/value/many");
    let many: Vec<Event> = (0..DELIVERY_EVENTS_MAX).map(|n| pen.event(&json!(n))).collect();
    let text = "x".repeat(PAYLOAD_BYTES_MAX / 2);
    let mut room = DELIVERY_BYTES_MAX;
    let large = std::iter::repeat_with(|| pen.event(&json!(text)));
    let large: Vec<Event> = large
        .take_while(|event| {
            room = room.saturating_sub(event.size());
            room > 0
        })
        .collect();
    deliver_all(&*sink, &many).await;
    deliver_all(&*sink, &large).await;
    if let Some(received) = first_received(&*fixture).await {
        let all: Vec<Event> = many.into_iter().chain(large).collect();
        assert_eq!(in_order(&all, &received), ids(&all));
    }
}
