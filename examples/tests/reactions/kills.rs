//! What is killed, and when: a seed decides.

use crate::story::Size;
use crate::world::World;
use std::fmt;
use tape_examples::seed::Seed;

/// So many kills at least, and one more for so many events.
const KILLS_MIN: usize = 24;
const EVENTS_PER_KILL: usize = 100;

/// How many were killed of each.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    servers: usize,
    relays: usize,
    reactors: usize,
    agents: usize,
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            servers,
            relays,
            reactors,
            agents,
        } = self;
        write!(
            f,
            "servers={servers} relays={relays} reactors={reactors} agents={agents}"
        )
    }
}

/// Kills one process after the other, as the play gets on: each at a moment between the first entry that is written and the last act.
pub(crate) async fn kill(world: &World, seed: u64, size: &Size) -> Kills {
    let mut seed = Seed::new(seed);
    let count = KILLS_MIN.max(size.events / EVENTS_PER_KILL);
    let mut marks: Vec<usize> = (0..count).map(|_| seed.below(size.progress())).collect();
    marks.sort_unstable();
    let mut progress = world.progress.subscribe();
    let mut kills = Kills::default();
    for (n, mark) in marks.into_iter().enumerate() {
        progress.wait_for(|progress| *progress >= mark).await.unwrap();
        // Each kind in turn, so that a small play has all of them.
        match n % 4 {
            0 => {
                world.relays[seed.below(world.relays.len())].kill().await;
                kills.relays += 1;
            }
            1 => {
                let server = seed.below(world.servers.count());
                world.servers.kill(server, async { Ok(()) }).await.unwrap();
                kills.servers += 1;
            }
            2 => {
                world
                    .reactors
                    .kill(seed.below(world.reactors.count()))
                    .await
                    .unwrap();
                kills.reactors += 1;
            }
            _ => {
                world.agents[seed.below(world.agents.len())].kill().await;
                kills.agents += 1;
            }
        }
    }
    kills
}
