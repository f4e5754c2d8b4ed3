//! The effects of runs are undone in reverse order, and nothing else is.

use crate::upstream::{Fault, Upstream};
use crate::world::{Driven, World, effect, spec};
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::effect::{EffectPolicy, Semantics, Status};
use tape_core::entry::obligation::ObligationId;
use tape_core::payload::Payload;
use tape_core::status::RunStatus;

const STEPS: usize = 5;

#[tokio::test]
async fn what_a_run_did_is_undone_in_order_or_not_at_all() {
    each(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_a_run_did_is_undone_in_order_or_not_at_all_on_postgres() {
    if let Some(world) = World::postgres().await {
        each(&world).await;
    }
}

pub(crate) async fn each(world: &World) {
    // The upstream undoes again at each request: the worker must prevent this.
    let upstream = Upstream::start(world.dir.path(), false);
    over_a_crash_at_each_step(world, &upstream).await;
    one_that_keeps_failing_stops_the_rest_until_a_person_retries(world, &upstream).await;
    nothing_of_a_healthy_run(world, &upstream).await;
}

/// A run with several confirmed effects.
async fn acted(world: &World, name: &str, policy: EffectPolicy) -> Driven {
    let run = world.run(name).await;
    for n in 0..STEPS {
        let mut spec = spec(Semantics::NonIdempotent, &format!("{name}-{n}"));
        spec.policy = policy;
        run.begin(n, spec).await;
        // One after the other: the order is under test.
        run.until_effect(n, Status::Confirmed).await;
    }
    run
}

fn lenient() -> EffectPolicy {
    EffectPolicy {
        backoff_ms: 50,
        backoff_max_ms: 100,
        ..EffectPolicy::default()
    }
}

async fn fail(run: &Driven) {
    let error = "the desk closed".to_owned();
    run.drive(DriverCommand::Fail { error }).await;
}

/// The business acts that were undone, in order.
fn refunds(upstream: &Upstream, name: &str) -> Vec<String> {
    let mut refunds = upstream.refunds();
    refunds.retain(|of| of.starts_with(name));
    refunds
}

fn backwards(name: &str) -> Vec<String> {
    (0..STEPS).rev().map(|n| format!("{name}-{n}")).collect()
}

async fn over_a_crash_at_each_step(world: &World, upstream: &Upstream) {
    let mut worker = world.worker(upstream);
    let run = acted(world, "failed", lenient()).await;
    let held = upstream.held_so_far().await;
    upstream.faults(&[Fault::Hold]).await;
    fail(&run).await;
    for step in 1..=STEPS {
        upstream.held(held + step).await;
        worker.kill();
        // The undo whose worker was killed is observed and not sent again: the next one is held.
        let next: Vec<_> = (step < STEPS).then_some(Fault::Hold).into_iter().collect();
        upstream.faults(&next).await;
        worker = world.worker(upstream);
    }
    run.until_run(RunStatus::Failed).await;
    assert_eq!(
        refunds(upstream, "failed"),
        backwards("failed"),
        "each once, in reverse"
    );
    assert_eq!(run.count("obligation.started").await, 2 * STEPS);
}

async fn one_that_keeps_failing_stops_the_rest_until_a_person_retries(world: &World, upstream: &Upstream) {
    let _worker = world.worker(upstream);
    let twice = EffectPolicy {
        attempts_max: 2,
        ..lenient()
    };
    let run = acted(world, "stuck", twice).await;
    let refused = Fault::Refuse {
        status: 500,
        retry_after: None,
    };
    upstream.faults(&[Fault::None, refused.clone(), refused]).await;
    fail(&run).await;
    run.until_run(RunStatus::Stuck).await;
    assert_eq!(
        refunds(upstream, "stuck"),
        ["stuck-4"],
        "nothing further down is undone"
    );
    assert_eq!(run.count("obligation.stuck").await, 1, "the feed has it");
    let obligation = ObligationId {
        effect: effect(3),
        copy: 0,
    };
    run.tell(ExternalCommand::SettleObligation {
        obligation,
        retry: true,
        reason: "the bank is back".to_owned(),
        seen: run.end().await,
    })
    .await
    .unwrap();
    run.until_run(RunStatus::Failed).await;
    assert_eq!(refunds(upstream, "stuck"), backwards("stuck"));
}

async fn nothing_of_a_healthy_run(world: &World, upstream: &Upstream) {
    let _worker = world.worker(upstream);
    let healthy = acted(world, "healthy", lenient()).await;
    let output = Payload::empty();
    healthy.drive(DriverCommand::Complete { output }).await;
    // The worker has handled other undos meanwhile.
    let other = acted(world, "other", lenient()).await;
    fail(&other).await;
    other.until_run(RunStatus::Failed).await;
    assert_eq!(refunds(upstream, "healthy"), Vec::<String>::new());
    assert_eq!(healthy.count("obligation.started").await, 0);
}
