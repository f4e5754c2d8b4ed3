//! Answers that are lost, late, or refusals of different kinds.

use crate::upstream::{Fault, Upstream};
use crate::world::{World, effect, spec};
use tape_core::effect::{Semantics, Status};
use tape_core::entry::EntryBody;

const REFUSED: Fault = Fault::Refuse {
    status: 429,
    retry_after: Some(1),
};

#[tokio::test]
async fn answers_of_all_kinds() {
    each(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn answers_of_all_kinds_on_postgres() {
    if let Some(world) = World::postgres().await {
        each(&world).await;
    }
}

/// One after the other in one journal: starting a server for each costs more than the rest.
async fn each(world: &World) {
    let mut upstream = Upstream::start(world.dir.path(), false);
    let worker = world.worker(&upstream);
    a_lost_answer_is_looked_up(world, &upstream).await;
    a_conflict_with_an_earlier_attempt_is_looked_up(world, &upstream).await;
    a_conflict_of_the_first_attempt_is_a_failure(world, &upstream).await;
    a_wish_to_wait_is_heeded(world, &upstream).await;
    a_failing_upstream_is_looked_up(world, &upstream).await;
    an_upstream_that_is_slower_than_the_claim_is_called_once(world, &upstream).await;
    an_upstream_that_is_down_is_tried_again(world, &mut upstream).await;
    drop(worker);
    an_answer_after_the_claim_lapsed_does_not_count(world, &upstream).await;
}

async fn a_lost_answer_is_looked_up(world: &World, upstream: &Upstream) {
    let run = world.run("lost").await;
    upstream.faults(&[Fault::Lose]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "lost")).await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("lost"), 1);
    assert_eq!(run.count("effect.unknown").await, 1);
    assert_eq!(run.count("effect.started").await, 1);
}

async fn a_conflict_with_an_earlier_attempt_is_looked_up(world: &World, upstream: &Upstream) {
    let run = world.run("conflict").await;
    let conflict = Fault::ActAndAnswer { status: 409 };
    upstream.faults(&[REFUSED, conflict]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "conflict")).await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("conflict"), 1);
    assert_eq!(run.count("effect.unknown").await, 1);
}

async fn a_conflict_of_the_first_attempt_is_a_failure(world: &World, upstream: &Upstream) {
    let run = world.run("refused").await;
    let refused = Fault::Refuse {
        status: 409,
        retry_after: None,
    };
    upstream.faults(&[refused]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "refused")).await;
    run.until_effect(0, Status::Failed).await;
    assert_eq!(upstream.acts("refused"), 0);
}

async fn a_wish_to_wait_is_heeded(world: &World, upstream: &Upstream) {
    let run = world.run("busy").await;
    upstream.faults(&[REFUSED]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "busy")).await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("busy"), 1);
    let times = run.times(|body| matches!(body, EntryBody::EffectDeferred(_) | EntryBody::EffectStarted(_)));
    let times = times.await;
    let [_, deferred, again] = times[..] else {
        panic!("{times:?}");
    };
    assert!(
        again.millis_since(deferred) >= 1_000,
        "the upstream's own wish, not the policy's 50 ms"
    );
    assert_eq!(
        run.count("effect.unknown").await,
        0,
        "it said that it did not act"
    );
}

async fn a_failing_upstream_is_looked_up(world: &World, upstream: &Upstream) {
    let run = world.run("broken").await;
    upstream.faults(&[Fault::ActAndAnswer { status: 500 }]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "broken")).await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("broken"), 1);
}

async fn an_upstream_that_is_slower_than_the_claim_is_called_once(world: &World, upstream: &Upstream) {
    let run = world.run("slow").await;
    let held = upstream.held_so_far().await;
    upstream.faults(&[Fault::Wait]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "slow")).await;
    upstream.held(held + 1).await;
    // Several claims' worth of renewals.
    run.until_count("effect.claim_renewed", 10).await;
    upstream.go().await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("slow"), 1);
    assert_eq!(run.count("effect.started").await, 1);
    assert_eq!(run.count("effect.unknown").await, 0);
}

async fn an_upstream_that_is_down_is_tried_again(world: &World, upstream: &mut Upstream) {
    let run = world.run("down").await;
    upstream.kill();
    run.begin(0, spec(Semantics::NonIdempotent, "down")).await;
    run.until_count("effect.deferred", 2).await;
    upstream.come_back();
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("down"), 1);
    assert_eq!(
        run.count("effect.unknown").await,
        0,
        "nothing was sent, so there is no doubt"
    );
}

/// A worker that stands still for longer than its claim, and comes back with an answer: the outcome of who took over stands.
async fn an_answer_after_the_claim_lapsed_does_not_count(world: &World, upstream: &Upstream) {
    let run = world.run("late").await;
    let held = upstream.held_so_far().await;
    upstream.faults(&[Fault::Wait]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "late")).await;
    let late = world.worker_with(upstream, "", &["--only", "outbox"]);
    upstream.held(held + 1).await;
    late.signal("STOP");
    upstream.go().await;
    let other = world.worker(upstream);
    run.until_effect(0, Status::Confirmed).await;
    let settled = run.entries().await.len();
    late.signal("CONT");
    // It has come to itself once it does other work.
    drop(other);
    let next = world.run("next").await;
    next.begin(0, spec(Semantics::NonIdempotent, "next")).await;
    next.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("late"), 1);
    assert_eq!(
        run.entries().await.len(),
        settled,
        "the late answer left no entry"
    );
    assert_eq!(run.state().await.effects()[&effect(0)].status, Status::Confirmed);
}
