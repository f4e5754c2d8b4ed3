//! Files of JSON lines: what a crash leaves, rotation, permissions, a full disk.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tape_core::payload::Payload;
use tape_environment::{Environment, machine};
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::event_format::EventFormat;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::sinks::json_lines::{
    DEFAULT_AGE_MAX, FILE_BYTES_MAX_LOWEST, InvalidJsonLines, JsonLines, JsonLinesSettings,
};

/// Set for the process that is killed: where it writes.
const CHILD: &str = "TAPE_TEST_JSON_LINES";

fn sink_with(path: &Path, bytes_max: u64) -> JsonLines {
    JsonLines::new(
        JsonLinesSettings::new(path, bytes_max, DEFAULT_AGE_MAX).unwrap(),
        machine(),
    )
}

fn sink(path: &Path) -> JsonLines {
    sink_with(path, 1 << 30)
}

/// Everything that was written, by the numbers of the files, the one without a number last.
fn written(path: &Path) -> Vec<Value> {
    let mut files = closed(path);
    files.push(path.to_owned());
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let mut all = Vec::new();
    for text in texts {
        assert!(text.is_empty() || text.ends_with('\n'));
        all.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    all
}

/// The files that were closed, in order.
fn closed(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().path());
    let numbered = |file: &PathBuf| {
        file.extension()
            .is_some_and(|end| end.to_str().unwrap().parse::<u64>().is_ok())
    };
    let mut closed: Vec<PathBuf> = files.filter(numbered).collect();
    closed.sort();
    closed
}

fn ids(path: &Path) -> Vec<String> {
    written(path)
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_a_crash_left_of_a_line_is_removed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut pen = Pen::new("acme/value/rate");
    let first = pen.event(&json!(1));
    assert_eq!(sink(&path).deliver(&[first]).await, [Ok(())]);
    let confirmed = fs::read(&path).unwrap();
    let zeros = [&[0_u8; 3][..], b"\n", &[0_u8; 5000]].concat();
    for torn in [
        &b"{\"specversion\":\"1.0\",\"id"[..],
        b"{",
        &[0; 4096],
        &zeros,
        b"{\"id\":\0\0}\n",
    ] {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(torn).unwrap();
        let before = ids_of(&confirmed);
        let next = pen.event(&json!(2));
        assert_eq!(sink(&path).deliver(std::slice::from_ref(&next)).await, [Ok(())]);
        assert_eq!(ids(&path), [before, vec![next.id().to_owned()]].concat());
        fs::write(&path, &confirmed).unwrap();
    }
    // The whole file is one torn line.
    fs::write(&path, "{\"specv").unwrap();
    let next = pen.event(&json!(3));
    assert_eq!(sink(&path).deliver(std::slice::from_ref(&next)).await, [Ok(())]);
    assert_eq!(ids(&path), [next.id()]);
}

fn ids_of(text: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    let id = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    lines.map(id).collect()
}

#[tokio::test]
async fn a_file_that_is_not_one_of_lines_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.bin");
    let bytes = vec![b'x'; 33 << 20];
    fs::write(&path, &bytes).unwrap();
    let event = Pen::new("acme/value/rate").event(&json!(1));
    let answer = sink(&path).deliver(std::slice::from_ref(&event)).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
    assert!(fs::read(&path).unwrap() == bytes);
    let answer = sink(directory.path()).deliver(&[event]).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn files_are_closed_by_size_and_numbered_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut pen = Pen::new("acme/value/rate");
    let mut expected = Vec::new();
    for round in 0..3 {
        // A new process each round.
        let sink = sink_with(&path, FILE_BYTES_MAX_LOWEST);
        for n in 0..10 {
            let event = pen.event(&json!([round, n]));
            expected.push(event.id().to_owned());
            assert_eq!(sink.deliver(&[event]).await, [Ok(())]);
        }
    }
    assert_eq!(ids(&path), expected);
    let files = closed(&path);
    assert!(files.len() > 3, "{files:?}");
    for (n, file) in files.iter().enumerate() {
        assert_eq!(
            file.file_name().unwrap().to_str().unwrap(),
            format!("events.jsonl.{:010}", n + 1)
        );
        assert!(fs::metadata(file).unwrap().len() <= FILE_BYTES_MAX_LOWEST);
    }
    // One event that is larger than a file has a file of its own.
    let stored = pen.put(Payload::new("text/plain", "x".repeat(10_000)).unwrap());
    let large = EventFormat::default().event(pen.stream(), &stored).unwrap();
    assert_eq!(
        sink_with(&path, FILE_BYTES_MAX_LOWEST).deliver(&[large]).await,
        [Ok(())]
    );
    assert_eq!(written(&path).len(), expected.len() + 1);
}

#[tokio::test]
async fn a_file_is_never_replaced_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut pen = Pen::new("acme/value/rate");
    let sink = sink_with(&path, FILE_BYTES_MAX_LOWEST);
    assert_eq!(sink.deliver(&[pen.event(&json!(0))]).await, [Ok(())]);
    // Put there after the sink looked which numbers are taken.
    let taken = directory.path().join("events.jsonl.0000000001");
    fs::write(&taken, "kept\n").unwrap();
    let many: Vec<Event> = (0..20).map(|n| pen.event(&json!(n))).collect();
    assert!(matches!(
        sink.deliver(&many).await[0],
        Err(SinkError::Unavailable { .. })
    ));
    assert_eq!(fs::read_to_string(&taken).unwrap(), "kept\n");
    // The next call looks again.
    assert_eq!(sink.deliver(&many).await, vec![Ok(()); many.len()]);
    assert_eq!(fs::read_to_string(&taken).unwrap(), "kept\n");
    assert!(directory.path().join("events.jsonl.0000000002").exists());
}

#[tokio::test]
async fn files_are_closed_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut pen = Pen::new("acme/value/rate");
    let open = |environment: Arc<dyn Environment>| {
        JsonLines::new(
            JsonLinesSettings::new(&path, 1 << 30, Duration::from_secs(60)).unwrap(),
            environment,
        )
    };
    let sink = open(machine());
    assert_eq!(sink.deliver(&[pen.event(&json!(1))]).await, [Ok(())]);
    assert_eq!(sink.deliver(&[pen.event(&json!(2))]).await, [Ok(())]);
    assert!(closed(&path).is_empty());
    drop(sink);
    // Another process, two hours later.
    let later = open(Arc::new(Later(machine())));
    assert_eq!(later.deliver(&[pen.event(&json!(3))]).await, [Ok(())]);
    assert_eq!(closed(&path).len(), 1);
    assert_eq!(ids(&path).len(), 3);
}

/// Two hours later.
#[derive(Debug)]
struct Later(Arc<dyn Environment>);

impl Environment for Later {
    fn wall(&self) -> tape_core::time::Timestamp {
        self.0.wall().plus_millis(2 * 3_600_000)
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    fn boot(&self) -> Option<String> {
        self.0.boot()
    }
    fn process(&self) -> u32 {
        self.0.process()
    }
    fn random(&self) -> u128 {
        self.0.random()
    }
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let sink = sink_with(&path, FILE_BYTES_MAX_LOWEST);
    let mut pen = Pen::new("acme/value/rate");
    for n in 0..10 {
        assert_eq!(sink.deliver(&[pen.event(&json!(n))]).await, [Ok(())]);
    }
    let mut files = closed(&path);
    assert!(!files.is_empty());
    files.extend([path.clone(), directory.path().join("events.jsonl.lock")]);
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn one_process_writes_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut pen = Pen::new("acme/value/rate");
    let (first, second) = (sink(&path), sink(&path));
    assert_eq!(first.deliver(&[pen.event(&json!(1))]).await, [Ok(())]);
    let event = pen.event(&json!(2));
    let answer = second.deliver(std::slice::from_ref(&event)).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
    first.close().await.unwrap();
    assert_eq!(second.deliver(&[event]).await, [Ok(())]);
    assert_eq!(ids(&path).len(), 2);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_unavailable_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later/events.jsonl");
    let sink = sink(&path);
    let event = Pen::new("acme/value/rate").event(&json!(1));
    let answer = sink.deliver(std::slice::from_ref(&event)).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
    fs::create_dir(directory.path().join("later")).unwrap();
    assert_eq!(sink.deliver(&[event]).await, [Ok(())]);
}

/// A file system of 256 KiB; none where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(directory.path());
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        if !mounted {
            eprintln!("NOT TESTED: a full disk, since no file system can be mounted here");
            assert!(std::env::var("CI").is_err(), "CI mounts file systems");
            return None;
        }
        Some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.0.path()).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "the file system is unmounted"
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let path = disk.0.path().join("events.jsonl");
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; 200 * 1024]).unwrap();
    let mut pen = Pen::new("acme/value/rate");
    let sink = sink(&path);
    let mut confirmed = Vec::new();
    let refused = loop {
        let events = vec![
            pen.event(&json!("x".repeat(5_000))),
            pen.event(&json!("y".repeat(5_000))),
        ];
        let answers = sink.deliver(&events).await;
        if answers[0].is_err() {
            assert!(
                matches!(answers[0], Err(SinkError::Unavailable { .. })),
                "{answers:?}"
            );
            assert_eq!(answers[1], Err(SinkError::Behind));
            break events;
        }
        confirmed.extend(events.iter().map(|event| event.id().to_owned()));
    };
    assert_eq!(ids(&path), confirmed, "nothing is left of what was not confirmed");
    fs::remove_file(filler).unwrap();
    assert_eq!(sink.deliver(&refused).await, [Ok(()), Ok(())]);
    drop(sink);
    assert_eq!(written(&path).len(), confirmed.len() + 2);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let new = |path: &str, bytes| JsonLinesSettings::new(path, bytes, DEFAULT_AGE_MAX);
    for path in ["", "/", "a/.."] {
        assert!(
            matches!(new(path, 1 << 20), Err(InvalidJsonLines::Path { .. })),
            "{path}"
        );
    }
    let bytes = FILE_BYTES_MAX_LOWEST - 1;
    assert_eq!(new("a", bytes), Err(InvalidJsonLines::Bytes { bytes }));
    assert_eq!(
        JsonLinesSettings::new("a", 1 << 20, Duration::ZERO),
        Err(InvalidJsonLines::Age)
    );
    assert!(new("a", 1 << 20).is_ok());
}

/// Writes events until it is killed, and says which are confirmed. It runs in a process of its own.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let sink = sink_with(Path::new(&path), FILE_BYTES_MAX_LOWEST);
    let mut pens: Vec<Pen> = (0..3)
        .map(|n| Pen::new(&format!("acme/value/{}x{n}", std::process::id())))
        .collect();
    for n in 0.. {
        let events: Vec<Event> = pens.iter_mut().map(|pen| pen.event(&json!({"n": n}))).collect();
        if sink.deliver(&events).await.iter().all(Result::is_ok) {
            for event in &events {
                println!("confirmed {}", event.id());
            }
        }
    }
}

fn start_child(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, path);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let mut confirmed = Vec::new();
    for kill_after in [1, 10, 57, 100] {
        let mut child = start_child(&path);
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let word = |line: String| line.split_once("confirmed ").map(|(_, id)| id.to_owned());
        confirmed.extend(lines.by_ref().filter_map(word).take(kill_after));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died.
        confirmed.extend(lines.filter_map(word));
        let mut pen = Pen::new("acme/value/after");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answers =
            runtime.block_on(sink_with(&path, FILE_BYTES_MAX_LOWEST).deliver(&[pen.event(&json!(1))]));
        assert_eq!(answers, [Ok(())]);
        let there = ids(&path);
        for id in &confirmed {
            assert!(there.contains(id), "{id} was confirmed and is not there");
        }
    }
    assert!(closed(&path).len() > 10);
    let mut last = std::collections::BTreeMap::new();
    for id in ids(&path) {
        let (stream, seq) = id.rsplit_once('/').unwrap();
        let seq: u64 = seq.parse().unwrap();
        let before = last.insert(stream.to_owned(), seq).unwrap_or(0);
        assert!(
            seq == before + 1 || stream.ends_with("after"),
            "{id} comes after {before}"
        );
    }
}
