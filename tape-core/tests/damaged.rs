//! Stored bytes can be wrong: any entry that cannot follow is refused, and never makes the rules panic or hang.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::names::{effect, obligation, payload, position, spend};
use support::{Journal, run_line};
use tape_core::budget::Currency;
use tape_core::decider::{Decider, ReplayError};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::entry::effect::WorkLease;
use tape_core::entry::{Entry, EntryBody, budget, erasure, gate, obligation as undoing, run, timer, value};
use tape_core::entry::{effect as acts, lease, sample, session};
use tape_core::id::{BudgetName, Epoch, Scope, Seq};
use tape_core::payload::Digest;
use tape_core::run::Run;
use tape_core::time::Timestamp;
use tape_core::value::Value;

fn entry(seq: u64, body: impl Into<EntryBody>) -> Entry {
    Entry {
        seq: Seq(seq),
        at: Timestamp::from_micros(0),
        decided_at: Timestamp::from_micros(0),
        request: support::quick::request(u128::from(seq) + 1_000),
        principal: None,
        trace: None,
        command: None,
        body: body.into(),
        digest: Digest::default(),
    }
}

/// A run that went through `script`.
fn run(script: &[&str]) -> Run {
    let mut journal = Journal::<Run>::new();
    for line in script {
        let command = run_line::command(line, &journal.state);
        journal.ask(command).unwrap();
    }
    journal.state
}

/// What is wrong with an entry after a script.
#[track_caller]
fn refused(script: &[&str], body: impl Into<EntryBody>) -> String {
    let mut run = run(script);
    let entry = entry(run.seq().0 + 1, body);
    match run.apply(&entry) {
        Err(ReplayError::Impossible { problem, seq, kind }) => {
            assert_eq!((seq, kind), (entry.seq, entry.body.kind()));
            problem
        }
        other => panic!("{other:?}"),
    }
}

fn claim() -> WorkLease {
    WorkLease {
        holder: "w1".parse().unwrap(),
        until: Timestamp::from_micros(1),
    }
}

fn begun(id: &str) -> acts::Begun {
    acts::Begun {
        effect: effect(id),
        spec: EffectSpec {
            connector: "bank".parse().unwrap(),
            operation: "pay".parse().unwrap(),
            semantics: Semantics::Idempotent,
            mode: Mode::Inline,
            args: payload("args"),
            business_key: None,
            undo: None,
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        },
    }
}

fn opened(name: &str, parent: Option<&str>) -> budget::Opened {
    budget::Opened {
        budget: BudgetName::new(name).unwrap(),
        parent: parent.map(|parent| BudgetName::new(parent).unwrap()),
        currency: Currency::MicroUsd,
        limit: 1,
        scope: Scope::root(),
    }
}

const BEGUN: &[&str] = &["begin a1"];
const STARTED: &[&str] = &[
    "begin a1",
    "decide #0",
    "effect #0.0 outbox non-idempotent",
    "claim #0.0 w1",
];

#[test]
fn an_entry_out_of_order_is_refused() {
    let mut run = run(BEGUN);
    for seq in [0, 1, 2, 4, u64::MAX] {
        let entry = entry(
            seq,
            run::Retried {
                reason: String::new(),
            },
        );
        let error = run.apply(&entry).unwrap_err();
        assert!(matches!(error, ReplayError::OutOfOrder { after: Seq(2), found } if found == Seq(seq)));
    }
}

#[test]
fn a_run_begins_first_and_once_and_ends_once() {
    let mut new = Run::default();
    new.apply(&entry(
        1,
        run::Retried {
            reason: String::new(),
        },
    ))
    .unwrap_err();
    let begin = Journal::<Run>::new();
    assert!(begin.entries.is_empty());
    let mut journal = Journal::<Run>::new();
    journal
        .ask(run_line::command("begin a1", &journal.state))
        .unwrap();
    let again = journal.entries[0].body.clone();
    assert_eq!(refused(BEGUN, again), "a run begins once, with its first entry");
    let after = refused(
        &["begin a1", "complete"],
        run::Retried {
            reason: String::new(),
        },
    );
    assert_eq!(after, "the run has ended");
}

/// The entry that retires a run of four entries: begun, leased, a decision, completed.
fn retirement() -> run::Retired {
    let mut journal = Journal::<Run>::new();
    for line in ["begin a1 topic=sweep", "decide #0", "complete", "retire old"] {
        let command = run_line::command_in(line, &journal);
        journal.ask(command).unwrap();
    }
    match journal.entries.pop().unwrap().body {
        EntryBody::RunRetired(retired) => retired,
        other => panic!("{other:?}"),
    }
}

const COMPLETED: &[&str] = &["begin a1 topic=sweep", "decide #0", "complete"];

#[test]
fn a_run_is_retired_once_it_has_ended_and_once() {
    let retired = retirement();
    assert_eq!(retired.dropped, 4);
    for script in [&["begin a1"][..], STARTED] {
        let dropped = run(script).seq().0;
        let now = run::Retired {
            dropped,
            ..retired.clone()
        };
        assert_eq!(refused(script, now), "only a run that has ended is retired");
    }
    let script = [COMPLETED, &["retire old"]].concat();
    let again = run::Retired {
        dropped: 5,
        ..retired.clone()
    };
    assert_eq!(refused(&script, again), "the run is retired");
    let error = run(&script).apply(&entry(
        9,
        run::Retired {
            dropped: 8,
            ..retired.clone()
        },
    ));
    assert!(error.unwrap_err().to_string().contains("the run is retired"));
    let after = run::Retried {
        reason: String::new(),
    };
    assert_eq!(refused(&script, after), "the run is retired");
}

#[test]
fn what_retires_a_run_says_what_the_entries_before_said() {
    let retired = retirement();
    let said = "it does not say what the entries before it say";
    for other in [
        run::Retired {
            ending: run::RunOutcome::Failed {
                error: "no".to_owned(),
            },
            ..retired.clone()
        },
        run::Retired {
            epoch: Epoch(2),
            ..retired.clone()
        },
        run::Retired {
            labels: std::collections::BTreeMap::new(),
            ..retired.clone()
        },
        run::Retired {
            begun_at: Timestamp::from_micros(1),
            ..retired.clone()
        },
        run::Retired {
            ended_at: Timestamp::from_micros(1),
            ..retired.clone()
        },
        run::Retired {
            run: "acme/run/treasury/ann/s1/i2"
                .parse::<tape_core::id::StreamId>()
                .unwrap()
                .as_run()
                .unwrap()
                .clone(),
            ..retired.clone()
        },
    ] {
        assert_eq!(refused(COMPLETED, other), said);
    }
    for dropped in [0, 3, 5, u64::MAX] {
        let other = run::Retired {
            dropped,
            ..retired.clone()
        };
        assert_eq!(
            refused(COMPLETED, other),
            format!("it counts {dropped} entries before it")
        );
    }
}

/// If retention drops entries while a reader reads them, the retiring entry comes next.
#[test]
fn what_retires_a_run_stands_for_entries_that_were_not_read() {
    let whole = run(&[COMPLETED, &["retire old"]].concat());
    for read in 0..4 {
        let mut journal = Journal::<Run>::new();
        for line in COMPLETED {
            journal.ask(run_line::command(line, &journal.state)).unwrap();
        }
        let mut run = Run::default();
        journal.entries[..read]
            .iter()
            .for_each(|entry| run.apply(entry).unwrap());
        let last = Entry {
            request: support::quick::request(4),
            ..entry(5, retirement())
        };
        run.apply(&last).unwrap();
        assert_eq!(run, whole, "after {read} entries");
    }
    let other = run::Retired {
        run: support::names::run_id(),
        ..retirement()
    };
    let mut elsewhere = run(&["begin a1"]);
    elsewhere.apply(&entry(5, other)).unwrap();
    let moved = run::Retired {
        run: tape_core::id::RunId::new("acme", "treasury", "ann", "s1", "other").unwrap(),
        ..retirement()
    };
    run(&["begin a1"]).apply(&entry(5, moved)).unwrap_err();
}

#[test]
fn a_run_takes_no_entry_of_another_kind_of_stream() {
    let bodies: [EntryBody; 3] = [
        session::Deleted {}.into(),
        session::Merged {
            through: Seq(1),
            refused: Vec::new(),
        }
        .into(),
        value::Deleted {
            version: 1,
            previous: None,
        }
        .into(),
    ];
    for body in bodies {
        assert_eq!(refused(BEGUN, body), "it does not belong into a run");
    }
}

#[test]
fn numbers_follow_each_other() {
    let acquired = |epoch| lease::Acquired {
        epoch: Epoch(epoch),
        holder: "a2".parse().unwrap(),
        until: Timestamp::MAX,
        recovery: false,
        redrives: 0,
        retry_at: Timestamp::MAX,
    };
    assert_eq!(refused(BEGUN, acquired(1)), "epoch 1 follows epoch 1");
    assert_eq!(refused(BEGUN, acquired(3)), "epoch 3 follows epoch 1");
    let renewed = lease::Renewed {
        epoch: Epoch(2),
        until: Timestamp::MAX,
        retry_at: Timestamp::MAX,
    };
    assert_eq!(refused(BEGUN, renewed), "it has epoch 2, the run is at 1");
    let released = lease::Released {
        epoch: Epoch(0),
        redrive_at: Timestamp::MAX,
        undriven: false,
        by_driver: false,
    };
    assert_eq!(refused(BEGUN, released), "it has epoch 0, the run is at 1");
    for attempt in [0, 1, 3, u32::MAX] {
        let started = acts::Started {
            effect: effect("#0.0"),
            attempt,
            claim: Some(claim()),
        };
        assert_eq!(
            refused(STARTED, started),
            format!("attempt {attempt} follows attempt 1")
        );
    }
    let unknown = [STARTED, &["done #0.0 w1 1 unknown lost"]].concat();
    for observation in [0, 2, u32::MAX] {
        let observing = acts::Observing {
            effect: effect("#0.0"),
            observation,
            claim: claim(),
            unwanted: false,
        };
        let problem = format!("observation {observation} follows observation 0");
        assert_eq!(refused(&unknown, observing), problem);
    }
    let undoing_run = [
        "begin a1",
        "decide #0",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
        "fail no",
    ];
    for attempt in [0, 2, u32::MAX] {
        let started = undoing::Started {
            obligation: obligation("#0.0"),
            attempt,
            claim: claim(),
            in_doubt: false,
        };
        let problem = format!("attempt {attempt} follows attempt 0");
        assert_eq!(refused(&undoing_run, started), problem);
    }
    let sample = sample::Recorded {
        scope: Scope::root(),
        n: 1,
        name: "now".parse().unwrap(),
        value: payload("0"),
    };
    assert_eq!(refused(BEGUN, sample), "it is sample 1, the next is 0");
}

#[test]
fn an_effect_begins_once_under_the_newest_decision() {
    for id in ["#0.0", "#4294967295.0", "sub#0.0"] {
        let problem = format!("effect {id} has no decision, or a later one came");
        assert_eq!(refused(BEGUN, begun(id)), problem);
    }
    let old = ["begin a1", "decide #0", "decide #1"];
    assert!(refused(&old, begun("#0.0")).contains("a later one came"));
    assert_eq!(refused(STARTED, begun("#0.0")), "effect #0.0 was begun before");
}

#[test]
fn no_effect_begins_without_a_decision_whatever_its_number() {
    let run = run(BEGUN);
    let command = run_line::command("effect #4294967295.0 inline idempotent", &run);
    let command = tape_core::command::Command::new(support::quick::request(9), command);
    let rejection = run.decide(&command, Timestamp::from_micros(0)).unwrap_err();
    assert!(
        rejection.to_string().contains("no recorded decision"),
        "{rejection}"
    );
}

#[test]
fn what_is_not_there_cannot_change() {
    let effect = effect("#0.7");
    let cause = String::new;
    let at = Timestamp::from_micros(0);
    let bodies: [EntryBody; 4] = [
        acts::Unknown {
            effect: effect.clone(),
            cause: cause(),
            observe_at: at,
        }
        .into(),
        acts::ClaimRenewed {
            effect: effect.clone(),
            observing: false,
            until: at,
        }
        .into(),
        acts::ResendAllowed {
            effect: effect.clone(),
            reason: cause(),
        }
        .into(),
        acts::Deferred {
            effect,
            error: cause(),
            lapsed: false,
            unreached: false,
            next_at: at,
        }
        .into(),
    ];
    for body in bodies {
        assert_eq!(refused(STARTED, body), "there is no effect #0.7");
    }
    let unclaimed = ["begin a1", "decide #0", "effect #0.0 inline idempotent"];
    let renewed = acts::ClaimRenewed {
        effect: support::names::effect("#0.0"),
        observing: false,
        until: at,
    };
    assert_eq!(refused(&unclaimed, renewed), "effect #0.0 is not claimed");
    let settled = [&unclaimed[..], &["finish #0.0 1 ok"]].concat();
    let unknown = acts::Unknown {
        effect: support::names::effect("#0.0"),
        cause: cause(),
        observe_at: at,
    };
    assert_eq!(refused(&settled, unknown), "effect #0.0 is settled");
    let stuck = undoing::Stuck {
        obligation: obligation("#0.0"),
        reason: cause(),
    };
    assert_eq!(refused(BEGUN, stuck), "there is no obligation of effect #0.0");
    let done = undoing::Done {
        obligation: obligation("#0.0/1"),
        by: tape_core::effect::SettledBy::Driver,
        result: payload(""),
    };
    assert_eq!(
        refused(BEGUN, done),
        "there is no obligation of duplicate 1 of effect #0.0"
    );
    let fired = timer::Fired {
        timer: "t".parse().unwrap(),
    };
    assert_eq!(refused(BEGUN, fired.clone()), "timer 't' is not pending");
    assert_eq!(
        refused(&["begin a1", "timer t", "untimer t"], fired),
        "timer 't' is not pending"
    );
    let armed = [&unclaimed[..], &["finish #0.0 1 ok undo=u"]].concat();
    let kept = undoing::ClaimRenewed {
        obligation: obligation("#0.0"),
        until: at,
    };
    assert_eq!(refused(&armed, kept), "obligation of effect #0.0 is not claimed");
    let twice = undoing::Armed {
        obligation: obligation("#0.0"),
        connector: "bank".parse().unwrap(),
        operation: "refund".parse().unwrap(),
        args: payload(""),
        policy: EffectPolicy::default(),
        due_at: at,
    };
    assert_eq!(
        refused(&armed, twice),
        "obligation of effect #0.0 is armed already"
    );
}

#[test]
fn what_is_there_is_not_made_again() {
    let gate = gate::Opened {
        gate: "g".parse().unwrap(),
        deadline: None,
        asked: None,
        scope: Scope::root(),
    };
    assert_eq!(
        refused(&["begin a1", "gate g"], gate.clone()),
        "gate 'g' was opened before"
    );
    assert_eq!(
        refused(&["begin a1", "gate g", "signal g s"], gate),
        "gate 'g' was opened before"
    );
    let signal = gate::SignalReceived {
        gate: "g".parse().unwrap(),
        id: "s".parse().unwrap(),
        answer: payload(""),
    };
    assert_eq!(
        refused(&["begin a1", "gate g"], signal),
        "gate 'g' is there already"
    );
    let answered = gate::Answered {
        gate: "g".parse().unwrap(),
        by: gate::AnsweredBy::Deadline,
        answer: payload(""),
    };
    assert_eq!(
        refused(&["begin a1", "signal g s"], answered.clone()),
        "gate 'g' is not open"
    );
    assert_eq!(refused(BEGUN, answered), "gate 'g' is not open");
    let timer = timer::Set {
        timer: "t".parse().unwrap(),
        due_at: Timestamp::MAX,
        note: payload(""),
        asked: None,
        scope: Scope::root(),
    };
    assert_eq!(
        refused(&["begin a1", "timer t"], timer),
        "timer 't' was set before"
    );
    let reserved = budget::Reserved {
        position: position("#0"),
        spends: vec![spend("b", 1)],
    };
    let script = ["begin a1", "budget b 2", "reserve #0 spends=b:1"];
    assert_eq!(
        refused(&script, reserved),
        "decision #0 has a reservation already"
    );
}

#[test]
fn budgets_never_turn_back_on_themselves() {
    assert_eq!(
        refused(BEGUN, opened("a", Some("a"))),
        "budget 'a' is part of one that is not there"
    );
    assert_eq!(
        refused(BEGUN, opened("a", Some("b"))),
        "budget 'a' is part of one that is not there"
    );
    assert_eq!(
        refused(&["begin a1", "budget a 1"], opened("a", Some("a"))),
        "budget 'a' was opened before"
    );
}

#[test]
fn a_value_takes_its_next_version_only() {
    let put = |version| value::Put {
        version,
        value: payload("v"),
        previous: None,
    };
    let mut value = Value::default();
    for version in [0, 2, u64::MAX] {
        value.apply(&entry(1, put(version))).unwrap_err();
    }
    value.apply(&entry(1, put(1))).unwrap();
    value.apply(&entry(2, session::Deleted {})).unwrap_err();
    value.apply(&entry(3, put(2))).unwrap_err();
}

#[test]
fn an_erased_value_is_gone() {
    let put = |version, value| value::Put {
        version,
        value,
        previous: None,
    };
    let mut value = Value::default();
    value.apply(&entry(1, put(1, payload("v").erased()))).unwrap();
    let erased = erasure::Erased {
        entries: vec![Seq(1)],
        reason: "asked for".to_owned(),
    };
    value.apply(&entry(2, erased)).unwrap();
    assert_eq!((value.current(), value.version()), (None, 1));
}
