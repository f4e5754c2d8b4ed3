//! An event that stays unavailable holds up its stream, and no other.

use crate::world::{PAGE, Told, World, quick, relay, remembered, until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tape_api::Journal;
use tape_core::id::Holder;
use tape_relay::event::Event;
use tape_relay::sink::SinkError;
use tape_relay::{Running, Settings};

const LIMIT: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        backoff_max: Duration::from_secs(5),
        // Few renewals in hours of the paused clock.
        lease: Duration::from_secs(60),
        refuse_after: Some(LIMIT),
        ..quick()
    }
}

fn start(world: &World, sink: &Arc<Told>, settings: Settings, holder: &str) -> Running {
    let journal: Arc<dyn Journal> = world.journal();
    relay("acme/lake", sink, settings).start(journal, Holder::new(holder).unwrap())
}

fn is_poison(event: &Event) -> bool {
    event.stream().to_string() == "acme/value/poison" && event.seq().0 == 1
}

/// Takes everything but one event.
fn poisoned() -> Arc<Told> {
    Told::by(|event| match is_poison(event) {
        true => Err(SinkError::unavailable("500 Internal Server Error")),
        false => Ok(()),
    })
}

#[tokio::test(start_paused = true)]
async fn other_streams_go_on_over_later_pages_while_the_place_waits() {
    let (world, sink) = (World::paused(1), poisoned());
    world.put_all("acme", &["poison", "a", "b", "c"], 10).await;
    let forever = Settings {
        refuse_after: None,
        ..settings()
    };
    let running = start(&world, &sink, forever, "one");
    sink.has(30).await;
    world.put_all("acme", &["d"], 20).await;
    let seen = remembered(&sink.has(50).await);
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert_eq!(running.counts().streams_held, 1);
    let place = &world.places("acme/lake").await[0].place;
    assert!(place.delivered <= u64::from(PAGE), "the place waits: {place:?}");
    assert!(place.failing.is_none(), "the sink works");
    // It is taken at last, and what waited behind it follows in its order.
    sink.now(|_| Ok(()));
    let seen = remembered(&sink.has(60).await);
    assert_eq!(seen.len(), 5);
    until(async || world.places("acme/lake").await[0].place.delivered == 60).await;
    assert_eq!(sink.seen().len(), 60, "nothing was delivered twice");
    running.drain().await;
    assert_eq!(running.counts().streams_held, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stays_unavailable_alone_is_refused_and_its_stream_goes_on() {
    let (world, sink) = (World::paused(1), poisoned());
    world.put_all("acme", &["poison"], 3).await;
    let running = start(&world, &sink, settings(), "one");
    let mut refusals = Vec::new();
    let mut others = 0_u64;
    while refusals.is_empty() {
        world.put("acme", "a").await;
        others += 1;
        assert!(others < 500, "it is never given up");
        tokio::time::sleep(Duration::from_secs(1)).await;
        refusals = if running.counts().events_refused > 0 {
            world.refusals("acme/relay/own/lake").await
        } else {
            Vec::new()
        };
    }
    assert!(others >= LIMIT.as_secs(), "given up after {others} s");
    let [refused] = &refusals[..] else {
        panic!("{refusals:?}")
    };
    assert_eq!(
        (refused.entry.stream.to_string().as_str(), refused.entry.seq.0),
        ("acme/value/poison", 1)
    );
    let reason = &refused.reason;
    assert!(
        reason.starts_with("unavailable for 6")
            && reason.ends_with("took other events: 500 Internal Server Error"),
        "{reason}"
    );
    assert!(refused.attempts >= 5);
    // Of the poisoned stream the other two, and the record of the refusal.
    sink.has(usize::try_from(others).unwrap() + 2 + 1).await;
    until(async || world.places("acme/lake").await[0].place.refused == 1).await;
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_an_hour_refuses_nothing_and_loses_nothing() {
    let world = World::paused(2);
    let sink = Told::by(|_| Err(SinkError::unavailable("no route to host")));
    let running = start(&world, &sink, settings(), "one");
    for _ in 0..60 {
        world.put_all("acme", &["a", "b", "c", "d"], 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(running.counts().events_refused, 0);
    assert!(
        world
            .places("acme/lake")
            .await
            .iter()
            .any(|part| part.place.failing.is_some())
    );
    sink.now(|_| Ok(()));
    let seen = remembered(&sink.has(240).await);
    assert!(seen.values().all(|last| *last == 60), "{seen:?}");
    assert_eq!(running.counts().events_refused, 0);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_one_event_in_ten_refuses_nothing() {
    let world = World::paused(1);
    let mut offered = 0;
    let sink = Told::by(move |event| {
        offered += 1;
        match is_poison(event) || offered % 10 != 0 {
            true => Err(SinkError::unavailable("503 Service Unavailable")),
            false => Ok(()),
        }
    });
    let running = start(&world, &sink, settings(), "one");
    world.put("acme", "poison").await;
    for n in 0..600 {
        let name = format!("v{n}");
        world.put("acme", &name).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(sink.seen().len() > 100, "{}", sink.seen().len());
    assert_eq!(running.counts().events_refused, 0);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn the_window_is_bounded_and_so_is_what_a_killed_process_leaves_to_be_repeated() {
    const WINDOW: u64 = 40;
    let (world, sink) = (World::paused(1), poisoned());
    let bounded = Settings {
        window_events: WINDOW,
        refuse_after: None,
        ..settings()
    };
    let streams: Vec<String> = (0..200).map(|n| format!("v{n:03}")).collect();
    world.put("acme", "poison").await;
    for stream in &streams {
        world.put("acme", stream).await;
    }
    let first = start(&world, &sink, bounded, "one");
    sink.has(30).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let most = usize::try_from(WINDOW).unwrap() + PAGE as usize;
    let before = sink.seen();
    assert!(
        before.len() < most,
        "{} events of a window of {WINDOW}",
        before.len()
    );
    drop(first);
    sink.now(|_| Ok(()));
    let second = start(&world, &sink, bounded, "two");
    until(async || {
        let seen: BTreeSet<_> = sink.seen().into_iter().collect();
        seen.len() == 201
    })
    .await;
    let repeated = sink.seen().len() - 201;
    assert!(repeated < most, "{repeated} were repeated");
    second.drain().await;
}
