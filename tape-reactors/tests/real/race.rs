//! Eight workers of each kind, each a process, over the same work.
//!
//! At full size: `TAPE_RACE_ITEMS=10000`.

use crate::upstream::Upstream;
use crate::world::{Driven, World, spec};
use std::collections::HashMap;
use tape_core::command::{Deadline, DriverCommand};
use tape_core::effect::Semantics;
use tape_core::id::TimerName;
use tape_core::payload::Payload;
use tape_core::run::Timer;
use tape_core::stream::RunStatus;

const WORKERS: usize = 8;
/// Effects of a run; it has as many timers, too.
const EFFECTS: usize = 25;

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

async fn race(world: &World) {
    let upstream = Upstream::start(world.dir.path(), true);
    upstream.lose_every(3).await;
    // Claims that do not lapse by themselves on a busy machine.
    let more = "patience_ms = 600000";
    let _workers: Vec<_> = (0..WORKERS)
        .map(|_| world.worker_claiming(&upstream, 60_000, more))
        .collect();
    let mut runs = Vec::new();
    for n in 0..items().div_ceil(EFFECTS) {
        runs.push(begin(world, n).await);
    }
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
        assert_eq!(run.count("effect.started").await, EFFECTS, "one winner each");
        assert_eq!(run.count("effect.confirmed").await, EFFECTS);
        assert_eq!(run.count("timer.fired").await, EFFECTS);
        let observing = run.count("effect.observing").await;
        assert_eq!(observing, run.count("effect.unknown").await, "one winner each");
        assert_eq!(run.count("obligation.done").await, EFFECTS);
    }
    let mut done: HashMap<(String, String), usize> = HashMap::new();
    for line in upstream.ledger() {
        *done.entry((line.key, line.operation)).or_default() += 1;
    }
    assert_eq!(done.len(), 2 * EFFECTS * runs.len(), "each act, and each undo");
    assert!(done.values().all(|times| *times == 1));
}

async fn begin(world: &World, n: usize) -> Driven {
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
