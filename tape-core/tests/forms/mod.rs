//! Entries in every form that was ever written.

mod bodies;
mod variants;

use crate::support::names::{effect, obligation, payload, run_id, session_id, spend};
pub(crate) use bodies::bodies;
use std::collections::BTreeMap;
use tape_core::budget::Currency;
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Outcome, Semantics, Undo};
use tape_core::entry::EntryBody;
use tape_core::entry::effect::{AfterObservation, WorkLease};
use tape_core::entry::run::RunOutcome;
use tape_core::entry::{budget, effect as acts, gate, lease, obligation as undoing};
use tape_core::entry::{run, session, timer};
use tape_core::id::{Epoch, Key, Scope, Seq};
use tape_core::payload::Digest;
use tape_core::time::Deadline;

use tape_core::state::{Delta, Json, StateScope};
use tape_core::time::Timestamp;

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus_millis(millis)
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn delta(pairs: &[(&str, Option<&str>)]) -> Delta {
    let json = |text: &str| Json::try_from(text.to_owned()).unwrap();
    let pairs = pairs
        .iter()
        .map(|(key, value)| (Key::new(key).unwrap(), value.map(json)));
    Delta(pairs.collect())
}

fn undo() -> Undo {
    Undo {
        operation: name("refund"),
        args: payload("undo args"),
    }
}

fn claim() -> WorkLease {
    WorkLease {
        holder: name("w1"),
        until: at(5_000),
    }
}

fn spec(full: bool) -> EffectSpec {
    EffectSpec {
        connector: name("bank"),
        operation: name("pay"),
        semantics: if full {
            Semantics::NonIdempotent
        } else {
            Semantics::Idempotent
        },
        mode: if full { Mode::Outbox } else { Mode::Inline },
        args: payload("args"),
        business_key: full.then(|| name("invoice-7")),
        undo: full.then(undo),
        reserve: if full { vec![spend("money", 7)] } else { Vec::new() },
        policy: EffectPolicy {
            resend_absent: full,
            ..EffectPolicy::default()
        },
    }
}

/// Bodies with fields that their kinds had not at first.
fn grown() -> Vec<EntryBody> {
    vec![
        acts::Observing {
            effect: effect("#0.0"),
            observation: 3,
            claim: claim(),
            unwanted: true,
        }
        .into(),
        undoing::Started {
            obligation: obligation("#0.0"),
            attempt: 2,
            claim: claim(),
            in_doubt: true,
        }
        .into(),
        undoing::Deferred {
            obligation: obligation("#0.0"),
            error: "busy".to_owned(),
            not_done: true,
            unreached: false,
            next_at: at(1),
        }
        .into(),
        lease::Released {
            epoch: Epoch(2),
            redrive_at: at(1),
            undriven: true,
            by_driver: false,
        }
        .into(),
        run::Checkpoint {
            label: name("half-way"),
            state: payload("state"),
            scope: name("planner/b-2"),
        }
        .into(),
        gate::Opened {
            gate: name("approval"),
            deadline: Some(at(5)),
            asked: Some(Deadline::InMs(5)),
            scope: name("planner"),
        }
        .into(),
        timer::Set {
            timer: name("t"),
            due_at: at(1),
            note: payload("note"),
            asked: Some(Deadline::At(at(1))),
            scope: name("planner"),
        }
        .into(),
        budget::Opened {
            budget: name("money"),
            parent: None,
            currency: Currency::MicroUsd,
            limit: 5,
            scope: name("planner"),
        }
        .into(),
        session::Merged {
            through: Seq(3),
            refused: vec![session::RefusedMerge {
                source: Seq(3),
                scope: StateScope::User,
                problem: "bytes of state is 1".to_owned(),
            }],
        }
        .into(),
        session::Rewound {
            to: Seq(3),
            state: delta(&[("topic", Some("\"x\""))]),
            origins: BTreeMap::from([(name("topic"), Seq(2))]),
        }
        .into(),
        run::Retired {
            run: run_id(),
            labels: BTreeMap::new(),
            epoch: Epoch(2),
            begun_at: at(0),
            ended_at: at(1),
            ending: RunOutcome::Cancelled {
                reason: "why".to_owned(),
            },
            output: None,
            output_erased: None,
            dropped: 6,
            previous: Digest::of(b"the entry before"),
            reason: "ended long ago".to_owned(),
            repeats: vec![Seq(1), Seq(4), Seq(6)],
        }
        .into(),
    ]
}

/// Bodies that say that an upstream was not reached.
fn unreached() -> Vec<EntryBody> {
    vec![
        acts::Deferred {
            effect: effect("#0.0"),
            error: "no connection".to_owned(),
            lapsed: false,
            unreached: true,
            next_at: at(1),
        }
        .into(),
        acts::Observed {
            effect: effect("#0.0"),
            outcome: Outcome::Unreached,
            why: "no connection".to_owned(),
            then: AfterObservation::ObserveAgain { at: at(1) },
        }
        .into(),
        undoing::Deferred {
            obligation: obligation("#0.0"),
            error: "no connection".to_owned(),
            not_done: true,
            unreached: true,
            next_at: at(1),
        }
        .into(),
    ]
}

/// Changes of shared state say when they were recorded.
fn dated() -> Vec<EntryBody> {
    let merged = session::SharedMerged {
        session: session_id("s1"),
        source: Seq(3),
        recorded_at: Some(at(1)),
        delta: delta(&[("theme", Some("1.10"))]),
    };
    vec![merged.into()]
}

/// Bodies that say, since a later build, that the driver released its run itself.
fn given_up() -> Vec<EntryBody> {
    let released = lease::Released {
        epoch: Epoch(2),
        redrive_at: at(1),
        undriven: false,
        by_driver: true,
    };
    vec![released.into()]
}

/// Every form of every kind.
pub(crate) fn forms() -> [(&'static str, Vec<EntryBody>); 14] {
    [
        ("bare", bodies(false)),
        ("full", bodies(true)),
        ("grown", grown()),
        ("unreached", unreached()),
        ("dated", dated()),
        ("given_up", given_up()),
        ("by_a_person", variants::by_a_person()),
        ("twice", variants::twice()),
        ("inconclusive", variants::inconclusive()),
        ("overdue", variants::overdue()),
        ("read_only", variants::read_only()),
        ("most", variants::most()),
        ("of_the_app", variants::of_the_app()),
        ("without_the_last", variants::without_the_last()),
    ]
}
