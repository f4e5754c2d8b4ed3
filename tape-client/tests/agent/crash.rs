//! The agent's process is killed at every commit and at every await; the re-drives finish the run. The model is never asked
//! again for what is recorded, a confirmed effect is never called again, and no effect runs before its intent is durable.

use crate::world::{Dies, Dying, LEASE, World, agent, begin};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tape_client::{Error, RunResult};

/// Drives the run to its end in one undisturbed process, once the lease of the dead one has run out.
async fn recover(world: &World) -> RunResult {
    world.clock.advance(2 * LEASE);
    let tape = world.process("two", world.store.clone()).await;
    match tape.run(crate::world::id()).begin().await.unwrap() {
        tape_client::Begun::Driving(run) => {
            world.signal().await;
            agent(run, world.clone()).await.unwrap()
        }
        tape_client::Begun::Ended(ending) => ending,
    }
}

fn check(world: &World, ending: &RunResult, at: &str) {
    assert_eq!(world.wrongs(), Vec::<String>::new(), "{at}");
    assert_eq!(world.acts().len(), 4, "{at}");
    assert!(
        world.asked().values().all(|asked| *asked <= 2),
        "{at}: {:?}",
        world.asked()
    );
    assert!(matches!(ending, RunResult::Completed(_)), "{at}: {ending:?}");
}

async fn dies(world: &World, dies: Dies) -> (Arc<Dying>, Result<RunResult, Error>) {
    let store = Arc::new(Dying::new(world.store.clone(), dies));
    let tape = world.process("one", store.clone()).await;
    let outcome = match begin(&tape).await {
        Ok(run) => {
            // The signal comes before its gate, so that the agent runs without help until its store fails.
            world.signal().await;
            agent(run, world.clone()).await
        }
        Err(error) => Err(error),
    };
    (store, outcome)
}

#[tokio::test(start_paused = true)]
async fn killed_before_or_after_every_commit() {
    let mut deaths = 0;
    for when in [Dies::Before as fn(u64) -> Dies, Dies::After] {
        for n in 0.. {
            let world = World::new();
            let (store, outcome) = dies(&world, when(n)).await;
            if !store.died() {
                assert!(outcome.is_ok(), "{outcome:?}");
                break;
            }
            deaths += 1;
            if n == 0 && when(0) == Dies::Before(0) {
                // Nothing was recorded: the next begin is the first.
                continue;
            }
            let ending = recover(&world).await;
            check(&world, &ending, &format!("{:?}", when(n)));
        }
    }
    assert!(deaths > 40, "{deaths} deaths");
}

/// A future that is dropped after so many polls, as if its process were killed.
struct Killed<F> {
    future: Pin<Box<F>>,
    polls: u32,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_await() {
    let mut deaths = 0;
    for polls in 0.. {
        let world = World::new();
        let tape = world.process("one", world.store.clone()).await;
        let run = begin(&tape).await.unwrap();
        world.signal().await;
        let killed = Killed {
            future: Box::pin(agent(run, world.clone())),
            polls,
        };
        if let Some(outcome) = pin!(killed).await {
            outcome.unwrap();
            break;
        }
        deaths += 1;
        drop(tape);
        let ending = recover(&world).await;
        check(&world, &ending, &format!("after {polls} polls"));
    }
    assert!(deaths > 20, "{deaths} deaths");
}
