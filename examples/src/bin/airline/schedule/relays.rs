//! Kills of relays: whatever they are doing, as the agents get on.

use super::Kills;
use crate::recording::Conversation;
use serde::Serialize;
use std::time::Duration;
use tape_examples::seed::Seed;

/// The moment of a kill is at random within this many milliseconds, so that it can hit anything under way.
const MOMENT_MS: usize = 300;

/// One kill of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RelayKill {
    /// It comes once agents have made so many decisions,
    pub(crate) decisions: usize,
    /// and this time has passed since.
    pub(crate) moment: Duration,
    /// Which relay.
    pub(crate) relay: usize,
}

/// Plans the kills, in order. Agents make each decision at least once, so that each kill is reached.
pub(super) fn plan(runs: &[Conversation], kills: Kills, seed: u64) -> Vec<RelayKill> {
    let mut seed = Seed::of_text(seed, "relays");
    let decisions: usize = runs.iter().map(|run| run.decisions.len()).sum();
    let mut kill = || RelayKill {
        decisions: seed.below(decisions.max(1)),
        moment: Duration::from_millis(seed.below(MOMENT_MS) as u64),
        relay: seed.below(kills.of_relays.max(1)),
    };
    let mut planned: Vec<RelayKill> = (0..kills.relays).map(|_| kill()).collect();
    planned.sort_by_key(|kill| kill.decisions);
    planned
}
