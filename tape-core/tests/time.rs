//! The rules under a time that is known within bounds, and with entries from the future.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::Journal;
use support::run_line::command;
use tape_core::agenda::{Item, Queue};
use tape_core::command::Command;
use tape_core::decider::Decider as _;
use tape_core::id::RequestId;
use tape_core::reply::{Decided, Field, Rejection};
use tape_core::run::Run;
use tape_core::time::{Now, Timestamp};

const YEAR_MS: u64 = 365 * 86_400_000;
const START: &[&str] = &[
    "begin a1 lease=30000",
    "decide #0",
    "effect #0.0 outbox non-idempotent",
];

fn journal(lines: &[&str]) -> Journal<Run> {
    let mut journal = Journal::new();
    for line in lines {
        say(&mut journal, line).unwrap();
    }
    journal
}

fn say(journal: &mut Journal<Run>, line: &str) -> Result<Decided, Rejection> {
    let body = command(line, &journal.state);
    journal.ask(body)
}

/// The outcome of a command at a time.
fn ask(journal: &Journal<Run>, line: &str, now: Now) -> Result<Decided, Rejection> {
    let body = command(line, &journal.state);
    journal
        .state
        .decide(&Command::new(RequestId::new(now.at(), 999), body), now)
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(0).plus_millis(millis)
}

/// Commands that take over leases and claims of others that end at 30 s.
fn takes_over(journal: &Journal<Run>, now: Now) -> Vec<Result<Decided, Rejection>> {
    ["begin r recovery there", "lapse #0.0", "claim #0.0 w2"]
        .map(|line| ask(journal, line, now))
        .into()
}

#[test]
fn the_right_of_another_is_over_once_it_is_so_at_the_earliest() {
    let mut journal = journal(START);
    say(&mut journal, "claim #0.0 w1 ms=30000").unwrap();
    for outcome in takes_over(&journal, Now::within(ms(29_999), ms(31_000))) {
        assert!(
            matches!(
                outcome,
                Err(Rejection::LeaseHeld { .. } | Rejection::Claimed { .. })
            ),
            "{outcome:?}"
        );
    }
    for outcome in takes_over(&journal, Now::within(ms(30_000), ms(31_000))) {
        outcome.unwrap();
    }
    // A margin for a step of the clock.
    for outcome in takes_over(&journal, Now::from(ms(89_999)).after_step(60_000)) {
        outcome.unwrap_err();
    }
    // Its holder keeps it until others may take it.
    let renewed = ask(&journal, "keep #0.0 w1", Now::within(ms(29_999), ms(31_000)));
    renewed.unwrap();
}

#[test]
fn a_time_that_is_not_known_well_enough_judges_nothing() {
    let mut journal = journal(START);
    say(&mut journal, "claim #0.0 w1 ms=30000").unwrap();
    let unsure = Now::from(ms(3_600_000)).unsure();
    for outcome in takes_over(&journal, unsure) {
        assert!(
            matches!(outcome, Err(Rejection::TimeUnsure { .. })),
            "{outcome:?}"
        );
    }
    let renewed = ask(&journal, "keep #0.0 w1", unsure);
    renewed.unwrap();
    ask(&journal, "renew", unsure).unwrap();
}

#[test]
fn a_right_from_the_far_future_counts_as_over() {
    let mut journal = journal(START);
    journal.wait(YEAR_MS);
    say(&mut journal, "renew lease=30000").unwrap();
    say(&mut journal, "claim #0.0 w1 ms=30000").unwrap();
    for outcome in takes_over(&journal, ms(3_600_000).into()) {
        outcome.unwrap();
    }
}

#[test]
fn time_within_a_stream_never_goes_back_and_work_does_not_wait_for_it() {
    let mut journal = journal(&START[..2]);
    journal.wait(YEAR_MS);
    say(&mut journal, "checkpoint c").unwrap();
    journal.now = ms(5_000);
    say(&mut journal, "effect #0.0 outbox non-idempotent").unwrap();
    assert!(journal.entries.iter().map(|entry| entry.at).is_sorted());
    let item = Item::Effect("#0.0".parse().unwrap());
    assert_eq!(journal.state.agenda().due(Queue::Outbox, &item), Some(ms(5_000)));
    say(&mut journal, "claim #0.0 w1").unwrap();
    journal.check();
}

#[test]
fn a_person_ends_the_claim_that_they_saw_and_no_newer_one() {
    let mut journal = journal(START);
    say(&mut journal, "claim #0.0 w1 ms=30000").unwrap();
    journal.wait(1_000);
    say(&mut journal, "keep #0.0 w1 ms=30000").unwrap();
    let newer = say(&mut journal, "release-claim #0.0 30000000 the machine burnt");
    assert!(
        matches!(
            newer,
            Err(Rejection::Invalid {
                field: Field::Until,
                ..
            })
        ),
        "{newer:?}"
    );
    say(&mut journal, "release-claim #0.0 31000000 the machine burnt").unwrap();
    let lost = say(&mut journal, "done #0.0 w1 1 ok");
    assert!(matches!(lost, Err(Rejection::ClaimLost { .. })), "{lost:?}");
    // It may have happened: the upstream is asked, and so again where that claim is ended.
    say(&mut journal, "observe #0.0 o1 ms=30000").unwrap();
    say(&mut journal, "release-claim #0.0 31000000 that one, too").unwrap();
    say(&mut journal, "observe #0.0 o2").unwrap();
    let none = say(&mut journal, "release-claim #0.0 1 for nothing");
    assert!(none.is_err());
    journal.check();
}
