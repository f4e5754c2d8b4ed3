//! Calls of the journal or the sink that never answer.

use crate::meddled::Meddled;
use crate::world::{Told, World, quick, relay, until};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tape_core::id::Holder;
use tape_relay::Relay;
use tape_relay::event::Event;
use tape_relay::sink::{Sink, SinkError};
use tokio::time::Instant;

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

/// Never answers its first call, and then is another sink.
#[derive(Debug)]
struct HangsOnce(AtomicBool, Arc<Told>);

#[async_trait]
impl Sink for HangsOnce {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        if !self.0.swap(true, SeqCst) {
            std::future::pending::<()>().await;
        }
        self.1.deliver(events).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_sink_that_hangs_is_dropped_after_five_minutes_and_the_part_is_kept() {
    let (world, told) = (World::paused(1), Told::all());
    let relay = Relay {
        sink: Arc::new(HangsOnce(AtomicBool::new(false), Arc::clone(&told))),
        ..relay("acme/lake", &told, quick())
    };
    world.put("acme", "a").await;
    let begun = Instant::now();
    let running = relay.start(world.journal(), holder("one"));
    until(async || !world.places("acme/lake").await.is_empty()).await;
    let epoch = world.places("acme/lake").await[0].place.epoch;
    told.has(1).await;
    let waited = begun.elapsed().as_secs();
    assert!((300..310).contains(&waited), "{waited} s");
    let place = &world.places("acme/lake").await[0].place;
    assert_eq!(
        (place.epoch, &place.holder),
        (epoch, &Some(holder("one"))),
        "renewed all the while"
    );
    assert_eq!(running.counts().events_retried, 1);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_takes_a_third_of_the_lease_and_the_next_one_keeps_the_part() {
    let (world, told) = (World::paused(1), Told::all());
    let journal = Meddled::over(world.journal());
    let running = relay("acme/lake", &told, quick()).start(Arc::clone(&journal) as _, holder("one"));
    world.put("acme", "a").await;
    told.has(1).await;
    until(async || world.places("acme/lake").await[0].place.delivered == 1).await;
    let before = world.places("acme/lake").await[0].place.clone();
    journal.hanging_moves.store(1, SeqCst);
    until(async || journal.hanging_moves.load(SeqCst) == 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let place = &world.places("acme/lake").await[0].place;
    assert_eq!((place.epoch, &place.holder), (before.epoch, &before.holder));
    assert!(place.until > before.until);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_hangs_is_let_go_of_and_taken_up_again() {
    let (world, told) = (World::paused(1), Told::all());
    let journal = Meddled::over(world.journal());
    // A claim is given up after a third of a lease, too.
    journal.hanging_claims.store(2, SeqCst);
    let begun = Instant::now();
    let running = relay("acme/lake", &told, quick()).start(Arc::clone(&journal) as _, holder("one"));
    until(async || running.counts().parts == 1).await;
    assert!(begun.elapsed() < quick().lease, "{:?}", begun.elapsed());
    world.put("acme", "a").await;
    told.has(1).await;
    journal.hanging_moves.store(usize::MAX, SeqCst);
    journal.hanging_claims.store(usize::MAX, SeqCst);
    let begun = Instant::now();
    until(async || running.counts().parts == 0).await;
    assert!(begun.elapsed() < 3 * quick().lease, "{:?}", begun.elapsed());
    // Told to stop, it does not wait for the journal.
    running.drain().await;
    assert!(!running.is_running());
}
