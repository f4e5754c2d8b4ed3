//! Relays that a person or the sink stops.

use crate::world::{Told, World, quick, relay, start};
use std::time::Duration;
use tape_api::Relays as _;
use tape_api::relays::Control;
use tape_core::id::Holder;
use tape_relay::Settings;
use tape_relay::sink::SinkError;

fn reasons(parts: &[tape_api::relays::PartStatus]) -> Vec<String> {
    let disabled = parts.iter().filter_map(|part| part.place.disabled.as_ref());
    disabled.map(|disabled| disabled.reason.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_gone_disables_the_relay_until_a_person_enables_it() {
    let world = World::new();
    let sink = Told::by(|_| Err(SinkError::disabled("410 Gone")));
    let running = start(&world, "acme/lake", &sink, "one");
    world.put("acme", "a").await;
    let reason = loop {
        if let Some(reason) = reasons(&world.places("acme/lake").await).pop() {
            break reason;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(reason, "410 Gone");
    sink.now(|_| Ok(()));
    world.put_all("acme", &["a"], 3).await;
    world
        .engine
        .control(&"acme/lake".parse().unwrap(), &Control::Enable)
        .await
        .unwrap();
    let seen = sink.has(4).await;
    assert_eq!(seen.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_has_failed_for_too_long_is_disabled() {
    let world = World::new();
    let sink = Told::by(|_| Err(SinkError::unavailable("no route to host")));
    let settings = Settings {
        disable_after: Some(Duration::from_millis(50)),
        ..quick()
    };
    let running = relay("acme/lake", &sink, settings).start(world.journal(), Holder::new("one").unwrap());
    world.put("acme", "a").await;
    while reasons(&world.places("acme/lake").await).is_empty() {
        tokio::task::yield_now().await;
    }
    let reasons = reasons(&world.places("acme/lake").await);
    assert!(
        reasons[0].starts_with("the sink has taken nothing for"),
        "{reasons:?}"
    );
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_waits_is_asked_when_it_says_and_has_not_failed() {
    let world = World::new();
    let mut asked = 0;
    let sink = Told::by(move |_| {
        asked += 1;
        if asked % 40 == 0 {
            return Ok(());
        }
        Err(SinkError::Waits {
            reason: "for its time".to_owned(),
            retry_after: Duration::from_millis(1),
        })
    });
    let settings = Settings {
        // A wait that doubles each time would take a day, and a failure would end it all.
        backoff_max: Duration::from_hours(24),
        disable_after: Some(Duration::from_millis(1)),
        ..quick()
    };
    let relay = relay("acme/lake", &sink, settings);
    let running = relay.start(world.journal(), Holder::new("one").unwrap());
    world.put_all("acme", &["a"], 3).await;
    sink.has(3).await;
    let parts = world.is_through("acme/lake").await;
    assert!(
        parts
            .iter()
            .all(|part| part.place.disabled.is_none() && part.place.failing.is_none())
    );
    running.drain().await;
}
