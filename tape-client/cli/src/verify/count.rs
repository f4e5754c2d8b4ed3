//! What a verification found, stream by stream and in all, and the exit code.

use super::audit::Finding;
use crate::name::path;
use crate::text::{counted, quoted};
use crate::{Failure, Printer};
use serde_json::{Value, json};
use std::process::ExitCode;
use tape_cli::stream::Sound;
use tape_client::core::id::StreamId;
use tape_client::core::verify::SnapshotFinding;

/// The exit code where nothing is broken, but something is not proved: a published head is among dropped entries, bytes are missing from
/// entries of a build that recorded no erasures, a newer build wrote what cannot be read, or no entry names a snapshot.
const NOT_PROVED: u8 = 3;

/// What was found so far.
#[derive(Default)]
pub(crate) struct Count {
    pub(super) runs: u64,
    /// Published heads that were compared, and those of other streams than the one that is named.
    pub(super) heads: u64,
    pub(super) left_out: u64,
    pub(super) streams: u64,
    pub(super) entries: u64,
    pub(super) erased: u64,
    pub(super) dropped: u64,
    pub(super) snapshots: u64,
    pub(super) uncovered: u64,
    pub(super) unproved: u64,
    pub(super) doubted: u64,
    pub(super) broken: u64,
}

impl Count {
    /// Counts a stream and prints the result for it.
    pub(super) fn add(
        &mut self,
        print: &mut Printer<'_>,
        stream: &StreamId,
        finding: Finding,
    ) -> Result<(), Failure> {
        let (what, name) = match stream.as_run() {
            Some(run) => ("run", path(run)),
            None => ("stream", stream.to_string()),
        };
        *(if what == "run" {
            &mut self.runs
        } else {
            &mut self.streams
        }) += 1;
        let mut sound = match finding {
            Ok(sound) => sound,
            Err(broken) => return self.broken(print, (what, &name), "", &broken.what),
        };
        for doubt in &mut sound.doubts {
            *doubt = quoted(doubt);
        }
        let verified = &sound.verified;
        let (seq, digest) = verified.head;
        self.entries += seq.0 - verified.dropped;
        self.erased += verified.erased;
        self.dropped += verified.dropped;
        self.snapshots += u64::from(verified.snapshot == SnapshotFinding::Verified);
        self.uncovered += verified.uncovered.len() as u64;
        self.unproved += verified.unproved.len() as u64;
        self.doubted += u64::from(!sound.doubts.is_empty());
        let word = if sound.is_proved() { "ok      " } else { "PARTLY  " };
        let text = format!("{word}{name}  {}head {seq}:{digest}", remarks(&sound));
        print.say(&line(what, &name, &sound), &text)
    }

    /// Counts and prints what is broken.
    pub(super) fn broken(
        &mut self,
        print: &mut Printer<'_>,
        (what, name): (&'static str, &str),
        of: &str,
        broken: &str,
    ) -> Result<(), Failure> {
        self.broken += 1;
        // Of what is damaged, a name may have any length.
        let (name, broken) = (quoted(name), quoted(broken));
        let text = format!("BROKEN  {of}{name}  {broken}");
        print.say(&json!({what: name, "ok": false, "broken": broken}), &text)
    }

    /// Counts and prints what was not read of a file.
    pub(super) fn unread(
        &mut self,
        print: &mut Printer<'_>,
        file: &str,
        unread: &str,
    ) -> Result<(), Failure> {
        self.doubted += 1;
        let text = format!("PARTLY  {file}  not proved: {unread}");
        print.say(&json!({"file": file, "ok": true, "doubts": [unread]}), &text)
    }

    /// What is broken so far.
    pub(crate) const fn broken_so_far(&self) -> u64 {
        self.broken
    }

    /// Says what was found, and by which code the command ends.
    pub(crate) fn end(&self, print: &mut Printer<'_>) -> Result<ExitCode, Failure> {
        self.say(print)?;
        Ok(match self {
            Self { broken: 1.., .. } => ExitCode::FAILURE,
            Self { uncovered: 1.., .. } | Self { unproved: 1.., .. } | Self { doubted: 1.., .. } => {
                ExitCode::from(NOT_PROVED)
            }
            _ => ExitCode::SUCCESS,
        })
    }

    fn say(&self, print: &mut Printer<'_>) -> Result<(), Failure> {
        let Self {
            runs,
            heads,
            left_out,
            streams,
            entries,
            erased,
            dropped,
            snapshots,
            uncovered,
            unproved,
            doubted,
            broken,
        } = *self;
        let line = json!({
            "runs": runs, "streams": streams, "entries": entries, "erased": erased, "dropped": dropped,
            "snapshots": snapshots, "uncovered": uncovered, "unproved": unproved, "doubted": doubted, "broken": broken,
            "heads": heads, "heads_left_out": left_out,
        });
        let runs = counted(runs, "run", "runs");
        let others = some(streams, |n| {
            format!("{}, ", counted(n, "other stream", "other streams"))
        });
        let entries = counted(entries, "entry", "entries");
        let snapshots = some(snapshots, |n| {
            format!("{} verified, ", counted(n, "snapshot", "snapshots"))
        });
        let heads = some(heads, |n| {
            format!("{} compared, ", counted(n, "published head", "published heads"))
        });
        let left_out = some(left_out, |n| format!("{n} of other streams not compared, "));
        let dropped = some(dropped, |n| {
            format!("{} dropped, ", counted(n, "entry", "entries"))
        });
        let uncovered = some(uncovered, |n| {
            format!(
                "{} not covered, ",
                counted(n, "published head", "published heads")
            )
        });
        let erased = payloads_erased(erased);
        let unproved = some(unproved, |n| {
            format!("not proved of {}, ", counted(n, "entry", "entries"))
        });
        let doubted = some(doubted, |n| {
            format!("{} not proved, ", counted(n, "stream", "streams"))
        });
        let text = format!(
            "{runs}, {others}{entries} verified, {snapshots}{heads}{left_out}{dropped}{uncovered}{erased}, {unproved}{doubted}{broken} broken"
        );
        print.say(&line, &text)
    }
}

fn line(what: &str, name: &str, Sound { verified, doubts }: &Sound) -> Value {
    let (seq, digest) = verified.head;
    let snapshot = match verified.snapshot {
        SnapshotFinding::None => "none",
        SnapshotFinding::Verified => "verified",
        SnapshotFinding::Unchecked => "unchecked",
        SnapshotFinding::Unnamed => "unnamed",
    };
    json!({
        what: name, "ok": true, "head": format!("{seq}:{digest}"), "erased": verified.erased,
        "dropped": verified.dropped, "snapshot": snapshot,
        "uncovered": verified.uncovered.iter().map(|head| head.0).collect::<Vec<_>>(),
        "unproved": verified.unproved.iter().map(|entry| entry.0).collect::<Vec<_>>(), "doubts": doubts,
    })
}

/// Remarks on an intact stream.
fn remarks(Sound { verified, doubts }: &Sound) -> String {
    let retired = some(verified.dropped, |n| {
        format!("retired, {} dropped  ", counted(n, "entry", "entries"))
    });
    let heads = verified.uncovered.iter();
    let uncovered: String = heads
        .map(|head| format!("not covered: what the published head at entry {head} covered was dropped  "))
        .collect();
    let gone = some(verified.erased, |n| format!("{}  ", payloads_erased(n)));
    let unproved = verified.unproved.first().map_or_else(String::new, |first| {
        let entries = counted(verified.unproved.len() as u64, "entry", "entries");
        format!("not proved: nothing says who erased {entries} of an earlier build, from entry {first} on  ")
    });
    let doubts: String = doubts
        .iter()
        .map(|doubt| format!("not proved: {doubt}  "))
        .collect();
    format!("{retired}{uncovered}{gone}{unproved}{doubts}")
}

/// The text, if `n` is not zero.
fn some(n: u64, text: impl FnOnce(u64) -> String) -> String {
    if n == 0 { String::new() } else { text(n) }
}

fn payloads_erased(n: u64) -> String {
    format!("{} erased", counted(n, "payload", "payloads"))
}
