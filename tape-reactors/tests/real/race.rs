//! Eight workers of each kind, each a process, over the same work.
//!
//! At full size: `TAPE_RACE_ITEMS=10000`.

use crate::upstream::Upstream;
use crate::world::{Driven, World, spec};
use futures::StreamExt as _;
use std::collections::HashMap;
use std::ops::Range;
use tape_core::command::DriverCommand;
use tape_core::effect::Semantics;
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::run::Timer;
use tape_core::status::RunStatus;
use tape_core::time::Deadline;

const WORKERS: usize = 8;
/// Effects of a run; it has as many timers, too.
const EFFECTS: usize = 25;
/// Runs that begin at once.
const AT_ONCE: usize = 32;

#[tokio::test]
async fn eight_workers_of_each_kind_do_each_thing_once() {
    race(&World::sqlite().await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn eight_workers_of_each_kind_do_each_thing_once_on_postgres() {
    if let Some(world) = World::postgres().await {
        race(&world).await;
    }
}

fn items() -> usize {
    std::env::var("TAPE_RACE_ITEMS").map_or(100, |items| items.parse().unwrap())
}

pub(crate) async fn race(world: &World) {
    // A worker that calls without having won its claim acts once more.
    let upstream = Upstream::start(world.dir.path(), false);
    upstream.lose_every(3).await;
    // Half of the work exists when the workers start, the other half comes while they work.
    let all = items().div_ceil(EFFECTS);
    let mut runs = begin(world, 0..all / 2).await;
    // Claims that do not lapse by themselves on a busy machine.
    let more = "timeout_ms = 600000";
    let _workers: Vec<_> = (0..WORKERS)
        .map(|_| world.worker_claiming(&upstream, 60_000, more))
        .collect();
    runs.extend(begin(world, all / 2..all).await);
    for run in &runs {
        run.until(|run| run.effects().values().all(|effect| effect.status.is_settled()))
            .await;
        run.until(|run| run.timers().values().all(|timer| *timer == Timer::Fired))
            .await;
        let error = "all of it is to be undone".to_owned();
        run.drive(DriverCommand::Fail { error }).await;
    }
    for run in &runs {
        run.until_run(RunStatus::Failed).await;
        let entries = run.entries().await;
        let count = |kind: &str| entries.iter().filter(|body| body.kind() == kind).count();
        assert_eq!(count("effect.started"), EFFECTS, "one winner each");
        assert_eq!(count("effect.confirmed"), EFFECTS);
        assert_eq!(count("timer.fired"), EFFECTS);
        assert_eq!(
            count("effect.observing"),
            count("effect.unknown"),
            "one winner each"
        );
        assert_eq!(count("obligation.done"), EFFECTS);
    }
    let mut done: HashMap<(String, String), usize> = HashMap::new();
    for line in upstream.ledger() {
        *done.entry((line.key, line.operation)).or_default() += 1;
    }
    assert_eq!(done.len(), 2 * EFFECTS * runs.len(), "each act, and each undo");
    assert!(done.values().all(|times| *times == 1));
}

async fn begin(world: &World, runs: Range<usize>) -> Vec<Driven> {
    let begun = futures::stream::iter(runs).map(|n| begin_one(world, n));
    begun.buffered(AT_ONCE).collect().await
}

async fn begin_one(world: &World, n: usize) -> Driven {
    let run = world
        .run_of(&format!("tenant-{}", n % 4), &format!("race-{n}"))
        .await;
    for call in 0..EFFECTS {
        run.begin(call, spec(Semantics::NonIdempotent, &format!("{n}-{call}")))
            .await;
        run.drive(DriverCommand::SetTimer {
            timer: TimerName::new(format!("timer-{call}")).unwrap(),
            due: Deadline::InMs(1),
            note: Payload::empty(),
        })
        .await;
    }
    run
}
