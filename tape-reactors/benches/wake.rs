//! How soon a reactor of an idle system is woken by what becomes due, and how soon a reader of the feed sees a confirmed effect.
//!
//! `cargo bench -p tape-reactors --bench wake`

#![expect(clippy::unwrap_used, reason = "a bench stops where something fails")]
#![expect(clippy::print_stdout, reason = "its figures are for people")]

use async_trait::async_trait;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tape_client::{Answer, Begun, CallError, RunId, Tail, Tape};
use tape_core::agenda::Queue;
use tape_reactors::{Access, Driver, DueWork, Reaction, ReactionError, Reactor};
use tape_store::clock::SystemClock;
use tape_store::engine::Engine;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 200;
/// Between two rounds nothing happens for this long.
const IDLE: Duration = Duration::from_millis(150);

/// Says when it is woken.
struct Probe(mpsc::UnboundedSender<Instant>);

#[async_trait]
impl Reactor for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn queue(&self) -> Queue {
        Queue::Outbox
    }

    async fn react(&self, _work: &DueWork) -> Result<Reaction, ReactionError> {
        let _ = self.0.send(Instant::now());
        Ok(Reaction::Nothing)
    }
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("tape.db").display());
    let store = tape_store::open::open(&url).await.unwrap();
    let engine = Engine::new(store, Arc::new(SystemClock));
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    show("effect due -> its reactor called", due(&engine, &tape).await);
    show("effect confirmed -> read in the feed", confirmed(&tape).await);
}

async fn due(engine: &Engine, tape: &Tape) -> Vec<Duration> {
    let (woken, mut wakes) = mpsc::unbounded_channel();
    let access: Arc<dyn Access> = Arc::new(engine.clone());
    let stop = CancellationToken::new();
    let driver = Driver::new(access, Arc::new(Probe(woken)), Default::default());
    let driver = tokio::spawn(driver.run(stop.clone()));
    let mut waits = Vec::new();
    for n in 0..ROUNDS {
        let run = begin(tape, &format!("due-{n}")).await;
        let decision = run.decide(&n, async || Answer::json(&n)).await.unwrap();
        let effect = run.effect(&decision, "bank", "pay").outbox();
        tokio::time::sleep(IDLE).await;
        while wakes.try_recv().is_ok() {}
        let begun = Instant::now();
        let waiting = tokio::spawn(async move { effect.settled_payload().await });
        // From before the commit: what is shown has the commit in it.
        waits.push(wakes.recv().await.unwrap() - begun);
        waiting.abort();
        run.fail("measured").await.unwrap();
    }
    stop.cancel();
    driver.await.unwrap();
    waits
}

async fn confirmed(tape: &Tape) -> Vec<Duration> {
    let mut feed = tape.tail(&Tail {
        pattern: "*.run.*.*.*.*.effect.confirmed".parse().unwrap(),
        from_start: false,
        follow: true,
    });
    let (saw, mut seen) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        while let Some(page) = feed.next().await {
            for _ in page.unwrap() {
                let _ = saw.send(Instant::now());
            }
        }
    });
    let mut waits = Vec::new();
    for n in 0..ROUNDS {
        let run = begin(tape, &format!("confirmed-{n}")).await;
        let decision = run.decide(&n, async || Answer::json(&n)).await.unwrap();
        tokio::time::sleep(IDLE).await;
        let effect = run.effect(&decision, "bank", "pay");
        let done: Instant = {
            let (at, answered) = std::sync::mpsc::channel();
            let pay = async |_| {
                at.send(Instant::now()).unwrap();
                Ok::<usize, CallError>(n)
            };
            effect.run(pay).await.unwrap();
            answered.recv().unwrap()
        };
        waits.push(seen.recv().await.unwrap() - done);
        run.complete(&n).await.unwrap();
    }
    reader.abort();
    waits
}

async fn begin(tape: &Tape, name: &str) -> tape_client::Run {
    let id = RunId::new("bench", "a", "u", "s", name).unwrap();
    match tape.run(id).begin().await.unwrap() {
        Begun::Driving(run) => run,
        Begun::Ended(ending) => panic!("{ending:?}"),
    }
}

fn show(what: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!(
        "{what}: p50 {:?}  p99 {:?}  max {:?}  ({ROUNDS} rounds, each after {IDLE:?} of quiet)",
        at(50),
        at(99),
        at(100)
    );
}
