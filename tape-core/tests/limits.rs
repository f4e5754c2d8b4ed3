//! Every bound of the rules: a value at the bound is accepted, and one above it is refused by an error that names the bound.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::names::payload;
use support::quick::{Quick, over};
use support::run_line;
use tape_core::command::AttemptOutcome;
use tape_core::command::{DriverCommand, ExternalCommand, RecordDecision, RunCommand};
use tape_core::entry::decision::Usage;
use tape_core::entry::run::Lineage;
use tape_core::fingerprint::{Fingerprint, Part};
use tape_core::id::{BusinessKey, ConnectorName, Key, Scope, Seq, Tenant};
use tape_core::limits::*;
use tape_core::payload::{Digest, InvalidPayload, Payload};
use tape_core::reply::{Decided, Field, Limit, Rejection};
use tape_core::run::Run;
use tape_core::subject::Pattern;
use tape_core::time::{Deadline, Timestamp};

/// Checks that `max` commands made by `line` are accepted, and one more is refused.
#[track_caller]
fn as_many_as(run: &mut Quick<Run>, max: usize, limit: Limit, line: impl Fn(usize) -> String) {
    for n in 0..max {
        run.line(&line(n)).unwrap();
    }
    over(run.line(&line(max)), limit, max);
}

#[test]
fn names() {
    let long = "é".repeat(NAME_BYTES_MAX / 2);
    assert_eq!(Tenant::new(&long).unwrap().as_str().len(), NAME_BYTES_MAX);
    let error = Tenant::new(format!("{long}x")).unwrap_err();
    assert_eq!(error.to_string(), "tenant: has 201 bytes, the limit is 200");
    assert!(BusinessKey::new("k".repeat(BUSINESS_KEY_BYTES_MAX)).is_ok());
    let error = BusinessKey::new("k".repeat(BUSINESS_KEY_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "business key: has 257 bytes, the limit is 256");
    assert_eq!(
        ConnectorName::new("").unwrap_err().to_string(),
        "connector: is empty"
    );
    let error = Key::new("a\u{7}b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "key: has the control character U+0007 at byte 1"
    );
}

#[test]
fn scopes_in_depth_and_length() {
    let deep = vec!["s"; SCOPE_DEPTH_MAX].join("/");
    let scope: Scope = deep.parse().unwrap();
    assert!(
        scope
            .child("s")
            .unwrap_err()
            .to_string()
            .contains("at most 16 parts")
    );
    let long = "s".repeat(SCOPE_BYTES_MAX);
    assert!(long.parse::<Scope>().is_ok());
    let error = format!("{long}s").parse::<Scope>().unwrap_err();
    assert_eq!(error.to_string(), "scope: has 513 bytes, the limit is 512");
}

#[test]
fn payloads() {
    let largest = Payload::new("text/plain", vec![0; PAYLOAD_BYTES_MAX]).unwrap();
    assert_eq!(largest.len(), PAYLOAD_BYTES_MAX as u64);
    let error = Payload::new("text/plain", vec![0; PAYLOAD_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(
        error,
        InvalidPayload::TooLarge {
            bytes: PAYLOAD_BYTES_MAX + 1
        }
    );
    assert!(error.to_string().contains("1048576"));
    assert!(Payload::new(&"t".repeat(CONTENT_TYPE_BYTES_MAX), "").is_ok());
    for wrong in [
        &"t".repeat(CONTENT_TYPE_BYTES_MAX + 1),
        "",
        "text/é",
        "a\nb",
        "\u{7f}",
    ] {
        assert_eq!(Payload::new(wrong, "").unwrap_err(), InvalidPayload::ContentType);
    }
    assert!(Payload::new(" ~", "").is_ok());
    assert!(Payload::empty().is_empty() && !payload("x").is_empty());
}

#[test]
fn texts() {
    let (long, longer) = ("x".repeat(TEXT_BYTES_MAX), "x".repeat(TEXT_BYTES_MAX + 1));
    let limit = Limit::TextBytes;
    for (word, empty) in [("fail ", "error"), ("cancel ", "reason")] {
        over(
            Quick::begun().line(&format!("{word}{longer}")),
            limit,
            TEXT_BYTES_MAX,
        );
        Quick::begun().line(&format!("{word}{long}")).unwrap();
        let error = Quick::begun().line(word).unwrap_err();
        assert_eq!(error.to_string(), format!("{empty}: is empty"));
    }
    let effect = |ending: &str| {
        let mut run = Quick::begun();
        run.line("decide #0").unwrap();
        run.line("effect #0.0 inline idempotent attempts=1").unwrap();
        run.line(&format!("finish #0.0 1 {ending}"))
    };
    for ending in ["failed ", "retry ", "unknown "] {
        over(effect(&format!("{ending}{longer}")), limit, TEXT_BYTES_MAX);
        effect(&format!("{ending}{long}")).unwrap();
        assert!(matches!(effect(ending), Err(Rejection::Invalid { .. })));
    }
    let mut run = Quick::begun();
    let mut labelled = |text: &str| {
        let mut begin = support::names::begin("a", 1_000);
        let label = (Key::new("k").unwrap(), text.to_owned());
        begin.create.as_mut().unwrap().labels.extend([label]);
        run.state = Run::default();
        run.ask(RunCommand::Begin(begin))
    };
    labelled(&long).unwrap();
    labelled("").unwrap();
    over(labelled(&longer), limit, TEXT_BYTES_MAX);
}

#[test]
fn labels() {
    let begin = |count: usize| {
        let labels: Vec<String> = (0..count).map(|n| format!("k{n}=v")).collect();
        Quick::<Run>::default().line(&format!("begin a {}", labels.join(" ")))
    };
    begin(LABELS_MAX).unwrap();
    over(begin(LABELS_MAX + 1), Limit::Labels, LABELS_MAX);
}

#[test]
fn scopes() {
    let mut run = Quick::begun();
    as_many_as(&mut run, SCOPES_MAX, Limit::Scopes, |n| {
        format!("sample 0 now scope=s{n}")
    });
    over(run.line("decide more#0"), Limit::Scopes, SCOPES_MAX);
    over(run.line("reserve more#0"), Limit::Scopes, SCOPES_MAX);
    run.line("decide s0#0").unwrap();
}

#[test]
fn reservations() {
    let mut run = Quick::begun();
    run.line("budget b 10").unwrap();
    let limit = Limit::ReservedDecisions;
    as_many_as(&mut run, SCOPES_MAX, limit, |n| {
        format!("reserve s{n}#0 spends=b:0")
    });
}

#[test]
fn calls_and_open_effects() {
    let mut run = Quick::begun();
    run.line("decide #0").unwrap();
    let last = CALLS_PER_DECISION_MAX - 1;
    run.line(&format!("effect #0.{last} inline idempotent")).unwrap();
    let more = run.line(&format!("effect #0.{CALLS_PER_DECISION_MAX} inline idempotent"));
    over(more, Limit::DecisionCalls, usize::from(CALLS_PER_DECISION_MAX));
    run.line("decide sub#0").unwrap();
    for n in 1..OPEN_EFFECTS_MAX {
        run.line(&format!("effect sub#0.{n} inline idempotent")).unwrap();
    }
    over(
        run.line("effect #0.0 inline idempotent"),
        Limit::EffectsUnderWay,
        OPEN_EFFECTS_MAX,
    );
    run.line("finish sub#0.1 1 ok").unwrap();
    run.line("effect #0.0 inline idempotent").unwrap();
}

#[test]
fn obligations() {
    let mut run = Quick::begun();
    let calls = usize::from(CALLS_PER_DECISION_MAX);
    for n in 0..OBLIGATIONS_MAX {
        let (k, call) = (n / calls, n % calls);
        if call == 0 {
            run.line(&format!("decide #{k}")).unwrap();
        }
        run.line(&format!("effect #{k}.{call} inline idempotent undo=u"))
            .unwrap();
        run.line(&format!("finish #{k}.{call} 1 ok")).unwrap();
    }
    assert_eq!(run.state.obligations().len(), OBLIGATIONS_MAX);
    run.line("decide sub#0").unwrap();
    over(
        run.line("effect sub#0.0 inline idempotent"),
        Limit::Obligations,
        OBLIGATIONS_MAX,
    );
}

#[test]
fn effects_under_way_have_room_for_their_obligations() {
    let mut run = Quick::begun();
    let calls = usize::from(CALLS_PER_DECISION_MAX);
    for n in 0..OBLIGATIONS_MAX - 3 {
        let (k, call) = (n / calls, n % calls);
        if call == 0 {
            run.line(&format!("decide #{k}")).unwrap();
        }
        run.line(&format!("effect #{k}.{call} inline idempotent undo=u"))
            .unwrap();
        run.line(&format!("finish #{k}.{call} 1 ok")).unwrap();
    }
    run.line("decide sub#0").unwrap();
    run.line("effect sub#0.0 inline idempotent").unwrap();
    run.line("effect sub#0.1 inline idempotent").unwrap();
    let Err(Rejection::LimitExceeded { limit, .. }) = run.line("effect sub#0.2 inline idempotent") else {
        panic!("each effect under way may arm two")
    };
    assert_eq!(limit, Limit::Obligations);
}

#[test]
fn gates_timers_and_signals() {
    as_many_as(&mut Quick::begun(), GATES_MAX, Limit::Gates, |n| {
        format!("gate g{n}")
    });
    as_many_as(&mut Quick::begun(), TIMERS_MAX, Limit::Timers, |n| {
        format!("timer t{n}")
    });
    let mut run = Quick::begun();
    let limit = Limit::BufferedSignals;
    as_many_as(&mut run, BUFFERED_SIGNALS_MAX, limit, |n| {
        format!("signal g{n} s")
    });
    run.line("gate g0").unwrap();
    run.line("signal more s").unwrap();
    let mut run = Quick::begun();
    (0..GATES_MAX).for_each(|n| drop(run.line(&format!("gate g{n}")).unwrap()));
    over(run.line("signal more s"), Limit::Gates, GATES_MAX);
    run.line("signal g1 s").unwrap();
}

#[test]
fn budgets() {
    as_many_as(&mut Quick::begun(), BUDGETS_MAX, Limit::Budgets, |n| {
        format!("budget b{n} 1")
    });
    let mut run = Quick::begun();
    run.line(&format!("budget most {BUDGET_UNITS_MAX}")).unwrap();
    let most = usize::try_from(BUDGET_UNITS_MAX).unwrap();
    over(
        run.line(&format!("budget more {}", BUDGET_UNITS_MAX + 1)),
        Limit::BudgetUnits,
        most,
    );
    let mut run = Quick::begun();
    run.line("budget b0 1").unwrap();
    for n in 1..BUDGET_DEPTH_MAX {
        run.line(&format!("budget b{n} 1 parent=b{}", n - 1)).unwrap();
    }
    let deeper = run.line(&format!("budget more 1 parent=b{}", BUDGET_DEPTH_MAX - 1));
    over(deeper, Limit::BudgetDepth, BUDGET_DEPTH_MAX);
    run.line(&format!("reserve #0 spends=b{}:1", BUDGET_DEPTH_MAX - 1))
        .unwrap();
    assert!(
        run.state
            .budgets()
            .values()
            .all(|budget| budget.reserved == 1 && budget.left() == 0)
    );
    let spends = |count| vec!["b:1"; count].join(",");
    for line in ["reserve #0 spends=", "decide #0 spent="] {
        let mut run = Quick::begun();
        run.line("budget b 100").unwrap();
        let more = run.line(&format!("{line}{}", spends(SPENDS_MAX + 1)));
        over(more, Limit::Spends, SPENDS_MAX);
        run.line(&format!("{line}{}", spends(SPENDS_MAX))).unwrap();
    }
}

/// Amounts that an entry records are bounded each and, of one budget, together.
#[test]
fn amounts_of_budgets() {
    let most = usize::try_from(BUDGET_UNITS_MAX).unwrap();
    let one_more = [
        format!("b:{}", BUDGET_UNITS_MAX + 1),
        format!("b:{BUDGET_UNITS_MAX},b:1"),
    ];
    let ways: [(&[&str], &str); 4] = [
        (&[], "reserve #0 spends="),
        (&[], "decide #0 spent="),
        (&["decide #0"], "effect #0.0 inline idempotent reserve="),
        (
            &["decide #0", "effect #0.0 inline idempotent"],
            "finish #0.0 1 ok spent=",
        ),
    ];
    for (before, way) in ways {
        let mut run = Quick::begun();
        run.line(&format!("budget b {BUDGET_UNITS_MAX}")).unwrap();
        before.iter().for_each(|line| drop(run.line(line).unwrap()));
        for more in &one_more {
            over(run.line(&format!("{way}{more}")), Limit::BudgetUnits, most);
        }
        let uncountable = run.line(&format!("{way}b:{max},b:{max}", max = u64::MAX));
        let bound = Limit::BudgetUnits;
        assert!(
            matches!(uncountable, Err(Rejection::LimitExceeded { limit, .. }) if limit == bound),
            "{uncountable:?}"
        );
        run.line(&format!("{way}b:{BUDGET_UNITS_MAX}")).unwrap();
    }
}

/// The field of a refusal for a number over [`NUMBER_MAX`].
#[track_caller]
fn invalid(found: Result<Decided, Rejection>) -> Field {
    match found {
        Err(Rejection::Invalid { field, problem }) => {
            assert!(problem.contains(&NUMBER_MAX.to_string()), "{problem}");
            field
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn usage() {
    let record = |usage: Usage| {
        let mut run = Quick::begun();
        let RunCommand::Drive(_, DriverCommand::RecordDecision(decision)) =
            run_line::command("decide #0", &run.state)
        else {
            panic!("a decision")
        };
        run.drive(DriverCommand::RecordDecision(RecordDecision {
            usage,
            ..decision
        }))
    };
    let usage = |number: [u64; 3]| Usage {
        input_tokens: number[0],
        output_tokens: number[1],
        cost_micro_usd: number[2],
    };
    record(usage([NUMBER_MAX; 3])).unwrap();
    for over in 0..3 {
        let mut numbers = [NUMBER_MAX; 3];
        numbers[over] += 1;
        assert_eq!(invalid(record(usage(numbers))), Field::Command);
    }
}

/// A time, and a wait that ends at it, are within the numbers that an entry has, counted in microseconds. The journal's time is 0.
#[test]
fn times() {
    let most = i64::try_from(NUMBER_MAX).unwrap();
    let at = |micros| Deadline::At(Timestamp::from_micros(micros));
    let right = [at(most), at(-most), Deadline::InMs(NUMBER_MAX / 1_000)];
    let wrong = [
        at(most + 1),
        at(-most - 1),
        at(i64::MIN),
        Deadline::InMs(NUMBER_MAX / 1_000 + 1),
        Deadline::InMs(u64::MAX),
    ];
    let gate = |deadline| DriverCommand::OpenGate {
        gate: "g".parse().unwrap(),
        deadline: Some(deadline),
    };
    let timer = |due| DriverCommand::SetTimer {
        timer: "t".parse().unwrap(),
        due,
        note: payload("note"),
    };
    let suspend = |resume| DriverCommand::Suspend {
        seen: Seq(2),
        resume: Some(resume),
    };
    let ways: [(&dyn Fn(Deadline) -> DriverCommand, Field); 3] = [
        (&gate, Field::Command),
        (&timer, Field::Command),
        (&suspend, Field::Resume),
    ];
    for (way, field) in ways {
        for wrong in wrong {
            assert_eq!(invalid(Quick::begun().drive(way(wrong))), field, "{wrong:?}");
        }
        for right in right {
            Quick::begun().drive(way(right)).unwrap();
        }
    }
}

/// No build replays a fork, so none is begun: its effects would happen again.
#[test]
fn forks() {
    let mut begin = support::names::begin("a1", 1_000);
    let create = begin.create.as_mut().unwrap();
    create.forked_from = Some(Lineage {
        run: support::names::run_id(),
        through: Seq(9),
    });
    let refused = Quick::<Run>::default().ask(RunCommand::Begin(begin)).unwrap_err();
    assert_eq!(refused.to_string(), "run: forks are not built yet");
}

/// A label that says that labels were erased is the journal's own, and so are those that later builds may have.
#[test]
fn labels_with_names_of_the_journals_own() {
    let begin = |name: &str| {
        let mut begin = support::names::begin("a1", 1_000);
        let create = begin.create.as_mut().unwrap();
        create.labels = [(name.parse().unwrap(), "labels".to_owned())].into();
        Quick::<Run>::default().ask(RunCommand::Begin(begin))
    };
    for own in ["tape.erased", "tape.later", "tape.reaction.later"] {
        let refused = begin(own).unwrap_err();
        let told =
            format!("label: '{own}' is a name of the journal's own: names that begin with 'tape.' are");
        assert_eq!(refused.to_string(), told);
    }
    for given in [
        "tape.agent_version",
        "tape.reaction",
        "tape.reaction.depth",
        "tape.reaction.cause",
        "tapes",
        "tape",
    ] {
        begin(given).unwrap();
    }
}

#[test]
fn fingerprints_and_names_of_models() {
    let decide = |change: &dyn Fn(&mut RecordDecision)| {
        let mut run = Quick::begun();
        let RunCommand::Drive(_, DriverCommand::RecordDecision(mut decision)) =
            run_line::command("decide #0", &run.state)
        else {
            panic!("a decision")
        };
        change(&mut decision);
        run.drive(DriverCommand::RecordDecision(decision))
    };
    let part = |len: usize| Part {
        name: "n".repeat(len),
        digest: "d".repeat(len),
        preview: "p".repeat(len),
    };
    let parts = |count: usize| Fingerprint {
        digest: Digest::default(),
        parts: vec![part(1); count],
    };
    decide(&|decision| decision.fingerprint = parts(FINGERPRINT_PARTS_MAX)).unwrap();
    let more = decide(&|decision| decision.fingerprint = parts(FINGERPRINT_PARTS_MAX + 1));
    over(more, Limit::FingerprintParts, FINGERPRINT_PARTS_MAX);
    decide(&|decision| decision.fingerprint.parts = vec![part(FINGERPRINT_PREVIEW_BYTES_MAX)]).unwrap();
    let more = decide(&|decision| decision.fingerprint.parts = vec![part(FINGERPRINT_PREVIEW_BYTES_MAX + 1)]);
    over(more, Limit::FingerprintTextBytes, FINGERPRINT_PREVIEW_BYTES_MAX);
    let limit = Limit::ModelNameBytes;
    decide(&|decision| decision.model = "m".repeat(NAME_BYTES_MAX)).unwrap();
    decide(&|decision| decision.policy_version = "m".repeat(NAME_BYTES_MAX)).unwrap();
    over(
        decide(&|decision| decision.model = "m".repeat(NAME_BYTES_MAX + 1)),
        limit,
        NAME_BYTES_MAX,
    );
    over(
        decide(&|decision| decision.policy_version = "m".repeat(NAME_BYTES_MAX + 1)),
        limit,
        NAME_BYTES_MAX,
    );
}

#[test]
fn fingerprints_stay_small() {
    let members = (0..100).map(|n| {
        (
            format!("{n:03}{}", "é".repeat(200)),
            serde_json::json!("é".repeat(500)),
        )
    });
    let asked = Fingerprint::of_json(&members.collect::<serde_json::Map<_, _>>().into());
    assert_eq!(asked.parts.len(), FINGERPRINT_PARTS_MAX);
    let fits = |text: &str| text.len() <= FINGERPRINT_PREVIEW_BYTES_MAX;
    assert!(
        asked
            .parts
            .iter()
            .all(|part| fits(&part.name) && fits(&part.preview))
    );
}

#[test]
fn waits_before_a_redrive() {
    let mut run = Quick::begun();
    let longer = run.line(&format!("release in={}", BACKOFF_MS_MAX + 1));
    let max = usize::try_from(BACKOFF_MS_MAX).unwrap();
    over(longer, Limit::RedriveDelay, max);
    run.line(&format!("release in={BACKOFF_MS_MAX}")).unwrap();
}

#[test]
fn leases_and_claims() {
    for wrong in [0, LEASE_MS_MIN - 1, LEASE_MS_MAX + 1, u64::MAX] {
        for line in [
            "begin a lease=",
            "renew lease=",
            "claim #0.0 w ms=",
            "observe #0.0 w ms=",
            "keep #0.0 w ms=",
        ] {
            let mut run = Quick::begun();
            let error = run.line(&format!("{line}{wrong}")).unwrap_err();
            let expected = format!("lease or claim length: {wrong} ms is not between 100 and 3600000 ms");
            assert_eq!(error.to_string(), expected, "{line}");
        }
        for line in ["undo #0.0 w ms=", "keep-undo #0.0 w ms="] {
            let error = Quick::begun().line(&format!("{line}{wrong}")).unwrap_err();
            assert!(error.to_string().contains("is not between"), "{line}");
        }
    }
    for right in [LEASE_MS_MIN, LEASE_MS_MAX] {
        Quick::begun().line(&format!("renew lease={right}")).unwrap();
    }
}

#[test]
fn policies() {
    let begin = |policy: &str| {
        let mut run = Quick::begun();
        run.line("decide #0").unwrap();
        run.line(&format!("effect #0.0 inline idempotent {policy}"))
    };
    for right in [
        "attempts=1",
        "attempts=1000",
        "observations=1",
        "observations=1000",
        "backoff=0 backoff-max=0",
    ] {
        begin(right).unwrap();
    }
    begin(&format!("backoff={BACKOFF_MS_MAX} backoff-max={BACKOFF_MS_MAX}")).unwrap();
    let wrong = [
        "attempts=0",
        "attempts=1001",
        "observations=0",
        "observations=1001",
        "backoff=2 backoff-max=1",
        "backoff=0 backoff-max=86400001",
    ];
    for wrong in wrong {
        let error = begin(wrong).unwrap_err();
        assert!(
            matches!(
                error,
                Rejection::Invalid {
                    field: Field::Policy,
                    ..
                }
            ),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn an_upstreams_own_wish_is_bounded() {
    let mut run = Quick::begun();
    run.line("decide #0").unwrap();
    run.line("effect #0.0 inline idempotent").unwrap();
    let ending = AttemptOutcome::Retry {
        error: "busy".to_owned(),
        after_ms: Some(u64::MAX),
    };
    let effect = support::names::effect("#0.0");
    let finish = DriverCommand::FinishEffect {
        effect: effect.clone(),
        attempt: 1,
        ending,
    };
    run.drive(finish).unwrap();
    let due = Timestamp::from_micros(0).plus_millis(BACKOFF_MS_MAX);
    assert_eq!(run.state.effects()[&effect].due, Some(due));
}

#[test]
fn patterns() {
    let long = "t".repeat(PATTERN_BYTES_MAX);
    assert!(long.parse::<Pattern>().is_ok());
    let error = format!("{long}t").parse::<Pattern>().unwrap_err();
    assert_eq!(error.to_string(), "pattern: has 4097 bytes, the limit is 4096");
}

#[test]
fn a_signal_is_no_way_around_the_end() {
    let mut run = Quick::begun();
    run.line("complete").unwrap();
    let signal = ExternalCommand::Signal {
        gate: "g".parse().unwrap(),
        id: "s".parse().unwrap(),
        answer: payload("yes"),
        seen: None,
    };
    assert!(matches!(
        run.ask(RunCommand::External(signal)),
        Err(Rejection::RunEnded { .. })
    ));
}
