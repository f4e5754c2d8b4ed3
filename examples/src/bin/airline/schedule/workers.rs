//! Kills of workers: in the middle of calls that the airline holds.

use crate::recording::{Conversation, changes, reference};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use tape_examples::non_idempotent_upstream::Hold;
use tape_examples::seed::Seed;
use tape_examples::stops::{Point, Victim};

/// Plans `kills` kills: before the airline acts, before it answers, and while it is asked what happened.
///
/// An act whose worker dies before it is done is done by the next one, which may die there too. It is done once, so only one
/// worker can die before its answer. It is asked about only after a worker died over it.
pub(super) fn plan(runs: &[Conversation], kills: usize, seed: &mut Seed) -> Result<Vec<Hold>> {
    let acts = acts(runs);
    ensure!(
        kills == 0 || !acts.is_empty(),
        "the recorded runs have no call in which a worker could be killed"
    );
    let (mut holds, mut unanswered) = (Vec::<Hold>::new(), BTreeSet::new());
    let points = [Point::BeforeAnswer, Point::BeforeCall, Point::Observing];
    for mut point in points.into_iter().cycle().take(kills) {
        let reference = if point == Point::Observing {
            holds[seed.below(holds.len())].reference.clone()
        } else {
            acts[seed.below(acts.len())].clone()
        };
        if point == Point::BeforeAnswer && !unanswered.insert(reference.clone()) {
            point = Point::BeforeCall;
        }
        holds.push(Hold {
            reference,
            point,
            victim: Victim::Reactor,
        });
    }
    Ok(holds)
}

fn acts(runs: &[Conversation]) -> Vec<String> {
    let mut acts = Vec::new();
    for run in runs {
        for (k, decision) in run.decisions.iter().enumerate() {
            let calls = decision.calls.iter().enumerate();
            let changing = calls.filter(|(_, call)| changes(&call.tool));
            acts.extend(changing.map(|(j, _)| reference(&run.name, k, j)));
        }
    }
    acts
}
