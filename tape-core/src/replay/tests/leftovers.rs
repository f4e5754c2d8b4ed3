//! What a re-drive leaves out.

use super::*;
use crate::budget::Currency;
use crate::entry::{gate, run, sample, timer};
use crate::time::Deadline;

/// Names for everything that a scope can have next.
pub(crate) fn named(journal: &mut Journal, kind: &str, scope: &str) -> String {
    let scope: Scope = scope.parse().unwrap();
    match kind {
        "decision" => journal.add(recorded(&format!("{scope}#0"), "x")),
        "gate" => journal.add(gate::Opened {
            gate: "g".parse().unwrap(),
            deadline: None,
            asked: None,
            scope,
        }),
        "timer" => journal.add(timer::Set {
            timer: "t".parse().unwrap(),
            due_at: at(1),
            note: Payload::empty(),
            asked: Some(Deadline::At(at(1))),
            scope,
        }),
        "budget" => journal.add(budget::Opened {
            budget: "b".parse().unwrap(),
            parent: None,
            currency: Currency::MicroUsd,
            limit: 5,
            scope,
        }),
        "sample" => journal.add(sample::Recorded {
            scope,
            n: 0,
            name: "now".parse().unwrap(),
            value: Payload::empty(),
        }),
        _ => journal.add(run::Checkpoint {
            label: "c".parse().unwrap(),
            state: Payload::empty(),
            scope,
        }),
    }
    let place = match kind {
        "decision" => "decision #0",
        "gate" => "gate 'g'",
        "timer" => "timer 't'",
        "budget" => "budget 'b'",
        "sample" => "sample #0 (now)",
        _ => "checkpoint 'c'",
    };
    place.to_owned()
}

pub(crate) const KINDS: [&str; 6] = ["decision", "gate", "timer", "budget", "sample", "checkpoint"];

/// Asks for something new of each kind in a scope that has a decision, and gives what is told.
pub(crate) fn new_acts(journal: &Journal, scope: &str) -> Vec<Result<bool, Box<Drift>>> {
    let scope: Scope = scope.parse().unwrap();
    let replay = || journal.replay.clone();
    let effect = EffectId {
        position: Position {
            scope: scope.clone(),
            k: 0,
        },
        call: 0,
    };
    let (gate, timer) = ("new".parse().unwrap(), "new".parse().unwrap());
    let (budget, empty) = ("new".parse().unwrap(), Payload::empty());
    vec![
        replay()
            .decide(&scope, &fingerprint("new"))
            .map(|next| next.recorded.is_none()),
        replay()
            .ask_effect(&effect, &spec("new"))
            .map(|record| record.is_none()),
        replay()
            .ask_gate(&scope, &gate, None)
            .map(|record| record.is_none()),
        replay()
            .ask_timer(&scope, &timer, Deadline::InMs(1), &empty)
            .map(|record| record.is_none()),
        replay().ask_cancel(&scope, &timer).map(|cancelled| !cancelled),
        replay()
            .ask_budget(&scope, &budget, None, &Currency::MicroUsd, 1)
            .map(|open| !open),
        replay()
            .sample(&scope, &"new".parse().unwrap())
            .map(|next| next.recorded.is_none()),
        replay()
            .ask_checkpoint(&scope, &"new".parse().unwrap(), &empty)
            .map(|recorded| !recorded),
    ]
}

#[test]
pub(crate) fn nothing_new_goes_over_what_its_scope_has_in_the_journal() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "decision") {
        let mut journal = Journal::new();
        journal.decision("#0", "a");
        journal.ask("", "a");
        let place = named(&mut journal, kind, "");
        for asked in new_acts(&journal, "") {
            if kind == "sample" && asked.as_ref().is_err_and(|drift| !drift.skipped) {
                continue; // The recorded sample is the next one: its name differs.
            }
            let drift = asked.unwrap_err();
            assert_eq!((drift.at.to_string(), drift.skipped), (place.clone(), true));
        }
        // The other way round, what another scope has is no matter.
        journal.decision("other#0", "b");
        journal.ask("other", "b");
        for asked in new_acts(&journal, "other") {
            assert_eq!(asked, Ok(true), "{kind}");
        }
    }
}

#[test]
pub(crate) fn nothing_new_goes_over_a_scope_that_was_not_entered() {
    for kind in KINDS {
        let mut journal = Journal::new();
        journal.decision("#0", "a");
        journal.ask("", "a");
        named(&mut journal, kind, "sub/deeper");
        for asked in new_acts(&journal, "") {
            let drift = asked.unwrap_err();
            assert_eq!(
                (drift.at.to_string().as_str(), drift.skipped),
                ("scope 'sub'", true)
            );
        }
        // Whether the agent has asked for all of it there is that scope's own matter.
        let sub: Scope = "sub".parse().unwrap();
        journal.decision("sub#0", "a");
        assert_eq!(journal.ask("sub", "a"), "sub#0 \"do a\"");
        for asked in new_acts(&journal, "") {
            assert_eq!(asked, Ok(true), "{kind}");
        }
        let next = journal.replay.decide(&sub, &fingerprint("b")).unwrap_err();
        assert_eq!(next.at.to_string(), "scope 'sub/deeper'");
    }
}

#[test]
pub(crate) fn what_a_driver_recorded_itself_is_never_in_its_way() {
    let mut journal = Journal::new();
    assert_eq!(journal.ask("sub", "a"), "sub#0 live");
    journal.decision("sub#0", "a");
    journal.replay.decided(&"sub#0".parse().unwrap());
    assert_eq!(journal.ask("", "a"), "#0 live");
    let gate = GateName::new("g").unwrap();
    assert_eq!(journal.replay.ask_gate(&Scope::root(), &gate, None), Ok(None));
    named(&mut journal, "gate", "");
    assert_eq!(journal.ask("", "a"), "#0 live");
}
