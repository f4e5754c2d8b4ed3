//! Replay, asked beside a journal that is written here by hand.

mod compared;
mod leftovers;
mod patches;

use super::*;
use crate::budget::Currency;
use crate::effect::{EffectPolicy, Mode, Semantics, SettledBy, Status};
use crate::entry::{decision, effect, gate, lease, run, sample, timer};
use crate::id::{ConnectorName, Holder, Operation, RequestId, RunId, SignalId};
use crate::payload::Digest;
use crate::time::Deadline;
use expect_test::expect;
use serde_json::json;

#[derive(Default)]
struct Journal {
    replay: Replay,
}

impl Journal {
    fn new() -> Self {
        let mut journal = Self::default();
        journal.add(Begun {
            run: RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap(),
            labels: BTreeMap::new(),
            input: Payload::empty(),
            forked_from: None,
        });
        journal.add(lease::Acquired {
            epoch: Epoch(1),
            holder: Holder::new("one").unwrap(),
            until: at(30),
            recovery: false,
            redrives: 0,
            retry_at: at(30),
        });
        journal
    }

    fn add(&mut self, body: impl Into<EntryBody>) {
        self.try_add(body).unwrap();
    }

    fn try_add(&mut self, body: impl Into<EntryBody>) -> Result<(), ReplayError> {
        let seq = self.replay.seq().next();
        self.replay.apply(Entry {
            seq,
            at: at(0),
            decided_at: at(0),
            request: RequestId::from_u128(u128::from(seq.0)),
            principal: None,
            trace: None,
            command: None,
            body: body.into(),
            digest: Digest::default(),
        })
    }

    fn decision(&mut self, position: &str, asked: &str) {
        self.add(recorded(position, asked));
    }

    fn effect(&mut self, id: &str, args: &str) {
        let effect = id.parse().unwrap();
        self.add(effect::Begun {
            effect,
            spec: spec(args),
        });
    }

    fn ask(&mut self, scope: &str, asked: &str) -> String {
        let next = self.replay.decide(&scope.parse().unwrap(), &fingerprint(asked));
        match next {
            Ok(Next {
                position,
                recorded: None,
            }) => format!("{position} live"),
            Ok(Next {
                position,
                recorded: Some(recorded),
            }) => {
                let bytes = recorded.response.bytes().unwrap().clone();
                format!("{position} {}", String::from_utf8(bytes.to_vec()).unwrap())
            }
            Err(drift) => drift.to_string(),
        }
    }

    fn ask_effect(&mut self, id: &str, args: &str) -> String {
        match self.replay.ask_effect(&id.parse().unwrap(), &spec(args)) {
            Ok(None) => "live".to_owned(),
            Ok(Some(record)) => format!("{:?} attempt {}", record.status, record.attempt),
            Err(drift) => drift.to_string(),
        }
    }

    fn leftover(&self) -> String {
        self.replay
            .leftover()
            .map_or_else(String::new, |drift| drift.to_string())
    }
}

fn skipped(place: &str, asked: &str) -> String {
    format!(
        "the agent drifted from its journal at {place}: the journal has it next, the agent asked for {asked} instead"
    )
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus_millis(seconds * 1000)
}

fn fingerprint(asked: &str) -> Fingerprint {
    Fingerprint::of_json(&json!({"messages": [asked]}))
}

fn recorded(position: &str, asked: &str) -> decision::Recorded {
    decision::Recorded {
        position: position.parse().unwrap(),
        fingerprint: fingerprint(asked),
        response: Payload::json(&json!(format!("do {asked}"))),
        model: String::new(),
        usage: decision::Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    }
}

fn spec(args: &str) -> EffectSpec {
    EffectSpec {
        connector: ConnectorName::new("bank").unwrap(),
        operation: Operation::new("transfer").unwrap(),
        semantics: Semantics::Idempotent,
        mode: Mode::Inline,
        args: Payload::json(&json!(args)),
        business_key: None,
        undo: None,
        reserve: Vec::new(),
        policy: EffectPolicy::default(),
    }
}

#[test]
fn decisions_are_handed_out_by_scope_and_then_live() {
    let mut journal = Journal::new();
    journal.decision("#0", "a");
    journal.decision("left#0", "b");
    journal.decision("#1", "c");
    assert_eq!(journal.ask("left", "b"), "left#0 \"do b\"");
    assert_eq!(journal.ask("", "a"), "#0 \"do a\"");
    assert!(!journal.replay.is_live());
    assert_eq!(journal.ask("", "c"), "#1 \"do c\"");
    assert!(journal.replay.is_live());
    assert_eq!(journal.ask("", "d"), "#2 live");
    assert_eq!(
        journal.ask("", "d"),
        "#2 live",
        "an answer that was not recorded moves nothing"
    );
    journal.replay.decided(&"#2".parse().unwrap());
    assert_eq!(journal.ask("", "e"), "#3 live");
    assert_eq!(journal.ask("right", "f"), "right#0 live");
}

#[test]
fn a_drivers_own_entries_that_come_back_are_not_left_over() {
    let mut journal = Journal::new();
    assert_eq!(journal.ask("", "a"), "#0 live");
    journal.replay.decided(&"#0".parse().unwrap());
    assert_eq!(journal.ask_effect("#0.0", "x"), "live");
    journal.decision("#0", "a");
    journal.effect("#0.0", "x");
    assert_eq!(journal.leftover(), "");
    assert_eq!(journal.ask("", "b"), "#1 live");
    // The entry may also come before the driver has noted its own answer.
    journal.decision("#1", "b");
    journal.replay.decided(&"#1".parse().unwrap());
    assert_eq!(journal.leftover(), "");
    assert_eq!(journal.ask("", "c"), "#2 live");
}

#[test]
fn drift_is_told_in_words() {
    let mut journal = Journal::new();
    journal.decision("#0", "pay Ann");
    journal.effect("#0.0", "5");
    journal.decision("#1", "report");
    expect![[r#"the agent drifted from its journal at decision #0: messages[0]: recorded "pay Ann", asked "pay Bob""#]]
        .assert_eq(&journal.ask("", "pay Bob"));
    assert_eq!(journal.ask("", "pay Ann"), "#0 \"do pay Ann\"");
    assert!(journal.ask_effect("#0.0", "6").starts_with(
        "the agent drifted from its journal at effect #0.0: args: recorded 3 bytes of application/json with digest"
    ));
    expect!["the agent drifted from its journal at effect #0.1: the journal has no such effect and went on to a later decision"]
        .assert_eq(&journal.ask_effect("#0.1", "5"));
    let mut asked = spec("5");
    asked.mode = Mode::Outbox;
    asked.connector = ConnectorName::new("exchange").unwrap();
    let drift = journal
        .replay
        .ask_effect(&"#0.0".parse().unwrap(), &asked)
        .unwrap_err();
    expect!["connector: recorded bank, asked exchange; mode: recorded inline, asked outbox"]
        .assert_eq(&drift.difference);
}

#[test]
fn what_was_never_asked_for_is_left_over() {
    let mut journal = Journal::new();
    journal.decision("#0", "a");
    journal.effect("#0.0", "x");
    let name = SampleName::new("now").unwrap();
    journal.add(sample::Recorded {
        scope: Scope::root(),
        n: 0,
        name: name.clone(),
        value: Payload::json(&json!(7)),
    });
    journal.add(run::Checkpoint {
        label: Key::new("booked").unwrap(),
        state: Payload::empty(),
        scope: Scope::root(),
    });
    let end = "the journal has it, the agent went on without asking for it";
    let lost = |place: &str| format!("the agent drifted from its journal at {place}: {end}");
    let booked = Key::new("booked").unwrap();
    let state = Payload::empty();
    assert_eq!(journal.leftover(), lost("decision #0"));
    journal.ask("", "a");
    assert_eq!(journal.leftover(), lost("effect #0.0"));
    assert_eq!(
        journal.ask("", "b"),
        skipped("effect #0.0", "decision #1"),
        "no new decision goes over it"
    );
    assert_eq!(journal.ask_effect("#0.0", "x"), "Started attempt 1");
    assert_eq!(journal.leftover(), lost("checkpoint 'booked'"));
    let other = SampleName::new("uuid").unwrap();
    let drift = journal.replay.sample(&Scope::root(), &other).unwrap_err();
    assert_eq!(drift.difference, "name: recorded now, asked uuid");
    assert!(
        journal
            .replay
            .ask_checkpoint(&Scope::root(), &booked, &state)
            .unwrap()
    );
    assert_eq!(journal.leftover(), lost("sample #0 (now)"));
    let early = journal
        .replay
        .ask_checkpoint(&Scope::root(), &booked, &state)
        .unwrap_err();
    assert_eq!(
        early.to_string(),
        skipped("sample #0 (now)", "checkpoint 'booked'")
    );
    let next = journal.replay.sample(&Scope::root(), &name).unwrap();
    assert_eq!((next.n, next.recorded), (0, Some(Payload::json(&json!(7)))));
    assert!(
        !journal
            .replay
            .ask_checkpoint(&Scope::root(), &booked, &state)
            .unwrap(),
        "the second time is new"
    );
    journal.replay.checkpointed(&Scope::root(), &booked);
    assert_eq!(journal.leftover(), "");
    assert_eq!(journal.replay.sample(&Scope::root(), &other).unwrap().n, 1);
    journal.replay.sampled(&Scope::root(), 1);
    assert_eq!(journal.replay.sample(&Scope::root(), &other).unwrap().n, 2);
}

#[test]
fn an_effect_is_followed_through_its_attempts() {
    let mut journal = Journal::new();
    journal.decision("#0", "a");
    journal.ask("", "a");
    journal.effect("#0.0", "x");
    let effect: EffectId = "#0.0".parse().unwrap();
    journal.add(effect::Deferred {
        effect: effect.clone(),
        error: "busy".to_owned(),
        next_at: at(5),
        lapsed: false,
        unreached: false,
    });
    let record = journal.replay.effect(&effect).unwrap();
    assert_eq!(
        (record.status, record.due, record.why.as_str()),
        (Status::Pending, Some(at(5)), "busy")
    );
    journal.add(effect::Started {
        effect: effect.clone(),
        attempt: 2,
        claim: None,
    });
    assert_eq!(journal.ask_effect("#0.0", "x"), "Started attempt 2");
    journal.add(effect::Unknown {
        effect: effect.clone(),
        cause: "timeout".to_owned(),
        observe_at: at(9),
    });
    assert_eq!(journal.ask_effect("#0.0", "x"), "Unknown attempt 2");
    journal.add(effect::Observed {
        effect: effect.clone(),
        outcome: crate::effect::Outcome::Found,
        why: String::new(),
        then: effect::AfterObservation::Settle,
    });
    journal.add(effect::Confirmed {
        effect: effect.clone(),
        by: SettledBy::Driver,
        result: Payload::json(&json!("ok")),
        undo: None,
        spent: None,
    });
    let record = journal.replay.effect(&effect).unwrap();
    assert_eq!(
        record.settled,
        Some(Settled::Confirmed(Payload::json(&json!("ok"))))
    );
    assert!(
        record.spec.args.bytes().is_none(),
        "arguments are kept as a digest"
    );
}

#[test]
fn gates_timers_and_budgets_are_recalled() {
    let mut journal = Journal::new();
    let gate = GateName::new("approval").unwrap();
    journal.add(gate::SignalReceived {
        gate: gate.clone(),
        id: SignalId::new("s").unwrap(),
        answer: Payload::json(&json!("yes")),
    });
    journal.add(gate::Opened {
        gate: gate.clone(),
        deadline: Some(at(60)),
        asked: Some(Deadline::InMs(60_000)),
        scope: Scope::root(),
    });
    let by = AnsweredBy::EarlierSignal {
        id: SignalId::new("s").unwrap(),
        who: None,
        received: Seq(3),
    };
    journal.add(gate::Answered {
        gate: gate.clone(),
        by: by.clone(),
        answer: Payload::empty(),
    });
    let answer = Some((by, Payload::json(&json!("yes"))));
    assert_eq!(
        journal
            .replay
            .ask_gate(&Scope::root(), &gate, Some(Deadline::InMs(60_000)))
            .unwrap()
            .unwrap()
            .answer,
        answer,
        "the earlier signal's own answer"
    );
    let timer = TimerName::new("nap").unwrap();
    let due = Deadline::InMs(5);
    let mut ask = || {
        journal
            .replay
            .ask_timer(&Scope::root(), &timer, due, &Payload::empty())
            .map(|record| record.is_some())
    };
    assert_eq!(ask(), Ok(false));
    journal.add(timer::Set {
        timer: timer.clone(),
        due_at: due.resolve(at(0)),
        note: Payload::empty(),
        asked: Some(due),
        scope: Scope::root(),
    });
    journal.add(timer::Fired { timer: timer.clone() });
    assert_eq!(journal.replay.timer(&timer).unwrap().state, TimerState::Fired);
    let budget = BudgetName::new("usd").unwrap();
    let mut ask = |limit| {
        journal
            .replay
            .ask_budget(&Scope::root(), &budget, None, &Currency::MicroUsd, limit)
    };
    assert_eq!(ask(5), Ok(false));
    journal.add(budget::Opened {
        budget: budget.clone(),
        parent: None,
        currency: Currency::MicroUsd,
        limit: 5,
        scope: Scope::root(),
    });
    let mut ask = |limit| {
        journal
            .replay
            .ask_budget(&Scope::root(), &budget, None, &Currency::MicroUsd, limit)
    };
    assert_eq!(ask(5), Ok(true));
    assert_eq!(ask(6).unwrap_err().difference, "limit: recorded 5, asked 6");
    assert_eq!(journal.leftover(), "");
}

#[test]
fn a_journal_that_does_not_follow_is_an_error() {
    let mut journal = Journal::new();
    let skipped = journal.try_add(recorded("#1", "a")).unwrap_err();
    expect!["entry 3 (decision.recorded) cannot follow: decision 0 of its scope comes next"]
        .assert_eq(&skipped.to_string());
    let mut journal = Journal::new();
    let early = effect::Begun {
        effect: "#0.0".parse().unwrap(),
        spec: spec("x"),
    };
    assert!(journal.try_add(early).is_err());
    let mut replay = Journal::new().replay;
    let entry = Entry {
        seq: Seq(9),
        at: at(0),
        decided_at: at(0),
        request: RequestId::from_u128(9),
        principal: None,
        trace: None,
        command: None,
        body: recorded("#0", "a").into(),
        digest: Digest::default(),
    };
    assert!(matches!(replay.apply(entry), Err(ReplayError::OutOfOrder { .. })));
}

#[test]
fn the_end_and_the_way_to_it_are_known() {
    let mut journal = Journal::new();
    assert_eq!(
        (journal.replay.epoch(), journal.replay.standing()),
        (Epoch(1), &Standing::Open)
    );
    journal.add(run::Suspended { resume_at: None });
    assert_eq!(journal.replay.standing(), &Standing::Suspended);
    journal.add(run::CancelRequested {
        reason: "late".to_owned(),
    });
    assert_eq!(journal.replay.cancel_requested(), Some("late"));
    journal.add(run::Completed {
        output: Payload::json(&json!(1)),
    });
    let ended = Standing::Ended(RunOutcome::Completed, Some(Payload::json(&json!(1))));
    assert_eq!(journal.replay.standing(), &ended);
}
