//! Workers that are killed between the upstream's commit and the record of it.

use crate::process::{Child, role, say};
use crate::upstream::{Fault, Upstream};
use crate::world::{World, effect, spec};
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::command::{AttemptOutcome, Command, RunCommand, WorkerCommand};
use tape_core::effect::{Semantics, SettledBy, Status};
use tape_core::entry::EntryBody;
use tape_core::id::Holder;
use tape_reactors::api::Journal;
use tape_reactors::api::due::DueWork;

const KILLS: usize = 100;

#[tokio::test]
async fn an_effect_whose_worker_is_killed_after_the_upstreams_commit_is_done_once() {
    done_once(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn an_effect_whose_worker_is_killed_after_the_upstreams_commit_is_done_once_on_postgres() {
    if let Some(world) = World::postgres().await {
        done_once(&world).await;
    }
}

pub(crate) async fn done_once(world: &World) {
    let upstream = Upstream::start(world.dir.path(), false);
    let run = world.run("killed").await;
    for n in 0..KILLS {
        let mut spec = spec(Semantics::NonIdempotent, &format!("order-{n}"));
        // The workers that ask about it are killed too, each time.
        spec.policy.observations_max = 10 * u32::try_from(KILLS).unwrap();
        run.begin(n, spec).await;
        upstream.faults(&[Fault::Hold]).await;
        let mut worker = world.worker(&upstream);
        upstream.held(n + 1).await;
        worker.kill();
    }
    let _worker = world.worker(&upstream);
    for n in 0..KILLS {
        run.until_effect(n, Status::Confirmed).await;
        assert_eq!(upstream.acts(&format!("order-{n}")), 1);
    }
    let observed = |body: &EntryBody| matches!(body, EntryBody::EffectConfirmed(e) if matches!(e.by, SettledBy::Observer { .. }));
    let entries = run.entries().await;
    assert_eq!(entries.iter().filter(|body| observed(body)).count(), KILLS);
    assert_eq!(run.count("effect.unknown").await, KILLS);
    assert_eq!(run.count("effect.started").await, KILLS);
    assert_eq!(upstream.ledger().len(), KILLS);
}

/// The control: the same, by a worker that calls first and records afterwards.
#[tokio::test]
async fn without_the_record_of_the_start_the_effect_is_done_twice() {
    const KILLS: usize = 5;
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), false);
    let run = world.run("blind").await;
    for n in 0..KILLS {
        run.begin(n, spec(Semantics::NonIdempotent, &format!("order-{n}")))
            .await;
        upstream.faults(&[Fault::Hold]).await;
        let mut worker = blind(&world, &upstream);
        upstream.held(n + 1).await;
        worker.kill();
        let _worker = blind(&world, &upstream);
        run.until_effect(n, Status::Confirmed).await;
        assert_eq!(upstream.acts(&format!("order-{n}")), 2, "the harm is done");
    }
}

fn blind(world: &World, upstream: &Upstream) -> Child {
    let path = world.dir.path().join("tape.db");
    let mut child = Child::start_role("killed::blind_worker", &path, &[("UPSTREAM", upstream.url())]);
    assert_eq!(child.said(), "ready");
    child
}

#[test]
fn blind_worker() {
    let Some(path) = role("killed::blind_worker") else {
        return;
    };
    let upstream = std::env::var("UPSTREAM").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = tape_store::open::open(&format!("sqlite:{path}")).await.unwrap();
        let engine = tape_engine::Engine::start(store);
        say("ready");
        loop {
            let changed = Journal::changed(&engine, Queue::Outbox);
            let due = Journal::due(&engine, Queue::Outbox, Duration::ZERO, None, 10).await;
            for work in due.unwrap().work {
                call_first(&engine, &upstream, &work).await;
            }
            changed.await;
        }
    });
}

async fn call_first(engine: &tape_engine::Engine, upstream: &str, work: &DueWork) {
    let (Some(run), Item::Effect(effect)) = (work.stream.as_run(), &work.item) else {
        return;
    };
    let state = engine.run_state(run).await.unwrap().unwrap();
    let business_key = state.effects()[effect].business_key.clone().unwrap();
    let request = crate::upstream::http()
        .post(format!("{upstream}/act/pay"))
        .header("idempotency-key", effect.idempotency_key(run))
        .header("tape-business-key", business_key.as_str())
        .json(&serde_json::json!({}));
    request.send().await.unwrap().error_for_status().unwrap();
    let holder = Holder::new("blind").unwrap();
    let claim = WorkerCommand::ClaimEffect {
        effect: effect.clone(),
        holder: holder.clone(),
        claim_ms: 10_000,
    };
    let finish = WorkerCommand::FinishClaimed {
        effect: effect.clone(),
        holder,
        attempt: 1,
        ending: AttemptOutcome::Confirmed {
            result: tape_core::payload::Payload::empty(),
            undo: None,
            spent: None,
        },
    };
    for command in [claim, finish] {
        let request = engine.request_id();
        let command = Command::new(request, RunCommand::Work(command));
        engine.run(run, command).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_killed_worker_may_have_done_does_not_fail_by_what_a_router_says_later() {
    refused_in_doubt(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_a_killed_worker_may_have_done_does_not_fail_by_what_a_router_says_later_on_postgres() {
    if let Some(world) = World::postgres().await {
        refused_in_doubt(&world).await;
    }
}

pub(crate) async fn refused_in_doubt(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let run = world.run("routed").await;
    for (n, status) in [403, 404, 405, 413].into_iter().enumerate() {
        let name = format!("order-{n}");
        run.begin(n, spec(Semantics::Idempotent, &name)).await;
        let refused = Fault::Refuse {
            status,
            retry_after: None,
        };
        upstream.faults(&[Fault::Hold, refused]).await;
        let mut worker = world.worker(&upstream);
        upstream.held(n + 1).await;
        worker.kill();
        let _worker = world.worker(&upstream);
        assert_eq!(run.until_seen_to(n).await, Status::Confirmed, "{status}");
        assert_eq!(upstream.acts(&name), 1);
        assert_eq!(run.state().await.obligations().len(), n + 1, "it can be undone");
    }
}

/// The other semantics: an upstream that knows the key is called again with it, and acts once.
#[tokio::test]
async fn an_idempotent_effect_whose_worker_is_killed_is_sent_again_under_its_key() {
    sent_again(&World::sqlite().await).await;
}

pub(crate) async fn sent_again(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let run = world.run("idempotent").await;
    run.begin(0, spec(Semantics::Idempotent, "order")).await;
    upstream.faults(&[Fault::Hold]).await;
    let mut worker = world.worker(&upstream);
    upstream.held(1).await;
    worker.kill();
    let _worker = world.worker(&upstream);
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("order"), 1);
    assert_eq!(run.state().await.effects()[&effect(0)].attempt, 2);
    assert_eq!(run.count("effect.observing").await, 0);
}
