//! Repeated requests: each gets its first outcome or is refused, and is never executed a second time, whatever was executed in between.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use support::Journal;
use support::names::{payload, session_id};
use support::quick::{Quick, request};
use support::run_line;
use tape_core::command::{Command, DriverCommand, RunCommand, SessionCommand, ValueCommand};
use tape_core::decider::{Decider, restore, snapshot};
use tape_core::effect::Status;
use tape_core::id::{EventId, Key, Principal, RequestClock, RequestId, Seq};
use tape_core::key_owner::{Ownership, OwnershipTrace};
use tape_core::limits::{
    REMEMBERED_EVENTS_MAX, REMEMBERED_REPLIES_MAX, REPLY_WINDOW_MS, REQUEST_AHEAD_MS_MAX,
};
use tape_core::reply::{Decided, Rejection};
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::state::Delta;
use tape_core::time::Timestamp;
use tape_core::value::Value;

fn put(text: &str) -> ValueCommand {
    ValueCommand::Put {
        value: payload(text),
        expected: None,
    }
}

fn append(event: &str, text: &str) -> SessionCommand {
    SessionCommand::Append {
        event: EventId::new(event).unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta: Delta::default(),
        content: payload(text),
    }
}

fn create() -> SessionCommand {
    SessionCommand::Create {
        session: session_id("s1"),
        state: Delta::default(),
    }
}

/// A session with a few events, whose first request ids come before those of `request`.
fn session() -> Journal<Session> {
    let mut journal = Journal::new();
    journal.ask(create()).unwrap();
    for n in 0..3 {
        journal.ask(append(&format!("first{n}"), "said")).unwrap();
    }
    journal
}

fn too_old(found: Result<Decided, Rejection>) {
    match found {
        Err(Rejection::RequestTooOld { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_replies_are_remembered_as_the_limit_says() {
    let mut value = Quick::<Value>::default();
    let first = Command::new(request(0), put("old"));
    let reply = value.command(&first).unwrap().reply;
    for n in 1..REMEMBERED_REPLIES_MAX {
        value.ask(put(&format!("new{n}"))).unwrap();
    }
    let again = value.command(&first).unwrap();
    assert_eq!((again.entries.len(), again.reply), (0, reply));
    value.ask(put("newest")).unwrap();
    too_old(value.command(&first));
    assert_eq!(
        value.state.current().map(|current| current.digest()),
        Some(payload("newest").digest()),
        "nothing is overwritten"
    );
}

#[test]
fn a_reply_is_remembered_as_long_as_the_window_says() {
    let mut journal = Journal::<Value>::new();
    journal.wait(1_000);
    let first = journal.named(1);
    let reply = journal.ask_as(first, None, put("a")).unwrap().reply;
    journal.wait(REPLY_WINDOW_MS);
    journal.ask(put("b")).unwrap();
    let again = journal.ask_as(first, None, put("a")).unwrap();
    assert_eq!(
        (again.entries.len(), again.reply),
        (0, reply),
        "to the millisecond"
    );
    journal.wait(1);
    journal.ask(put("c")).unwrap();
    too_old(journal.ask_as(first, None, put("a")));
    journal.check();
}

#[test]
fn time_that_passes_without_entries_forgets_nothing() {
    let mut journal = Journal::<Value>::new();
    let first = journal.named(1);
    journal.ask_as(first, None, put("a")).unwrap();
    journal.wait(100 * REPLY_WINDOW_MS);
    let again = journal.ask_as(first, None, put("a")).unwrap();
    assert!(
        again.entries.is_empty(),
        "what is forgotten follows from entries alone"
    );
}

#[test]
fn an_id_stands_for_one_command_of_one_caller() {
    let mut journal = session();
    let id = journal.named(7);
    journal.ask_as(id, None, append("e", "said")).unwrap();
    let reused = Rejection::RequestReused { request: id };
    for other in [
        append("e", "said otherwise"),
        append("f", "said"),
        SessionCommand::Delete,
    ] {
        assert_eq!(journal.ask_as(id, None, other).unwrap_err(), reused);
    }
    let ann = Some(Principal::new("ann").unwrap());
    assert_eq!(journal.ask_as(id, ann, append("e", "said")).unwrap_err(), reused);
    let again = journal.ask_as(id, None, append("e", "said")).unwrap();
    assert!(again.entries.is_empty());
    journal.check();
}

#[test]
fn a_begin_with_another_input_is_another_command() {
    let mut journal = Journal::<Run>::new();
    let begin = run_line::command("begin a", &journal.state);
    let id = journal.named(1);
    journal.ask_as(id, None, begin.clone()).unwrap();
    let RunCommand::Begin(mut other) = begin else {
        unreachable!()
    };
    other.create.as_mut().unwrap().input = payload("something else");
    let refused = journal.ask_as(id, None, RunCommand::Begin(other)).unwrap_err();
    assert_eq!(refused, Rejection::RequestReused { request: id });
}

#[test]
fn ids_without_an_order_are_refused_but_old_journals_fold() {
    let mut journal = Journal::<Value>::new();
    let unordered = RequestId("9f0c5d4e-2b1a-4c3d-8e5f-0123456789ab".parse().unwrap());
    let refused = journal.ask_as(unordered, None, put("a")).unwrap_err();
    assert_eq!(refused, Rejection::UnorderedRequest { request: unordered });
    // Entries of an earlier build, whose ids are as large as can be, push nothing.
    let mut value = Quick::<Value>::default();
    for n in 0..3 {
        let entry = tape_core::entry::Entry {
            seq: value.state.seq().next(),
            at: Timestamp::from_micros(0).plus_millis(n * 2 * REPLY_WINDOW_MS),
            decided_at: Timestamp::from_micros(0).plus_millis(n * 2 * REPLY_WINDOW_MS),
            request: RequestId::from_u128(u128::MAX - u128::from(n)),
            principal: None,
            trace: None,
            command: None,
            body: tape_core::entry::value::Put {
                version: n + 1,
                value: payload("old"),
                previous: None,
            }
            .into(),
            digest: tape_core::payload::Digest::default(),
        };
        value.state.apply(&entry).unwrap();
    }
    value.ask(put("new")).unwrap();
}

#[test]
fn an_id_from_the_future_is_refused_with_the_time() {
    let mut journal = Journal::<Value>::new();
    let now = journal.now;
    let most = RequestId::new(now.plus_millis(REQUEST_AHEAD_MS_MAX), 1);
    journal.ask_as(most, None, put("a")).unwrap();
    let request = RequestId::new(now.plus_millis(REQUEST_AHEAD_MS_MAX + 1), 1);
    let refused = journal.ask_as(request, None, put("b")).unwrap_err();
    assert_eq!(refused, Rejection::RequestFromFuture { request, now });
}

/// Clients whose clocks are an hour fast or slow, on a stream that keeps forgetting old ids: each succeeds once its clock has learned.
#[test]
fn clients_with_wrong_clocks_get_through() {
    let hour = 3_600_000;
    let mut value = Journal::<Value>::new();
    value.wait(10 * hour);
    let mut clients = [
        (RequestClock::default(), 0_i64),
        (RequestClock::default(), 1),
        (RequestClock::default(), -1),
    ];
    let mut refusals = 0;
    for round in 0..40 {
        for (n, (clock, hours)) in clients.iter_mut().enumerate() {
            // Most rounds are close to each other; after some, all earlier ids are forgotten.
            value.wait(if round % 10 == 9 { 2 * REPLY_WINDOW_MS } else { 5 });
            let own = value.now.as_micros() + *hours * i64::try_from(hour).unwrap() * 1_000;
            let own = Timestamp::from_micros(own);
            let body = put(&format!("{round} of {n}"));
            let mut tries = 0;
            loop {
                let id = clock.next(own, round * 3 + n as u128);
                match value.ask_as(id, None, body.clone()) {
                    Ok(decided) => break assert_eq!(decided.entries.len(), 1),
                    Err(refusal) => assert!(clock.learn(own, &refusal), "{refusal}"),
                }
                (tries, refusals) = (tries + 1, refusals + 1);
                assert!(tries < 3, "client {n} is refused for ever");
            }
        }
    }
    assert!((2..=4).contains(&refusals), "{refusals}: each learns once");
    value.check();
}

/// The store's clock is set back by an hour, on a stream that has forgotten ids of the minutes before that. Neither a client that dates
/// its requests by the time before nor one that goes by the new time has to wait until the clock has caught up.
#[test]
fn a_clock_that_is_set_back_holds_up_no_requests() {
    let mut value = Journal::<Value>::new();
    value.wait(10 * 3_600_000);
    for n in 0..3 {
        value.ask(put(&format!("before {n}"))).unwrap();
        value.wait(2 * REPLY_WINDOW_MS);
    }
    value.ask(put("last before")).unwrap();
    let before = value.now;
    value.now = Timestamp::from_micros(before.as_micros() - 3_600_000_000);
    for (n, own) in [before, value.now, before].into_iter().enumerate() {
        let (mut clock, mut tries) = (RequestClock::default(), 0);
        loop {
            let id = clock.next(own, 100 + n as u128);
            match value.ask_as(id, None, put(&format!("after {n}"))) {
                Ok(decided) => break assert_eq!(decided.entries.len(), 1),
                Err(refusal) => assert!(clock.learn(own, &refusal), "{refusal}"),
            }
            tries += 1;
            assert!(tries < 2, "a client that goes by {own} is refused for ever");
        }
    }
    // An id that is ahead of both times is still refused.
    let request = RequestId::new(before.plus_millis(REQUEST_AHEAD_MS_MAX + 1), 200);
    let refused = value.ask_as(request, None, put("ahead")).unwrap_err();
    let now = before;
    assert_eq!(refused, Rejection::RequestFromFuture { request, now });
}

#[test]
fn intents_that_are_sent_again_all_at_once_are_all_answered() {
    let mut run = Quick::begun();
    run.line("decide #0").unwrap();
    let epoch = run.state.epoch();
    let intents: Vec<_> = (0..256)
        .map(|n| {
            let line = format!("effect #0.{n} outbox idempotent");
            Command::new(request(1_000 + n), run_line::command(&line, &run.state))
        })
        .collect();
    let replies: Vec<_> = intents.iter().map(|c| run.command(c).unwrap().reply).collect();
    for n in 0..256_u32 {
        // Other commands write meanwhile.
        let spent = RunCommand::Drive(epoch, DriverCommand::RenewLease { lease_ms: 1_000 });
        run.command(&Command::new(request(10_000 + u128::from(n)), spent))
            .unwrap();
    }
    for (intent, reply) in intents.iter().zip(replies) {
        let again = run.command(intent).unwrap();
        assert_eq!((again.entries.len(), again.reply), (0, reply));
    }
}

#[test]
fn renewals_take_no_place() {
    let mut run = Quick::begun();
    let first = Command::new(request(2), run_line::command("checkpoint c", &run.state));
    run.command(&first).unwrap();
    let before = snapshot(&run.state).len();
    let epoch = run.state.epoch();
    for n in 0..2 * REMEMBERED_REPLIES_MAX as u128 {
        let renew = RunCommand::Drive(epoch, DriverCommand::RenewLease { lease_ms: 1_000 });
        run.command(&Command::new(request(3 + n), renew)).unwrap();
    }
    assert!(run.command(&first).unwrap().entries.is_empty());
    assert!(snapshot(&run.state).len() < before + 32);
}

#[test]
fn what_is_remembered_is_small_and_survives_a_snapshot() {
    let mut value = Quick::<Value>::default();
    for n in 0..2 * REMEMBERED_REPLIES_MAX {
        value.ask(put(&n.to_string())).unwrap();
    }
    let bytes = snapshot(&value.state);
    assert!(
        bytes.len() < 140 * REMEMBERED_REPLIES_MAX,
        "{} bytes",
        bytes.len()
    );
    assert_eq!(restore::<Value>(&bytes), Some(value.state));
}

#[test]
fn rewinds_events_checkpoints_and_deletions_are_not_executed_again() {
    let commands = [
        SessionCommand::Rewind {
            to: Seq(2),
            expected: None,
            state: Delta::default(),
            origins: BTreeMap::new(),
            seen: Seq(u64::MAX),
        },
        append("once", "said"),
        SessionCommand::Delete,
    ];
    for command in commands {
        let mut session = Quick::<Session>::default();
        session.ask(create()).unwrap();
        session.ask(append("e", "said")).unwrap();
        let asked = Command::new(request(3), command);
        session.command(&asked).unwrap();
        if matches!(asked.body, SessionCommand::Delete) {
            session.command(&Command::new(request(4), create())).unwrap();
        }
        for n in 0..REMEMBERED_REPLIES_MAX as u128 + 2 {
            let event = append(&format!("later{n}"), "said");
            session.command(&Command::new(request(5 + n), event)).unwrap();
        }
        too_old(session.command(&asked));
    }
    let mut run = Quick::begun();
    let checkpoint = Command::new(request(2), run_line::command("checkpoint c", &run.state));
    run.command(&checkpoint).unwrap();
    for n in 0..REMEMBERED_REPLIES_MAX as u128 + 2 {
        let other = run_line::command("checkpoint other", &run.state);
        run.command(&Command::new(request(3 + n), other)).unwrap();
    }
    too_old(run.command(&checkpoint));
}

#[test]
fn an_event_is_known_by_its_own_id_under_another_request() {
    let mut journal = session();
    let first = journal.ask(append("e", "said")).unwrap().reply;
    for n in 1..REMEMBERED_EVENTS_MAX {
        journal.ask(append(&format!("e{n}"), "said")).unwrap();
    }
    let again = journal.ask(append("e", "said")).unwrap();
    assert_eq!((again.entries.len(), again.reply), (0, first));
    let other = journal.ask(append("e", "said otherwise")).unwrap_err();
    assert!(matches!(other, Rejection::Exists { .. }), "{other}");
}

#[test]
fn a_rewind_is_known_by_where_it_leads_under_another_request() {
    let mut journal = session();
    let rewind = |expected| SessionCommand::Rewind {
        to: Seq(2),
        expected,
        state: Delta::default(),
        origins: BTreeMap::new(),
        seen: Seq(u64::MAX),
    };
    let first = journal.ask(rewind(Some(Seq(4)))).unwrap().reply;
    let again = journal.ask(rewind(None)).unwrap();
    assert_eq!(
        (again.entries.len(), again.reply),
        (0, first),
        "it is there already"
    );
    journal.ask(append("after", "said")).unwrap();
    let late = journal.ask(rewind(Some(Seq(4)))).unwrap_err();
    assert!(matches!(late, Rejection::VersionConflict { .. }), "{late}");
    journal.check();
}

#[test]
fn a_signal_under_a_known_name_with_another_answer_is_refused() {
    for before in [
        &["signal g s"][..],
        &["gate g", "signal g s"],
        &["signal g s", "gate g"],
    ] {
        let mut journal = Journal::<Run>::new();
        let mut ask = |line: &str| {
            let command = run_line::command(line, &journal.state);
            journal.ask(command)
        };
        ask("begin a lease=3600000").unwrap();
        for line in before {
            ask(line).unwrap();
        }
        assert!(ask("signal g s").unwrap().entries.is_empty(), "{before:?}");
        let other = ask("signal g s answer=no").unwrap_err();
        assert!(matches!(other, Rejection::Exists { .. }), "{other}");
        journal.check();
    }
}

#[test]
fn the_same_id_twice_in_one_batch_counts_once() {
    // A service decides queued commands on one working state, before it commits any of them.
    let mut value = Quick::<Value>::default();
    let command = Command::new(request(1), put("a"));
    let first = value.command(&command).unwrap();
    let second = value.command(&command).unwrap();
    assert_eq!((first.entries.len(), second.entries.len()), (1, 0));
    assert_eq!(first.reply, second.reply);
}

/// The ownership of a key, by the folded state and by all entries.
fn owner(lines: &[&str]) -> (Option<Ownership>, Ownership) {
    let mut journal = Journal::<Run>::new();
    for line in lines {
        let command = run_line::command_in(line, &journal);
        journal.ask(command).unwrap();
    }
    let effect = "#0.0".parse().unwrap();
    let mut trace = OwnershipTrace::of(effect);
    journal.entries.iter().for_each(|entry| trace.note(entry));
    let effect = "#0.0".parse().unwrap();
    (Ownership::by_state(&journal.state, &effect), trace.owner())
}

#[test]
fn a_key_is_free_only_where_its_effect_never_happened_and_never_will() {
    let begun = ["begin a lease=3600000", "decide #0"];
    let with = |lines: &[&str]| owner(&[&begun[..], lines].concat());
    let free = [
        &["effect #0.0 outbox idempotent", "fail no"][..],
        &["effect #0.0 outbox non-idempotent", "fail no"],
        &["decide #1"],
        &["fail no"],
        &[
            "effect #0.0 outbox idempotent",
            "claim #0.0 w",
            "done #0.0 w 1 unreached away",
            "fail no",
        ],
    ];
    for lines in free {
        let (by_state, by_entries) = with(lines);
        assert_eq!(by_entries, Ownership::Free, "{lines:?}");
        assert!(
            matches!(by_state, None | Some(Ownership::Free)),
            "{lines:?}: {by_state:?}"
        );
    }
    let taken = [
        (&["effect #0.0 outbox idempotent"][..], Some(Status::Pending)),
        (
            &["effect #0.0 outbox idempotent", "claim #0.0 w", "fail no"],
            Some(Status::Started),
        ),
        (
            &[
                "effect #0.0 outbox idempotent",
                "claim #0.0 w",
                "done #0.0 w 1 failed no",
            ],
            Some(Status::Failed),
        ),
        (
            &[
                "effect #0.0 outbox idempotent",
                "claim #0.0 w",
                "done #0.0 w 1 retry busy",
                "fail no",
            ],
            Some(Status::Failed),
        ),
        (
            &["effect #0.0 inline idempotent", "finish #0.0 1 failed no"],
            Some(Status::Failed),
        ),
        (
            &["effect #0.0 inline idempotent", "finish #0.0 1 ok"],
            Some(Status::Confirmed),
        ),
        (
            &[
                "effect #0.0 inline idempotent",
                "finish #0.0 1 ok",
                "decide #1",
                "decide #2",
            ],
            Some(Status::Confirmed),
        ),
        (
            &[
                "effect #0.0 inline idempotent",
                "finish #0.0 1 ok",
                "complete",
                "retire old",
            ],
            None,
        ),
    ];
    for (lines, status) in taken {
        let (by_state, by_entries) = with(lines);
        for told in [by_state, Some(by_entries)].into_iter().flatten() {
            let Ownership::Holds {
                status: found,
                settled,
            } = told
            else {
                panic!("{lines:?} frees the key");
            };
            if lines.last() != Some(&"retire old") {
                assert_eq!(found, status, "{lines:?}");
            }
            assert_eq!(
                settled.is_some(),
                found.is_some_and(Status::is_settled),
                "{lines:?} says which entry settled it"
            );
        }
    }
    let (by_state, _) = with(&[]);
    assert!(
        matches!(by_state, Some(Ownership::Holds { .. })),
        "it can still begin"
    );
}

#[test]
fn a_checkpoint_has_a_name() {
    // The caller chooses the label: two requests may use the same one.
    let mut run = Quick::begun();
    let checkpoint = |label: &str| DriverCommand::Checkpoint {
        label: Key::new(label).unwrap(),
        state: payload("s"),
    };
    assert_eq!(run.drive(checkpoint("c")).unwrap().entries.len(), 1);
    assert_eq!(run.drive(checkpoint("c")).unwrap().entries.len(), 1);
}
