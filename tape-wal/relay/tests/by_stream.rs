//! What sinks are made of: one event of a stream at a time, reasons of a bounded length, and a broadcast.

use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tape_relay::by_stream::by_stream;
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::sink::{REASON_BYTES_MAX, Sink, SinkError};
use tape_relay::sinks::broadcast::{Broadcast, CAPACITY_MAX, SubscriptionError};

fn events(streams: usize, each: usize) -> Vec<Event> {
    let mut pens: Vec<Pen> = (0..streams)
        .map(|n| Pen::new(&format!("acme/value/v{n}")))
        .collect();
    let rounds = (0..each).flat_map(|_| 0..streams);
    rounds.map(|pen| pens[pen].event(&json!(pen))).collect()
}

#[derive(Default)]
struct UnderWay {
    streams: BTreeSet<String>,
    most: usize,
    begun: Vec<String>,
}

#[tokio::test]
async fn streams_go_at_once_up_to_the_bound_and_each_one_event_at_a_time() {
    let events = events(10, 4);
    for concurrency in [0, 1, 3, 10, 64] {
        let state = Arc::new(Mutex::new(UnderWay::default()));
        let answers = by_stream(&events, concurrency, |event| {
            let state = Arc::clone(&state);
            async move {
                let stream = event.stream().to_string();
                {
                    let mut now = state.lock().unwrap();
                    assert!(
                        now.streams.insert(stream.clone()),
                        "two events of {stream} are under way"
                    );
                    now.most = now.most.max(now.streams.len());
                }
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                state.lock().unwrap().streams.remove(&stream);
                Ok(())
            }
        })
        .await;
        assert_eq!(answers, vec![Ok(()); events.len()]);
        assert_eq!(state.lock().unwrap().most, concurrency.clamp(1, 10));
    }
}

#[tokio::test]
async fn nothing_is_begun_after_a_sink_is_disabled_or_behind_what_fails() {
    let events = events(3, 2);
    let state = Mutex::new(UnderWay::default());
    let begin = |event: &Event| state.lock().unwrap().begun.push(event.id().to_owned());
    let answers = by_stream(&events, 1, |event| {
        begin(event);
        let answer = match event.id() {
            "acme/value/v0/1" => Err(SinkError::unavailable("now")),
            "acme/value/v1/1" => Err(SinkError::refused("this")),
            "acme/value/v1/2" => Err(SinkError::disabled("gone")),
            _ => Ok(()),
        };
        async move { answer }
    })
    .await;
    let expected = [
        Err(SinkError::unavailable("now")),
        Err(SinkError::refused("this")),
        Err(SinkError::disabled("gone")),
        Err(SinkError::Behind),
        Err(SinkError::disabled("gone")),
        Err(SinkError::Behind),
    ];
    assert_eq!(answers, expected);
    assert_eq!(
        state.lock().unwrap().begun,
        ["acme/value/v0/1", "acme/value/v1/1", "acme/value/v1/2"]
    );
}

#[test]
fn reasons_are_cut_between_characters() {
    let SinkError::Refused { reason } = SinkError::refused("ü".repeat(REASON_BYTES_MAX)) else {
        unreachable!("it is refused");
    };
    assert_eq!(reason, "ü".repeat(REASON_BYTES_MAX / 2));
}

#[tokio::test]
async fn a_slow_subscriber_is_told_what_it_missed() {
    let broadcast = Broadcast::new(4).unwrap();
    let events = events(1, 6);
    // There is no subscriber yet: these are gone.
    assert_eq!(broadcast.deliver(&events[..1]).await, [Ok(())]);
    let (mut fast, mut slow) = (broadcast.subscribe(), broadcast.subscribe());
    for event in &events[1..] {
        assert_eq!(broadcast.deliver(std::slice::from_ref(event)).await, [Ok(())]);
        assert_eq!(fast.next().await.unwrap().id(), event.id());
    }
    assert_eq!(slow.next().await, Err(SubscriptionError::Missed { events: 1 }));
    for event in &events[2..] {
        assert_eq!(slow.next().await.unwrap().id(), event.id());
    }
    drop(broadcast);
    assert_eq!(slow.next().await, Err(SubscriptionError::Ended));
    assert!(Broadcast::new(0).is_err() && Broadcast::new(CAPACITY_MAX + 1).is_err());
}
