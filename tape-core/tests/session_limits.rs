//! Every bound of sessions and shared state: a value at the bound is accepted, and one above it is refused by an error that names the
//! bound.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::names::{payload, session_id};
use support::quick::{Quick, over};
use tape_core::command::{SessionCommand, SharedCommand};
use tape_core::decider::Decider as _;
use tape_core::id::{EventId, Key, Seq};
use tape_core::limits::*;
use tape_core::reply::{Limit, Rejection};
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::state::{Delta, Json};
use tape_core::time::Timestamp;

fn delta(keys: std::ops::Range<usize>, json: Option<&str>) -> Delta {
    let json = json.map(|text| Json::try_from(text.to_owned()).unwrap());
    Delta(
        keys.map(|n| (Key::new(format!("k{n}")).unwrap(), json.clone()))
            .collect(),
    )
}

fn create(state: Delta) -> SessionCommand {
    SessionCommand::Create {
        session: session_id("s1"),
        state,
    }
}

fn append(event: &str, delta: Delta) -> SessionCommand {
    SessionCommand::Append {
        event: EventId::new(event).unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta,
        content: payload("said"),
    }
}

#[test]
fn state_of_sessions() {
    let keys = Limit::DeltaKeys;
    let mut session = Quick::<Session>::default();
    over(
        session.ask(create(delta(0..STATE_DELTA_KEYS_MAX + 1, Some("1")))),
        keys,
        STATE_DELTA_KEYS_MAX,
    );
    session
        .ask(create(delta(0..STATE_DELTA_KEYS_MAX, Some("1"))))
        .unwrap();
    over(
        session.ask(append("e", delta(0..STATE_DELTA_KEYS_MAX + 1, None))),
        keys,
        STATE_DELTA_KEYS_MAX,
    );
    for n in 1..STATE_KEYS_MAX / STATE_DELTA_KEYS_MAX {
        let range = n * STATE_DELTA_KEYS_MAX..(n + 1) * STATE_DELTA_KEYS_MAX;
        session
            .ask(append(&format!("e{n}"), delta(range, Some("1"))))
            .unwrap();
    }
    let one_more = delta(STATE_KEYS_MAX..STATE_KEYS_MAX + 1, Some("1"));
    over(
        session.ask(append("full", one_more)),
        Limit::StateKeys,
        STATE_KEYS_MAX,
    );
    session.ask(append("change", delta(0..1, Some("2")))).unwrap();
    session.ask(append("remove", delta(5..6, None))).unwrap();
    session
        .ask(append(
            "add",
            delta(STATE_KEYS_MAX..STATE_KEYS_MAX + 1, Some("1")),
        ))
        .unwrap();
}

#[test]
fn bytes_of_state() {
    // Each key takes two bytes, and the quotes of its JSON text take two more within a string.
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 6));
    let (half, rest) = (STATE_BYTES_MAX / 2, STATE_BYTES_MAX - STATE_BYTES_MAX / 2);
    let mut session = Quick::<Session>::default();
    session.ask(create(delta(0..1, Some(&json(half))))).unwrap();
    over(
        session.ask(append("more", delta(1..2, Some(&json(rest + 1))))),
        Limit::StateBytes,
        STATE_BYTES_MAX,
    );
    session
        .ask(append("full", delta(1..2, Some(&json(rest)))))
        .unwrap();
    session
        .ask(append("other", delta(0..1, Some(&json(half)))))
        .unwrap();
}

fn rewind(session: &Quick<Session>, to: Seq, seen: Seq) -> SessionCommand {
    let state = session.state.state().0.iter();
    let state = state.map(|(key, json)| (key.clone(), Some(json.clone())));
    SessionCommand::Rewind {
        to,
        expected: None,
        state: Delta(state.collect()),
        origins: session.state.origins(),
        seen,
    }
}

#[test]
fn a_state_of_as_many_keys_as_there_may_be_can_be_put_back() {
    let mut session = Quick::<Session>::default();
    session.ask(create(Delta::default())).unwrap();
    for n in 0..STATE_KEYS_MAX / STATE_DELTA_KEYS_MAX {
        let range = n * STATE_DELTA_KEYS_MAX..(n + 1) * STATE_DELTA_KEYS_MAX;
        session
            .ask(append(&format!("e{n}"), delta(range, Some("1"))))
            .unwrap();
    }
    let end = session.state.seq();
    let back = rewind(&session, end, end);
    session.ask(append("later", Delta::default())).unwrap();
    session.ask(back).unwrap();
}

#[test]
fn a_session_is_not_put_back_to_what_was_not_read() {
    let mut session = Quick::<Session>::default();
    session.ask(create(Delta::default())).unwrap();
    session.ask(append("e1", delta(0..1, Some("1")))).unwrap();
    let seen = session.state.seq();
    let early = rewind(&session, seen.next(), seen);
    session.ask(append("e2", delta(0..1, Some("2")))).unwrap();
    let refused = session.ask(early).unwrap_err();
    assert_eq!(refused, Rejection::Woken { seq: seen.next() });
}

#[test]
fn authors() {
    let mut session = Quick::<Session>::default();
    session.ask(create(Delta::default())).unwrap();
    let mut by = |event: &str, author: String| {
        let SessionCommand::Append {
            event,
            expected,
            invocation,
            delta,
            content,
            ..
        } = append(event, Delta::default())
        else {
            panic!("an event")
        };
        session.ask(SessionCommand::Append {
            event,
            expected,
            invocation,
            author,
            delta,
            content,
        })
    };
    by("e1", "a".repeat(NAME_BYTES_MAX)).unwrap();
    let error = by("e2", "a".repeat(NAME_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "author: must have 1 to 200 bytes");
    by("e3", String::new()).unwrap_err();
}

#[test]
fn shared_changes_under_way() {
    let shared = || {
        let json = Json::try_from("1".to_owned()).unwrap();
        Delta([(Key::new("app:theme").unwrap(), Some(json))].into())
    };
    let mut session = Quick::<Session>::default();
    session.ask(create(shared())).unwrap();
    for n in 1..PENDING_MERGES_MAX {
        session.ask(append(&format!("e{n}"), shared())).unwrap();
    }
    let limit = Limit::SharedChanges;
    over(session.ask(append("more", shared())), limit, PENDING_MERGES_MAX);
    session.ask(append("own", delta(0..1, Some("1")))).unwrap();
    session.ask(SessionCommand::Delete).unwrap();
    over(session.ask(create(shared())), limit, PENDING_MERGES_MAX);
    session
        .ask(SessionCommand::MarkMerged {
            through: Seq(1),
            refused: Vec::new(),
        })
        .unwrap();
    session.ask(create(shared())).unwrap();
}

#[test]
fn shared_state_remembers_what_it_has() {
    let merge = |source: usize, searched: usize| SharedCommand::Merge {
        session: session_id("s1"),
        source: Seq(source as u64),
        recorded_at: Timestamp::from_micros(0).plus_millis(source as u64),
        delta: delta(0..1, Some("1")),
        searched: Seq(searched as u64),
    };
    let mut shared = Quick::<Shared>::default();
    // The change of entry 10 of the session has long been under way.
    for n in (11..).take(PENDING_MERGES_MAX) {
        assert_eq!(shared.ask(merge(n, 0)).unwrap().entries.len(), 1);
    }
    assert!(shared.ask(merge(11, 0)).unwrap().entries.is_empty(), "each once");
    shared.ask(merge(PENDING_MERGES_MAX + 11, 0)).unwrap();
    assert!(shared.ask(merge(12, 0)).unwrap().entries.is_empty());
    for forgotten in [11, 10] {
        let refused = shared.ask(merge(forgotten, 0)).unwrap_err();
        assert!(matches!(refused, Rejection::RequestTooOld { .. }), "{refused}");
    }
    // Entry 1 is the one that was forgotten.
    let late = shared.ask(merge(10, 1)).unwrap();
    assert_eq!(late.entries.len(), 1, "who has looked for it carries it over");
    let again = shared.ask(merge(10, 1)).unwrap_err();
    assert!(
        matches!(again, Rejection::RequestTooOld { .. }),
        "{again}: what was carried over since was not looked for"
    );
    let many = SharedCommand::Merge {
        session: session_id("s1"),
        source: Seq(u64::MAX),
        recorded_at: Timestamp::MAX,
        searched: Seq(0),
        delta: delta(0..STATE_DELTA_KEYS_MAX + 1, Some("1")),
    };
    over(shared.ask(many), Limit::DeltaKeys, STATE_DELTA_KEYS_MAX);
}
