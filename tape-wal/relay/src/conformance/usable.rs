//! A sink stays usable.

use super::pen::Pen;
use super::{Fixture, deliver_all, first_received, ids, in_order, not_tested, two_streams};
use crate::event::Event;
use crate::sink::SinkError;
use futures::FutureExt as _;
use serde_json::json;
use std::sync::Arc;

/// Polls of a call before it is abandoned.
const POLLS: usize = 4;

pub(super) async fn an_abandoned_call_leaves_the_sink_usable(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let events = two_streams();
    for polls in 1..=POLLS {
        let mut call = Box::pin(sink.deliver(&events));
        for _ in 0..polls {
            if (&mut call).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    deliver_all(&*sink, &events).await;
    if let Some(received) = first_received(&*fixture).await {
        assert_eq!(in_order(&events, &received), ids(&events));
    }
}

pub(super) async fn calls_at_once_are_kept_apart(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let calls = (0..4).map(|call| {
        let mut pen = Pen::new(&format!("acme/value/call{call}"));
        let events: Vec<Event> = (0..10).map(|n| pen.event(&json!({"n": n}))).collect();
        let sink = Arc::clone(&sink);
        tokio::spawn(async move {
            deliver_all(&*sink, &events).await;
            events
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut events = Vec::new();
    for call in calls {
        events.extend(call.await.expect("the call ends"));
    }
    if let Some(received) = first_received(&*fixture).await {
        assert_eq!(in_order(&events, &received), ids(&events));
    }
}

pub(super) async fn what_is_confirmed_outlives_the_sink(fixture: Arc<dyn Fixture>) {
    let events = two_streams();
    deliver_all(&*fixture.sink(), &events[..4]).await;
    let Some(sink) = fixture.reopen().await else {
        not_tested(&*fixture, "what was received does not outlive the sink");
        return;
    };
    deliver_all(&*sink, &events[4..]).await;
    if let Some(received) = first_received(&*fixture).await {
        assert_eq!(in_order(&events, &received), ids(&events));
    }
}

pub(super) async fn a_closed_sink_confirms_nothing_that_it_has_not_delivered(fixture: Arc<dyn Fixture>) {
    let sink = fixture.sink();
    let events = two_streams();
    deliver_all(&*sink, &events[..4]).await;
    assert_eq!(sink.close().await, Ok(()));
    let answers = sink.deliver(&events[4..]).await;
    assert_eq!(answers.len(), 2, "there is one answer for each event");
    let Some(received) = first_received(&*fixture).await else {
        return;
    };
    let there = in_order(&events, &received);
    for (event, answer) in events[4..].iter().zip(answers) {
        match answer {
            Ok(()) => assert!(
                there.contains(event.id()),
                "{} is confirmed and not there",
                event.id()
            ),
            Err(SinkError::Unavailable { .. } | SinkError::Behind) => {}
            Err(other) => panic!("a closed sink is unavailable, not {other:?}"),
        }
    }
}
