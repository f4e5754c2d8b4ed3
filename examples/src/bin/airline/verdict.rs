//! Judges the outcome from the records and from the books of the model and the airline.

use crate::agreement::{Act, Agreement};
use crate::recording::{Conversation, changes};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use tape_examples::ledger::Line;
use tape_examples::model::Asked;
use tape_examples::non_idempotent_upstream::UNDO;

/// The record of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The decisions, in order.
    pub(crate) decisions: Vec<KeptDecision>,
    /// What the user said, in order.
    pub(crate) said: Vec<String>,
    /// The keys of the acts that are confirmed, where acts have keys.
    pub(crate) keys: Vec<String>,
    /// The acts that are confirmed, where acts have business keys.
    pub(crate) acts: Vec<Act>,
    /// Whether the run has ended as intended.
    pub(crate) ended: bool,
    /// Whether the chain of its journal verifies; none where there is no chain.
    pub(crate) chain: Option<bool>,
}

/// One recorded decision.
#[derive(Clone, Debug)]
pub(crate) struct KeptDecision {
    /// Its number.
    pub(crate) k: usize,
    /// The model's message.
    pub(crate) message: Value,
    /// When it was about to be committed, in microseconds since 1970: never later than the commit.
    pub(crate) at_us: i64,
    /// The epoch that recorded it, where there is such a thing.
    pub(crate) epoch: Option<u64>,
}

/// The figures of the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) runs: usize,
    pub(crate) runs_ended: usize,
    pub(crate) decisions: usize,
    pub(crate) asked: usize,
    pub(crate) asked_twice: usize,
    pub(crate) acts: usize,
    pub(crate) done_twice: usize,
    pub(crate) lost: usize,
    /// Messages of users that were not recorded as they were said, once each and in order.
    pub(crate) misheard: usize,
    /// Acts in the ledger or in a journal that do not match: not in both under one key, or not alike under one business key.
    pub(crate) unmatched: usize,
    pub(crate) chains: Option<bool>,
    pub(crate) kills: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            runs_ended,
            decisions,
            asked_twice,
            acts,
            done_twice,
            lost,
            kills,
            ..
        } = self;
        let chains = match self.chains {
            Some(true) => "ok",
            Some(false) => "broken",
            None => "none",
        };
        write!(
            f,
            "airline: runs={runs_ended} decisions={decisions} asked_twice={asked_twice} acts={acts} \
             done_twice={done_twice} lost={lost} chains={chains} kills={kills}"
        )
    }
}

impl Verdict {
    /// Judges the records against the recorded conversations and, where the airline ignores keys, by whether ledger and journals agree. A
    /// decision counts as asked twice where it was asked after it was recorded: later by the clock of this machine, or by a later driver
    /// than the one that recorded it.
    pub(crate) fn of(
        runs: &[Conversation],
        kept: &[Kept],
        asked: &[Asked],
        ledger: &[Line],
        agreement: Option<&Agreement>,
        kills: usize,
    ) -> Self {
        let decisions = |kept: &Kept| kept.decisions.len();
        let acts = Acts::count(runs, ledger);
        Self {
            runs: runs.len(),
            runs_ended: kept.iter().filter(|kept| kept.ended).count(),
            decisions: kept.iter().map(decisions).sum(),
            asked: asked.len(),
            asked_twice: asked_twice(runs, kept, asked),
            acts: acts.done,
            done_twice: acts.twice,
            lost: acts.lost
                + runs
                    .iter()
                    .zip(kept)
                    .map(|(run, kept)| lost_decisions(run, kept))
                    .sum::<usize>(),
            misheard: runs
                .iter()
                .zip(kept)
                .filter(|(run, kept)| run.said != kept.said)
                .count(),
            unmatched: agreement.map_or_else(
                || unmatched(kept, ledger),
                |agreement| agreement.differences.len(),
            ),
            chains: kept
                .iter()
                .map(|kept| kept.chain)
                .reduce(|all, chain| Some(all? && chain?))
                .flatten(),
            kills,
        }
    }

    /// Checks that everything was done exactly once.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn check(&self, runs: &[Conversation]) -> Result<()> {
        let decisions: usize = runs.iter().map(|run| run.decisions.len()).sum();
        let acts: usize = expected(runs).values().sum();
        ensure!(
            self.runs_ended == self.runs,
            "{} of {} runs have ended",
            self.runs_ended,
            self.runs
        );
        ensure!(
            self.decisions == decisions,
            "{} decisions are recorded, not {decisions}",
            self.decisions
        );
        ensure!(
            self.asked_twice == 0,
            "{} decisions were asked again after they were recorded",
            self.asked_twice
        );
        ensure!(self.acts == acts, "{} acts were done, not {acts}", self.acts);
        ensure!(self.done_twice == 0, "{} acts were done twice", self.done_twice);
        ensure!(self.lost == 0, "{} decisions or acts are lost", self.lost);
        ensure!(
            self.misheard == 0,
            "in {} runs, what the user said is not in the session once",
            self.misheard
        );
        ensure!(
            self.unmatched == 0,
            "{} acts differ between the journals and the ledger",
            self.unmatched
        );
        ensure!(
            self.chains == Some(true),
            "the chain of a journal does not verify"
        );
        Ok(())
    }
}

/// The acts, by their business content: run, tool and arguments.
type Contents = BTreeMap<(String, String, String), usize>;

/// How often each act should be done; a run may intend the same act twice.
fn expected(runs: &[Conversation]) -> Contents {
    let mut contents = Contents::new();
    for run in runs {
        let calls = run.decisions.iter().flat_map(|decision| &decision.calls);
        for call in calls.filter(|call| changes(&call.tool)) {
            *contents
                .entry((run.name.clone(), call.tool.clone(), call.args.to_string()))
                .or_default() += 1;
        }
    }
    contents
}

struct Acts {
    done: usize,
    twice: usize,
    lost: usize,
}

impl Acts {
    fn count(runs: &[Conversation], ledger: &[Line]) -> Self {
        let expected = expected(runs);
        let mut done = Contents::new();
        let ledger: Vec<&Line> = ledger.iter().filter(|line| line.operation != UNDO).collect();
        for line in &ledger {
            let run = line.reference.split('/').next().unwrap_or_default().to_owned();
            *done
                .entry((run, line.operation.clone(), line.content.to_string()))
                .or_default() += 1;
        }
        let missing =
            |(content, times): (_, &usize)| times.saturating_sub(done.get(content).copied().unwrap_or(0));
        let lost: usize = expected.iter().map(missing).sum();
        let beyond =
            |(content, times): (_, &usize)| times.saturating_sub(expected.get(content).copied().unwrap_or(0));
        let by_content: usize = done.iter().map(beyond).sum();
        let by_reference = ledger.len() - distinct(ledger.iter().map(|line| &line.reference));
        let twice = by_content.max(by_reference);
        Self {
            done: ledger.len() - twice,
            twice,
            lost,
        }
    }
}

/// Keys of the journals that are not in the ledger exactly once, and lines of the ledger that no journal has.
fn unmatched(kept: &[Kept], ledger: &[Line]) -> usize {
    let mut keys = BTreeMap::new();
    for key in kept.iter().flat_map(|kept| &kept.keys) {
        *keys.entry(Some(key)).or_insert(0_i64) += 1;
    }
    for line in ledger {
        *keys.entry(line.key.as_ref()).or_insert(0_i64) -= 1;
    }
    keys.values().filter(|difference| **difference != 0).count()
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> usize {
    all.collect::<std::collections::BTreeSet<_>>().len()
}

/// Recorded decisions that are not kept as they were made.
fn lost_decisions(run: &Conversation, kept: &Kept) -> usize {
    let is_kept = |(k, decision): (usize, &crate::recording::Decision)| {
        kept.decisions
            .iter()
            .filter(|kept| kept.k == k && kept.message == decision.message)
            .count()
            == 1
    };
    run.decisions
        .iter()
        .enumerate()
        .filter(|decision| !is_kept(*decision))
        .count()
}

fn asked_twice(runs: &[Conversation], kept: &[Kept], asked: &[Asked]) -> usize {
    let decisions = runs.iter().zip(kept).flat_map(|(run, kept)| {
        kept.decisions
            .iter()
            .map(move |decision| ((run.name.as_str(), decision.k), decision))
    });
    let decisions: BTreeMap<(&str, usize), &KeptDecision> = decisions.collect();
    let again = |asked: &&Asked| {
        decisions
            .get(&(asked.run.as_str(), asked.k))
            .is_some_and(|kept| asked.again(kept.at_us, kept.epoch))
    };
    asked.iter().filter(again).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Call, Decision};
    use serde_json::json;

    fn run() -> Conversation {
        let call = Call {
            tool: "book_reservation".to_owned(),
            args: json!({"seat": 1}),
            answer: json!("ok"),
        };
        let decision = Decision {
            message: json!({"n": 0}),
            calls: vec![call],
        };
        Conversation {
            name: "r".to_owned(),
            said: Vec::new(),
            decisions: vec![decision],
            regretted: false,
        }
    }

    fn kept(at_us: i64, epoch: Option<u64>) -> Kept {
        let decisions = vec![KeptDecision {
            k: 0,
            message: json!({"n": 0}),
            at_us,
            epoch,
        }];
        Kept {
            decisions,
            said: Vec::new(),
            keys: vec!["key".to_owned()],
            acts: Vec::new(),
            ended: true,
            chain: Some(true),
        }
    }

    fn asked(at_us: i64, epoch: Option<u64>) -> Asked {
        Asked {
            at_us,
            run: "r".to_owned(),
            k: 0,
            epoch,
        }
    }

    fn line() -> Line {
        Line {
            n: 1,
            key: Some("key".to_owned()),
            reference: "r/0.0".to_owned(),
            operation: "book_reservation".to_owned(),
            content: json!({"seat": 1}),
            answer: json!("ok"),
        }
    }

    #[test]
    fn asking_before_it_is_recorded_is_not_asking_twice() {
        let all = [asked(1, Some(1)), asked(5, Some(2))];
        let verdict = Verdict::of(&[run()], &[kept(6, Some(2))], &all, &[line()], None, 0);
        assert_eq!((verdict.asked, verdict.asked_twice), (2, 0));
        verdict.check(&[run()]).unwrap();
    }

    #[test]
    fn asking_after_it_is_recorded_is_asking_twice() {
        for late in [asked(7, Some(2)), asked(5, Some(3))] {
            let verdict = Verdict::of(
                &[run()],
                &[kept(6, Some(2))],
                &[asked(1, Some(2)), late],
                &[line()],
                None,
                0,
            );
            assert_eq!(verdict.asked_twice, 1);
        }
    }

    #[test]
    fn acts_are_counted_by_what_was_done() {
        let verdict = |ledger: &[Line]| Verdict::of(&[run()], &[kept(6, None)], &[], ledger, None, 0);
        let once = verdict(&[line()]);
        assert_eq!((once.acts, once.done_twice, once.lost), (1, 0, 0));
        let twice = verdict(&[line(), line()]);
        assert_eq!((twice.acts, twice.done_twice, twice.lost), (1, 1, 0));
        let never = verdict(&[]);
        assert_eq!((never.acts, never.done_twice, never.lost), (0, 0, 1));
        assert!(never.check(&[run()]).is_err());
    }
}
