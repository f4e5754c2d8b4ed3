//! Calls that an intermediary refuses: each is made again until the journal answers.

use crate::imposter::Imposter;
use crate::proxy::Proxy;
use crate::{LEASE, World, begin, connect, id};
use futures::StreamExt as _;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_client::core::agenda::Queue;
use tape_client::core::id::{GateName, Seq, SignalId, StreamId, Tenant, ValueName};
use tape_client::core::state::Delta;
use tape_client::{
    Answer, CallError, Error, Journal as _, JournalError, Payload, Remote, Retirement, RunQuery, Tail, Tape,
};
use tape_environment::machine;

/// A journal, and an imposter to which new connections lead for a while.
struct Astray {
    world: World,
    imposter: Imposter,
}

impl Astray {
    async fn new() -> Self {
        Self {
            world: World::new(0).await,
            imposter: Imposter::start().await,
        }
    }

    fn proxy(&self) -> &Proxy {
        &self.world.proxy
    }

    /// From now on connections lead to the imposter. Open connections break.
    fn leave(&self) {
        self.proxy().lead_to(self.imposter.address);
        self.proxy().reset();
    }

    /// Waits until `askers` have been refused in each way since there were `before` answers, then leads back.
    async fn come_back(&self, before: usize, askers: usize) {
        self.imposter.refused_in_each_way(before, askers).await;
        self.proxy().lead_to(self.world.server.address);
        self.proxy().reset();
    }

    /// Makes a call over a client whose connections lead to the imposter.
    async fn call<T>(&self, what: &str, call: impl AsyncFnOnce(Tape) -> Result<T, Error>) -> T {
        self.leave();
        let before = self.imposter.asked();
        let tape = connect(self.proxy(), LEASE).await;
        let called = async {
            let told = call(tape).await;
            told.unwrap_or_else(|error| panic!("{what}: {error:?}"))
        };
        tokio::join!(called, self.come_back(before, 1)).0
    }
}

fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_is_made_again() {
    let astray = Astray::new().await;
    let run = id("new");
    let session = run.session();
    let begun = astray.call("a beginning", async |tape| tape.run(id("new")).begin().await);
    let _driven = begun.await.driving().unwrap();
    let answer = async |tape: Tape| {
        let (gate, signal) = (GateName::new("g")?, SignalId::new("s")?);
        tape.signal(&run, gate, signal, Payload::empty()).await
    };
    astray.call("a signal", answer).await;
    let create = async |tape: Tape| tape.session(session.clone()).create(Delta::default()).await;
    astray.call("a session", create).await;
    let put = async |tape: Tape| {
        tape.value(acme(), ValueName::new("limit")?)
            .put(Payload::empty())
            .await
    };
    astray.call("a value", put).await;
    let cancel = async |tape: Tape| tape.cancel(&run, "not wanted").await;
    let cancelled = astray.call("a cancellation", cancel).await;
    let stream = StreamId::Run(run.clone());
    let erase = async |tape: Tape| tape.erase(&stream, vec![cancelled.seq], "asked for").await;
    astray.call("an erasure", erase).await;
    let retirement = Retirement {
        tenant: acme(),
        older_than: Duration::from_secs(1),
        reason: "quarter closed".to_owned(),
        dry_run: false,
    };
    let retire = async |tape: Tape| tape.retire(&retirement, None).await;
    astray.call("a retirement", retire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_is_asked_again() {
    let astray = Astray::new().await;
    let run = id("deserted");
    let runs = async |tape: Tape| tape.runs(&RunQuery::all(acme()), None, 8).await;
    assert_eq!(astray.call("a list", runs).await.runs.len(), 1);
    let head = async |tape: Tape| tape.head(&run).await;
    assert!(astray.call("a head", head).await.is_some());
    let outcome = async |tape: Tape| match tape.outcome(&run, Seq(1)).await {
        Err(Error::Invalid { what: "entry", .. }) => Ok(()),
        told => told.map(drop),
    };
    astray.call("an outcome", outcome).await;
    let view = async |tape: Tape| tape.session(run.session()).get(8).await;
    assert_eq!(astray.call("a session", view).await, None);
    let value = async |tape: Tape| tape.value(acme(), ValueName::new("limit")?).get().await;
    assert_eq!(astray.call("a value", value).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_goes_on() {
    let astray = Astray::new().await;
    let tape = connect(astray.proxy(), LEASE).await;
    let all = Tail {
        from_start: true,
        ..Tail::new(">".parse().unwrap())
    };
    let mut feed = tape.tail(&all);
    let told = feed.next().await.unwrap();
    assert!(told.is_ok(), "{told:?}");
    let before = astray.imposter.asked();
    astray.leave();
    let mut refused = 0;
    let reading = async {
        loop {
            match feed.next().await.expect("the feed never ends") {
                Err(Error::Unavailable { .. }) => refused += 1,
                Ok(_) if refused > 0 => return,
                Ok(_) => {}
                told => panic!("{told:?}"),
            }
        }
    };
    let writing = async {
        astray.come_back(before, 1).await;
        let value = tape.value(acme(), ValueName::new("limit").unwrap());
        value.put(Payload::empty()).await.unwrap();
    };
    tokio::join!(reading, writing);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_a_gate_goes_on_waiting() {
    let astray = Astray::new().await;
    let tape = connect(astray.proxy(), LEASE).await;
    let run = begin(&tape, "waits".to_owned()).await;
    let waiting = tokio::spawn({
        let run = run.clone();
        async move { run.gate("g").wait().await }
    });
    let (gate, signal) = (GateName::new("g").unwrap(), SignalId::new("s").unwrap());
    let before = astray.imposter.asked();
    astray.leave();
    // The lease is renewed meanwhile.
    astray.come_back(before, 2).await;
    tape.signal(run.id(), gate, signal, Payload::empty())
        .await
        .unwrap();
    let told = waiting.await.unwrap();
    assert!(told.is_ok(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_and_a_model_answered_is_recorded() {
    let astray = Astray::new().await;
    let tape = connect(astray.proxy(), LEASE).await;
    let run = begin(&tape, "acts".to_owned()).await;
    let led_astray = async || {
        let before = astray.imposter.asked();
        astray.leave();
        // The renewal that follows a lost connection is refused, and so is the next command.
        astray.imposter.refused_in_each_way(before, 1).await;
    };
    let before = astray.imposter.asked();
    let what = json!("what");
    let decided = run.decide(&what, async || {
        led_astray().await;
        Answer::json(&json!("pay"))
    });
    let (decided, ()) = tokio::join!(decided, astray.come_back(before, 3));
    let decided = decided.unwrap();
    let before = astray.imposter.asked();
    let acted = AtomicUsize::new(0);
    let paid = run.effect(&decided, "bank", "pay").run(async |_| {
        acted.fetch_add(1, Ordering::Relaxed);
        led_astray().await;
        Ok::<_, CallError>(json!("paid"))
    });
    let (paid, ()) = tokio::join!(paid, astray.come_back(before, 3));
    assert_eq!(paid.unwrap(), json!("paid"));
    assert_eq!(acted.into_inner(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_that_the_server_is_out_of_reach() {
    let astray = Astray::new().await;
    let remote = Remote::new(
        &astray.imposter.address.to_string(),
        Duration::from_secs(30),
        machine(),
    )
    .unwrap();
    for _ in 0..5 {
        let told = remote.due(Queue::Recovery, Duration::ZERO, None, 8).await;
        assert!(matches!(told, Err(JournalError::Unavailable(_))), "{told:?}");
    }
}
