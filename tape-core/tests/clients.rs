//! `docs/clients.md` says what the rules do: cases of its tables that a client's author would find out only by trying.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::{Journal, run_line};
use tape_core::agenda::{Item, Queue};
use tape_core::decider::Decider as _;
use tape_core::effect::Status;
use tape_core::id::BudgetName;
use tape_core::reply::{ClosingPhase, Decided, Rejection};
use tape_core::run::Run;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;

fn ask(journal: &mut Journal<Run>, line: &str) -> Result<Decided, Rejection> {
    let command = run_line::command(line, &journal.state);
    journal.ask(command)
}

fn play(journal: &mut Journal<Run>, lines: &[&str]) {
    for line in lines {
        match line.strip_prefix("wait ") {
            Some(millis) => journal.wait(millis.parse().unwrap()),
            None => drop(ask(journal, line).unwrap_or_else(|refusal| panic!("{line}: {refusal}"))),
        }
    }
}

fn played(lines: &[&str]) -> Journal<Run> {
    let mut journal = Journal::new();
    play(&mut journal, lines);
    journal
}

fn last_kind(journal: &Journal<Run>) -> &'static str {
    journal.entries.last().unwrap().body.kind()
}

fn due(journal: &Journal<Run>) -> Option<Timestamp> {
    journal.state.agenda().due(Queue::Recovery, &Item::Run)
}

#[test]
fn a_signal_answers_a_gate_after_its_deadline_until_an_entry_ends_the_wait() {
    let opened = [
        "begin a1 lease=3600000",
        "gate approval deadline=500",
        "wait 900000",
    ];
    let mut journal = played(&opened);
    play(&mut journal, &["signal approval s1"]);
    assert_eq!(last_kind(&journal), "gate.answered");
    let mut journal = played(&opened);
    play(&mut journal, &["expire approval"]);
    ask(&mut journal, "signal approval s1").unwrap_err();
}

#[test]
fn an_inline_effect_is_restarted_early_and_over_an_observation() {
    let begun = [
        "begin a1 lease=3600000",
        "decide #0",
        "effect #0.0 inline idempotent",
    ];
    let mut journal = played(&begun);
    play(&mut journal, &["finish #0.0 1 retry busy", "restart #0.0"]);
    play(
        &mut journal,
        &["finish #0.0 2 unknown lost", "wait 60000", "observe #0.0 w1"],
    );
    play(&mut journal, &["restart #0.0"]);
    let late = ask(&mut journal, "observed #0.0 w1 1 found").unwrap_err();
    assert!(matches!(late, Rejection::ClaimLost { .. }), "{late}");
}

#[test]
fn a_stuck_effect_is_not_restarted_and_its_settlement_makes_a_suspended_run_due() {
    let mut journal = played(&[
        "begin a1 lease=3600000",
        "decide #0",
        "effect #0.0 inline idempotent observations=1",
        "finish #0.0 1 unknown lost",
        "wait 60000",
        "observe #0.0 w1",
        "observed #0.0 w1 1 inconclusive",
    ]);
    let refused = ask(&mut journal, "restart #0.0").unwrap_err();
    assert!(matches!(refused, Rejection::WrongStatus { .. }), "{refused}");
    play(&mut journal, &["suspend"]);
    assert_eq!((journal.state.status(), due(&journal)), (RunStatus::Stuck, None));
    play(&mut journal, &["wait 1000", "settle #0.0 failed I looked"]);
    assert_eq!(
        (journal.state.status(), due(&journal)),
        (RunStatus::Suspended, Some(journal.now))
    );
    play(&mut journal, &["begin a2 recovery"]);
}

#[test]
fn a_lease_ends_as_the_page_says() {
    let mut journal = played(&["begin a1 lease=60000"]);
    ask(&mut journal, "begin a2").unwrap_err();
    play(&mut journal, &["begin a2 adopt=1 lease=60000"]);
    let fenced = ask(&mut journal, "decide #0 epoch=1").unwrap_err();
    assert!(matches!(fenced, Rejection::Fenced { .. }), "{fenced}");
    play(&mut journal, &["wait 61000", "decide #0", "renew"]);
    play(&mut journal, &["vanished 2", "decide #1", "renew", "release"]);
    ask(&mut journal, "renew").unwrap_err();
    play(&mut journal, &["begin a3"]);
}

/// What of a budget is reserved, and what is spent.
fn stand(journal: &Journal<Run>, name: &str) -> (u64, u64) {
    let budget = &journal.state.budgets()[&BudgetName::new(name).unwrap()];
    (budget.reserved, budget.spent)
}

/// Both budgets of the page's example stand like this after a command.
#[track_caller]
fn both_stand(journal: &mut Journal<Run>, line: &str, at: (u64, u64)) {
    play(journal, &[line]);
    assert_eq!(
        (stand(journal, "day"), stand(journal, "desk")),
        (at, at),
        "{line}"
    );
}

#[test]
fn budgets_stand_as_the_page_says() {
    let mut journal = played(&[
        "begin a1 lease=3600000",
        "budget day 100",
        "budget desk 60 parent=day",
        "decide #0",
    ]);
    let (begin, again) = (
        "effect #0.0 inline idempotent undo=back reserve=desk:50",
        "effect #1.0 inline idempotent reserve=desk:15",
    );
    both_stand(&mut journal, begin, (50, 0));
    let more = ask(&mut journal, "effect #0.1 inline idempotent reserve=desk:20").unwrap_err();
    assert!(
        matches!(more, Rejection::BudgetExhausted { left: 10, .. }),
        "{more}"
    );
    both_stand(&mut journal, "finish #0.0 1 ok spent=desk:40", (0, 40));
    both_stand(&mut journal, "decide #1", (0, 40));
    both_stand(&mut journal, again, (15, 40));
    both_stand(&mut journal, "finish #1.0 1 failed no", (0, 40));
    play(
        &mut journal,
        &["fail it broke", "undo #0.0 w1", "undone #0.0 w1 1 ok"],
    );
    assert_eq!(last_kind(&journal), "run.failed");
    assert_eq!(
        (stand(&journal, "day"), stand(&journal, "desk")),
        ((0, 40), (0, 40))
    );
}

#[test]
fn unsettled_effects_of_a_run_that_ends_become_what_the_page_says() {
    let mut journal = played(&[
        "begin a1 lease=3600000",
        "decide #0",
        "effect #0.0 outbox idempotent",
        "effect #0.1 inline read-only",
        "effect #0.2 inline idempotent",
        "effect #0.3 outbox idempotent",
        "claim #0.3 w1 ms=60000",
        "fail it broke",
    ]);
    let status =
        |journal: &Journal<Run>, effect: &str| journal.state.effects()[&effect.parse().unwrap()].status;
    let after = ["#0.0", "#0.1", "#0.2", "#0.3"].map(|effect| status(&journal, effect));
    assert_eq!(
        after,
        [Status::Failed, Status::Failed, Status::Unknown, Status::Started]
    );
    assert_eq!(last_kind(&journal), "run.compensating");
    play(
        &mut journal,
        &["wait 61000", "lapse #0.3", "observe #0.3 w2", "observe #0.2 w2"],
    );
    play(
        &mut journal,
        &["observed #0.3 w2 1 absent", "observed #0.2 w2 1 absent"],
    );
    assert_eq!(last_kind(&journal), "run.failed");
}

#[test]
fn a_run_that_is_to_be_cancelled_takes_what_ends_and_nothing_new() {
    let mut journal = played(&[
        "begin a1 lease=3600000",
        "decide #0",
        "reserve #1",
        "effect #0.0 inline idempotent",
        "timer tea",
        "cancel too late",
    ]);
    for new in [
        "decide #1",
        "effect #0.1 inline idempotent",
        "gate approval",
        "timer cake",
        "untimer tea",
        "budget day 1",
        "sample 0 now",
        "checkpoint here",
        "suspend",
        "signal approval s1",
    ] {
        let refused = ask(&mut journal, new).unwrap_err();
        let phase = ClosingPhase::Cancelling;
        assert_eq!(refused, Rejection::Closing { phase }, "{new}");
    }
    play(
        &mut journal,
        &[
            "renew lease=60000",
            "unreserve #1",
            "restart #0.0",
            "finish #0.0 2 ok",
            "complete",
        ],
    );
    assert_eq!(journal.state.status(), RunStatus::Completed);
}
