//! What is compared of what is asked for.

use super::leftovers::named;
use super::*;
use crate::effect::{Mode, Semantics};
use crate::entry::{effect, erasure};
use crate::id::Operation;
use crate::payload::Digest;
use crate::time::Deadline;
use serde_json::json;

#[test]
pub(crate) fn an_effect_is_compared_in_every_part() {
    let undo = |args: &str| crate::effect::Undo {
        operation: Operation::new("refund").unwrap(),
        args: Payload::json(&json!(args)),
    };
    let full = || EffectSpec {
        undo: Some(undo("x")),
        business_key: Some("invoice-7".parse().unwrap()),
        ..spec("x")
    };
    let other = |change: fn(&mut EffectSpec)| {
        let mut spec = full();
        change(&mut spec);
        spec
    };
    let cases = [
        ("connector", other(|s| s.connector = "exchange".parse().unwrap())),
        ("operation", other(|s| s.operation = "hold".parse().unwrap())),
        ("semantics", other(|s| s.semantics = Semantics::ReadOnly)),
        ("mode", other(|s| s.mode = Mode::Outbox)),
        ("args", other(|s| s.args = Payload::json(&json!("y")))),
        (
            "args",
            other(|s| s.args = Payload::new("text/json", "\"x\"").unwrap()),
        ),
        ("business key", other(|s| s.business_key = None)),
        ("undo", other(|s| s.undo = None)),
        (
            "undo args",
            other(|s| s.undo.as_mut().unwrap().args = Payload::empty()),
        ),
        (
            "undo",
            other(|s| s.undo.as_mut().unwrap().operation = "void".parse().unwrap()),
        ),
        ("policy", other(|s| s.policy.attempts_max += 1)),
    ];
    let id: EffectId = "#0.0".parse().unwrap();
    let mut journal = Journal::new();
    journal.decision("#0", "a");
    journal.ask("", "a");
    let (effect, spec) = (id.clone(), full());
    journal.add(effect::Begun { effect, spec });
    for (part, asked) in cases {
        let drift = journal.replay.ask_effect(&id, &asked).unwrap_err();
        assert!(
            drift.difference.starts_with(&format!("{part}: recorded ")),
            "{drift}"
        );
        assert!(drift.difference.contains(", asked "), "{drift}");
    }
    assert!(journal.replay.ask_effect(&id, &full()).unwrap().is_some());
}

#[test]
pub(crate) fn deadlines_notes_states_and_beginnings_are_compared() {
    let root = Scope::root();
    let mut journal = Journal::new();
    for kind in ["gate", "timer", "checkpoint"] {
        named(&mut journal, kind, "");
    }
    let replay = &mut journal.replay;
    let gate = "g".parse().unwrap();
    let drift = replay
        .ask_gate(&root, &gate, Some(Deadline::InMs(7)))
        .unwrap_err();
    assert_eq!(drift.difference, "deadline: recorded none, asked after 7 ms");
    let (timer, empty, other) = ("t".parse().unwrap(), Payload::empty(), Payload::json(&json!(1)));
    let drift = replay
        .ask_timer(&root, &timer, Deadline::InMs(7), &empty)
        .unwrap_err();
    assert_eq!(drift.difference, "time: recorded at 1000000us, asked after 7 ms");
    let drift = replay
        .ask_timer(&root, &timer, Deadline::At(at(1)), &other)
        .unwrap_err();
    assert!(
        drift.difference.starts_with("note: recorded 0 bytes of "),
        "{drift}"
    );
    let drift = replay
        .ask_checkpoint(&root, &"c".parse().unwrap(), &other)
        .unwrap_err();
    assert!(
        drift.difference.starts_with("state: recorded 0 bytes of "),
        "{drift}"
    );
    assert_eq!(replay.check_beginning(None, &BTreeMap::new()), Ok(()));
    assert_eq!(replay.check_beginning(Some(&empty), &BTreeMap::new()), Ok(()));
    let drift = replay
        .check_beginning(Some(&other), &BTreeMap::new())
        .unwrap_err();
    assert!(
        drift.difference.starts_with("input: recorded 0 bytes of "),
        "{drift}"
    );
    let labels = BTreeMap::from([("topic".parse().unwrap(), "x".to_owned())]);
    let drift = replay.check_beginning(None, &labels).unwrap_err();
    assert_eq!(drift.difference, "label 'topic': recorded none, asked \"x\"");
}

#[test]
pub(crate) fn labels_that_were_erased_are_equal_to_any() {
    let labels = BTreeMap::from([("topic".parse().unwrap(), "x".to_owned())]);
    let mut journal = Journal::new();
    let erase = |seq: u64| erasure::Erased {
        entries: vec![Seq(seq)],
        reason: "asked for".to_owned(),
    };
    journal.add(erase(2));
    assert!(journal.replay.check_beginning(None, &labels).is_err());
    journal.add(erase(1));
    assert_eq!(journal.replay.check_beginning(None, &labels), Ok(()));
}

/// An agent that goes on from a refusal by cancelling a timer is told the refusal again.
#[test]
pub(crate) fn a_cancelled_timer_is_something_gone_on_to() {
    let (place, asked) = (Place::Decision("#0".parse().unwrap()), ContentDigest::of(&"dear"));
    let refusal = Refusal::BudgetExhausted {
        budget: "usd".parse().unwrap(),
        left: 1,
        asked: 9,
    };
    for goes_on in [false, true] {
        let mut journal = Journal::new();
        named(&mut journal, "timer", "");
        journal.add(Refused::new(&Scope::root(), &place, asked, refusal.clone()).sample(0));
        if goes_on {
            journal.add(timer::Cancelled {
                timer: "t".parse().unwrap(),
            });
        }
        journal.add(lease::Acquired {
            epoch: Epoch(2),
            holder: "two".parse().unwrap(),
            until: at(60),
            recovery: false,
            redrives: 0,
            retry_at: at(60),
        });
        let told = journal.replay.refused(&place, asked);
        assert_eq!(told, goes_on.then(|| refusal.clone()));
    }
}

#[test]
pub(crate) fn arguments_that_share_eight_digits_differ() {
    // Two texts of one length whose digests begin alike, by the birthday of 32 bits.
    let text = |n: u64| format!("{{\"to\":\"acct-{n:010}\"}}");
    let mut seen = BTreeMap::new();
    let (one, other) = (0..)
        .find_map(|n| {
            let earlier = seen.insert(Digest::of(text(n).as_bytes()).short(), n);
            earlier.map(|earlier| (text(earlier), text(n)))
        })
        .unwrap();
    let mut journal = Journal::new();
    journal.decision("#0", "a");
    journal.ask("", "a");
    let spec = |args: &str| EffectSpec {
        args: Payload::new(Payload::JSON, args.to_owned()).unwrap(),
        ..spec("")
    };
    let id: EffectId = "#0.0".parse().unwrap();
    let (effect, begun) = (id.clone(), spec(&one));
    journal.add(effect::Begun { effect, spec: begun });
    assert!(journal.replay.ask_effect(&id, &spec(&other)).is_err());
    assert!(journal.replay.ask_effect(&id, &spec(&one)).is_ok());
}
