//! Every future of the run API is dropped after each number of polls, and asked for again: the run comes to the same end, and every
//! decision is made and every act done once.

use crate::world::id;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tape_client::core::codec::decode;
use tape_client::core::command::{AttemptOutcome as Outcome, Command, RunCommand, WorkerCommand};
use tape_client::core::id::{EffectId, EventId, GateName, Holder, Seq, SignalId, StreamId};
use tape_client::core::state::Delta;
use tape_client::{Answer, Call, CallError, Currency, Decision, Error, Event, Payload, Run, RunResult, Tape};
use tape_engine::Engine;
use tape_server::config::Config;
use tape_server::server::Server;
use tape_store::clock::SystemClock;
use tape_store::memory::MemoryStore;

/// Polls `future` so many times, and drops it.
async fn poll_at_most<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        let Some(fewer) = left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        left = fewer;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// When futures are dropped.
#[derive(Clone, Copy, Debug)]
enum Drops {
    Never,
    /// Each once, after so many polls.
    After(u32),
    /// Each again and again, after one poll more each time.
    Growing,
}

/// The calls of the model and the upstream, with their counts.
#[derive(Clone, Debug, Default)]
struct World(Arc<Mutex<BTreeMap<String, u32>>>);

impl World {
    fn count(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn counts(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().clone()
    }
}

/// An agent whose futures are dropped.
struct Agent {
    engine: Engine,
    tape: Tape,
    drops: Drops,
    world: World,
    dropped: std::cell::Cell<u32>,
    /// Whether the model and the upstream take a while.
    slow: bool,
}

impl Agent {
    async fn ask<T>(&self, mut future: impl AsyncFnMut() -> T) -> T {
        match self.drops {
            Drops::Never => future().await,
            Drops::After(polls) => match poll_at_most(future(), polls).await {
                Some(output) => output,
                None => {
                    self.dropped.set(self.dropped.get() + 1);
                    future().await
                }
            },
            Drops::Growing => {
                for polls in 0.. {
                    if let Some(output) = poll_at_most(future(), polls).await {
                        return output;
                    }
                }
                unreachable!("it comes to an end")
            }
        }
    }

    async fn pause(&self) {
        if self.slow {
            tokio::task::yield_now().await;
        }
    }

    async fn decide(&self, run: &Run, request: &str) -> Decision {
        let decision = self.ask(async || {
            let decision = run.decision(&request).reserve("tokens", 5);
            decision
                .ask(async || {
                    self.pause().await;
                    self.world.count(request);
                    Answer::json(&format!("do {request}"))
                })
                .await
        });
        decision.await.unwrap()
    }

    async fn call(&self, call: Call) -> Result<String, CallError> {
        self.pause().await;
        self.world.count(call.key());
        self.pause().await;
        Ok(format!("done {}", call.key()))
    }

    async fn pay(&self, run: &Run, decision: &Decision, to: &str) -> String {
        let pay = self.ask(async || {
            let pay = run.effect(decision, "bank", "pay").args(&to).undo("refund", &to);
            pay.run(async |call| self.call(call).await).await
        });
        pay.await.unwrap()
    }

    /// Uses every future of a run, and returns their results.
    async fn drive(&self) -> Value {
        let begun = self.ask(async || self.tape.run(id()).input_json(&1).begin().await);
        let run = begun.await.unwrap().driving().unwrap();
        let open = self.ask(async || run.open_budget("tokens", Currency::Tokens, 1_000).await);
        open.await.unwrap();
        let first = self.decide(&run, "first").await;
        let receipt = self.pay(&run, &first, "ann").await;
        let siblings = self.ask(async || {
            let pay = |to: &'static str| {
                let pay = run.effect(&first, "bank", "pay").args(&to);
                pay.run(async |call| self.call(call).await)
            };
            Box::pin(futures::future::try_join3(pay("bob"), pay("cid"), pay("bob"))).await
        });
        let siblings: (String, String, String) = siblings.await.unwrap();
        let mark = self.ask(async || run.checkpoint("paid", &receipt).await);
        mark.await.unwrap();
        let sample = self.ask(async || {
            let take = async || {
                self.world.count("sample");
                Ok::<_, Infallible>(7)
            };
            run.sample("price", take).await
        });
        let sample: u32 = sample.await.unwrap();
        let sub = run.scope("sub").unwrap();
        let below = self.decide(&sub, "below").await;
        let inner = self.pay(&sub, &below, "dan").await;
        let shipped = self.ask(async || {
            let ship = run.effect(&first, "post", "ship").args(&1).outbox();
            ship.settled::<String>().await
        });
        let shipped = shipped.await.unwrap();
        let gate = self.ask(async || {
            sub.gate("approval")
                .deadline(Duration::from_secs(60))
                .wait()
                .await
        });
        let approved: bool = gate.await.unwrap().json().unwrap();
        let nap = self.ask(async || run.sleep("nap", Duration::from_millis(1)).await);
        nap.await.unwrap();
        let session = self.tape.session(session());
        let event = || {
            let content = Payload::json(&json!("hello"));
            Event::new(EventId::new("e1").unwrap(), "agent", content)
        };
        let append = self.ask(async || session.append(event()).await);
        append.await.unwrap();
        let second = self.decide(&run, "second").await;
        let last = self.pay(&run, &second, "eve").await;
        let all = json!({
            "receipts": [receipt, siblings.0, siblings.1, siblings.2, inner, shipped, last],
            "sample": sample, "approved": approved,
            "answers": [first.json::<String>().unwrap(), second.json::<String>().unwrap()],
        });
        let end = self.ask(async || run.complete(&all).await);
        assert_eq!(end.await.unwrap(), RunResult::Completed(Payload::json(&all)));
        all
    }

    /// The kinds of the entries in the run's journal that this agent asks for, sorted.
    async fn recorded(&self) -> Vec<String> {
        let stream = StreamId::Run(id());
        let stored = self.engine.store().read(&stream, Seq::ZERO, 4096).await.unwrap();
        let kinds = stored
            .iter()
            .map(|stored| decode(stored).unwrap().body.kind().to_owned());
        let again = [
            "lease.acquired",
            "lease.released",
            "lease.renewed",
            "effect.started",
        ];
        let mut kinds: Vec<String> = kinds.filter(|kind| !again.contains(&kind.as_str())).collect();
        kinds.sort();
        kinds
    }
}

fn session() -> tape_client::SessionId {
    let run = id();
    tape_client::SessionId {
        tenant: run.tenant,
        app: run.app,
        user: run.user,
        session: run.session,
    }
}

/// Dispatches the one effect that is for the outbox.
async fn work(engine: Engine) {
    let effect: EffectId = "#0.4".parse().unwrap();
    let holder = Holder::new("worker").unwrap();
    let ask = |command: WorkerCommand| {
        let request = engine.request_id();
        let engine = engine.clone();
        async move {
            engine
                .run(&id(), Command::new(request, RunCommand::Work(command)))
                .await
        }
    };
    loop {
        let changed = engine.store().changed();
        let (claimed, by) = (effect.clone(), holder.clone());
        let claim = ask(WorkerCommand::ClaimEffect {
            effect: claimed,
            holder: by,
            claim_ms: 60_000,
        });
        if claim.await.is_ok() {
            break;
        }
        changed.await;
    }
    let result = Payload::json(&json!("shipped"));
    let ending = Outcome::Confirmed {
        result,
        undo: None,
        spent: None,
    };
    let finish = WorkerCommand::FinishClaimed {
        effect,
        holder,
        attempt: 1,
        ending,
    };
    ask(finish).await.unwrap();
}

/// The way to the journal.
#[derive(Clone, Copy, Debug)]
enum Door {
    Embedded,
    Server,
}

/// Drives an agent to its end. Returns its results, the kinds of its entries, the calls of the world, and the number of dropped futures.
async fn drive(door: Door, drops: Drops, slow: bool) -> (Value, Vec<String>, World, u32) {
    let engine = Engine::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let mut serving = None;
    let tape = match door {
        Door::Embedded => Tape::over(engine.clone()).connect().await.unwrap(),
        Door::Server => {
            let config = Config::new("memory:", "127.0.0.1:0".parse().unwrap());
            let server = Server::over(config, engine.clone()).unwrap();
            let url = format!("tape://{}", server.address());
            serving = Some(tokio::spawn(server.run(std::future::pending())));
            Tape::connect(&url).await.unwrap()
        }
    };
    tape.session(session()).create(Delta::default()).await.unwrap();
    let worker = tokio::spawn(work(engine.clone()));
    let signal = tape.clone();
    let signal = tokio::spawn(async move {
        let (run, gate) = (id(), GateName::new("approval").unwrap());
        loop {
            let sent = signal.signal(
                &run,
                gate.clone(),
                SignalId::new("s").unwrap(),
                Payload::json(&json!(true)),
            );
            match sent.await {
                Ok(_) => break,
                // The run has not begun.
                Err(Error::Rejected(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let agent = Agent {
        engine,
        tape,
        drops,
        world: World::default(),
        dropped: std::cell::Cell::new(0),
        slow,
    };
    let came_of_it = Box::pin(agent.drive()).await;
    worker.await.unwrap();
    signal.await.unwrap();
    let recorded = agent.recorded().await;
    if let Some(serving) = serving {
        serving.abort();
    }
    (came_of_it, recorded, agent.world, agent.dropped.get())
}

/// Acts of an upstream that honours keys.
fn acts(world: &World) -> Vec<String> {
    let counts = world.counts();
    counts
        .keys()
        .filter(|key| key.starts_with("tape-"))
        .cloned()
        .collect()
}

async fn dropped_everywhere(door: Door) {
    let (expected, journal, undisturbed, _) = drive(door, Drops::Never, false).await;
    assert!(undisturbed.counts().values().all(|count| *count == 1));
    for slow in [false, true] {
        let (found, recorded, world, _) = drive(door, Drops::Growing, slow).await;
        assert_eq!((&found, &recorded), (&expected, &journal), "growing");
        assert_eq!(acts(&world), acts(&undisturbed), "growing");
        for polls in 0.. {
            let (found, recorded, world, dropped) = drive(door, Drops::After(polls), slow).await;
            assert_eq!((&found, &recorded), (&expected, &journal), "after {polls} polls");
            assert_eq!(acts(&world), acts(&undisturbed), "after {polls} polls");
            if !slow {
                assert_eq!(world.counts(), undisturbed.counts(), "after {polls} polls");
            }
            if dropped == 0 {
                assert!(polls > 2, "futures take several polls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn every_future_can_be_dropped_embedded() {
    dropped_everywhere(Door::Embedded).await;
}

#[tokio::test]
async fn every_future_can_be_dropped_over_a_server() {
    dropped_everywhere(Door::Server).await;
}

async fn run() -> (Engine, Run) {
    let engine = Engine::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let tape = Tape::over(engine.clone()).connect().await.unwrap();
    let run = tape.run(id()).begin().await.unwrap().driving().unwrap();
    (engine, run)
}

async fn answer() -> Result<Answer, Error> {
    Answer::json(&1)
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_timed_out_is_the_same_effect_when_asked_for_again() {
    let (_engine, run) = run().await;
    let world = World::default();
    let decision = run.decide(&"pay", answer).await.unwrap();
    let mut paid = None;
    for seconds in [1, 1, 5] {
        let pay = run.effect(&decision, "bank", "pay").args(&"ann");
        let pay = pay.run(async |call| {
            world.count(call.key());
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(1)
        });
        paid = tokio::time::timeout(Duration::from_secs(seconds), pay).await.ok();
    }
    assert_eq!(paid.unwrap().unwrap(), 1);
    assert_eq!(world.counts().len(), 1, "one key: {:?}", world.counts());
    run.complete(&()).await.unwrap();
}

#[tokio::test]
async fn an_effect_asked_for_again_by_its_number_returns_its_outcome() {
    let (_engine, run) = run().await;
    let world = World::default();
    let decision = run.decide(&"pay", answer).await.unwrap();
    for _ in 0..2 {
        let pay = run.effect(&decision, "bank", "pay").call(3);
        let paid: u32 = pay
            .run(async |call| {
                world.count(call.key());
                Ok(1)
            })
            .await
            .unwrap();
        assert_eq!(paid, 1);
    }
    assert_eq!(world.counts().into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_read_only_tool_that_keeps_failing_reports_its_own_error() {
    for unknown in [false, true] {
        let (engine, run) = run().await;
        let decision = run.decide(&"look", answer).await.unwrap();
        let policy = tape_client::core::effect::EffectPolicy {
            attempts_max: 2,
            backoff_ms: 1,
            backoff_max_ms: 1,
            ..Default::default()
        };
        let look = async |run: &Run, decision: &Decision| {
            let look = run.effect(decision, "bank", "balance").read_only().policy(policy);
            look.run::<u32, _>(async |_| {
                Err(if unknown {
                    CallError::unknown("out of order")
                } else {
                    CallError::retry("out of order")
                })
            })
            .await
            .unwrap_err()
            .to_string()
        };
        let error = look(&run, &decision).await;
        assert_eq!(
            error,
            "effect #0.0 failed: gave up after 2 failures, the last: out of order"
        );
        run.release(Duration::ZERO).await.unwrap();
        let tape = Tape::over(engine).connect().await.unwrap();
        let run = tape.run(id()).begin().await.unwrap().driving().unwrap();
        let decision = run.decide(&"look", answer).await.unwrap();
        assert_eq!(look(&run, &decision).await, error, "a re-drive is told the same");
    }
}

#[tokio::test]
async fn a_run_goes_on_after_closures_that_panic() {
    let (_engine, run) = run().await;
    let panics = run.clone();
    let decided = tokio::spawn(async move {
        let model = async || -> Result<Answer, Error> { panic!("the model") };
        panics.decide(&"pay", model).await.map(|_| ())
    });
    assert!(decided.await.unwrap_err().is_panic());
    let decision = run.decide(&"pay", answer).await.unwrap();
    assert_eq!(decision.position().k, 0);
    let (panics, by) = (run.clone(), decision.clone());
    let paid = tokio::spawn(async move {
        let pay = panics.effect(&by, "bank", "pay").args(&1);
        pay.run::<u32, _>(async |_| panic!("the upstream")).await
    });
    assert!(paid.await.unwrap_err().is_panic());
    let pay = run.effect(&decision, "bank", "pay").args(&1);
    let key = pay.run(async |call| Ok(call.effect().to_string())).await.unwrap();
    assert_eq!(key, "#0.0");
    let panics = run.clone();
    let sampled = tokio::spawn(async move {
        let take = async || -> Result<u32, Infallible> { panic!("the sample") };
        panics.sample("price", take).await
    });
    assert!(sampled.await.unwrap_err().is_panic());
    let take = async || Ok::<_, Infallible>(7);
    assert_eq!(run.sample("price", take).await.unwrap(), 7);
    run.complete(&()).await.unwrap();
}

#[tokio::test]
async fn a_run_that_was_completed_can_be_told_so_again() {
    let (_engine, run) = run().await;
    let end = run.complete(&1).await.unwrap();
    assert_eq!(run.complete(&1).await.unwrap(), end);
    let error = run.complete(&2).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the agent drifted from its journal at its end: output: recorded 1 bytes"),
        "{error}"
    );
    assert!(matches!(run.fail("no").await, Err(Error::Ended(_))));
}
