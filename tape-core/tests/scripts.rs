//! Scripts: commands in, entries and replies out. `UPDATE_EXPECT=1 cargo test -p tape-core --test scripts` writes them anew; a person must
//! read the difference.
//!
//! A block is lines of commands, a line `----`, their outcomes, and an empty line. Besides commands, a block can have `wait MS`, `agenda`
//! and `status`; a command that begins with `@N` has that request id.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use support::line::{Line, outcome};
use support::names::{payload, session_id};
use support::{Journal, run_line};
use tape_core::agenda::Item;
use tape_core::command::{KeyCommand, RelayCommand, SessionCommand, SharedCommand, ValueCommand};
use tape_core::decider::Decider;
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::id::{EffectId, Invocation, Key, Principal, RunId, Seq, SessionId};
use tape_core::key_owner::KeyOwner;
use tape_core::payload::Digest;
use tape_core::relay_record::RelayRecord;
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::state::{Delta, Json};
use tape_core::time::Timestamp;
use tape_core::value::Value;

/// A stream that scripts can drive.
trait Scripted: Decider + PartialEq + std::fmt::Debug {
    fn command(text: &str, journal: &Journal<Self>) -> Self::Command;
    fn status(&self) -> String;
}

#[test]
fn scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for file in std::fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let script = std::fs::read_to_string(&path).unwrap();
        let written = match name.split('-').next().unwrap() {
            "session" => feed::<Session>(&script),
            "shared" => feed::<Shared>(&script),
            "value" => feed::<Value>(&script),
            "claim" => feed::<KeyOwner>(&script),
            "relay" => feed::<RelayRecord>(&script),
            _ => feed::<Run>(&script),
        };
        expect_test::expect_file![path].assert_eq(&written);
        count += 1;
    }
    assert!(count > 15, "the scripts are found");
}

/// Plays a script and writes it anew, with the outcomes of its commands.
fn feed<S: Scripted>(script: &str) -> String {
    let mut journal = Journal::<S>::new();
    let mut written = String::new();
    for block in script.trim_end().split("\n\n") {
        let asked = block.split("\n----").next().unwrap();
        if !written.is_empty() {
            written.push('\n');
        }
        writeln!(written, "{asked}").unwrap();
        let commands = asked.lines().filter(|line| !line.starts_with('#'));
        let answers: Vec<String> = commands
            .map(|line| format!("> {line}\n{}", answer(&mut journal, line)))
            .collect();
        if !answers.is_empty() {
            write!(written, "----\n{}", answers.concat()).unwrap();
        }
        journal.check();
    }
    written
}

fn answer<S: Scripted>(journal: &mut Journal<S>, line: &str) -> String {
    let (request, line) = match line.strip_prefix('@') {
        Some(rest) => {
            let (n, line) = rest.split_once(' ').unwrap();
            (Some(n.parse().unwrap()), line)
        }
        None => (None, line),
    };
    if let Some(millis) = line.strip_prefix("wait ") {
        journal.wait(millis.parse().unwrap());
        return format!("@ {}\n", journal.now);
    }
    if line == "agenda" {
        return agenda(&journal.state);
    }
    if line == "status" {
        return format!("{}\n", journal.state.status());
    }
    let (line, by) = line.split_once(" by ").map_or((line, None), |(line, by)| {
        (line, Some(Principal::new(by).unwrap()))
    });
    let command = S::command(line, journal);
    let before = journal.entries.len();
    let decided = match request {
        Some(n) => {
            let request = journal.named(n);
            journal.ask_as(request, by, command)
        }
        None if by.is_some() => {
            let request = journal.named(before as u128 + (1 << 64));
            journal.ask_as(request, by, command)
        }
        None => journal.ask(command),
    };
    outcome(&journal.entries[before..], &decided)
}

fn agenda<S: Decider>(state: &S) -> String {
    let agenda = state.agenda();
    if agenda.is_empty() {
        return "nothing\n".to_owned();
    }
    let lines = agenda.iter().map(|(queue, item, due)| {
        assert_eq!(
            item.to_string().parse::<Item>().unwrap(),
            *item,
            "an item reads as it is written"
        );
        format!("{queue} {item} {due}\n")
    });
    lines.collect()
}

impl Scripted for Run {
    fn command(text: &str, journal: &Journal<Self>) -> Self::Command {
        run_line::command_in(text, journal)
    }

    fn status(&self) -> String {
        let mut text = self.summary().map_or_else(
            || "none".to_owned(),
            |summary| format!("{} since {}", summary.status.as_str(), summary.changed_at),
        );
        for (name, budget) in self.budgets() {
            let (limit, reserved, spent) = (budget.limit, budget.reserved, budget.spent);
            write!(
                text,
                "; budget {name}: {reserved} reserved, {spent} spent of {limit}"
            )
            .unwrap();
        }
        for (id, effect) in self.effects() {
            write!(text, "; {id} {:?}", effect.status).unwrap();
        }
        text
    }
}

fn delta(line: &mut Line) -> Delta {
    let changes = line.pairs().into_iter().map(|(key, value)| {
        let json = (value != "-").then(|| Json::try_from(value).unwrap());
        (Key::new(key).unwrap(), json)
    });
    Delta(changes.collect())
}

impl Scripted for Session {
    fn command(text: &str, _: &Journal<Self>) -> Self::Command {
        let mut line = Line::new(text);
        match line.word().as_str() {
            "create" => SessionCommand::Create {
                session: session_id("s1"),
                state: delta(&mut line),
            },
            "append" => SessionCommand::Append {
                event: line.parse(),
                author: line.word(),
                expected: line.pair("expected").map(Seq),
                invocation: line.pair::<Invocation>("invocation"),
                delta: delta(&mut line),
                content: payload("said"),
            },
            "merged" => SessionCommand::MarkMerged {
                through: Seq(line.parse()),
                refused: Vec::new(),
            },
            "rewind" => SessionCommand::Rewind {
                to: Seq(line.parse()),
                expected: line.pair::<u64>("expected").map(Seq),
                state: delta(&mut line),
                origins: BTreeMap::new(),
                seen: Seq(u64::MAX),
            },
            "delete" => SessionCommand::Delete,
            other => panic!("there is no command '{other}'"),
        }
    }

    fn status(&self) -> String {
        let state: Vec<String> = self
            .state()
            .0
            .iter()
            .map(|(key, json)| format!("{key}={}", json.as_str()))
            .collect();
        let pending: Vec<u64> = self.pending().iter().map(|pending| pending.source.0).collect();
        format!(
            "{} created {} state {{{}}} pending {pending:?}",
            if self.id().is_some() { "there" } else { "none" },
            self.created(),
            state.join(" ")
        )
    }
}

impl Scripted for Shared {
    fn command(text: &str, _: &Journal<Self>) -> Self::Command {
        let mut line = Line::new(text);
        assert_eq!(line.word(), "merge");
        let session: SessionId = session_id(&line.word());
        SharedCommand::Merge {
            session,
            source: Seq(line.parse()),
            recorded_at: Timestamp::from_micros(line.pair("at").unwrap_or(0)),
            searched: Seq(line.pair("searched").unwrap_or(0)),
            delta: delta(&mut line),
        }
    }

    fn status(&self) -> String {
        let state = self.state().0.iter();
        let state: Vec<String> = state
            .map(|(key, json)| format!("{key}={}", json.as_str()))
            .collect();
        format!("{{{}}}", state.join(" "))
    }
}

impl Scripted for Value {
    fn command(text: &str, _: &Journal<Self>) -> Self::Command {
        let mut line = Line::new(text);
        let expected = line.pair("expected");
        match line.word().as_str() {
            "put" => ValueCommand::Put {
                value: payload(&line.word()),
                expected,
            },
            "delete" => ValueCommand::Delete { expected },
            other => panic!("there is no command '{other}'"),
        }
    }

    fn status(&self) -> String {
        let current = self
            .current()
            .map_or_else(|| "none".to_owned(), |payload| payload.digest().short());
        format!("{current} at version {}", self.version())
    }
}

impl Scripted for KeyOwner {
    fn command(text: &str, _: &Journal<Self>) -> Self::Command {
        let mut line = Line::new(text);
        assert_eq!(line.word(), "take");
        let owner = |text: &str| -> (RunId, EffectId) {
            let (invocation, effect) = text.split_once('/').unwrap();
            let run = RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap();
            (run, effect.parse().unwrap())
        };
        let (run, effect) = owner(&line.word());
        KeyCommand::Take {
            connector: "bank".parse().unwrap(),
            key: "invoice-7".parse().unwrap(),
            run,
            effect,
            from: line.pair::<String>("from").map(|text| owner(&text)),
        }
    }

    fn status(&self) -> String {
        self.owner().map_or_else(
            || "nobody".to_owned(),
            |(run, effect)| format!("{}/{effect}", run.invocation),
        )
    }
}

impl Scripted for RelayRecord {
    fn command(text: &str, _: &Journal<Self>) -> Self::Command {
        let mut line = Line::new(text);
        let digest = Digest::of(line.pair::<String>("chain").unwrap_or_default().as_bytes());
        match line.word().as_str() {
            "refuse" => RelayCommand::Refuse {
                entry: SentEntry {
                    stream: line.parse(),
                    seq: Seq(line.parse()),
                    digest,
                },
                attempts: line.parse(),
                reason: line.rest(),
            },
            "redelivered" => RelayCommand::Redelivered {
                refusal: Seq(line.parse()),
            },
            "receipt" => RelayCommand::Receipt {
                subscriber: line.parse(),
                erasure: RecordedErasure {
                    stream: line.parse(),
                    seq: Seq(line.parse()),
                },
            },
            other => panic!("there is no command '{other}'"),
        }
    }

    fn status(&self) -> String {
        let open: Vec<u64> = self.open().map(|seq| seq.0).collect();
        format!("refused and not sent again {open:?}")
    }
}
