//! The shared reader of the feed over a memory store: whole histories from seeds, and what idle followers cost.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod consumer;
mod costs;
mod history;
mod store;

use history::History;

/// How many seeds are run, unless `TAPE_FEED_SEEDS` says it.
const SEEDS: u64 = 300;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Names the seed of a history that panics, and how to repeat it.
struct Named(u64);

impl Drop for Named {
    #[expect(clippy::print_stdout, reason = "it is for a person")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "seed {0} failed; repeat it with: TAPE_FEED_SEEDS_FROM={0} TAPE_FEED_SEEDS=1 cargo nextest run -p tape-wal -p tape-server \
                 --test shared -E 'test(consumers_miss_nothing)'",
                self.0
            );
        }
    }
}

#[test]
fn consumers_miss_nothing_and_get_nothing_twice_or_early_whatever_happens() {
    let from = number("TAPE_FEED_SEEDS_FROM", 0);
    let mut events = 0;
    for seed in from..from + number("TAPE_FEED_SEEDS", SEEDS) {
        let _named = Named(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        events += runtime.block_on(async { History::of(seed).await.check().await });
    }
    println!("{events} events were consumed");
}
