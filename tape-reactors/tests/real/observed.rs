//! What follows from the upstream's observation.

use crate::upstream::{Eyes, Fault, Line, Upstream};
use crate::world::{World, effect, spec};
use tape_core::command::{DriverCommand, ExternalCommand, Verdict};
use tape_core::effect::{EffectPolicy, Semantics, Status};
use tape_core::entry::EntryBody;
use tape_core::id::ConnectorName;
use tape_core::payload::Payload;

#[tokio::test]
async fn observations_of_all_kinds() {
    each(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn observations_of_all_kinds_on_postgres() {
    if let Some(world) = World::postgres().await {
        each(&world).await;
    }
}

#[tokio::test]
async fn what_a_run_that_ends_does_not_want_is_not_brought_about_by_asking() {
    unwanted(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_a_run_that_ends_does_not_want_is_not_brought_about_by_asking_on_postgres() {
    if let Some(world) = World::postgres().await {
        unwanted(&world).await;
    }
}

/// The upstream can be asked only by sending the act again under its key.
pub(crate) async fn unwanted(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    let url = upstream.url();
    let mute = format!("[connectors.mute.http]\ndispatch = \"{url}/act/{{operation}}\"");
    let begun = async |name: &str| {
        let run = world.run(name).await;
        upstream.faults(&[FAILING]).await;
        let mut spec = spec(Semantics::Idempotent, name);
        spec.connector = ConnectorName::new("mute").unwrap();
        spec.policy.observations_max = 2;
        run.begin(0, spec).await;
        run
    };
    let outbox = world.worker_with(&upstream, &mute, &["--only", "outbox"]);
    let cancelled = begun("cancelled").await;
    cancelled.until_effect(0, Status::Unknown).await;
    let failed = begun("failed").await;
    failed.until_effect(0, Status::Unknown).await;
    let wanted = begun("wanted").await;
    wanted.until_effect(0, Status::Unknown).await;
    drop(outbox);
    let reason = "never mind".to_owned();
    cancelled.tell(ExternalCommand::Cancel { reason }).await.unwrap();
    let error = "the desk closed".to_owned();
    failed.drive(DriverCommand::Fail { error }).await;
    let _worker = world.worker_with(&upstream, &mute, &[]);
    assert_eq!(wanted.until_seen_to(0).await, Status::Confirmed);
    assert_eq!(cancelled.until_seen_to(0).await, Status::Stuck);
    assert_eq!(failed.until_seen_to(0).await, Status::Stuck);
    let acts = ["cancelled", "failed", "wanted"].map(|name| upstream.acts(name));
    assert_eq!(acts, [0, 0, 1]);
}

const FAILING: Fault = Fault::Refuse {
    status: 500,
    retry_after: None,
};

pub(crate) async fn each(world: &World) {
    let mut upstream = Upstream::start(world.dir.path(), false);
    // Another connector of the same upstream, whose configuration has a URL that the upstream does not have.
    let url = upstream.url();
    let astray = format!(
        "[connectors.astray.http]\ndispatch = \"{url}/act/{{operation}}\"\nobserve = \"{url}/fnd/{{business_key}}\"\n\
         absent = {{ status = 404, json = {{ \"/error\" = \"no such act\" }} }}"
    );
    // Claims that do not lapse by themselves on a busy machine: no process is killed here.
    let undescribed = format!(
        "[connectors.undescribed.http]\ndispatch = \"{url}/act/{{operation}}\"\nobserve = \"{url}/find/{{business_key}}\"\n\
         undone = \"{url}/undone/{{business_key}}\""
    );
    let _worker = world.worker_claiming(&upstream, 10_000, &format!("{astray}\n{undescribed}"));
    a_payment_that_the_upstream_denies_is_not_confirmed(world, &upstream).await;
    an_answer_of_somebody_else_is_not_absent(world, &upstream).await;
    what_is_absent_and_idempotent_is_sent_again(world, &upstream).await;
    what_is_absent_otherwise_waits_for_a_person(world, &upstream).await;
    all_duplicates_are_taken_back_and_the_act_is_confirmed(world, &upstream).await;
    what_nobody_can_say_gets_stuck_and_is_settled_by_a_person(world, &upstream).await;
    an_upstream_that_is_away_costs_nothing(world, &mut upstream).await;
}

async fn what_is_absent_and_idempotent_is_sent_again(world: &World, upstream: &Upstream) {
    let run = world.run("absent").await;
    upstream.faults(&[FAILING]).await;
    run.begin(0, spec(Semantics::Idempotent, "absent")).await;
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("absent"), 1);
    assert_eq!(run.count("effect.observed").await, 1);
    assert_eq!(run.count("effect.started").await, 2);
}

/// An effect that is sent again after that would be done twice.
async fn an_answer_of_somebody_else_is_not_absent(world: &World, upstream: &Upstream) {
    let run = world.run("astray").await;
    upstream.faults(&[Fault::Lose]).await;
    let mut spec = spec(Semantics::NonIdempotent, "astray");
    spec.connector = ConnectorName::new("astray").unwrap();
    spec.policy.observations_max = 2;
    spec.policy.resend_absent = true;
    run.begin(0, spec).await;
    run.until_effect(0, Status::Stuck).await;
    assert_eq!(upstream.acts("astray"), 1);
    assert_eq!(run.count("effect.started").await, 1);
}

/// The configuration has no pattern for a yes, and the upstream says no in its own format.
async fn a_payment_that_the_upstream_denies_is_not_confirmed(world: &World, upstream: &Upstream) {
    let run = world.run("denied").await;
    upstream.faults(&[FAILING]).await;
    upstream.eyes(Eyes::Denying).await;
    let mut spec = spec(Semantics::NonIdempotent, "denied");
    spec.connector = ConnectorName::new("undescribed").unwrap();
    spec.policy.observations_max = 2;
    run.begin(0, spec).await;
    run.until_effect(0, Status::Stuck).await;
    let entries = format!("{:?}", run.entries().await);
    assert!(
        entries.contains("no such transfer") && entries.contains("`found`"),
        "{entries}"
    );
    upstream.eyes(Eyes::Open).await;
}

async fn what_is_absent_otherwise_waits_for_a_person(world: &World, upstream: &Upstream) {
    let run = world.run("held").await;
    upstream.faults(&[FAILING]).await;
    run.begin(0, spec(Semantics::NonIdempotent, "held")).await;
    run.until_effect(0, Status::Stuck).await;
    assert_eq!(upstream.acts("held"), 0);
    run.tell(ExternalCommand::SettleEffect {
        effect: effect(0),
        verdict: Verdict::Resend,
        reason: "I asked the bank".to_owned(),
        seen: run.end().await,
    })
    .await
    .unwrap();
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("held"), 1);
}

async fn all_duplicates_are_taken_back_and_the_act_is_confirmed(world: &World, upstream: &Upstream) {
    let run = world.run("double").await;
    // The upstream acts three times for one request, as behind a retrying proxy.
    upstream.faults(&[Fault::Lose]).await;
    upstream.act_beside("double").await;
    upstream.act_beside("double").await;
    run.begin(0, spec(Semantics::NonIdempotent, "double")).await;
    run.until(|run| {
        let confirmed = run.effects().get(&effect(0));
        confirmed.is_some_and(|effect| effect.status == Status::Confirmed)
            && run.obligations().iter().all(|o| o.id.copy == 0)
    })
    .await;
    let kinds: Vec<_> = run.entries().await.iter().map(EntryBody::kind).collect();
    let observed = kinds.iter().position(|kind| *kind == "effect.observed").unwrap();
    assert_eq!(
        kinds[observed + 1..observed + 4],
        ["effect.confirmed", "obligation.armed", "obligation.armed"],
        "one after the other, in one commit"
    );
    let ledger = upstream.ledger();
    let acts = |line: &&Line| line.business_key.as_deref() == Some("double") && line.operation == "pay";
    let places = (1..).zip(&ledger).filter(|(_, line)| acts(line)).map(|(n, _)| n);
    let places: Vec<u64> = places.collect();
    let taken_back = ledger.iter().filter(|line| line.operation == "take-back");
    let mut taken_back: Vec<u64> = taken_back
        .map(|line| line.args["act"].as_u64().unwrap())
        .collect();
    taken_back.sort_unstable();
    assert_eq!(places.len(), 3);
    assert_eq!(taken_back, places[1..], "each but the first, once");
    assert_eq!(
        run.state().await.obligations().len(),
        1,
        "the act itself can still be undone"
    );
}

/// An upstream that is unreachable for longer than all attempts and observations would take.
async fn an_upstream_that_is_away_costs_nothing(world: &World, upstream: &mut Upstream) {
    let (sent, asked) = (world.run("away").await, world.run("away-unknown").await);
    let mut impatient = spec(Semantics::NonIdempotent, "away");
    impatient.policy.attempts_max = 2;
    let mut doubted = spec(Semantics::NonIdempotent, "away-unknown");
    doubted.policy.observations_max = 1;
    doubted.policy.backoff_ms = 300;
    doubted.policy.backoff_max_ms = 300;
    upstream.faults(&[Fault::Lose]).await;
    asked.begin(0, doubted).await;
    asked.until_effect(0, Status::Unknown).await;
    upstream.kill();
    sent.begin(0, impatient).await;
    sent.until_count("effect.deferred", 3).await;
    asked.until_count("effect.observed", 2).await;
    let why = asked.state().await.effects()[&effect(0)].unreached.why.clone();
    assert!(
        why.unwrap().contains("not reached"),
        "the reason is there to be shown"
    );
    upstream.come_back();
    sent.until_effect(0, Status::Confirmed).await;
    asked.until_effect(0, Status::Confirmed).await;
    assert_eq!([upstream.acts("away"), upstream.acts("away-unknown")], [1, 1]);
}

async fn what_nobody_can_say_gets_stuck_and_is_settled_by_a_person(world: &World, upstream: &Upstream) {
    let run = world.run("blind").await;
    upstream.faults(&[Fault::Lose]).await;
    upstream.eyes(Eyes::Shut).await;
    let mut spec = spec(Semantics::NonIdempotent, "blind");
    spec.policy = EffectPolicy {
        observations_max: 3,
        ..spec.policy
    };
    run.begin(0, spec).await;
    run.until_effect(0, Status::Stuck).await;
    assert_eq!(run.count("effect.observing").await, 3);
    upstream.eyes(Eyes::Open).await;
    run.tell(ExternalCommand::SettleEffect {
        effect: effect(0),
        verdict: Verdict::Confirmed {
            result: Payload::empty(),
            undo: None,
        },
        reason: "I saw it on the statement".to_owned(),
        seen: run.end().await,
    })
    .await
    .unwrap();
    run.until_effect(0, Status::Confirmed).await;
    assert_eq!(upstream.acts("blind"), 1);
    let by_person = |body: &EntryBody| matches!(body, EntryBody::EffectConfirmed(e) if format!("{:?}", e.by).contains("I saw it"));
    assert!(run.entries().await.iter().any(by_person));
}
