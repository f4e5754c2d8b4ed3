//! Names, keys, subjects and agenda items: one thing has one text, and hostile texts are refused or kept exactly.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use proptest::prelude::*;
use std::collections::BTreeSet;
use support::names::{effect, run_id};
use tape_core::agenda::{Agenda, Item, Queue};
use tape_core::entry::obligation::ObligationId;
use tape_core::entry::{EntryBody, TraceParent};
use tape_core::id::{
    BusinessKey, ConnectorName, EffectId, Position, RelayName, RelayScope, RelayStream, RequestId, RunId,
    Scope, SessionName, StreamId,
};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Digest;
use tape_core::subject::{Pattern, Subject};
use tape_core::time::Timestamp;

/// Texts that a careless key would mix up.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a/.%*> #é]{1,8}",
        "%(2F|2f|25|00|2)",
        Just("run".to_owned()),
        Just("..".to_owned()),
        Just("%".to_owned()),
        Just(" ".to_owned()),
        "\\PC{1,20}",
    ]
}

fn name<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn stream(parts: &[String; 5], kind: u8) -> Option<StreamId> {
    let [tenant, a, b, c, d] = parts;
    let run = RunId::new(tenant, a, b, c, d).ok()?;
    Some(match kind {
        0 => StreamId::Run(run),
        1 => StreamId::Session(run.session()),
        2 => StreamId::Shared {
            tenant: run.tenant,
            app: run.app,
            user: None,
        },
        3 => StreamId::Shared {
            tenant: run.tenant,
            app: run.app,
            user: Some(run.user),
        },
        4 => StreamId::Value {
            tenant: run.tenant,
            name: name(a)?,
        },
        5 => StreamId::KeyOwner {
            tenant: run.tenant,
            connector: name(a)?,
            key: name(b)?,
        },
        _ => StreamId::Relay(RelayStream {
            tenant: run.tenant,
            scope: RelayScope::BOTH[a.len() % 2],
            name: name(b)?,
        }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_read_as_they_are_written(parts in prop::array::uniform5(hostile()), kind in 0..7_u8) {
        let Some(stream) = stream(&parts, kind) else { return Ok(()) };
        let text = stream.to_string();
        prop_assert_eq!(text.parse::<StreamId>().unwrap(), stream.clone());
        let json = serde_json::to_string(&stream).unwrap();
        prop_assert_eq!(serde_json::from_str::<StreamId>(&json).unwrap(), stream.clone());
        prop_assert_eq!(text.split('/').nth(1).unwrap(), stream.kind());
        prop_assert!(!text.contains(['.', '*', '>', ' ']));
        let subject = Subject::new(&stream, "effect.confirmed");
        let exact: Pattern = subject.as_str().parse().unwrap();
        prop_assert!(exact.matches(&subject));
        prop_assert!(Pattern::all().matches(&subject));
    }

    #[test]
    fn different_streams_have_different_texts(a in prop::array::uniform5(hostile()), b in prop::array::uniform5(hostile()), kinds in (0..6_u8, 0..6_u8)) {
        if let (Some(a), Some(b)) = (stream(&a, kinds.0), stream(&b, kinds.1)) {
            prop_assert_eq!(a == b, a.to_string() == b.to_string());
            prop_assert_eq!(a == b, Subject::new(&a, "k") == Subject::new(&b, "k"));
        }
    }

    #[test]
    fn a_text_that_is_a_stream_is_the_only_one(text in "[a-z%/.0-9A-F]{1,30}") {
        if let Ok(stream) = text.parse::<StreamId>() {
            prop_assert_eq!(stream.to_string(), text);
        }
    }

    #[test]
    fn positions_and_effects_read_as_they_are_written(scope in "([a-zé .]{1,5}(/[a-z]{1,5}){0,3})?", k in any::<u32>(), call in any::<u16>()) {
        let position = Position { scope: scope.parse().unwrap(), k };
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position.clone());
        let effect = EffectId { position, call };
        prop_assert_eq!(effect.to_string().parse::<EffectId>().unwrap(), effect.clone());
        for item in [Item::Effect(effect.clone()), Item::Obligation(ObligationId { effect, copy: call })] {
            prop_assert_eq!(item.to_string().parse::<Item>().unwrap(), item);
        }
    }

    #[test]
    fn items_of_any_name_read_as_they_are_written(text in "\\PC{1,20}") {
        for item in [Item::Gate(text.parse().unwrap()), Item::Timer(text.parse().unwrap())] {
            prop_assert_eq!(item.to_string().parse::<Item>().unwrap(), item);
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,40}|[#./%0-9a:]{0,20}") {
        let _ = text.parse::<StreamId>();
        let _ = text.parse::<Position>();
        let _ = text.parse::<EffectId>();
        let _ = text.parse::<Scope>();
        let _ = text.parse::<Item>();
        let _ = text.parse::<RequestId>();
        let _ = text.parse::<Digest>();
        let _ = TraceParent::try_from(text.clone());
        if let Ok(pattern) = text.parse::<Pattern>() {
            let _ = pattern.matches(&Subject::new(&StreamId::Run(run_id()), "effect.confirmed"));
            prop_assert_eq!(pattern.to_string(), text);
        }
    }
}

#[test]
fn texts_that_are_no_streams() {
    let wrong = [
        "",
        "acme",
        "acme/run",
        "acme/run/a/b/c",
        "acme/run/a/b/c/d/e",
        "acme/walk/a/b/c/d",
        "acme/session/a/b",
        "acme/shared/a/b/c",
        "acme/value",
        "acme/claim/a",
        "acme/value/a.b",
        "acme/value/a b",
        "acme/value/a*",
        "acme/value/>",
        "acme/value/%2f",
        "acme/value/%41",
        "acme/value/%2",
        "acme/value/%",
        "acme/value/%é",
        "acme/value/",
        "/value/a",
    ];
    for text in wrong {
        assert!(text.parse::<StreamId>().is_err(), "{text}");
    }
}

#[test]
fn numbers_have_one_text() {
    for wrong in [
        "#01",
        "#+1",
        "#-1",
        "#",
        "1",
        "a#",
        "a#4294967296",
        "a##1",
        "/a#1",
        "a//b#1",
        "a/#1",
    ] {
        assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        assert!(format!("{wrong}.0").parse::<EffectId>().is_err(), "{wrong}.0");
    }
    for wrong in ["#0", "#0.", "#0.00", "#0.65536", "#0.1.2", "0.1"] {
        assert!(wrong.parse::<EffectId>().is_err(), "{wrong}");
    }
}

#[test]
fn scopes() {
    let root = Scope::root();
    assert_eq!((root.as_str(), root.clone()), ("", Scope::default()));
    for wrong in ["", "a/b", "a#b", "\n"] {
        assert!(root.child(wrong).is_err(), "{wrong:?}");
        assert!(root.child("a").unwrap().child(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(root.child("a").unwrap().child("b").unwrap().to_string(), "a/b");
}

#[test]
fn keys_of_effects_name_run_decision_and_call() {
    let run = run_id();
    let mut keys = BTreeSet::new();
    for id in ["#0.0", "#0.1", "#1.0", "sub#0.0"] {
        let (key, undo) = (effect(id).idempotency_key(&run), effect(id).undo_key(&run));
        assert_eq!(key.len(), 40);
        assert!(
            key.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
        assert!(keys.insert(key.clone()) && keys.insert(undo.clone()));
        assert!(undo.starts_with(&key));
        let copy = |copy| {
            ObligationId {
                effect: effect(id),
                copy,
            }
            .key(&run)
        };
        assert_eq!(copy(0), undo);
        assert!(
            keys.insert(copy(1)) && keys.insert(copy(2)),
            "each duplicate is undone under its own key"
        );
    }
    let other = RunId::new("acme", "treasury", "ann", "s1", "i2").unwrap();
    assert!(keys.insert(effect("#0.0").idempotency_key(&other)));
    // The key must be the same in every build.
    assert_eq!(
        effect("#0.0").idempotency_key(&run),
        "tape-f9410b89bef6e290351738bbbe6e24c4526"
    );
}

#[test]
fn streams_know_their_tenant_and_run() {
    let tenant = Tenant::new("acme").unwrap();
    let run = StreamId::from(run_id());
    assert_eq!((run.tenant(), run.as_run()), (&tenant, Some(&run_id())));
    let value = StreamId::Value {
        tenant: tenant.clone(),
        name: ValueName::new("v").unwrap(),
    };
    let claim = StreamId::KeyOwner {
        tenant: tenant.clone(),
        connector: ConnectorName::new("bank").unwrap(),
        key: BusinessKey::new("k").unwrap(),
    };
    let shared = StreamId::Shared {
        tenant: tenant.clone(),
        app: run_id().app,
        user: None,
    };
    let session = StreamId::Session(run_id().session());
    let relay = StreamId::Relay(RelayStream {
        tenant: tenant.clone(),
        scope: RelayScope::All,
        name: RelayName::new("lake").unwrap(),
    });
    for (stream, kind) in [
        (relay, "relay"),
        (session, "session"),
        (value, "value"),
        (claim, "claim"),
        (shared, "shared"),
    ] {
        assert_eq!(
            (stream.tenant(), stream.as_run(), stream.kind()),
            (&tenant, None, kind)
        );
    }
}

#[test]
fn patterns_choose_by_token() {
    let stream = StreamId::Run(RunId::new("acme", "treasury", "ann", "s.1", "i1").unwrap());
    let subject = Subject::new(&stream, "effect.confirmed");
    assert_eq!(
        subject.to_string(),
        "acme.run.treasury.ann.s%2E1.i1.effect.confirmed"
    );
    let chosen = |pattern: &str| pattern.parse::<Pattern>().unwrap().matches(&subject);
    for right in [
        ">",
        "acme.>",
        "*.run.>",
        "acme.run.treasury.ann.s%2E1.i1.effect.confirmed",
        "acme.run.*.*.*.*.effect.*",
        "acme.run.treasury.ann.s%2E1.i1.effect.>",
    ] {
        assert!(chosen(right), "{right}");
    }
    for wrong in [
        "acme",
        "acme.run",
        "*",
        "acme.session.>",
        "acme.run.*.*.*.*.effect",
        "acme.run.*.*.*.*.effect.confirmed.>",
        "acme.run.*.*.*.*.effect.confirmed.*",
        "acm.>",
        "acme.run.*.*.*.*.effect.confirme",
    ] {
        assert!(!chosen(wrong), "{wrong}");
    }
    for text in [
        "", ".", "a.", ".a", "a..b", "a.>.b", ">.a", "a*", "*a", "a>", "a b", "a/b",
    ] {
        let error = text.parse::<Pattern>().unwrap_err();
        assert!(
            error.to_string().starts_with("pattern: is not of the form"),
            "{text:?}: {error}"
        );
    }
    assert_eq!(String::from("a.*".parse::<Pattern>().unwrap()), "a.*");
}

#[test]
fn every_kind_is_two_tokens() {
    for kind in EntryBody::KINDS {
        let tokens: Vec<&str> = kind.split('.').collect();
        let plain = |token: &&str| token.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(tokens.len() == 2 && tokens.iter().all(plain), "{kind}");
    }
}

#[test]
fn agendas_differ_by_what_changed() {
    let at = Timestamp::from_micros;
    let (mut old, mut new) = (Agenda::default(), Agenda::default());
    assert!(old.is_empty() && old.changes_to(&new).is_empty());
    old.add(Queue::Recovery, Item::Run, at(1));
    old.add(Queue::Timers, Item::Merge, at(2));
    old.add(Queue::Outbox, Item::Effect(effect("#0.0")), at(3));
    new.add(Queue::Recovery, Item::Run, at(1));
    new.add(Queue::Outbox, Item::Effect(effect("#0.0")), at(4));
    new.add(Queue::Reconcile, Item::Effect(effect("#0.0")), at(5));
    assert!(!old.is_empty());
    let changes: Vec<_> = old
        .changes_to(&new)
        .into_iter()
        .map(|change| {
            (
                change.queue.to_string(),
                change.item.to_string(),
                change.was,
                change.due,
            )
        })
        .collect();
    let expected = [
        ("timers", "merge", Some(at(2)), None),
        ("outbox", "effect:#0.0", Some(at(3)), Some(at(4))),
        ("reconcile", "effect:#0.0", None, Some(at(5))),
    ];
    assert_eq!(
        changes,
        expected.map(|(queue, item, was, due)| (queue.to_owned(), item.to_owned(), was, due))
    );
    assert_eq!(new.due(Queue::Recovery, &Item::Run), Some(at(1)));
    assert_eq!(new.due(Queue::Timers, &Item::Merge), None);
}

#[test]
fn queues_keep_their_numbers() {
    let found = Queue::ALL.map(|queue| (queue.number(), queue.as_str()));
    let kept = [
        (1, "recovery"),
        (2, "outbox"),
        (3, "reconcile"),
        (4, "timers"),
        (5, "compensation"),
    ];
    assert_eq!(found, kept);
}

#[test]
fn texts_that_are_no_items() {
    for wrong in [
        "",
        "run:x",
        "merge:x",
        "walk",
        "effect",
        "effect:x",
        "gate:",
        "obligation:#0.0",
        "obligation:x:#0.0",
    ] {
        assert!(wrong.parse::<Item>().is_err(), "{wrong}");
    }
}

#[test]
fn traces_and_digests_have_one_form() {
    let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(TraceParent::try_from(right.to_owned()).unwrap().as_str(), right);
    for wrong in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-001",
    ] {
        assert!(TraceParent::try_from(wrong.to_owned()).is_err(), "{wrong}");
    }
    let digest = Digest::of(b"");
    assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    assert_eq!(digest.short(), "e3b0c442");
    assert!("e3".parse::<Digest>().is_err());
    assert_eq!(
        "x".parse::<Digest>().unwrap_err().to_string(),
        "a digest is 64 hexadecimal digits"
    );
    assert!("not one".parse::<RequestId>().is_err());
    let request = RequestId::from_u128(7);
    assert_eq!(request.to_string().parse::<RequestId>().unwrap(), request);
    assert!(SessionName::new("s/1").is_ok());
}

#[test]
fn time_stops_at_its_ends() {
    let at = Timestamp::from_micros(5);
    assert_eq!(at.plus_millis(2).as_micros(), 2_005);
    assert_eq!(at.plus_millis(u64::MAX), Timestamp::MAX);
    assert_eq!(at.minus_millis(2).as_micros(), -1_995);
    assert_eq!(Timestamp::MIN.minus_millis(u64::MAX), Timestamp::MIN);
    assert_eq!(at.plus_millis(3).millis_since(at), 3);
    assert_eq!(at.millis_since(at.plus_millis(3)), 0);
    assert_eq!(
        Timestamp::MAX.millis_since(Timestamp::MIN),
        u64::try_from(i64::MAX / 1_000).unwrap()
    );
    assert_eq!(at.to_string(), "5us");
}
