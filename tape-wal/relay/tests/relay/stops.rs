//! A process that is stopped, and for how long its sink had failed.

use crate::world::{Told, World, quick, relay, remembered, until};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::Holder;
use tape_core::relay::Disabled;
use tape_relay::event::Event;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::{Relay, Settings};
use tape_store::memory::MemoryStore;
use tokio::sync::Semaphore;

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

/// Takes as many calls as it is let.
#[derive(Debug)]
struct Gated(Semaphore, Arc<Told>);

#[async_trait]
impl Sink for Gated {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        self.0.acquire().await.unwrap().forget();
        self.1.deliver(events).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_amid_a_page_gives_the_part_back_and_repeats_nothing_that_was_confirmed() {
    let (world, told) = (World::over(Arc::new(MemoryStore::with_shards(1))), Told::all());
    world.put_all("acme", &["a", "b", "c", "d"], 200).await;
    let sink = Arc::new(Gated(Semaphore::new(1), Arc::clone(&told)));
    let gated = Relay {
        sink: Arc::clone(&sink) as Arc<dyn Sink>,
        ..relay("acme/lake", &told, quick())
    };
    let running = Arc::new(gated.start(world.journal(), holder("one")));
    told.was_called(1).await;
    let draining = tokio::spawn({
        let running = Arc::clone(&running);
        async move { running.drain().await }
    });
    // The call that is under way is finished, and no other is begun.
    sink.0.add_permits(1);
    draining.await.unwrap();
    let confirmed = told.seen().len();
    assert!((256..=512).contains(&confirmed), "{confirmed}");
    let place = &world.places("acme/lake").await[0].place;
    assert_eq!(place.holder, None, "it is free at once");
    let next = relay("acme/lake", &told, quick()).start(world.journal(), holder("two"));
    let seen = told.has(800).await;
    world.is_through("acme/lake").await;
    next.drain().await;
    assert_eq!(told.seen().len(), 800, "nothing was delivered twice");
    assert!(remembered(&seen).values().all(|last| *last == 200));
    let place = &world.places("acme/lake").await[0].place;
    assert!(place.state.is_empty(), "nothing lies beyond the place any more");
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_a_stream_that_is_held_repeats_nothing_of_the_others() {
    let world = World::paused(1);
    let sink = Told::by(|event| match event.stream().to_string().as_str() {
        "acme/value/b" if event.seq().0 > 3 => Err(SinkError::unavailable("busy")),
        _ => Ok(()),
    });
    world.put_all("acme", &["a", "b", "c"], 20).await;
    let first = relay("acme/lake", &sink, quick()).start(world.journal(), holder("one"));
    sink.has(43).await;
    first.drain().await;
    sink.now(|_| Ok(()));
    let second = relay("acme/lake", &sink, quick()).start(world.journal(), holder("two"));
    let seen = remembered(&sink.has(60).await);
    until(async || world.places("acme/lake").await[0].place.delivered == 60).await;
    second.drain().await;
    assert_eq!(sink.seen().len(), 60);
    assert!(seen.values().all(|last| *last == 20), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn time_in_which_a_relay_does_not_run_is_no_time_in_which_its_sink_failed() {
    const LIMIT: Duration = Duration::from_secs(600);
    let world = World::paused(1);
    let sink = Told::by(|_| Err(SinkError::unavailable("no route to host")));
    let settings = Settings {
        disable_after: Some(LIMIT),
        backoff_max: Duration::from_secs(1),
        // So long that the part is not given up in between.
        lease: Duration::from_secs(100),
        ..quick()
    };
    let disabled = async || -> Option<Disabled> {
        let parts = world.places("acme/lake").await;
        parts.first().and_then(|part| part.place.disabled.clone())
    };
    world.put("acme", "a").await;
    let mut calls = 0;
    for round in 0..3 {
        let running = relay("acme/lake", &sink, settings).start(world.journal(), holder("one"));
        // Four minutes of failures, and then five days without a process.
        sink.was_called(calls + 2).await;
        assert_eq!(disabled().await, None, "round {round}");
        let until = tokio::time::Instant::now() + Duration::from_secs(240);
        while tokio::time::Instant::now() < until && disabled().await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        running.drain().await;
        calls = sink.calls();
        tokio::time::sleep(Duration::from_hours(120)).await;
    }
    let disabled = disabled().await.expect("it has failed for over ten minutes");
    let seconds = disabled
        .reason
        .strip_prefix("the sink has taken nothing for ")
        .unwrap();
    assert!(seconds.starts_with("60"), "{}", disabled.reason);
}
