//! All command sequences up to a useful length over small alphabets, one for each family of rules and some mixed ones. With every command,
//! a witness that sees only the entries checks the guarantees, and the due work is checked to be complete and to be claimable when it is
//! due.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;
mod world;

use support::run_line;
use tape_core::command::Command;
use tape_core::decider::Decider as _;
use tape_core::id::Seq;
use tape_core::reply::{Missing, Rejection};
use tape_core::run::Run;
use tape_core::time::Timestamp;
use world::explore;

#[test]
fn leases() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "begin b adopt=1",
        "begin b adopts",
        "renew",
        "renew epoch=1 lease=2000",
        "release in=100",
        "vanished 1 grace=50",
        "vanished 1 seen=2",
        "vanished 2",
        "checkpoint c",
        "cancel no",
        "accept-cancel",
        "fail no",
        "complete",
        "retry-run go",
        "wait 1000",
        "wait 2000",
    ];
    explore(&[], &alphabet, 5);
}

/// What may happen to a run that was driven again and again.
const AGAIN: [&str; 11] = [
    "begin r recovery",
    "begin a",
    "begin a adopts",
    "renew",
    "retry-run go",
    "checkpoint c",
    "cancel no",
    "complete",
    "suspend resume=1000",
    "vanished 41",
    "wait 600000",
];

#[test]
fn runs_that_make_no_progress() {
    let mut setup = vec!["begin a"];
    for _ in 0..20 {
        setup.extend(["wait 600000", "begin r recovery", "begin a adopts"]);
    }
    setup.push("wait 600000");
    explore(&setup, &AGAIN, 5);
}

#[test]
fn runs_that_recovery_takes_in_vain() {
    let mut setup = vec!["begin a"];
    for _ in 0..40 {
        setup.extend(["wait 600000", "begin r recovery"]);
    }
    setup.push("wait 600000");
    explore(&setup, &AGAIN, 5);
}

#[test]
fn inline_effects() {
    let alphabet = [
        "effect #0.0 inline idempotent undo=u attempts=2 observations=2",
        "restart #0.0",
        "finish #0.0 last ok",
        "finish #0.0 last failed no",
        "finish #0.0 last retry busy",
        "finish #0.0 last unknown lost",
        "observe #0.0 o",
        "observed #0.0 o last found",
        "observed #0.0 o last absent",
        "observed #0.0 o last inconclusive",
        "observed #0.0 o last duplicate copy-undo=d",
        "settle #0.0 resend please",
        "settle #0.0 confirmed seen",
        "decide #1",
        "suspend",
        "fail no",
        "complete",
        "begin r recovery",
        "wait 1000",
    ];
    explore(&["begin a", "decide #0"], &alphabet, 5);
}

#[test]
fn reads() {
    let alphabet = [
        "effect #0.0 inline read-only attempts=2",
        "restart #0.0",
        "finish #0.0 last ok",
        "finish #0.0 last failed no",
        "finish #0.0 last retry busy",
        "finish #0.0 last unknown lost",
        "observe #0.0 o",
        "fail no",
        "cancel no",
        "complete",
        "begin r recovery",
        "wait 1000",
    ];
    explore(&["begin a", "decide #0"], &alphabet, 5);
}

const OUTBOX: [&str; 20] = [
    "claim #0.0 w",
    "claim #0.0 v",
    "keep #0.0 w",
    "done #0.0 w last ok",
    "done #0.0 w last failed no",
    "done #0.0 w last retry busy",
    "done #0.0 w last unknown lost",
    "lapse #0.0",
    "observe #0.0 o",
    "observed #0.0 o last found",
    "observed #0.0 o last absent",
    "observed #0.0 o last inconclusive",
    "observed #0.0 o last duplicate copy-undo=d",
    "settle #0.0 resend please",
    "settle #0.0 failed no",
    "suspend",
    "fail no",
    "cancel no",
    "complete",
    "wait 1000",
];

#[test]
fn non_idempotent_effects() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent undo=u attempts=2 observations=2",
    ];
    explore(&setup, &OUTBOX, 5);
}

#[test]
fn observers_who_vanish() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent attempts=9 observations=2 resend backoff=100",
        "claim #0.0 w",
        "done #0.0 w 1 unknown lost",
        "wait 1000",
    ];
    let alphabet = [
        "observe #0.0 o",
        "observe #0.0 p",
        "keep #0.0 o",
        "observed #0.0 o last inconclusive",
        "observed #0.0 o last absent",
        "settle #0.0 resend please",
        "claim #0.0 w",
        "fail no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 7);
}

#[test]
fn non_idempotent_effects_that_may_be_sent_again() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent resend",
        "claim #0.0 w",
    ];
    explore(&setup, &OUTBOX, 4);
}

#[test]
fn idempotent_effects_of_the_outbox() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox idempotent undo=u attempts=3",
    ];
    explore(&setup, &OUTBOX, 5);
}

#[test]
fn compensation() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u attempts=2",
        "finish #0.0 1 ok",
        "effect #0.1 outbox non-idempotent undo=u",
        "claim #0.1 w",
        "effect #0.2 inline idempotent undo=u",
    ];
    let alphabet = [
        "fail no",
        "finish #0.2 last ok",
        "done #0.1 w last ok",
        "done #0.1 w last retry busy",
        "observe #0.2 o",
        "observed #0.2 o last found",
        "observed #0.2 o last duplicate copy-undo=d",
        "observe #0.1 o",
        "observed #0.1 o last absent",
        "claim #0.1 v",
        "undo #0.0 w",
        "undo #0.1 w",
        "undo #0.2 w",
        "undo #0.2/1 v",
        "undone #0.0 w last ok",
        "undone #0.2 w last ok",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 5);
}

#[test]
fn undoing() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u attempts=1",
        "finish #0.0 1 ok",
        "effect #0.1 inline idempotent undo=u attempts=2",
        "finish #0.1 1 ok",
        "fail no",
    ];
    let alphabet = [
        "undo #0.0 w",
        "undo #0.1 w",
        "undo #0.1 v",
        "keep-undo #0.1 w",
        "undone #0.0 w last ok",
        "undone #0.0 w last retry no",
        "undone #0.1 w last ok",
        "undone #0.1 w last retry no",
        "settle-undo #0.0 retry go",
        "settle-undo #0.1 done seen",
        "settle-undo #0.1 retry go",
        "begin r recovery",
        "cancel no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 6);
}

#[test]
fn duplicates() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent undo=u",
        "effect #0.1 outbox non-idempotent undo=u",
        "claim #0.0 w",
        "claim #0.1 w",
        "done #0.0 w 1 unknown lost",
        "done #0.1 w 1 unknown lost",
        "wait 500",
        "observe #0.0 o",
        "observe #0.1 o",
    ];
    let alphabet = [
        "observed #0.0 o 1 duplicate copy-undo=d",
        "observed #0.1 o 1 duplicate copy-undo=d",
        "observed #0.1 o 1 found",
        "undo #0.0/1 w",
        "undo #0.1/1 v",
        "undo #0.1 w",
        "undone #0.0/1 w last ok",
        "undone #0.0/1 w last retry no",
        "undone #0.1/1 v last ok",
        "complete",
        "fail no",
        "cancel no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 6);
}

#[test]
fn waiting() {
    let alphabet = [
        "gate g deadline=1000",
        "gate h",
        "signal g s1",
        "signal g s2",
        "signal h s1",
        "expire g",
        "timer t due=500",
        "untimer t",
        "fire t",
        "suspend",
        "suspend seen=2 resume=1000",
        "begin r recovery",
        "begin a",
        "cancel no",
        "accept-cancel",
        "complete",
        "wait 500",
    ];
    explore(&["begin a"], &alphabet, 4);
}

#[test]
fn budgets() {
    let setup = ["begin a", "decide #0", "budget m 10", "budget p 8 parent=m"];
    let alphabet = [
        "reserve #1 spends=p:6",
        "reserve #1 spends=m:3,p:2",
        "reserve sub#0 spends=m:4",
        "unreserve #1",
        "unreserve sub#0",
        "decide #1 spent=p:7",
        "decide sub#0",
        "effect #0.0 inline idempotent reserve=p:6",
        "effect #0.1 inline idempotent reserve=m:5,p:1",
        "finish #0.0 last ok",
        "finish #0.0 last ok spent=p:9",
        "finish #0.1 last failed no",
        "finish #0.1 last retry busy",
        "restart #0.1",
        "budget p 8 parent=m",
        "fail no",
    ];
    explore(&setup, &alphabet, 4);
}

#[test]
fn decisions_and_samples() {
    let alphabet = [
        "decide #0",
        "decide #1",
        "decide #2",
        "decide sub#0",
        "decide sub#1",
        "sample 0 now",
        "sample 1 now",
        "sample 0 now scope=sub",
        "effect #0.0 inline idempotent",
        "effect #1.0 inline idempotent",
        "effect sub#0.0 inline idempotent",
        "finish #0.0 last ok",
        "complete",
    ];
    explore(&["begin a"], &alphabet, 5);
}

#[test]
fn all_together() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "decide #1",
        "effect #0.1 outbox idempotent undo=u",
        "claim #0.1 w",
        "done #0.1 w last ok",
        "done #0.0 w last ok",
        "done #0.0 w last unknown lost",
        "claim #0.0 w",
        "observe #0.0 o",
        "observed #0.0 o last absent",
        "gate g deadline=500",
        "signal g s1",
        "expire g",
        "suspend",
        "cancel no",
        "fail no",
        "complete",
        "undo #0.0 w",
        "undone #0.0 w last ok",
        "wait 1000",
    ];
    let setup = ["begin a", "decide #0", "effect #0.0 outbox non-idempotent undo=u"];
    explore(&setup, &alphabet, 4);
}

#[test]
fn retirement() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "retire old",
        "release",
        "vanished 1",
        "suspend resume=500",
        "cancel no",
        "accept-cancel",
        "fail no",
        "complete",
        "undo #0.0 w",
        "undone #0.0 w last ok",
        "signal g s1",
        "decide #1",
        "wait 1000",
    ];
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
    ];
    explore(&setup, &alphabet, 5);
}

#[test]
fn nothing_of_a_run_that_never_was() {
    let run = Run::default();
    for line in [
        "renew",
        "claim #0.0 w",
        "cancel no",
        "signal g s",
        "vanished 0",
        "retry-run go",
        "settle #0.0 failed no",
        "retire old",
    ] {
        let command = Command::new(support::quick::request(1), run_line::command(line, &run));
        let rejection = run.decide(&command, Timestamp::default()).unwrap_err();
        assert_eq!(rejection, Rejection::not_found(Missing::Run), "{line}");
    }
    assert_eq!(run.seq(), Seq::ZERO);
}
