//! Verdicts of people are about what the person has seen; anything newer refuses them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::Journal;
use support::names::effect;
use support::run_line;
use tape_core::decider::Decider as _;
use tape_core::effect::Status;
use tape_core::entry::EntryBody;
use tape_core::entry::run::UnhappyOutcome;
use tape_core::id::Seq;
use tape_core::reply::{Decided, Field, Rejection, ReplyResult};
use tape_core::run::{ObligationStatus, Phase, Run};

fn ask(journal: &mut Journal<Run>, line: &str) -> Result<Decided, Rejection> {
    let command = run_line::command(line, &journal.state);
    journal.ask(command)
}

fn played(lines: &[&str]) -> Journal<Run> {
    let mut journal = Journal::new();
    for line in lines {
        match line.strip_prefix("wait ") {
            Some(millis) => journal.wait(millis.parse().unwrap()),
            None => drop(ask(&mut journal, line).unwrap()),
        }
    }
    journal
}

#[track_caller]
fn changed(found: Result<Decided, Rejection>, standing_now: &str) {
    match found {
        Err(Rejection::Changed {
            seen,
            changed,
            standing,
            ..
        }) => {
            assert!(changed > seen);
            assert_eq!(standing, standing_now);
        }
        other => panic!("{other:?}"),
    }
}

/// An effect that is UNKNOWN in its first attempt.
fn unknown() -> Journal<Run> {
    played(&[
        "begin a lease=3600000",
        "decide #0",
        "effect #0.0 outbox non-idempotent",
        "claim #0.0 w1",
        "wait 2000",
        "lapse #0.0",
    ])
}

#[test]
fn a_verdict_on_an_earlier_attempt_is_refused() {
    let mut journal = unknown();
    let seen = journal.state.seq();
    let resend = format!("settle #0.0 resend seen={seen} I looked");
    ask(&mut journal, &resend).unwrap();
    changed(ask(&mut journal, &resend), "pending in attempt 1");
    ask(&mut journal, "claim #0.0 w2").unwrap();
    changed(ask(&mut journal, &resend), "started in attempt 2");
    ask(&mut journal, "done #0.0 w2 last unknown timeout").unwrap();
    for verdict in ["resend", "failed", "confirmed"] {
        let line = format!("settle #0.0 {verdict} seen={seen} I looked");
        changed(ask(&mut journal, &line), "unknown in attempt 2");
    }
    assert_eq!(journal.state.effects()[&effect("#0.0")].status, Status::Unknown);
    ask(&mut journal, "settle #0.0 failed now I looked again").unwrap();
    journal.check();
}

#[test]
fn what_an_observer_found_refuses_a_verdict_that_is_older() {
    let mut journal = unknown();
    let seen = journal.state.seq();
    ask(&mut journal, "observe #0.0 o").unwrap();
    ask(&mut journal, "observed #0.0 o 1 inconclusive").unwrap();
    let line = format!("settle #0.0 resend seen={seen} I looked");
    changed(ask(&mut journal, &line), "unknown in attempt 1");
}

#[test]
fn a_claim_to_observe_changes_nothing_that_a_verdict_is_about() {
    let mut journal = unknown();
    let seen = journal.state.seq();
    ask(&mut journal, "observe #0.0 o").unwrap();
    journal.wait(3_000);
    ask(&mut journal, &format!("settle #0.0 failed seen={seen} I looked")).unwrap();
}

#[test]
fn nothing_is_settled_on_what_is_not_there_yet() {
    let mut journal = unknown();
    let next = journal.state.seq().next();
    let refused = ask(&mut journal, &format!("settle #0.0 failed seen={next} I looked")).unwrap_err();
    assert!(
        matches!(
            refused,
            Rejection::Invalid {
                field: Field::Seen,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_verdict_on_an_earlier_attempt_to_undo_is_refused() {
    let mut journal = played(&[
        "begin a lease=3600000",
        "decide #0",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
        "fail no",
        "undo #0.0 w1",
        "undone #0.0 w1 1 stuck why",
    ]);
    let seen = journal.state.seq();
    let retry = format!("settle-undo #0.0 retry seen={seen} go");
    ask(&mut journal, &retry).unwrap();
    ask(&mut journal, "undo #0.0 w2").unwrap();
    ask(&mut journal, "undone #0.0 w2 2 stuck why").unwrap();
    changed(ask(&mut journal, &retry), "stuck in attempt 2");
    let done = format!("settle-undo #0.0 done seen={seen} I did it");
    changed(ask(&mut journal, &done), "stuck in attempt 2");
    ask(&mut journal, "settle-undo #0.0 done I did it").unwrap();
    journal.check();
}

/// Two acts that are to be undone, the last one first.
const TWO_TO_UNDO: [&str; 7] = [
    "begin a lease=3600000",
    "decide #0",
    "effect #0.0 inline idempotent undo=u",
    "finish #0.0 1 ok",
    "effect #0.1 inline idempotent undo=u",
    "finish #0.1 1 ok",
    "fail no",
];

#[test]
fn a_person_settles_what_no_worker_undoes_the_last_one_first() {
    let mut journal = played(&TWO_TO_UNDO[..6]);
    let armed = ask(&mut journal, "settle-undo #0.1 done I did it").unwrap_err();
    assert_eq!(
        armed.to_string(),
        "obligation: is armed: it is undone only where the run ends badly"
    );
    ask(&mut journal, "fail no").unwrap();
    let order = ask(&mut journal, "settle-undo #0.0 done I did it").unwrap_err();
    assert!(matches!(order, Rejection::NotNext { .. }), "{order}");
    let due = ask(&mut journal, "settle-undo #0.1 retry go").unwrap_err();
    assert_eq!(due.to_string(), "obligation: is due: a worker takes it up");
    ask(&mut journal, "settle-undo #0.1 done I did it").unwrap();
    ask(&mut journal, "settle-undo #0.0 done I did it").unwrap();
    assert!(journal.state.status().is_final());
    journal.check();
}

#[test]
fn what_a_worker_undoes_is_settled_by_a_person_once_its_claim_is_over() {
    let mut journal = played(&[&TWO_TO_UNDO[..], &["undo #0.1 w1"]].concat());
    let seen = journal.state.seq();
    for verdict in ["done", "retry"] {
        let claimed = ask(&mut journal, &format!("settle-undo #0.1 {verdict} I looked")).unwrap_err();
        assert!(
            matches!(&claimed, Rejection::Claimed { holder, .. } if holder.as_str() == "w1"),
            "{claimed}"
        );
    }
    journal.wait(3_600_000);
    let lapsed = ask(&mut journal, "settle-undo #0.1 retry go").unwrap_err();
    assert_eq!(
        lapsed.to_string(),
        "obligation: has a claim that is over: a worker takes it up"
    );
    ask(&mut journal, "undo #0.1 w2").unwrap();
    journal.wait(3_600_000);
    let done = format!("settle-undo #0.1 done seen={seen} I did it");
    changed(ask(&mut journal, &done), "started in attempt 2");
    ask(&mut journal, "settle-undo #0.1 done I did it").unwrap();
    journal.check();
}

/// Earlier builds numbered the attempts after a person's word from 1 again.
#[test]
fn attempts_that_were_numbered_anew_are_folded() {
    let mut journal = played(&[
        "begin a lease=3600000",
        "decide #0",
        "effect #0.0 inline idempotent undo=u attempts=2",
        "finish #0.0 1 ok",
        "fail no",
        "undo #0.0 w",
        "undone #0.0 w 1 stuck why",
        "settle-undo #0.0 retry go",
        "undo #0.0 w",
        "undone #0.0 w 2 retry busy",
        "wait 1000",
        "undo #0.0 w",
    ]);
    let mut before = Run::default();
    for entry in &mut journal.entries {
        if let EntryBody::ObligationStarted(started) = &mut entry.body
            && entry.seq > Seq(8)
        {
            started.attempt -= 1;
        }
        before.apply(entry).unwrap();
    }
    assert_eq!(before.obligations()[0].attempt, 2);
    assert_eq!(before.agenda(), journal.state.agenda());
    journal.state = before;
    ask(&mut journal, "undone #0.0 w 2 retry busy").unwrap();
    assert!(
        matches!(&journal.state.obligations()[0].status, ObligationStatus::Stuck { reason } if reason.contains("2 attempts")),
        "the bound counts from the person's word"
    );
}

/// A person who lets it be tried again says that no attempt undid it, so the reason says where one may have.
#[test]
fn a_stuck_undo_says_whether_an_attempt_may_have_undone_it() {
    let last = [
        ("retry busy", "failed in 2 attempts, the last: busy"),
        ("unknown busy", "may be done after 2 attempts, the last: busy"),
        ("stuck busy", "busy"),
    ];
    let doubted = [
        ("retry busy", "may be done after 2 attempts, the last: busy"),
        ("unknown busy", "may be done after 2 attempts, the last: busy"),
        ("stuck busy", "an earlier attempt may have undone it: busy"),
    ];
    for (first, lasts) in [("retry", last), ("unknown", doubted)] {
        for (last, told) in lasts {
            let journal = played(&[
                "begin a lease=3600000",
                "decide #0",
                "effect #0.0 inline idempotent undo=u attempts=2",
                "finish #0.0 1 ok",
                "fail no",
                "undo #0.0 w",
                &format!("undone #0.0 w 1 {first} slow"),
                "wait 1000",
                "undo #0.0 w",
                &format!("undone #0.0 w 2 {last}"),
            ]);
            let ObligationStatus::Stuck { reason } = &journal.state.obligations()[0].status else {
                panic!("{first}, then {last}: it is stuck");
            };
            let reason = reason.trim_start_matches("obligation of effect #0.0 ");
            assert_eq!(reason, told, "{first}, then {last}");
            journal.check();
        }
    }
}

#[test]
fn a_run_that_got_stuck_again_is_not_let_go_on() {
    let mut journal = played(&["begin a lease=1000"]);
    let stuck = |journal: &mut Journal<Run>| {
        while journal.state.stuck().is_none() {
            journal.wait(1_000_000);
            ask(journal, "begin r recovery there").unwrap();
            ask(journal, "begin a adopts there").unwrap();
        }
    };
    stuck(&mut journal);
    let seen = journal.state.seq();
    let retry = format!("retry-run seen={seen} go");
    ask(&mut journal, &retry).unwrap();
    stuck(&mut journal);
    let refused = ask(&mut journal, &retry);
    assert!(matches!(refused, Err(Rejection::Changed { .. })), "{refused:?}");
    ask(&mut journal, "retry-run go").unwrap();
}

#[test]
fn a_stuck_run_is_cancelled_at_once_whatever_its_lease_says() {
    let mut journal = played(&["begin a lease=1000"]);
    while journal.state.stuck().is_none() {
        journal.wait(1_000_000);
        ask(&mut journal, "begin r recovery there").unwrap();
        ask(&mut journal, "begin a adopts there").unwrap();
    }
    // By a slow clock, the lease of the last driver has not ended.
    journal.now = journal.now.minus_millis(1_000_000);
    ask(&mut journal, "cancel no more").unwrap();
    assert!(journal.state.status().is_final(), "{:?}", journal.state.phase());
    journal.check();
}

/// An effect that has to be undone, and a cancellation that waits for the driver.
const CANCELLED: [&str; 5] = [
    "begin a lease=30000",
    "decide #0",
    "effect #0.0 inline idempotent undo=u",
    "finish #0.0 1 ok",
    "cancel it is late",
];

#[test]
fn a_cancellation_that_was_recorded_is_carried_out_once_the_driver_is_gone() {
    for gone in [&["wait 30000"][..], &["release"], &["vanished 1"]] {
        let mut journal = played(&[&CANCELLED[..], gone].concat());
        let found = ask(&mut journal, "cancel again").unwrap().reply.result;
        assert_eq!(found, ReplyResult::Compensating, "{gone:?}");
        let then = UnhappyOutcome::Cancelled {
            reason: "it is late".to_owned(),
        };
        assert_eq!(*journal.state.phase(), Phase::Compensating { then }, "{gone:?}");
        journal.check();
    }
}

#[test]
fn what_is_said_again_is_answered_by_the_entry_that_says_it() {
    let mut journal = played(&CANCELLED);
    let asked = journal.state.seq();
    ask(&mut journal, "renew lease=30000").unwrap();
    let again = ask(&mut journal, "cancel again").unwrap();
    assert_eq!((again.reply.seq, again.entries.len()), (asked, 0));
    ask(&mut journal, "accept-cancel").unwrap();
    ask(&mut journal, "undo #0.0 w").unwrap();
    ask(&mut journal, "undone #0.0 w 1 ok").unwrap();
    let ended = journal.state.seq();
    ask(&mut journal, "retire old").unwrap();
    let over = ask(&mut journal, "cancel again").unwrap();
    assert_eq!(over.reply.seq, ended.next(), "the entry that stands for it");

    let mut journal = played(&["begin a lease=30000", "signal g s"]);
    let sent = journal.state.seq();
    ask(&mut journal, "decide #0").unwrap();
    assert_eq!(ask(&mut journal, "signal g s").unwrap().reply.seq, sent);
    ask(&mut journal, "gate g").unwrap();
    let answered = journal.state.seq();
    ask(&mut journal, "decide #1").unwrap();
    assert_eq!(ask(&mut journal, "signal g s").unwrap().reply.seq, answered);
}

#[test]
fn an_answer_is_about_the_gate_that_was_seen() {
    let mut journal = played(&["begin a lease=3600000", "decide #0"]);
    let seen = journal.state.seq();
    let early = ask(&mut journal, &format!("signal g s seen={seen}")).unwrap_err();
    assert!(matches!(early, Rejection::NotFound { .. }), "{early}");
    ask(&mut journal, "gate g").unwrap();
    changed(ask(&mut journal, &format!("signal g s seen={seen}")), "open");
    let opened = Seq(seen.0 + 1);
    ask(&mut journal, "decide #1").unwrap();
    ask(&mut journal, &format!("signal g s seen={opened}")).unwrap();
}

#[test]
fn a_run_that_comes_to_its_end_takes_no_signal() {
    let ends: [&[&str]; 5] = [
        &["cancel no more"],
        &["complete"],
        &[
            "effect #0.0 inline idempotent undo=u",
            "finish #0.0 1 ok",
            "fail no",
        ],
        &["fail no"],
        &["cancel no more", "accept-cancel"],
    ];
    for end in ends {
        for gate in [&["gate g"][..], &[]] {
            let begun = ["begin a lease=3600000", "decide #0"];
            let mut journal = played(&[&begun[..], gate, end].concat());
            let refused = ask(&mut journal, "signal g s").unwrap_err();
            assert!(
                matches!(refused, Rejection::Closing { .. } | Rejection::RunEnded { .. }),
                "{end:?}: {refused}"
            );
        }
    }
}

/// Entries up to a `seen` that does not exist yet would count as seen, and would not wake the run.
#[test]
fn a_run_does_not_wait_for_what_is_not_there_yet() {
    let mut journal = played(&["begin a", "gate yes"]);
    let next = journal.state.seq().next();
    let refused = ask(&mut journal, &format!("suspend seen={next}")).unwrap_err();
    assert!(
        matches!(
            refused,
            Rejection::Invalid {
                field: Field::Seen,
                ..
            }
        ),
        "{refused}"
    );
    ask(&mut journal, "suspend").unwrap();
}

#[test]
fn what_does_not_exist_is_named() {
    let mut journal = played(&["begin a", "decide #0", "budget m 9"]);
    for (line, told) in [
        ("reserve #1 spends=m:1,q:1", "there is no budget 'q'"),
        ("budget p 3 parent=q", "there is no budget 'q'"),
        ("signal g s seen=1", "there is no open gate 'g'"),
        ("expire g", "there is no open gate 'g'"),
        ("fire t", "there is no timer 't'"),
    ] {
        assert_eq!(ask(&mut journal, line).unwrap_err().to_string(), told, "{line}");
    }
}
