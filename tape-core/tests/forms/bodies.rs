//! Every kind of entry, with all optional fields and with none.

use super::*;
use crate::support::names::{effect, obligation, payload, position, run_id, session_id, spend};
use serde_json::json;
use std::collections::BTreeMap;
use tape_core::budget::Currency;
use tape_core::effect::{EffectPolicy, Outcome, SettledBy};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::Usage;
use tape_core::entry::effect::AfterObservation;
use tape_core::entry::run::RunOutcome;
use tape_core::entry::run::{Lineage, UnhappyOutcome};
use tape_core::entry::{budget, decision, effect as acts, erasure, gate, lease, obligation as undoing};
use tape_core::entry::{relay, run, sample, session, timer, value};
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{Epoch, Scope, Seq, StreamId};
use tape_core::payload::Digest;

use tape_core::state::Delta;

/// The stream of an entry that a relay sends.
fn sent(full: bool) -> StreamId {
    let text = if full {
        "acme/shared/treasury/ann%20lee"
    } else {
        "acme/run/treasury/ann/s1/i1"
    };
    text.parse().unwrap()
}

/// A body of every kind: with all optional fields if `full`, otherwise with none.
pub(crate) fn bodies(full: bool) -> Vec<EntryBody> {
    let some = |text: &str| full.then(|| payload(text));
    let text = |text: &str| text.to_owned();
    let effect = effect("planner/b-2#3.1");
    let obligation = obligation(if full { "#0.0/1" } else { "#0.0" });
    let labels = [(name("topic"), text("sweep"))];
    let lineage = Lineage {
        run: run_id(),
        through: Seq(9),
    };
    let by = if full {
        SettledBy::Worker { holder: name("w1") }
    } else {
        SettledBy::Driver
    };
    vec![
        run::Begun {
            run: run_id(),
            labels: labels.into_iter().filter(|_| full).collect(),
            input: payload("input"),
            forked_from: full.then_some(lineage),
        }
        .into(),
        run::Checkpoint {
            label: name("half-way"),
            state: payload("state"),
            scope: Scope::root(),
        }
        .into(),
        run::Suspended {
            resume_at: full.then(|| at(1)),
        }
        .into(),
        run::CancelRequested { reason: text("why") }.into(),
        run::Compensating {
            then: if full {
                UnhappyOutcome::Failed { error: text("no") }
            } else {
                UnhappyOutcome::Cancelled { reason: text("why") }
            },
        }
        .into(),
        run::Stuck { reason: text("why") }.into(),
        run::Retried { reason: text("why") }.into(),
        run::Completed {
            output: payload("output"),
        }
        .into(),
        run::Failed { error: text("no") }.into(),
        run::Cancelled { reason: text("why") }.into(),
        run::Retired {
            run: run_id(),
            labels: [(name("topic"), text("sweep"))]
                .into_iter()
                .filter(|_| full)
                .collect(),
            epoch: Epoch(2),
            begun_at: at(0),
            ended_at: at(1),
            ending: if full {
                RunOutcome::Completed
            } else {
                RunOutcome::Failed { error: text("no") }
            },
            output: some("output"),
            output_erased: full.then(|| payload("gone").erased()),
            dropped: 6,
            previous: Digest::of(b"the entry before"),
            reason: text("ended long ago"),
            repeats: Vec::new(),
        }
        .into(),
        lease::Acquired {
            epoch: Epoch(2),
            holder: name("a1"),
            until: at(1),
            recovery: full,
            redrives: u32::from(full),
            retry_at: at(2),
        }
        .into(),
        lease::Renewed {
            epoch: Epoch(2),
            until: at(1),
            retry_at: at(2),
        }
        .into(),
        lease::Released {
            epoch: Epoch(2),
            redrive_at: at(1),
            undriven: false,
            by_driver: false,
        }
        .into(),
        decision::Recorded {
            position: position("#0"),
            fingerprint: if full {
                Fingerprint::of_json(&json!({"model": "m", "messages": ["hi", "pay Ann"]}))
            } else {
                Fingerprint::of_bytes(b"request")
            },
            response: payload("answer"),
            model: if full { text("m-1") } else { String::new() },
            usage: Usage {
                input_tokens: u64::from(full),
                output_tokens: 2 * u64::from(full),
                cost_micro_usd: 3 * u64::from(full),
            },
            rationale: some("since"),
            policy_version: if full { text("p-1") } else { String::new() },
            spent: if full {
                vec![spend("money", 7), spend("tokens", 8)]
            } else {
                Vec::new()
            },
        }
        .into(),
        acts::Begun {
            effect: effect.clone(),
            spec: spec(full),
        }
        .into(),
        acts::Started {
            effect: effect.clone(),
            attempt: 2,
            claim: full.then(claim),
        }
        .into(),
        acts::ClaimRenewed {
            effect: effect.clone(),
            observing: full,
            until: at(1),
        }
        .into(),
        acts::Confirmed {
            effect: effect.clone(),
            by: by.clone(),
            result: payload("result"),
            undo: full.then(undo),
            spent: full.then(|| vec![spend("money", 6)]),
        }
        .into(),
        acts::Failed {
            effect: effect.clone(),
            by: if full {
                SettledBy::Person { reason: text("seen") }
            } else {
                SettledBy::Rule { reason: text("why") }
            },
            error: text("no"),
            detail: some("detail"),
        }
        .into(),
        acts::Deferred {
            effect: effect.clone(),
            error: text("busy"),
            lapsed: full,
            unreached: false,
            next_at: at(1),
        }
        .into(),
        acts::Unknown {
            effect: effect.clone(),
            cause: text("lost"),
            observe_at: at(1),
        }
        .into(),
        acts::Observing {
            effect: effect.clone(),
            observation: 3,
            claim: claim(),
            unwanted: false,
        }
        .into(),
        acts::Observed {
            effect: effect.clone(),
            outcome: if full { Outcome::Absent } else { Outcome::Found },
            why: String::new(),
            then: if full {
                AfterObservation::Resend { at: at(1) }
            } else {
                AfterObservation::Settle
            },
        }
        .into(),
        acts::ResendAllowed {
            effect: effect.clone(),
            reason: text("seen"),
        }
        .into(),
        undoing::Armed {
            obligation: obligation.clone(),
            connector: name("bank"),
            operation: name("refund"),
            args: payload("undo args"),
            policy: EffectPolicy::default(),
            due_at: at(1),
        }
        .into(),
        undoing::Started {
            obligation: obligation.clone(),
            attempt: 1,
            claim: claim(),
            in_doubt: false,
        }
        .into(),
        undoing::ClaimRenewed {
            obligation: obligation.clone(),
            until: at(1),
        }
        .into(),
        undoing::Done {
            obligation: obligation.clone(),
            by: if full {
                SettledBy::Observer { holder: name("o1") }
            } else {
                by
            },
            result: payload("undone"),
        }
        .into(),
        undoing::Deferred {
            obligation: obligation.clone(),
            error: text("busy"),
            not_done: false,
            unreached: false,
            next_at: at(1),
        }
        .into(),
        undoing::Stuck {
            obligation: obligation.clone(),
            reason: text("why"),
        }
        .into(),
        undoing::Retried {
            obligation,
            reason: text("why"),
        }
        .into(),
        gate::Opened {
            gate: name("approval"),
            deadline: full.then(|| at(1)),
            asked: None,
            scope: Scope::root(),
        }
        .into(),
        gate::Answered {
            gate: name("approval"),
            by: if full {
                gate::AnsweredBy::EarlierSignal {
                    id: name("s1"),
                    who: Some(name("ann")),
                    received: Seq(4),
                }
            } else {
                gate::AnsweredBy::Signal {
                    id: name("s1"),
                    who: None,
                }
            },
            answer: payload("yes"),
        }
        .into(),
        gate::SignalReceived {
            gate: name("approval"),
            id: name("s1"),
            answer: payload("yes"),
        }
        .into(),
        timer::Set {
            timer: name("t"),
            due_at: at(1),
            note: payload("note"),
            asked: None,
            scope: Scope::root(),
        }
        .into(),
        timer::Fired { timer: name("t") }.into(),
        timer::Cancelled { timer: name("t") }.into(),
        budget::Opened {
            budget: name("money"),
            parent: full.then(|| name("all")),
            currency: if full {
                Currency::Unit(name("seats"))
            } else {
                Currency::MicroUsd
            },
            limit: u64::MAX,
            scope: Scope::root(),
        }
        .into(),
        budget::Reserved {
            position: position("#0"),
            spends: vec![spend("money", 7)],
        }
        .into(),
        budget::Released {
            position: position("#0"),
        }
        .into(),
        sample::Recorded {
            scope: if full {
                "planner/b-2".parse().unwrap()
            } else {
                Scope::root()
            },
            n: 4,
            name: name("now"),
            value: payload("17"),
        }
        .into(),
        session::Created {
            session: session_id("s1"),
            state: if full {
                delta(&[("topic", Some("\"x\""))])
            } else {
                Delta::default()
            },
        }
        .into(),
        session::EventAppended {
            event: name("e1"),
            invocation: full.then(|| name("i1")),
            author: text("user"),
            delta: if full {
                delta(&[("app:theme", Some("1.10")), ("topic", None)])
            } else {
                Delta::default()
            },
            content: payload("said"),
        }
        .into(),
        session::Merged {
            through: Seq(3),
            refused: Vec::new(),
        }
        .into(),
        session::Rewound {
            to: Seq(3),
            state: delta(&[("topic", Some("\"x\""))]),
            origins: BTreeMap::new(),
        }
        .into(),
        session::Deleted {}.into(),
        session::SharedMerged {
            session: session_id("s1"),
            source: Seq(3),
            recorded_at: None,
            delta: delta(&[("theme", Some("1.10"))]),
        }
        .into(),
        value::Put {
            version: 2,
            value: payload("v2"),
            previous: some("v1"),
        }
        .into(),
        value::Deleted {
            version: 3,
            previous: Some(payload("v2")),
        }
        .into(),
        value::KeyTaken {
            connector: name("bank"),
            key: name("invoice-7"),
            run: run_id(),
            effect,
        }
        .into(),
        relay::Refused {
            entry: relay::SentEntry {
                stream: sent(full),
                seq: Seq(3),
                digest: Digest::of(b"the chain"),
            },
            attempts: if full { 5 } else { 1 },
            reason: text("400 Bad Request"),
        }
        .into(),
        relay::Redelivered { refusal: Seq(7) }.into(),
        relay::Receipt {
            subscriber: name("lake"),
            erasure: relay::RecordedErasure {
                stream: sent(full),
                seq: Seq(9),
            },
        }
        .into(),
        erasure::Erased {
            entries: if full { vec![Seq(3), Seq(7)] } else { vec![Seq(3)] },
            reason: text("asked for"),
        }
        .into(),
        erasure::Finished { through: Seq(9) }.into(),
    ]
}
