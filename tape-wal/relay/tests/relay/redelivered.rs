//! Sending again what was refused.

use crate::world::{Told, World, quick, relay, start};
use std::sync::Arc;
use tape_api::Journal;
use tape_core::id::{RelayStream, Seq, Tenant};
use tape_relay::event::Event;
use tape_relay::sink::SinkError;
use tape_relay::{Redelivered, RedeliveryError, RedeliveryStep, UNAVAILABLE_MAX, redeliver};

/// A journal with refusals of everything that was written to some streams.
async fn refused(streams: &[&str], each: usize) -> World {
    let world = World::new();
    let sink = Told::by(|_| Err(SinkError::refused("422")));
    world.put_all("acme", streams, each).await;
    let running = start(&world, "acme/lake", &sink, "one");
    let all = (streams.len() * each) as u64;
    while running.counts().events_refused < all {
        tokio::task::yield_now().await;
    }
    world.is_through("acme/lake").await;
    running.drain().await;
    world
}

/// Sends again, and returns what became of each, and how it ended.
async fn again(
    world: &World,
    sink: &Arc<Told>,
    refusals: &[Seq],
) -> (Vec<(Seq, Redelivered)>, Result<(), RedeliveryError>) {
    let relay = relay("acme/lake", sink, quick());
    let stream = RelayStream::of(&relay.id, &Tenant::new("acme").unwrap()).unwrap();
    let (journal, mut sent): (Arc<dyn Journal>, _) = (world.journal(), Vec::new());
    let ended = redeliver(&relay, &journal, &stream, refusals, |step| {
        if let RedeliveryStep::Sent { refusal, outcome } = step {
            sent.push((refusal, outcome));
        }
    });
    let ended = ended.await;
    (sent, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_outstanding_is_sent_however_much_it_is() {
    let world = refused(&["a", "b", "c", "d", "e"], 250).await;
    let sink = Told::all();
    let (sent, ended) = again(&world, &sink, &[]).await;
    ended.unwrap();
    assert_eq!(sent.len(), 1_250);
    assert!(sent.is_sorted_by_key(|(refusal, _)| *refusal));
    assert!(sent.iter().all(|(_, outcome)| *outcome == Redelivered::Taken));
    assert_eq!(sink.seen().len(), 1_250);
    let (sent, ended) = again(&world, &sink, &[]).await;
    ended.unwrap();
    assert_eq!(sent, [], "nothing is outstanding");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_interrupted_goes_on_with_what_is_outstanding() {
    let names: Vec<String> = (0..30).map(|n| format!("v{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = refused(&names, 2).await;
    let mut taken = 0;
    let sink = Told::by(move |_: &Event| {
        taken += 1;
        match taken {
            1..=7 => Ok(()),
            _ => Err(SinkError::unavailable("no route to host")),
        }
    });
    let (sent, ended) = again(&world, &sink, &[]).await;
    let Err(RedeliveryError::SinkUnavailable { reason }) = ended else {
        panic!("{ended:?}")
    };
    assert!(reason.contains("no route to host"), "{reason}");
    let tried = sent.iter().filter(|(_, outcome)| *outcome != Redelivered::Taken);
    assert!(tried.count() >= UNAVAILABLE_MAX as usize);
    assert!(sent.len() < 60, "it does not wait for each of the others");
    sink.now(|_| Ok(()));
    let (sent, ended) = again(&world, &sink, &[]).await;
    ended.unwrap();
    assert_eq!((sent.len(), sink.seen().len()), (53, 60), "each was taken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_one_of_its_stream_that_is_not_taken_now_waits_for_it() {
    let world = refused(&["a", "b"], 3).await;
    let sink = Told::by(
        |event| match (event.stream().to_string().as_str(), event.seq().0) {
            ("acme/value/a", 2) => Err(SinkError::unavailable("busy")),
            _ => Ok(()),
        },
    );
    let (sent, ended) = again(&world, &sink, &[]).await;
    ended.unwrap();
    let not_taken = sent.iter().filter(|(_, outcome)| *outcome != Redelivered::Taken);
    assert_eq!((sent.len(), not_taken.count()), (6, 2));
    assert!(
        !sink
            .seen()
            .iter()
            .any(|(stream, seq)| stream.to_string() == "acme/value/a" && *seq > 1)
    );
    let (sent, ended) = again(&world, &sink, &[Seq(1_000)]).await;
    assert!(matches!(
        ended,
        Err(RedeliveryError::NoRefusal { refusal: Seq(1_000) })
    ));
    assert_eq!(sent, []);
}
