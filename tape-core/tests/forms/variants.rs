//! Members of closed lists that no other form has: who settled something, what follows, what is counted.

use super::*;
use tape_core::effect::SettledBy;
use tape_core::entry::effect::{Begun, Confirmed, Observed};
use tape_core::entry::obligation::Done;
use tape_core::entry::value::Deleted;
use tape_core::payload::Payload;

/// A person settled an effect and an undo. The effect cost nothing, which is recorded: what was reserved for it was not spent.
pub(super) fn by_a_person() -> Vec<EntryBody> {
    let by = SettledBy::Person {
        reason: "seen".to_owned(),
    };
    vec![
        Confirmed {
            effect: effect("#0.0"),
            by: by.clone(),
            result: Payload::empty(),
            undo: None,
            spent: Some(Vec::new()),
        }
        .into(),
        Done {
            obligation: obligation("#0.0"),
            by,
            result: Payload::empty(),
        }
        .into(),
    ]
}

/// An upstream answered that an effect happened twice, and then the worker could not go on.
pub(super) fn twice() -> Vec<EntryBody> {
    let observed = Observed {
        effect: effect("#0.0"),
        outcome: Outcome::Duplicate,
        why: String::new(),
        then: AfterObservation::Stuck {
            reason: "twice".to_owned(),
        },
    };
    vec![observed.into()]
}

pub(super) fn inconclusive() -> Vec<EntryBody> {
    let observed = Observed {
        effect: effect("#0.0"),
        outcome: Outcome::Inconclusive,
        why: "the answer has no state".to_owned(),
        then: AfterObservation::ObserveAgain { at: at(1) },
    };
    vec![observed.into()]
}

pub(super) fn overdue() -> Vec<EntryBody> {
    let answered = gate::Answered {
        gate: name("approval"),
        by: gate::AnsweredBy::Deadline,
        answer: Payload::empty(),
    };
    vec![answered.into()]
}

/// An effect that only reads, with a policy of its own.
pub(super) fn read_only() -> Vec<EntryBody> {
    let begun = Begun {
        effect: effect("#0.0"),
        spec: EffectSpec {
            semantics: Semantics::ReadOnly,
            policy: EffectPolicy {
                attempts_max: 1_000,
                observations_max: 1,
                backoff_ms: 0,
                backoff_max_ms: 86_400_000,
                resend_absent: false,
            },
            ..spec(false)
        },
    };
    vec![begun.into()]
}

/// The greatest number that new entries have.
pub(super) fn most() -> Vec<EntryBody> {
    let opened = budget::Opened {
        budget: name("tokens"),
        parent: None,
        currency: Currency::Tokens,
        limit: tape_core::limits::NUMBER_MAX,
        scope: Scope::root(),
    };
    vec![opened.into()]
}

/// A change of the state of an app that was refused.
pub(super) fn of_the_app() -> Vec<EntryBody> {
    let merged = session::Merged {
        through: Seq(3),
        refused: vec![session::RefusedMerge {
            source: Seq(3),
            scope: StateScope::App,
            problem: "keys of state is 1".to_owned(),
        }],
    };
    vec![merged.into()]
}

/// A value is deleted, as builds since version 2 write it.
pub(super) fn without_the_last() -> Vec<EntryBody> {
    let deleted = Deleted {
        version: 3,
        previous: None,
    };
    vec![deleted.into()]
}
