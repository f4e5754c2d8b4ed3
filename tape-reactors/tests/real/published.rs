//! Effects that are published to a topic or a queue: their subscriber alone says what came of them.

use crate::process::Child;
use crate::upstream::Upstream;
use crate::world::{Driven, World, effect, spec};
use tape_core::command::{ExternalCommand, Verdict};
use tape_core::effect::{EffectSpec, Semantics, SettledBy, Status};
use tape_core::entry::EntryBody;
use tape_core::id::ConnectorName;
use tape_core::payload::Payload;

/// An effect whose upstream is a subscriber.
fn published(business_key: &str) -> EffectSpec {
    let mut spec = spec(Semantics::Idempotent, business_key);
    spec.connector = ConnectorName::new("desk").unwrap();
    spec.policy.observations_max = 1_000;
    spec
}

/// The subscriber confirms the effect, as it would with `tape settle`.
async fn confirm(run: &Driven) {
    loop {
        let seen = run.end().await;
        let settle = ExternalCommand::SettleEffect {
            effect: effect(0),
            verdict: Verdict::Confirmed {
                result: Payload::json(&serde_json::json!("booked")),
                undo: None,
            },
            reason: "the desk did it".to_owned(),
            seen,
        };
        // While a worker has it, or something was written meanwhile, the subscriber tries again.
        if run.tell(settle).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn settled_by(run: &Driven) -> SettledBy {
    let entries = run.entries().await;
    let mut confirmed = entries.into_iter().filter_map(|body| match body {
        EntryBody::EffectConfirmed(confirmed) => Some(confirmed.by),
        _ => None,
    });
    let by = confirmed.next().unwrap();
    assert!(confirmed.next().is_none(), "it is confirmed once");
    by
}

/// An effect that would be done twice is not published.
async fn refuses_what_would_act_twice(world: &World, upstream: &Upstream, connector: &str) {
    let _worker = world.worker_with(upstream, connector, &[]);
    let run = world.run("twice").await;
    let mut spec = published("order");
    spec.semantics = Semantics::NonIdempotent;
    run.begin(0, spec).await;
    run.until_effect(0, Status::Failed).await;
}

#[cfg(feature = "cloud-tasks")]
mod by_cloud_tasks {
    use super::*;
    use crate::cloud_tasks::{Call, CloudTasks, Fault, QUEUE};
    use tape_environment::machine;

    /// A queue whose tasks let the upstream act, and which is asked about them, or not.
    fn connector(tasks: &CloudTasks, upstream: &Upstream, asked: bool) -> String {
        let url = upstream.url();
        let answers = format!(
            "[connectors.desk.cloud_tasks.answers]\nobserve = \"{url}/find/{{business_key}}\"\n\
             found = {{ status = 200, headers = {{ upstream-found = \"act\" }} }}\n"
        );
        format!(
            "[connectors.desk.cloud_tasks]\nqueue = \"{QUEUE}\"\nurl = \"{url}/act/pay\"\n\
             service_account = \"desk@test.iam.gserviceaccount.com\"\nemulator = \"{}\"\n{}",
            tasks.address(),
            if asked { answers.as_str() } else { "" },
        )
    }

    #[tokio::test]
    async fn an_effect_is_confirmed_once_its_subscriber_is_found_to_have_acted() {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let tasks = CloudTasks::start(machine()).await;
        tasks.pause(true);
        let _worker = world.worker_with(&upstream, &connector(&tasks, &upstream, true), &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        run.until_effect(0, Status::Unknown).await;
        assert_eq!(tasks.tasks().len(), 1, "it is published");
        // Asked, the upstream knows nothing of it yet.
        run.until_count("effect.observed", 2).await;
        assert_eq!(
            (run.count("effect.confirmed").await, upstream.acts("order")),
            (0, 0)
        );
        tasks.pause(false);
        run.until_effect(0, Status::Confirmed).await;
        assert_eq!(upstream.acts("order"), 1);
        assert!(matches!(settled_by(&run).await, SettledBy::Observer { .. }));
    }

    #[tokio::test]
    async fn a_delivery_that_was_answered_confirms_nothing_until_the_subscriber_settles() {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let tasks = CloudTasks::start(machine()).await;
        let _worker = world.worker_with(&upstream, &connector(&tasks, &upstream, false), &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        run.until_effect(0, Status::Unknown).await;
        let delivered = |call: &Call| matches!(call, Call::Delivered { status: 200, .. });
        tasks.until(|calls| calls.iter().any(delivered)).await;
        run.until_count("effect.observed", 3).await;
        assert_eq!(run.count("effect.confirmed").await, 0);
        confirm(&run).await;
        assert!(matches!(settled_by(&run).await, SettledBy::Person { .. }));
        assert_eq!(upstream.acts("order"), 1);
    }

    /// The worker dies between the publication and the record of it, and the task is delivered or not until the next worker comes.
    #[tokio::test]
    async fn a_worker_that_is_killed_after_it_published_leads_to_one_act() {
        for is_delivered in [false, true] {
            let world = World::sqlite().await;
            let upstream = Upstream::start(world.dir.path(), true);
            let tasks = CloudTasks::start(machine()).await;
            tasks.pause(!is_delivered);
            tasks.faults([Fault::HoldAnswer]);
            let connector = connector(&tasks, &upstream, true);
            let mut worker: Child = world.worker_with(&upstream, &connector, &[]);
            let run = world.run("i").await;
            run.begin(0, published("order")).await;
            let happened = |call: &Call| match call {
                Call::Created { .. } => !is_delivered,
                Call::Delivered { .. } => is_delivered,
                _ => false,
            };
            tasks.until(|calls| calls.iter().any(happened)).await;
            worker.kill();
            assert_eq!(run.count("effect.unknown").await, 0, "nothing is recorded of it");
            let _worker = world.worker_with(&upstream, &connector, &[]);
            run.until_effect(0, Status::Unknown).await;
            tasks.pause(false);
            run.until_effect(0, Status::Confirmed).await;
            assert_eq!(run.count("effect.started").await, 2);
            assert_eq!(upstream.acts("order"), 1, "delivered before: {is_delivered}");
            let created = |call: &&Call| matches!(call, Call::Created { .. });
            let tasks = tasks.calls().iter().filter(created).count();
            assert_eq!(tasks, if is_delivered { 2 } else { 1 });
        }
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_is_followed_by_the_same_task() {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let tasks = CloudTasks::start(machine()).await;
        tasks.pause(true);
        tasks.faults([
            Fault::LoseRequest,
            Fault::LoseAnswer,
            Fault::Refuse(429, "RESOURCE_EXHAUSTED"),
        ]);
        let _worker = world.worker_with(&upstream, &connector(&tasks, &upstream, true), &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        run.until_effect(0, Status::Unknown).await;
        assert_eq!(tasks.tasks().len(), 1);
        tasks.pause(false);
        run.until_effect(0, Status::Confirmed).await;
        assert_eq!(upstream.acts("order"), 1);
    }

    #[tokio::test]
    async fn an_effect_that_would_act_twice_is_not_published() {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let tasks = CloudTasks::start(machine()).await;
        let connector = connector(&tasks, &upstream, true);
        refuses_what_would_act_twice(&world, &upstream, &connector).await;
        assert_eq!(tasks.calls(), []);
    }
}

#[cfg(feature = "pubsub")]
mod by_pubsub {
    use super::*;
    use crate::proxy::Proxy;
    use crate::pubsub_emulator::Emulator;
    use serde_json::Value;
    use std::sync::Arc;

    /// A topic with a subscription, behind a proxy.
    struct Topic {
        emulator: Arc<Emulator>,
        proxy: Proxy,
        topic: String,
        subscription: String,
    }

    impl Topic {
        /// None where the emulator is not installed, which is reported.
        async fn new() -> Option<Self> {
            let emulator = Emulator::start()?;
            let topic = emulator.create_topic("desk");
            let subscription = emulator.create_subscription("desk", &topic);
            Some(Self {
                proxy: Proxy::to(emulator.address()).await,
                emulator: Arc::new(emulator),
                topic,
                subscription,
            })
        }

        fn connector(&self, upstream: &Upstream, asked: bool) -> String {
            let url = upstream.url();
            let answers = format!(
                "[connectors.desk.pubsub.answers]\nobserve = \"{url}/find/{{business_key}}\"\n\
                 found = {{ status = 200, headers = {{ upstream-found = \"act\" }} }}\n"
            );
            format!(
                "[connectors.desk.pubsub]\ntopic = \"{}\"\nemulator = \"{}\"\n{}",
                self.topic,
                self.proxy.address(),
                if asked { answers.as_str() } else { "" },
            )
        }

        /// The next message, which is acknowledged.
        async fn next(&self) -> Value {
            let (emulator, subscription) = (Arc::clone(&self.emulator), self.subscription.clone());
            let pulled = tokio::task::spawn_blocking(move || {
                loop {
                    let pull = format!("POST /v1/{subscription}:pull");
                    let pulled: Value =
                        serde_json::from_str(&emulator.request(&pull, r#"{"maxMessages": 1}"#)).unwrap();
                    let Some(message) = pulled["receivedMessages"].get(0) else {
                        continue;
                    };
                    let ids = format!(r#"{{"ackIds": [{}]}}"#, message["ackId"]);
                    emulator.request(&format!("POST /v1/{subscription}:acknowledge"), &ids);
                    return message["message"].clone();
                }
            });
            pulled.await.unwrap()
        }
    }

    /// The subscriber lets the upstream act under the key of a message.
    async fn act(upstream: &Upstream, message: &Value) {
        let attribute = |name: &str| message["attributes"][name].as_str().unwrap().to_owned();
        let request = crate::upstream::http()
            .post(format!("{}/act/{}", upstream.url(), attribute("tape-operation")))
            .header("idempotency-key", attribute("idempotency-key"))
            .header("tape-business-key", attribute("tape-business-key"))
            .json(&serde_json::json!({}));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    #[tokio::test]
    async fn a_message_has_the_effects_key_and_its_subscriber_alone_confirms() {
        let Some(topic) = Topic::new().await else { return };
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let _worker = world.worker_with(&upstream, &topic.connector(&upstream, false), &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        let message = topic.next().await;
        let attributes = &message["attributes"];
        assert_eq!(attributes["idempotency-key"], effect(0).idempotency_key(&run.run));
        assert_eq!(
            attributes["tape-run"],
            tape_core::id::StreamId::Run(run.run.clone()).to_string()
        );
        assert_eq!(attributes["tape-effect"], "%230.0");
        assert_eq!(attributes["tape-business-key"], "order");
        assert_eq!(message["orderingKey"], attributes["tape-run"]);
        // It is published and acknowledged, and still nothing is known.
        run.until_count("effect.observed", 3).await;
        assert_eq!(run.state().await.effects()[&effect(0)].status, Status::Unknown);
        confirm(&run).await;
        assert!(matches!(settled_by(&run).await, SettledBy::Person { .. }));
    }

    /// The answer to the publication is swallowed, and the worker is killed: the next one publishes the effect again, under the same key.
    #[tokio::test]
    async fn a_worker_that_is_killed_after_it_published_publishes_again_under_the_same_key() {
        let Some(topic) = Topic::new().await else { return };
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let connector = topic.connector(&upstream, true);
        topic.proxy.swallow(true);
        let mut worker = world.worker_with(&upstream, &connector, &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        let first = topic.next().await;
        worker.kill();
        assert_eq!(run.count("effect.unknown").await, 0, "nothing is recorded of it");
        topic.proxy.swallow(false);
        let _worker = world.worker_with(&upstream, &connector, &[]);
        let second = topic.next().await;
        assert_ne!(first["messageId"], second["messageId"]);
        for word in ["idempotency-key", "tape-run", "tape-effect"] {
            assert_eq!(first["attributes"][word], second["attributes"][word]);
        }
        act(&upstream, &first).await;
        act(&upstream, &second).await;
        run.until_effect(0, Status::Confirmed).await;
        assert_eq!(upstream.acts("order"), 1, "the subscriber honours keys");
        assert!(matches!(settled_by(&run).await, SettledBy::Observer { .. }));
    }

    #[tokio::test]
    async fn an_effect_that_would_act_twice_is_not_published() {
        let Some(topic) = Topic::new().await else { return };
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let connector = topic.connector(&upstream, true);
        refuses_what_would_act_twice(&world, &upstream, &connector).await;
    }

    /// A topic that is away is not reached, and no attempt counts.
    #[tokio::test]
    async fn while_the_topic_is_away_nothing_is_published_and_no_attempt_counts() {
        let world = World::sqlite().await;
        let upstream = Upstream::start(world.dir.path(), true);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nowhere = listener.local_addr().unwrap();
        drop(listener);
        let connector = format!(
            "[connectors.desk.pubsub]\ntopic = \"projects/p/topics/desk\"\nemulator = \"{nowhere}\"\n"
        );
        let _worker = world.worker_with(&upstream, &connector, &[]);
        let run = world.run("i").await;
        run.begin(0, published("order")).await;
        run.until_count("effect.deferred", 2).await;
        let entries = run.entries().await;
        let unreached = |body: &EntryBody| matches!(body, EntryBody::EffectDeferred(e) if e.unreached);
        assert!(entries.iter().filter(|body| unreached(body)).count() >= 2);
    }
}
