//! Answers that are lost, late, or refusals of different kinds.

use crate::process::Child;
use crate::upstream::{Fault, Upstream};
use crate::world::{Driven, World, ask, effect, spec};
use std::time::Duration;
use tape_core::command::{RunCommand, WorkerCommand};
use tape_core::effect::{Semantics, SettledBy, Status};
use tape_core::entry::EntryBody;
use tape_core::id::Holder;

const REFUSED: Fault = Fault::Refuse {
    status: 429,
    retry_after: Some(1),
};

/// Claims long enough not to lapse by themselves on a busy machine, and short enough where they should lapse.
const CLAIM_MS: u64 = 2_000;

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
pub(crate) async fn each(world: &World) {
    let mut upstream = Upstream::start(world.dir.path(), false);
    let worker = world.worker_claiming(&upstream, CLAIM_MS, "");
    a_lost_answer_is_looked_up(world, &upstream).await;
    a_conflict_with_an_earlier_attempt_is_looked_up(world, &upstream).await;
    a_conflict_of_the_first_attempt_is_a_failure(world, &upstream).await;
    a_wish_to_wait_is_heeded(world, &upstream).await;
    a_failing_upstream_is_looked_up(world, &upstream).await;
    an_upstream_that_points_elsewhere_is_looked_up(world, &upstream).await;
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

/// Servers of browser forms redirect like this after they acted.
async fn an_upstream_that_points_elsewhere_is_looked_up(world: &World, upstream: &Upstream) {
    let run = world.run("elsewhere").await;
    upstream.faults(&[Fault::ActAndAnswer { status: 303 }]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "elsewhere")).await;
    assert_eq!(run.until_seen_to(0).await, Status::Confirmed);
    assert_eq!(upstream.acts("elsewhere"), 1);
    assert_eq!(run.state().await.obligations().len(), 1, "it can be undone");
}

async fn an_upstream_that_is_slower_than_the_claim_is_called_once(world: &World, upstream: &Upstream) {
    let run = world.run("slow").await;
    let held = upstream.held_so_far().await;
    upstream.faults(&[Fault::Wait]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "slow")).await;
    upstream.held(held + 1).await;
    // Several claims' worth of renewals: there is one in each third of a claim.
    run.until_count("effect.claim_renewed", 5).await;
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

/// A worker stands still for longer than its claim, and comes back with an answer. The answer does not count, whether another worker has
/// taken over or not.
async fn an_answer_after_the_claim_lapsed_does_not_count(world: &World, upstream: &Upstream) {
    let run = world.run("late").await;
    let held = upstream.held_so_far().await;
    upstream.faults(&[Fault::Wait, Fault::Wait]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "late")).await;
    let mut late = world.worker_only(upstream, CLAIM_MS, "outbox");
    upstream.held(held + 1).await;
    run.begin(1, spec(Semantics::NonIdempotent, "later")).await;
    upstream.held(held + 2).await;
    stop_between_writes(world, &late).await;
    until_lapsed(&run, 0).await;
    until_lapsed(&run, 1).await;
    upstream.go().await;
    // Other workers handle the first effect while it stands still...
    let other = world.worker_only(upstream, CLAIM_MS, "reconciler");
    take_over(&run, 0).await;
    run.until_effect(0, Status::Confirmed).await;
    late.signal("CONT");
    // ...and the second one after it resumes, which is once it takes that up again.
    run.until_effect(1, Status::Confirmed).await;
    drop(other);
    late.kill();
    for (call, act) in [(0, "late"), (1, "later")] {
        assert_eq!(upstream.acts(act), 1);
        assert!(
            confirmed_by_observing(&run, call).await,
            "the late answer left no entry"
        );
    }
}

/// Stops a worker, but not while it holds the write lock of a file that others need.
async fn stop_between_writes(world: &World, worker: &Child) {
    loop {
        worker.signal("STOP");
        if world.engine.store().probe().await.is_ok() {
            return;
        }
        worker.signal("CONT");
    }
}

/// Waits until the claim on an effect is over.
async fn until_lapsed(run: &Driven, call: usize) {
    let id = effect(call);
    while let Some(claim) = &run.state().await.effects()[&id].claim
        && run.engine.now().await.unwrap() <= claim.until
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Does what another worker of the outbox does about an effect with a lapsed claim.
async fn take_over(run: &Driven, call: usize) {
    let claim = WorkerCommand::ClaimEffect {
        effect: effect(call),
        holder: Holder::new("another").unwrap(),
        claim_ms: CLAIM_MS,
    };
    ask(&run.engine, &run.run, RunCommand::Work(claim)).await.unwrap();
}

async fn confirmed_by_observing(run: &Driven, call: usize) -> bool {
    let id = effect(call);
    let by = run.entries().await.into_iter().find_map(|body| match body {
        EntryBody::EffectConfirmed(confirmed) if confirmed.effect == id => Some(confirmed.by),
        _ => None,
    });
    matches!(by, Some(SettledBy::Observer { .. }))
}
