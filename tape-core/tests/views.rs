//! What a stream says of itself to those who show and store it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::Journal;
use support::names::{run_id, session_id};
use support::run_line::command;
use tape_core::agenda::{Item, Queue};
use tape_core::claim::Claim;
use tape_core::id::{BusinessKey, StreamId};
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::stream::Stream as _;

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
    let claim = StreamId::Claim {
        tenant: "acme".parse().unwrap(),
        connector: "bank".parse().unwrap(),
        key: BusinessKey::new("bill-7").unwrap(),
    };
    assert!(Claim::accepts(&claim) && !Claim::accepts(&run) && !Run::accepts(&claim));
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
