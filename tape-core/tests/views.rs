//! The methods by which lists, tools and stores read a stream's state.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::Journal;
use support::names::{payload, run_id, session_id};
use support::run_line::command;
use tape_core::agenda::{Item, Queue};
use tape_core::command::{Command, SessionCommand};
use tape_core::decider::Decider as _;
use tape_core::id::{BusinessKey, EventId, StreamId};
use tape_core::key_owner::KeyOwner;
use tape_core::relay_record::RelayRecord;
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::state::Delta;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tape_core::value::Value;

fn after(lines: &[&str]) -> Run {
    let mut journal = Journal::<Run>::new();
    for line in lines {
        let body = command(line, &journal.state);
        journal.ask(body).unwrap();
    }
    journal.state
}

#[test]
fn a_run_tells_its_name_from_its_beginning_on() {
    assert_eq!(Run::default().id(), None);
    assert_eq!(after(&["begin a1"]).id(), Some(&run_id()));
}

#[test]
fn a_run_tells_that_a_cancel_waits_for_its_driver() {
    assert_eq!(after(&["begin a1"]).cancel_requested(), None);
    let asked = ["begin a1", "cancel it is late"];
    assert_eq!(after(&asked).cancel_requested(), Some("it is late"));
    let accepted = ["begin a1", "cancel it is late", "accept-cancel"];
    assert_eq!(after(&accepted).cancel_requested(), None);
}

#[test]
fn a_decider_takes_the_streams_of_its_kind() {
    let (run, session) = (StreamId::Run(run_id()), StreamId::Session(session_id("s1")));
    assert!(Run::accepts(&run) && !Run::accepts(&session));
    assert!(Session::accepts(&session) && !Session::accepts(&run));
    let claim = StreamId::KeyOwner {
        tenant: "acme".parse().unwrap(),
        connector: "bank".parse().unwrap(),
        key: BusinessKey::new("bill-7").unwrap(),
    };
    assert!(KeyOwner::accepts(&claim) && !KeyOwner::accepts(&run) && !Run::accepts(&claim));
    let value = StreamId::Value {
        tenant: "acme".parse().unwrap(),
        name: "rate".parse().unwrap(),
    };
    assert!(Value::accepts(&value) && !Value::accepts(&run) && !KeyOwner::accepts(&value));
    let shared = StreamId::Shared {
        user: None,
        tenant: "acme".parse().unwrap(),
        app: "treasury".parse().unwrap(),
    };
    let relay: StreamId = "acme/relay/own/lake".parse().unwrap();
    assert!(RelayRecord::accepts(&relay) && !RelayRecord::accepts(&value) && !Value::accepts(&relay));
    assert!(Shared::accepts(&shared) && !Shared::accepts(&session) && !Session::accepts(&shared));
}

#[test]
fn three_statuses_are_the_end() {
    let ends: Vec<&str> = RunStatus::ALL
        .into_iter()
        .filter(|status| status.is_final())
        .map(RunStatus::as_str)
        .collect();
    assert_eq!(ends, ["completed", "failed", "cancelled"]);
}

#[test]
fn a_command_repeated_after_its_session_was_made_anew_returns_its_first_reply() {
    let mut journal = Journal::<Session>::new();
    let create = || SessionCommand::Create {
        session: session_id("s1"),
        state: Delta::default(),
    };
    journal.ask(create()).unwrap();
    let request = journal.named(99);
    journal.ask_as(request, None, SessionCommand::Delete).unwrap();
    journal.ask(create()).unwrap();
    let again = Command::new(request, SessionCommand::Delete);
    let decided = journal.state.decide(&again, journal.now).unwrap();
    assert!(decided.entries.is_empty(), "the new session stays");
}

#[test]
fn a_session_tells_its_name_and_when_something_last_happened() {
    let mut journal = Journal::<Session>::new();
    let create = SessionCommand::Create {
        session: session_id("s1"),
        state: Delta::default(),
    };
    journal.ask(create).unwrap();
    assert_eq!(journal.state.last_event_at(), None);
    assert_eq!(
        journal.state.named(),
        Some(StreamId::Session(session_id("s1"))),
        "its entries say whose they are"
    );
    journal.wait(7);
    let append = SessionCommand::Append {
        event: EventId::new("e1").unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta: Delta::default(),
        content: payload("said"),
    };
    journal.ask(append).unwrap();
    assert_eq!(journal.state.last_event_at(), Some(Timestamp::from_micros(7_000)));
}

#[test]
fn items_without_a_name_take_none() {
    for item in ["run", "merge"] {
        assert_eq!(item.parse::<Item>().unwrap().to_string(), item);
        assert!(format!("{item}:x").parse::<Item>().is_err());
    }
}

#[test]
fn the_numbers_of_queues_in_stores_never_change() {
    let numbers = Queue::ALL.map(|queue| (queue.as_str(), queue.number()));
    let ever = [
        ("recovery", 1),
        ("outbox", 2),
        ("reconcile", 3),
        ("timers", 4),
        ("compensation", 5),
    ];
    assert_eq!(numbers, ever);
}
