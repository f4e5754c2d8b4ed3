//! Random histories of a run, decided by the rules and predicted by a naive model that reads the whole history for every
//! answer; and entries of every kind in any order, which must never make the rules panic.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/model/mod.rs"]
mod naive;
mod support;

use naive::history::{History, Life, Past};
use proptest::prelude::*;
use proptest::sample::select;
use support::alphabet::LINES;
use support::{Journal, run_line};
use tape_core::agenda::{Item, Queue};
use tape_core::chain::StreamTag;
use tape_core::codec::{Stamp, decode, seal};
use tape_core::command::Command;
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::id::RequestId;
use tape_core::payload::Digest;
use tape_core::reply::{Decided, Rejection};
use tape_core::run::{Phase, Run};
use tape_core::time::Timestamp;

fn step() -> impl Strategy<Value = (&'static str, u64)> {
    (
        select(LINES),
        prop_oneof![6 => Just(0_u64), 2 => Just(100), 2 => Just(500), 1 => Just(1_000)],
    )
}

/// Beginnings that lead to states which random steps alone seldom reach.
fn opening() -> impl Strategy<Value = Vec<&'static str>> {
    select(vec![
        vec![],
        vec!["begin a", "decide #0"],
        vec![
            "begin a",
            "decide #0",
            "effect #0.0 inline idempotent undo=u attempts=2",
            "finish #0.0 1 ok",
        ],
        vec![
            "begin a",
            "decide #0",
            "effect #0.1 outbox non-idempotent undo=u attempts=3 observations=2",
            "claim #0.1 w",
        ],
        vec![
            "begin a",
            "decide #0",
            "effect #0.0 inline idempotent undo=u attempts=2",
            "effect #0.1 outbox non-idempotent undo=u",
            "claim #0.1 w",
            "done #0.1 w 1 unknown lost",
            "finish #0.0 1 ok",
            "fail no",
        ],
        vec![
            "begin a",
            "decide #0",
            "budget m 20",
            "budget p 9 parent=m",
            "decide #1",
        ],
        vec![
            "begin a",
            "decide #0",
            "decide sub#0",
            "effect sub#0.0 outbox non-idempotent resend backoff=100",
            "suspend",
        ],
    ])
}

/// The rules and the model, side by side.
struct Pair {
    journal: Journal<Run>,
    past: Vec<Past>,
}

impl Pair {
    fn feed(&mut self, line: &str) {
        let command = run_line::command_in(line, &self.journal);
        let (now, next) = (self.journal.now, self.journal.state.seq().next());
        let expected = History(&self.past).expect(&command, now, next);
        let decided = self.journal.ask(command.clone());
        let found = match &decided {
            Ok(decided) => Ok(decided.reply.result.clone()),
            Err(rejection) => Err(word(rejection)),
        };
        assert_eq!(found, expected.map_err(str::to_owned), "'{line}' at {now}");
        if let Ok(Decided { entries, reply }) = decided
            && !entries.is_empty()
        {
            let seq = reply.seq;
            self.past.push(Past {
                at: now,
                command,
                result: reply.result,
                seq,
            });
        }
        self.compare();
    }

    fn compare(&self) {
        let (run, history) = (&self.journal.state, History(&self.past));
        let life = match run.phase() {
            Phase::New => Life::New,
            Phase::Running => Life::Running,
            Phase::Suspended { .. } => Life::Suspended,
            Phase::Compensating { .. } => Life::Compensating,
            Phase::Ended { ending } => Life::Ended(ending.clone()),
        };
        assert_eq!(life, history.life());
        assert_eq!(run.epoch(), history.epoch());
        assert_eq!(
            run.agenda().due(Queue::Recovery, &Item::Run),
            history.recovery_due()
        );
        assert_eq!(run.is_retired(), history.retired());
        if history.retired() {
            assert!(run.effects().is_empty() && run.budgets().is_empty());
            return;
        }
        for (id, act) in history.acts() {
            match run.effects().get(&id) {
                Some(effect) => {
                    assert_eq!((effect.status, effect.attempt), (act.status, act.attempt), "{id}");
                    assert!(!history.forgotten(&id), "{id}");
                }
                None => assert!(history.forgotten(&id), "{id}"),
            }
        }
        if !matches!(life, Life::Ended(_)) {
            let debts: Vec<_> = history.debts().into_iter().map(|debt| debt.id).collect();
            let there: Vec<_> = run.obligations().iter().map(|there| there.id.clone()).collect();
            assert_eq!(there, debts);
        }
        for (name, budget) in run.budgets() {
            assert_eq!((budget.reserved, budget.spent), history.books(name), "{name}");
        }
    }
}

/// The name of a rejection.
fn word(rejection: &Rejection) -> String {
    let text = format!("{rejection:?}");
    text.split([' ', '{', '(']).next().unwrap().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_and_the_model_agree(opening in opening(), steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair { journal: Journal::new(), past: Vec::new() };
        opening.into_iter().for_each(|line| pair.feed(line));
        for (line, wait) in steps {
            pair.journal.wait(wait);
            pair.feed(line);
        }
        pair.journal.check();
    }

    /// Entries of other histories in any order: each is taken or refused, and what is decided next can be folded.
    #[test]
    fn entries_in_any_order_never_panic(
        steps in prop::collection::vec((select(LINES), 0..4_usize, any::<prop::sample::Index>()), 1..40),
    ) {
        let pool = pool();
        let mut run = Run::default();
        let mut now = Timestamp::from_micros(0);
        for (line, skip, pick) in steps {
            for body in pool.iter().cycle().skip(pick.index(pool.len())).take(skip) {
                take(&mut run, body.clone(), now);
            }
            now = now.plus_millis(100);
            let command = Command::new(RequestId::new(now, 1), run_line::command(line, &run));
            if let Ok(decided) = run.decide(&command, now) {
                for body in decided.entries {
                    prop_assert!(take(&mut run, body, now), "what was decided can be folded");
                }
            }
            let _ = run.agenda();
            let _ = run.summary();
        }
    }
}

fn take(run: &mut Run, body: EntryBody, now: Timestamp) -> bool {
    let stamp = Stamp {
        at: now,
        request: support::quick::request(1),
        principal: None,
        trace: None,
        command: None,
    };
    let (_, stored) = seal(
        &StreamTag::of(&support::names::run_id().into()),
        &Digest::default(),
        run.seq().next(),
        &stamp,
        body,
    );
    let before = run.clone();
    let taken = run.apply(&decode(&stored).unwrap()).is_ok();
    if !taken {
        *run = before;
    }
    taken
}

/// Entries from the life of a few runs.
fn pool() -> Vec<EntryBody> {
    let mut pool = Vec::new();
    for script in [
        &[
            "begin a",
            "decide #0",
            "effect #0.0 inline idempotent undo=u",
            "finish #0.0 1 ok",
            "fail no",
            "undo #0.0 w",
            "undone #0.0 w 1 retry no",
        ][..],
        &[
            "begin a",
            "decide #0",
            "effect #0.1 outbox non-idempotent",
            "claim #0.1 w",
            "done #0.1 w 1 unknown lost",
            "wait",
            "observe #0.1 o",
            "observed #0.1 o 1 duplicate copy-undo=d",
            "undo #0.1/1 w",
        ],
        &[
            "begin a",
            "gate g",
            "signal g s1",
            "timer t",
            "untimer t",
            "budget m 9",
            "reserve #0 spends=m:3",
            "suspend resume=9",
            "cancel no",
        ],
        &["begin a", "release", "begin b", "cancel no", "accept-cancel"],
        &["begin a", "complete", "retire old"],
    ] {
        let mut journal = Journal::<Run>::new();
        for line in script {
            if *line == "wait" {
                journal.wait(900);
                continue;
            }
            let command = run_line::command_in(line, &journal);
            journal.ask(command).unwrap();
        }
        pool.extend(journal.entries.into_iter().map(|entry| entry.body));
    }
    pool
}
