//! What is written while processes are killed.

use crate::definitions::{self, prefix};
use crate::world::World;
use futures::future::{join, join_all};
use serde_json::json;
use tape_client::RunId;

/// Writers of the events whose runs act.
const WRITERS: usize = 8;
/// Values of each of them.
const VALUES: usize = 5;

/// How much is written for each reaction.
pub(crate) struct Size {
    /// Events whose runs act.
    pub(crate) events: usize,
    /// Events of the reaction that is paused, before, during and after the pause each.
    pub(crate) rested: usize,
    /// Events of the bounded reaction.
    pub(crate) bounded: usize,
    /// Streams of the debounced one, with some quick series each.
    pub(crate) quick: usize,
    /// Runs that begin a chain of reactions that cause each other.
    pub(crate) chains: usize,
}

impl Size {
    pub(crate) fn of(events: usize) -> Self {
        Self {
            events,
            rested: (events / 10).max(5),
            bounded: (events / 10).clamp(12, 120),
            quick: 4,
            chains: 3,
        }
    }

    /// Progress is what was written and what was acted.
    pub(crate) const fn progress(&self) -> usize {
        2 * self.events
    }
}

pub(crate) async fn tell(world: &World, size: &Size) {
    let (main, others) = (
        events(world, size.events),
        join(
            join(rest(world, size), bounded(world, size)),
            join(quick(world, size), chains(world, size)),
        ),
    );
    join(main, others).await;
}

/// Writes events side by side.
async fn events(world: &World, events: usize) {
    let writers = (0..WRITERS).map(|writer| async move {
        for n in (writer..events).step_by(WRITERS) {
            let name = format!("{}{writer}-{}", prefix("audit"), n % VALUES);
            world.put(&name, &json!({ "n": n })).await;
            world.progress.send_modify(|progress| *progress += 1);
        }
    });
    join_all(writers).await;
}

/// Writes for the reaction that is paused in between.
async fn rest(world: &World, size: &Size) {
    let some = async |from: usize| {
        for n in from..from + size.rested {
            let name = format!("{}{}", prefix("rested"), n % VALUES);
            world.put(&name, &json!({ "n": n })).await;
        }
    };
    some(0).await;
    world.has_written(size.events / 4).await;
    definitions::put(world, "rested", &definitions::rested(true)).await;
    world.nothing_carries("rested").await;
    let before = world.count("rested").await;
    some(size.rested).await;
    world.has_written(size.events * 3 / 4).await;
    assert_eq!(world.count("rested").await, before, "it is paused");
    definitions::put(world, "rested", &definitions::rested(false)).await;
    some(2 * size.rested).await;
}

async fn bounded(world: &World, size: &Size) {
    for n in 0..size.bounded {
        let name = format!("{}{}", prefix("bounded"), n % VALUES);
        world.put(&name, &json!({ "n": n })).await;
    }
}

/// Writes quick series, and single events that are far from others.
async fn quick(world: &World, size: &Size) {
    const SERIES: usize = 4;
    for series in 0..SERIES {
        let each = (0..size.quick).map(|stream| async move {
            for n in 0..=stream {
                world
                    .put(&format!("{}{stream}", prefix("last")), &json!({ "n": n }))
                    .await;
            }
        });
        join_all(each).await;
        world.has_written(size.events * (series + 1) / SERIES).await;
    }
}

async fn chains(world: &World, size: &Size) {
    for n in 0..size.chains {
        world.has_written(size.events * n / size.chains).await;
        let run = RunId::new("acme", "a", "ann", "chain", &n.to_string()).unwrap();
        world.begin_and_complete(run).await;
    }
}
