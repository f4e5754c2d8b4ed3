//! `docs/relays.md` says what the code does: its tables name what events have, and its program verifies them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tape_core::codec::Stamp;
use tape_core::entry::{erasure, run};
use tape_core::id::{RequestId, Seq};
use tape_core::payload::Payload;
use tape_core::time::Timestamp;
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::event_format::{EVENT_BYTES_MAX_LOWEST, EventFormat};
use tape_relay::payload_rule::PayloadRule;
use tape_relay::redaction::Redaction;

const PAGE: &str = include_str!("../../../docs/relays.md");

/// The first column of the table that follows a text of the page.
fn first_column(after: &str) -> BTreeSet<String> {
    let (_, rest) = PAGE
        .split_once(after)
        .unwrap_or_else(|| panic!("the page says: {after}"));
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = rows
        .skip(2)
        .map(|row| row.split('|').nth(1).unwrap().replace('`', ""));
    cells
        .flat_map(|cell| {
            cell.split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Events that have together all that an event can have.
fn events() -> Vec<Event> {
    let mut pen = Pen::new("acme/run/treasury/ann/s1/i1");
    let stamp = Stamp {
        at: Timestamp::from_micros(1_796_040_000_000_001),
        request: RequestId::from_u128(1),
        principal: None,
        trace: Some(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                .to_owned()
                .try_into()
                .unwrap(),
        ),
        command: None,
    };
    let stored = [
        pen.write_stamped(
            &stamp,
            run::CancelRequested {
                reason: "too dear".to_owned(),
            },
        ),
        pen.put(Payload::json(&json!({"a": 1.25, "ü": "\u{1f4b8}"}))),
        pen.put(Payload::new(Payload::BYTES, vec![0, 0xff]).unwrap()),
        pen.put(Payload::empty()),
        pen.write(erasure::Erased {
            entries: vec![Seq(2)],
            reason: "asked for".to_owned(),
        }),
        pen.write(erasure::Erased {
            entries: (1..20_000).map(Seq).collect(),
            reason: "asked for".to_owned(),
        }),
    ];
    let event = |stored, format: &EventFormat| format.event(pen.stream(), stored).unwrap();
    let mut events: Vec<Event> = stored
        .iter()
        .map(|stored| event(stored, &EventFormat::default()))
        .collect();
    let rule = PayloadRule::Redact(Redaction::new(&["/a"]).unwrap());
    let small = EventFormat::new("tape", rule, EVENT_BYTES_MAX_LOWEST).unwrap();
    events.extend(stored.iter().map(|stored| event(stored, &small)));
    let mut gone = stored[1].clone();
    gone.payload = None;
    events.push(event(&gone, &small));
    events
}

fn names<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let members = objects
        .into_iter()
        .flat_map(|object| object.as_object().unwrap().keys());
    members.cloned().collect()
}

#[test]
fn the_tables_have_all_that_events_have() {
    let events = events();
    let attributes = events
        .iter()
        .flat_map(Event::attributes)
        .map(|(name, _)| name.to_owned());
    assert_eq!(first_column("All attributes are texts"), attributes.collect());
    let data: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_slice(event.data()).unwrap())
        .collect();
    assert_eq!(
        first_column("`data` is an object with these members"),
        names(&data)
    );
    let lists = data
        .iter()
        .filter_map(|data| data["payloads"].as_array())
        .flatten();
    let parts: Vec<&Value> = lists
        .chain(data.iter().filter_map(|data| data.get("words")))
        .collect();
    assert_eq!(
        first_column("A payload is an object"),
        names(parts.iter().copied())
    );
    for part in parts {
        let state = part["state"].as_str().unwrap();
        assert!(
            PAGE.contains(&format!("`{state}`")),
            "the page says what {state} means"
        );
    }
}

/// The program of the page, run over events a line; says what it printed.
fn verified(events: &[Value]) -> Result<(), String> {
    let (_, rest) = PAGE.split_once("```python verify\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let main = "\nimport sys\nprevious = '0' * 64\nfor line in sys.stdin.buffer:\n    previous = verify(json.loads(line), previous)\n";
    let mut python = Command::new("python3")
        .args(["-c", &format!("{program}{main}")])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program of the page needs python3");
    let lines = events
        .iter()
        .map(|event| format!("{event}\n"))
        .collect::<String>();
    // A program that found something broken reads no more.
    drop(python.stdin.take().unwrap().write_all(lines.as_bytes()));
    let done = python.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    if done.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn the_program_of_the_page_verifies_events_and_finds_changes() {
    let whole: Vec<Value> = events()[..5]
        .iter()
        .map(|event| serde_json::from_slice(&event.to_json()).unwrap())
        .collect();
    assert_eq!(verified(&whole), Ok(()));
    let changed = |n: usize, place: &str, value: Value, said: &str| {
        let mut events = whole.clone();
        *events[n].pointer_mut(place).unwrap() = value;
        let found = verified(&events).expect_err(place);
        assert!(found.contains(said), "{place}: {found}");
    };
    changed(
        0,
        "/stream",
        json!("acme/run/treasury/ann/s1/i2"),
        "the entry was changed, or does not follow",
    );
    changed(1, "/seq", json!("3"), "the number was changed");
    changed(
        1,
        "/id",
        json!("acme/run/treasury/ann/s1/i1/3"),
        "the name was changed",
    );
    changed(1, "/data/payloads/0/text", json!("{}"), "the payload was changed");
    changed(
        2,
        "/data/payloads/0/data_base64",
        json!("AAAA"),
        "the payload was changed",
    );
    changed(
        0,
        "/data/words/text",
        json!("[\"cheap\"]"),
        "the payload was changed",
    );
    changed(
        1,
        "/data/payloads/0/sha256",
        json!("0".repeat(64)),
        "the digest is not one of the entry",
    );
    let envelope = whole[1]["data"]["envelope"]
        .as_str()
        .unwrap()
        .replace("\"version\":2", "\"version\":3");
    changed(
        1,
        "/data/envelope",
        json!(envelope),
        "the entry was changed, or does not follow",
    );
    let mut missing = whole.clone();
    missing.remove(2);
    assert!(verified(&missing).unwrap_err().contains("does not follow"));
}
