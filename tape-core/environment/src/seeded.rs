//! An environment that is made of a seed.

use crate::{Environment, micros};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tape_core::time::Timestamp;
use tokio::time::Instant;

/// What the clock on the wall shows first: 2026-11-22T12:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_795_348_800_000_000);

/// An environment whose randomness follows from a seed, and whose clocks go with tokio's. In a runtime of one thread whose clock is
/// paused, all that the parts of a system do follows from the seed.
#[derive(Debug)]
pub struct Seeded {
    seed: u64,
    began: Instant,
    state: AtomicU64,
}

impl Seeded {
    /// An environment of a seed, whose time begins now.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            began: Instant::now(),
            state: AtomicU64::new(seed),
        }
    }

    /// The next number of the generator SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). It is
    /// written out here so that a seed means the same in every build.
    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Environment for Seeded {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(START.as_micros().saturating_add(micros(self.elapsed())))
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn boot(&self) -> Option<String> {
        Some(format!("seed-{}", self.seed))
    }

    fn process(&self) -> u32 {
        1
    }

    fn random(&self) -> u128 {
        u128::from(self.next()) << u64::BITS | u128::from(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seed_decides_what_is_drawn() {
        let drawn = |seed| {
            let environment = Seeded::new(seed);
            [(); 100].map(|()| environment.random())
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn the_generator_is_split_mix_64() {
        let environment = Seeded::new(1_234_567);
        let drawn = [(); 3].map(|()| environment.next());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, published);
    }

    #[tokio::test(start_paused = true)]
    async fn its_clocks_go_with_those_of_the_runtime() {
        let environment = Seeded::new(1);
        assert_eq!(environment.wall(), START);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(environment.wall(), START.plus_millis(5_000));
        assert_eq!(environment.elapsed(), Duration::from_secs(5));
    }
}
