//! Erasure: erased bytes are gone from every state, whether they were folded before or read without bytes, and work that cannot continue
//! without them waits for a person.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod erased;
mod support;

use bytes::Bytes;
use erased::{erase, erase_also, forgotten, is_proved, read_again, request, run, say};
use std::collections::BTreeMap;
use support::names::{payload, session_id};
use support::{Journal, run_line};
use tape_core::agenda::{Item, Queue};
use tape_core::agent_version::BegunBy;
use tape_core::codec::decode;
use tape_core::command::{
    Command, ExternalCommand, RelayCommand, RunCommand, SessionCommand, SharedCommand, ValueCommand,
};
use tape_core::decider::{Decider, snapshot};
use tape_core::effect::Status;
use tape_core::entry::EntryBody;
use tape_core::entry::relay::SentEntry;
use tape_core::erasure::ErasureCommand;
use tape_core::id::{EventId, Key, Seq};
use tape_core::payload::{Digest, ERASED};
use tape_core::relay_record::RelayRecord;
use tape_core::reply::Rejection;
use tape_core::run::{ARGUMENTS_ERASED, ObligationStatus, Run};
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::state::{Delta, Json};
use tape_core::status::RunStatus;
use tape_core::value::Value;
use tape_core::verify::Audit;

/// No envelope has texts of people or models.
#[test]
fn words_are_payload() {
    let mut journal = run(&["begin a1 topic=secret", "cancel secret", "accept-cancel"]);
    let more = run(&[
        "begin a1",
        "decide #0",
        "effect #0.0 inline idempotent",
        "finish #0.0 last failed secret",
        "fail secret",
    ]);
    journal.stored.extend(more.stored);
    for stored in &journal.stored {
        let envelope = String::from_utf8_lossy(&stored.envelope);
        assert!(!envelope.contains("secret"), "{envelope}");
    }
    let said = |stored: &&tape_core::codec::StoredEntry| {
        String::from_utf8_lossy(stored.payload.as_ref().unwrap()).contains("secret")
    };
    assert_eq!(journal.stored.iter().filter(said).count(), 5);
}

#[test]
fn labels_and_how_a_run_ends_are_forgotten_wherever_they_stand() {
    let mut journal = run(&["begin a1 topic=secret", "cancel secret", "accept-cancel"]);
    let asked = journal
        .entries
        .iter()
        .find(|entry| entry.body.kind() == "run.cancel_requested");
    let asked = asked.unwrap().seq;
    let end = journal.state.seq();
    assert_eq!(
        erase(&mut journal, &[asked.0]).unwrap(),
        [asked, end],
        "the end repeats the request"
    );
    assert_eq!(erase(&mut journal, &[1]).unwrap(), [Seq(1)]);
    forgotten(&journal, &[Seq(1), asked, end], "secret");
    assert_eq!(journal.state.status(), RunStatus::Cancelled);
    let labels = journal.state.summary().unwrap().labels;
    assert_eq!(BegunBy::of(&labels, false), BegunBy::Erased);
    assert_eq!(labels.len(), 1, "nothing but that they were erased: {labels:?}");
    let repeat = journal
        .ask(run_line::command("cancel again", &journal.state))
        .unwrap();
    assert!(
        format!("{:?}", repeat.reply).contains(ERASED),
        "{:?}",
        repeat.reply
    );
}

#[test]
fn an_erasure_is_due_until_the_store_has_carried_it_out() {
    let mut journal = run(&["begin a1"]);
    erase(&mut journal, &[1]).unwrap();
    assert!(
        journal
            .state
            .agenda()
            .due(Queue::Timers, &Item::Erasure)
            .is_some()
    );
    let retire = run_line::command_in("retire old", &run(&["begin a1", "fail no"]));
    say(&mut journal, "fail no");
    let refused = journal.ask(retire).unwrap_err();
    assert!(matches!(refused, Rejection::Unsettled { .. }), "{refused}");
    let through = journal.state.erasures().unwrap().last();
    let finish = Command::new(request(99), ErasureCommand::Finish { through });
    let decided = journal.state.decide_erasure(&finish, journal.now).unwrap();
    journal.append(&finish, &decided);
    assert_eq!(journal.state.agenda().due(Queue::Timers, &Item::Erasure), None);
    let again = journal
        .state
        .decide_erasure(&Command::new(request(100), finish.body), journal.now)
        .unwrap();
    assert!(again.entries.is_empty());
}

/// Once an erasure is finished, neither the bytes nor a snapshot of before are accepted.
#[test]
fn what_was_erased_and_comes_back_is_found() {
    let mut journal = run(&["begin a1 topic=secret", "decide #0", "complete"]);
    let before = (
        Seq(3),
        Bytes::from(snapshot(&run(&["begin a1", "decide #0"]).state)),
    );
    let bytes = journal.stored[0].payload.clone();
    erase(&mut journal, &[1]).unwrap();
    let through = journal.state.erasures().unwrap().last();
    let found = |journal: &Journal<Run>, bytes: Option<Bytes>, snapshot: Option<(Seq, Bytes)>| {
        let mut stored = journal.stored.clone();
        stored[0].payload = bytes;
        let mut audit = Audit::new(journal.stream(), [], snapshot);
        stored
            .iter()
            .try_for_each(|stored| audit.check(stored))
            .map_err(|error| (error.finished(), error.to_string()))
    };
    found(&journal, bytes.clone(), Some(before.clone())).unwrap();
    let finish = Command::new(request(99), ErasureCommand::Finish { through });
    let decided = journal.state.decide_erasure(&finish, journal.now).unwrap();
    journal.append(&finish, &decided);
    found(&journal, None, None).unwrap();
    let finished = journal.state.seq();
    let told = format!("the payload of entry 1 is there, and entry {finished} says that it was erased");
    assert_eq!(found(&journal, bytes, None), Err((Some(finished), told)));
    let told = format!(
        "the snapshot after entry 3 is of before an erasure, and entry {finished} says that this is finished"
    );
    assert_eq!(found(&journal, None, Some(before)), Err((Some(finished), told)));
    // It is of the erasure itself, or of no entry that was erased.
    found(&journal, None, Some((through, Bytes::new()))).unwrap();
    found(&journal, None, Some((Seq::ZERO, Bytes::new()))).unwrap();
}

#[test]
fn a_repeated_erasure_is_the_first() {
    let mut journal = run(&["begin a1"]);
    let command = |entries: &[u64]| ErasureCommand::Erase {
        entries: entries.iter().copied().map(Seq).collect(),
        copies: Vec::new(),
        seen: Seq(2),
        reason: "asked for".to_owned(),
    };
    let first = Command::new(request(7), command(&[1]));
    let decided = journal.state.decide_erasure(&first, journal.now).unwrap();
    journal.append(&first, &decided);
    let again = journal.state.decide_erasure(&first, journal.now).unwrap();
    assert_eq!((again.entries.len(), again.reply), (0, decided.reply));
    for wrong in [&[][..], &[0], &[9]] {
        journal
            .state
            .decide_erasure(&Command::new(request(8), command(wrong)), journal.now)
            .unwrap_err();
    }
}

/// Retirement keeps the outcome of the run, unless that was erased first. What retirement kept is erased with the entries that it repeats.
#[test]
fn retirement_and_erasure_in_either_order_keep_nothing() {
    for erased_first in [true, false] {
        let mut journal = run(&["begin a1 topic=secret", "decide #0", "complete"]);
        let ended = journal.entries.last().unwrap().clone();
        let mut erased = Vec::new();
        if erased_first {
            erased = erase(&mut journal, &[ended.seq.0]).unwrap();
            let through = journal.state.erasures().unwrap().last();
            let finish = Command::new(request(99), ErasureCommand::Finish { through });
            let decided = journal.state.decide_erasure(&finish, journal.now).unwrap();
            journal.append(&finish, &decided);
        }
        // Read before it was erased.
        let retire = ExternalCommand::Retire {
            reason: "old".to_owned(),
            last: journal.entries.last().cloned().map(Box::new),
            ended: Some(Box::new(ended.clone())),
        };
        journal.ask(RunCommand::External(retire)).unwrap();
        let retired = journal.state.retired_in().unwrap();
        if !erased_first {
            erased = erase(&mut journal, &[ended.seq.0]).unwrap();
            assert!(erased.contains(&retired), "{erased:?}");
        }
        let state = read_again(&journal, &erased);
        assert_eq!(state, journal.state);
        for stored in journal
            .stored
            .iter()
            .filter(|stored| !erased.contains(&stored.seq))
        {
            let text = String::from_utf8_lossy(stored.payload.as_ref().unwrap());
            assert!(!text.contains("output"), "entry {} has it still", stored.seq);
        }
        // A reader that begins with the remaining entry gets the same state.
        let mut left = Run::default();
        for stored in journal.stored.iter().filter(|stored| stored.seq >= retired) {
            let mut stored = stored.clone();
            if erased.contains(&stored.seq) {
                stored.payload = None;
            }
            left.apply(&decode(&stored).unwrap()).unwrap();
        }
        assert_eq!(left, journal.state);
    }
}

/// Builds that did not note erased labels retired such a run without labels: what they wrote still agrees with the entries before it.
#[test]
fn a_run_whose_labels_were_erased_is_retired_by_this_build_and_by_earlier_ones() {
    for earlier in [true, false] {
        let mut journal = run(&["begin a1 topic=secret", "complete"]);
        let ended = journal.entries.last().unwrap().clone();
        let erased = erase(&mut journal, &[1]).unwrap();
        let through = journal.state.erasures().unwrap().last();
        let finish = Command::new(request(99), ErasureCommand::Finish { through });
        let decided = journal.state.decide_erasure(&finish, journal.now).unwrap();
        journal.append(&finish, &decided);
        let retire = ExternalCommand::Retire {
            reason: "old".to_owned(),
            last: journal.entries.last().cloned().map(Box::new),
            ended: Some(Box::new(ended)),
        };
        let retire = Command::new(request(100), RunCommand::External(retire));
        let mut decided = journal.state.decide(&retire, journal.now).unwrap();
        for body in &mut decided.entries {
            if let (EntryBody::RunRetired(retired), true) = (body, earlier) {
                retired.labels.clear();
            }
        }
        journal.append(&retire, &decided);
        assert!(journal.state.is_retired());
        assert_eq!(read_again(&journal, &erased), journal.state);
    }
}

const SENT_BY_A_WORKER: &[&str] = &[
    "begin a1 lease=3600000",
    "decide #0",
    "effect #0.0 outbox non-idempotent undo=refund",
];

fn begun(journal: &Journal<Run>) -> u64 {
    let begun = journal
        .entries
        .iter()
        .find(|entry| entry.body.kind() == "effect.begun");
    begun.unwrap().seq.0
}

fn effect(journal: &Journal<Run>) -> (Status, Option<String>) {
    let effect = journal.state.effects().values().next().unwrap();
    (effect.status, effect.stuck.clone())
}

#[test]
fn what_was_not_sent_before_its_arguments_were_erased_is_stuck() {
    let mut journal = run(SENT_BY_A_WORKER);
    let entry = begun(&journal);
    let erased = erase(&mut journal, &[entry]).unwrap();
    assert_eq!(
        effect(&journal),
        (Status::Stuck, Some(ARGUMENTS_ERASED.to_owned()))
    );
    assert_eq!(read_again(&journal, &erased), journal.state);
    journal
        .ask(run_line::command("claim #0.0 w1", &journal.state))
        .unwrap_err();
    let resend = run_line::command("settle #0.0 resend look", &journal.state);
    let refused = journal.ask(resend).unwrap_err();
    assert!(matches!(refused, Rejection::Erased { .. }), "{refused}");
    // An ending run does not wait for an effect that was never sent.
    say(&mut journal, "fail no");
    assert_eq!(journal.state.status(), RunStatus::Failed);
}

#[test]
fn what_is_being_sent_while_its_arguments_are_erased_may_end_and_is_not_sent_again() {
    for (line, status) in [
        ("done #0.0 w1 last ok", Status::Confirmed),
        ("done #0.0 w1 last retry busy", Status::Stuck),
        ("done #0.0 w1 last unknown timeout", Status::Stuck),
        ("lapse #0.0", Status::Stuck),
        ("claim #0.0 w2", Status::Stuck),
    ] {
        let mut journal = run(SENT_BY_A_WORKER);
        say(&mut journal, "claim #0.0 w1");
        let entry = begun(&journal);
        let erased = erase(&mut journal, &[entry]).unwrap();
        assert_eq!(effect(&journal).0, Status::Started, "its worker has them");
        if !line.starts_with("done") {
            journal.wait(3_600_000);
        }
        say(&mut journal, line);
        assert_eq!(effect(&journal).0, status, "{line}");
        assert_eq!(read_again(&journal, &erased), journal.state, "{line}");
    }
}

#[test]
fn an_undo_whose_arguments_are_erased_is_stuck_once_it_is_wanted() {
    let mut journal = run(SENT_BY_A_WORKER);
    say(&mut journal, "claim #0.0 w1");
    say(&mut journal, "done #0.0 w1 last ok");
    let entry = begun(&journal);
    let erased = erase(&mut journal, &[entry]).unwrap();
    assert_eq!(journal.state.obligations()[0].status, ObligationStatus::Armed);
    say(&mut journal, "fail no");
    let stuck = ObligationStatus::Stuck {
        reason: ARGUMENTS_ERASED.to_owned(),
    };
    assert_eq!(journal.state.obligations()[0].status, stuck);
    assert_eq!(read_again(&journal, &erased), journal.state);
    let retry = run_line::command("settle-undo #0.0 retry look", &journal.state);
    let refused = journal.ask(retry).unwrap_err();
    assert!(matches!(refused, Rejection::Erased { .. }), "{refused}");
}

fn json(text: &str) -> Json {
    Json::try_from(text.to_owned()).unwrap()
}

fn delta(pairs: &[(&str, Option<&str>)]) -> Delta {
    let pairs = pairs
        .iter()
        .map(|(key, value)| (Key::new(key).unwrap(), value.map(json)));
    Delta(pairs.collect())
}

fn append(event: &str, change: &[(&str, Option<&str>)]) -> SessionCommand {
    SessionCommand::Append {
        event: EventId::new(event).unwrap(),
        expected: None,
        invocation: None,
        author: "user".to_owned(),
        delta: delta(change),
        content: payload("said"),
    }
}

fn session() -> Journal<Session> {
    let mut journal = Journal::new();
    let create = SessionCommand::Create {
        session: session_id("s1"),
        state: Delta::default(),
    };
    journal.ask(create).unwrap();
    journal
}

#[test]
fn a_session_forgets_what_an_erased_event_set_and_no_older_value_comes_back() {
    let mut journal = session();
    journal
        .ask(append("e1", &[("phone", Some("\"old\"")), ("mood", Some("1"))]))
        .unwrap();
    journal
        .ask(append("e2", &[("phone", Some("\"secret\""))]))
        .unwrap();
    let erased = erase(&mut journal, &[3]).unwrap();
    forgotten(&journal, &erased, "secret");
    let state: Vec<_> = journal.state.state().0.keys().map(Key::as_str).collect();
    assert_eq!(state, ["mood"]);
}

/// A rewind repeats values of other entries. Erasing one of them erases the rewind too, and records the remaining state again.
#[test]
fn what_a_rewind_repeats_goes_too_and_the_rest_stays() {
    let mut journal = session();
    journal
        .ask(append(
            "e1",
            &[("phone", Some("\"secret\"")), ("mood", Some("1"))],
        ))
        .unwrap();
    journal.ask(append("e2", &[("name", Some("\"Ann\""))])).unwrap();
    let then = journal.state.clone();
    journal.ask(append("e3", &[("mood", Some("2"))])).unwrap();
    let state = then.state().0.iter();
    let rewind = |seen| SessionCommand::Rewind {
        to: Seq(3),
        expected: None,
        state: Delta(
            state
                .clone()
                .map(|(key, json)| (key.clone(), Some(json.clone())))
                .collect(),
        ),
        origins: then.origins(),
        seen,
    };
    journal.ask(rewind(Seq(4))).unwrap();
    let erased = erase_also(&mut journal, &[2], &[5]).unwrap();
    assert_eq!(erased, [Seq(2), Seq(5)]);
    forgotten(&journal, &erased, "secret");
    assert_eq!(
        journal.state.state().0,
        BTreeMap::from([(Key::new("name").unwrap(), json("\"Ann\""))])
    );
    // A state that was read before the erasure is not recorded after it.
    let refused = journal.ask(rewind(Seq(5))).unwrap_err();
    assert!(matches!(refused, Rejection::Woken { .. }), "{refused}");
}

/// A rewind that came after the search for copies also repeats erased values: the search is made again.
#[test]
fn a_rewind_that_races_an_erasure_is_looked_at_first() {
    let mut journal = session();
    journal
        .ask(append("e1", &[("phone", Some("\"secret\""))]))
        .unwrap();
    journal.ask(append("e2", &[("mood", Some("1"))])).unwrap();
    let then = journal.state.clone();
    journal.ask(append("e3", &[("mood", Some("2"))])).unwrap();
    let state = then.state().0.iter();
    let state = state.map(|(key, json)| (key.clone(), Some(json.clone())));
    let rewind = SessionCommand::Rewind {
        to: Seq(3),
        expected: None,
        state: Delta(state.collect()),
        origins: then.origins(),
        seen: Seq(4),
    };
    journal.ask(rewind).unwrap();
    let erase = |seen| ErasureCommand::Erase {
        entries: vec![Seq(2)],
        copies: Vec::new(),
        seen: Seq(seen),
        reason: "asked for".to_owned(),
    };
    let decide = |seen| {
        let command = Command::new(request(7), erase(seen));
        journal.state.decide_erasure(&command, journal.now)
    };
    assert_eq!(decide(4), Err(Rejection::Woken { seq: Seq(5) }));
    decide(5).unwrap();
}

#[test]
fn a_change_of_shared_state_is_carried_over_before_it_is_erased() {
    let mut journal = session();
    journal
        .ask(append("e1", &[("app:phone", Some("\"secret\""))]))
        .unwrap();
    let refused = erase(&mut journal, &[2]).unwrap_err();
    assert!(matches!(refused, Rejection::Unsettled { .. }), "{refused}");
    let merged = SessionCommand::MarkMerged {
        through: Seq(2),
        refused: Vec::new(),
    };
    journal.ask(merged).unwrap();
    let erased = erase(&mut journal, &[2]).unwrap();
    forgotten(&journal, &erased, "secret");
}

#[test]
fn shared_state_forgets_what_an_erased_change_set() {
    let mut journal = Journal::<Shared>::new();
    journal
        .ask(merge(2, &[("phone", Some("\"secret\"")), ("mood", Some("1"))]))
        .unwrap();
    journal.ask(merge(3, &[("mood", Some("2"))])).unwrap();
    let erased = erase(&mut journal, &[1]).unwrap();
    forgotten(&journal, &erased, "secret");
    assert_eq!(
        journal.state.state().0,
        BTreeMap::from([(Key::new("mood").unwrap(), json("2"))])
    );
}

/// A deleted session has its entries, and they can be erased.
#[test]
fn a_deleted_session_can_be_erased() {
    let mut journal = session();
    journal
        .ask(append("e1", &[("phone", Some("\"secret\""))]))
        .unwrap();
    journal.ask(SessionCommand::Delete).unwrap();
    let erased = erase(&mut journal, &[2]).unwrap();
    forgotten(&journal, &erased, "secret");
}

#[test]
fn an_erased_value_is_gone_and_is_never_written_down_again() {
    let mut journal = Journal::<Value>::new();
    let put = |value: &str, expected| ValueCommand::Put {
        value: payload(value),
        expected,
    };
    journal.ask(put("secret", None)).unwrap();
    let erased = erase(&mut journal, &[1]).unwrap();
    assert_eq!(journal.state.current(), None);
    journal.ask(put("next", Some(0))).unwrap_err();
    journal.ask(put("next", Some(1))).unwrap();
    assert_eq!(journal.state.version(), 2, "no version comes back");
    forgotten(&journal, &erased, "secret");
}

fn refuse(seq: u64, reason: &str) -> RelayCommand {
    RelayCommand::Refuse {
        entry: SentEntry {
            stream: "acme/value/rate".parse().unwrap(),
            seq: Seq(seq),
            digest: Digest::default(),
        },
        attempts: 1,
        reason: reason.to_owned(),
    }
}

/// A sink may say in its answer what it was sent.
#[test]
fn the_reason_of_a_refusal_is_forgotten_and_the_refusal_stays() {
    let mut journal = Journal::<RelayRecord>::new();
    journal.ask(refuse(1, "secret is no number")).unwrap();
    let erased = erase(&mut journal, &[1]).unwrap();
    assert_eq!(erased, [Seq(1)]);
    let due = journal.state.agenda().due(Queue::Timers, &Item::Erasure);
    assert!(due.is_some(), "the store has the bytes still");
    forgotten(&journal, &erased, "secret");
    let again = journal.ask(refuse(1, "other is no number")).unwrap();
    assert_eq!((again.entries.len(), again.reply.seq), (0, Seq(1)));
    let refusal = Seq(1);
    journal.ask(RelayCommand::Redelivered { refusal }).unwrap();
}

fn merge(source: u64, change: &[(&str, Option<&str>)]) -> SharedCommand {
    SharedCommand::Merge {
        session: session_id("s1"),
        source: Seq(source),
        recorded_at: tape_core::time::Timestamp::from_micros(0),
        delta: delta(change),
        searched: Seq::ZERO,
    }
}

/// An attacker who can write to the store can destroy bytes and mark them as erased; without an entry that records the erasure, this is
/// found.
#[test]
fn what_is_gone_without_an_erasure_was_destroyed_in_streams_of_every_kind() {
    is_proved(run(&["begin a1 topic=t", "decide #0", "complete"]), 1);
    is_proved(run(&["begin a1 topic=t", "decide #0", "complete"]), 3);
    let mut journal = session();
    journal.ask(append("e1", &[("phone", Some("1"))])).unwrap();
    is_proved(journal, 2);
    let mut journal = Journal::<Value>::new();
    for value in ["one", "two"] {
        let (value, expected) = (payload(value), None);
        journal.ask(ValueCommand::Put { value, expected }).unwrap();
    }
    is_proved(journal, 2);
    let mut journal = Journal::<Shared>::new();
    for source in [2, 3] {
        journal.ask(merge(source, &[("mood", Some("1"))])).unwrap();
    }
    is_proved(journal, 2);
    let mut journal = Journal::<RelayRecord>::new();
    for seq in [1, 2] {
        journal.ask(refuse(seq, "no")).unwrap();
    }
    is_proved(journal, 2);
}

fn feed(journal: &mut Journal<Run>, lines: &[&str]) {
    for line in lines {
        match line.strip_prefix("wait ") {
            Some(millis) => journal.wait(millis.parse().unwrap()),
            None => {
                let command = run_line::command(line, &journal.state);
                journal.ask(command).unwrap();
            }
        }
    }
}

/// An effect that an erasure makes stuck has changed: a verdict on its earlier status is refused.
#[test]
fn a_verdict_of_before_an_erasure_that_made_it_stuck_is_refused() {
    let unknown = [
        "begin a lease=3600000",
        "decide #0",
        "effect #0.0 outbox non-idempotent",
        "claim #0.0 w",
        "wait 2000",
        "lapse #0.0",
    ];
    let armed = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
    ];
    for (lines, then, verdict) in [
        (unknown.as_slice(), None, "settle #0.0 failed"),
        (&armed, Some("fail no"), "settle-undo #0.0 done"),
    ] {
        for first in [true, false] {
            let mut journal = Journal::<Run>::new();
            feed(&mut journal, lines);
            if !first {
                feed(&mut journal, then.as_slice());
            }
            let seen = journal.state.seq();
            erase(&mut journal, &[4]).unwrap();
            if first {
                feed(&mut journal, then.as_slice());
            }
            let line = format!("{verdict} seen={seen} I looked");
            let refused = journal.ask(run_line::command(&line, &journal.state));
            assert!(
                matches!(refused, Err(Rejection::Changed { .. })),
                "{verdict}, {first}: {refused:?}"
            );
            feed(&mut journal, &[&format!("{verdict} I looked again")]);
        }
    }
}
