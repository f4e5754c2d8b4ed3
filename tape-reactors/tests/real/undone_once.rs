//! Undos that may or may not have arrived, at an upstream that ignores idempotency keys and undoes again at each request.

use crate::upstream::{Eyes, Fault, Upstream};
use crate::world::{Driven, World, effect, spec};
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::effect::{EffectPolicy, Semantics, Status};
use tape_core::entry::EntryBody;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::ConnectorName;
use tape_core::status::RunStatus;

#[tokio::test]
async fn an_undo_that_may_have_arrived_is_not_sent_again_blindly() {
    each(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn an_undo_that_may_have_arrived_is_not_sent_again_blindly_on_postgres() {
    if let Some(world) = World::postgres().await {
        each(&world).await;
    }
}

/// The connector that can ask about undos.
const BANK: &str = "bank";
/// A connector of the same upstream that cannot ask.
const MUTE: &str = "mute";

const LOST: [Fault; 2] = [Fault::Lose, Fault::ActAndAnswer { status: 500 }];

pub(crate) async fn each(world: &World) {
    let upstream = Upstream::start(world.dir.path(), false);
    let url = upstream.url();
    let mute = format!(
        "[connectors.{MUTE}.http]\ndispatch = \"{url}/act/{{operation}}\"\nnot_done = {{ status = 429 }}"
    );
    // No process is killed at first: claims that do not lapse by themselves on a busy machine.
    let worker = world.worker_claiming(&upstream, 10_000, &mute);
    a_lost_answer_is_looked_up(world, &upstream).await;
    what_did_not_arrive_is_sent_again_once_that_is_known(world, &upstream).await;
    where_nobody_can_say_it_waits(world, &upstream).await;
    where_nobody_can_be_asked_a_person_must_look(world, &upstream).await;
    what_was_refused_is_sent_again(world, &upstream).await;
    drop(worker);
    a_killed_worker_s_undo_is_sent_once(world, &upstream, &mute, BANK, RunStatus::Failed).await;
    a_killed_worker_s_undo_is_sent_once(world, &upstream, &mute, MUTE, RunStatus::Stuck).await;
}

/// A run with one confirmed effect, that fails.
async fn failing(
    world: &World,
    upstream: &Upstream,
    connector: &str,
    name: &str,
    faults: &[Fault],
) -> Driven {
    let run = world.run(name).await;
    let mut spec = spec(Semantics::NonIdempotent, name);
    spec.connector = ConnectorName::new(connector).unwrap();
    spec.policy = EffectPolicy {
        attempts_max: 4,
        ..spec.policy
    };
    run.begin(0, spec).await;
    run.until_effect(0, Status::Confirmed).await;
    upstream.faults(faults).await;
    let error = "the desk closed".to_owned();
    run.drive(DriverCommand::Fail { error }).await;
    run
}

fn refunds(upstream: &Upstream, name: &str) -> usize {
    upstream.refunds().iter().filter(|of| *of == name).count()
}

async fn a_lost_answer_is_looked_up(world: &World, upstream: &Upstream) {
    for (n, fault) in LOST.into_iter().enumerate() {
        let name = format!("lost-{n}");
        let run = failing(world, upstream, BANK, &name, &[fault]).await;
        assert_eq!(run.until_over().await, RunStatus::Failed);
        assert_eq!(refunds(upstream, &name), 1);
        assert_eq!(run.count("obligation.started").await, 2);
    }
}

async fn what_did_not_arrive_is_sent_again_once_that_is_known(world: &World, upstream: &Upstream) {
    let broken = Fault::Refuse {
        status: 500,
        retry_after: None,
    };
    let run = failing(world, upstream, BANK, "absent", &[broken]).await;
    assert_eq!(run.until_over().await, RunStatus::Failed);
    assert_eq!(refunds(upstream, "absent"), 1);
}

async fn where_nobody_can_say_it_waits(world: &World, upstream: &Upstream) {
    upstream.eyes(Eyes::Shut).await;
    let run = failing(world, upstream, BANK, "blind", &[Fault::Lose]).await;
    assert_eq!(run.until_over().await, RunStatus::Stuck);
    assert_eq!(refunds(upstream, "blind"), 1);
    assert_eq!(
        run.count("obligation.started").await,
        4,
        "it was asked as often as may be"
    );
    upstream.eyes(Eyes::Open).await;
}

async fn where_nobody_can_be_asked_a_person_must_look(world: &World, upstream: &Upstream) {
    for (n, fault) in LOST.into_iter().enumerate() {
        let name = format!("mute-{n}");
        let run = failing(world, upstream, MUTE, &name, &[fault]).await;
        assert_eq!(run.until_over().await, RunStatus::Stuck);
        assert_eq!(refunds(upstream, &name), 1);
        let says = |body: &EntryBody| matches!(body, EntryBody::ObligationStuck(e) if e.reason.contains("cannot be asked"));
        assert!(
            run.entries().await.iter().any(says),
            "the feed has it and says why"
        );
    }
    // A person who says that it is not undone takes responsibility for it.
    let run = failing(
        world,
        upstream,
        MUTE,
        "mute-2",
        &[Fault::ActAndAnswer { status: 500 }],
    )
    .await;
    assert_eq!(run.until_over().await, RunStatus::Stuck);
    let obligation = ObligationId {
        effect: effect(0),
        copy: 0,
    };
    let reason = "the bank took it back".to_owned();
    let retry = ExternalCommand::SettleObligation {
        obligation,
        retry: true,
        reason,
        seen: run.end().await,
    };
    run.tell(retry).await.unwrap();
    assert_eq!(run.until_over().await, RunStatus::Failed);
    assert_eq!(refunds(upstream, "mute-2"), 2);
}

/// An upstream that says that it undid nothing leaves no doubt, so it need not be asked.
async fn what_was_refused_is_sent_again(world: &World, upstream: &Upstream) {
    let busy = Fault::Refuse {
        status: 429,
        retry_after: None,
    };
    let run = failing(world, upstream, MUTE, "busy", &[busy.clone(), busy]).await;
    assert_eq!(run.until_over().await, RunStatus::Failed);
    assert_eq!(refunds(upstream, "busy"), 1);
    assert_eq!(run.count("obligation.started").await, 3);
}

async fn a_killed_worker_s_undo_is_sent_once(
    world: &World,
    upstream: &Upstream,
    mute: &str,
    connector: &str,
    ends: RunStatus,
) {
    let name = format!("killed-{connector}");
    let mut worker = world.worker_with(upstream, mute, &[]);
    let held = upstream.held_so_far().await;
    let run = failing(world, upstream, connector, &name, &[Fault::Hold]).await;
    upstream.held(held + 1).await;
    worker.kill();
    let _worker = world.worker_with(upstream, mute, &[]);
    assert_eq!(run.until_over().await, ends);
    assert_eq!(refunds(upstream, &name), 1);
    assert_eq!(run.count("obligation.started").await, 2);
}
