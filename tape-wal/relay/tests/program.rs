//! The program `tape-relay` over a SQLite journal: killed, beside a copy of itself, and sending again what was refused.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the tests of the sink need more of it")]
mod endpoint;

use endpoint::{Answer, Endpoint, SECRET};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tape_api::Relays as _;
use tape_api::relays::{Lag, PartStatus, PlaceQuery};
use tape_core::command::{Command as Ask, ValueCommand};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_store::sqlite::SqliteStore;

/// A journal in a file, and a configuration beside it.
struct World {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl World {
    async fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tape.db")).await.unwrap();
        let config = config.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("relay.toml"), config).unwrap();
        Self {
            engine: Engine::start(Arc::new(store)),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tape-relay"));
        command
            .arg("--store")
            .arg(format!("sqlite:{}", self.path("tape.db").display()))
            .arg("--config")
            .arg(self.path("relay.toml"))
            .args(["--log", "warn"])
            .env("TAPE_TEST_SECRET", SECRET)
            .stdout(Stdio::piped());
        command
    }

    fn start(&self) -> Program {
        self.start_with(&[])
    }

    fn start_with(&self, arguments: &[&str]) -> Program {
        let mut command = self.command();
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("tape-relay ready on ")
            .map(str::to_owned);
        Program {
            child,
            address: address.unwrap_or_else(|| panic!("it said {line:?}")),
        }
    }

    async fn put(&self, name: &str, times: usize) {
        self.put_of("acme", name, times).await;
    }

    async fn put_of(&self, tenant: &str, name: &str, times: usize) {
        for n in 0..times {
            let value = Payload::json(&serde_json::json!({ "n": n }));
            let command = ValueCommand::Put {
                value,
                expected: None,
            };
            let command = Ask::new(self.engine.request_id(), command);
            let (tenant, name) = (Tenant::new(tenant).unwrap(), ValueName::new(name).unwrap());
            self.engine.value(&tenant, &name, command).await.unwrap();
        }
    }

    /// The process that carries the first part of a relay, once one does.
    async fn holder(&self, relay: &str) -> String {
        let query = PlaceQuery::Relay(relay.parse().unwrap());
        loop {
            let parts = self.engine.places(&query, None, 1).await.unwrap().parts;
            if let Some(holder) = parts.first().and_then(|part| part.place.holder.clone()) {
                return holder.as_str().to_owned();
            }
            tokio::task::yield_now().await;
        }
    }

    async fn is_through(&self, relay: &str) {
        let query = PlaceQuery::Relay(relay.parse().unwrap());
        loop {
            let parts = self.engine.places(&query, None, 1).await.unwrap().parts;
            let is_through =
                |part: &PartStatus| !part.place.cursors.is_empty() && part.lag == Ok(Lag::default());
            if !parts.is_empty() && parts.iter().all(is_through) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A process, which is killed with this value.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    async fn metrics(&self) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://{}/metrics", self.address);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }
}

impl Program {
    /// Tells it to stop, and waits until it has.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The numbers of each stream as they stand in the files, in order.
fn delivered(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let named = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("events.jsonl")
    };
    let mut files: Vec<PathBuf> = files.filter(named).collect();
    // The file that is written has no number, and is the newest.
    files.sort_by_key(|path| (path.ends_with("events.jsonl"), path.clone()));
    let mut delivered: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    }) {
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let stream = event["stream"].as_str().unwrap().to_owned();
        delivered
            .entry(stream)
            .or_default()
            .push(event["seq"].as_str().unwrap().parse().unwrap());
    }
    delivered
}

const LINES: &str = r#"
[relays."acme/lake"]
pattern = "acme.value.>"
start = "beginning"
lease_ms = 1000
move_ms = 20
json_lines = { path = "FOLDER/events.jsonl", bytes_max = 20000 }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_killed_lose_nothing_and_keep_the_order() {
    let world = World::new(LINES).await;
    let mut copies = vec![world.start(), world.start()];
    for round in 0..6 {
        for name in ["a", "b", "c"] {
            world.put(name, 15).await;
        }
        // The first in odd rounds, which carries the part or waits for it: both have to be harmless.
        drop(copies.remove(round % 2));
        copies.push(world.start());
    }
    world.is_through("acme/lake").await;
    drop(copies);
    let delivered = delivered(world.folder.path());
    assert_eq!(delivered.len(), 3);
    for (stream, seqs) in delivered {
        let mut last = 0;
        for seq in seqs {
            assert!(seq <= last + 1, "{stream} went from {last} to {seq}");
            last = last.max(seq);
        }
        assert_eq!(last, 90, "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_refused_is_sent_again_by_a_command() {
    let endpoint = Endpoint::start().await;
    endpoint.answer_next([
        Answer::status(204),
        Answer::status(422).with_body("no such currency"),
    ]);
    let config = format!(
        r#"
[relays."acme/hook"]
pattern = "acme.value.>"
start = "beginning"
move_ms = 1
webhook = {{ url = "{}", secrets_env = ["TAPE_TEST_SECRET"] }}
"#,
        endpoint.url
    );
    let world = World::new(&config).await;
    world.put("a", 5).await;
    let program = world.start();
    world.is_through("acme/hook").await;
    let metrics = program.metrics().await;
    assert!(
        metrics.contains("tape_relay_events_refused{relay=\"acme/hook\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tape_relay_events_delivered{relay=\"acme/hook\"} 4\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tape_relay_lag_seconds{relay=\"acme/hook\"} 0\n"),
        "{metrics}"
    );
    let said = |arguments: &[&str]| {
        let output = world.command().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    endpoint.answer_next([Answer::status(422).with_body("still none")]);
    let (code, text) = said(&["redeliver", "acme/hook"]);
    assert_eq!(
        (code, text.trim_end().starts_with("1\tnot taken\trefused again")),
        (Some(1), true),
        "{text}"
    );
    assert_eq!(
        said(&["redeliver", "acme/hook", "--refusal", "1"]),
        (Some(0), "1\ttaken\n".to_owned())
    );
    assert_eq!(
        said(&["redeliver", "acme/hook"]),
        (Some(0), String::new()),
        "nothing is outstanding"
    );
    let (code, _) = said(&["redeliver", "acme/hook", "--refusal", "1"]);
    assert_eq!(code, Some(1), "it is not outstanding any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_amid_a_page_gives_the_part_back_and_nothing_is_posted_twice() {
    let endpoint = Endpoint::start().await;
    // One event is not taken for now, and holds up the place.
    endpoint.answer_next([Answer::status(503).with_header("retry-after", "3600")]);
    let config = format!(
        r#"
[relays."acme/hook"]
pattern = "acme.value.>"
start = "beginning"
lease_ms = 600000
backoff_max_ms = 600000
webhook = {{ url = "{}", secrets_env = ["TAPE_TEST_SECRET"], concurrency = 1 }}
"#,
        endpoint.url
    );
    let world = World::new(&config).await;
    for name in ["a", "b", "c"] {
        world.put(name, 20).await;
    }
    let mut first = world.start();
    while endpoint.requests().len() < 41 {
        tokio::task::yield_now().await;
    }
    first.stop();
    // It does not wait for a lease of ten minutes.
    let second = world.start();
    world.is_through("acme/hook").await;
    drop(second);
    let requests = endpoint.requests();
    let ids = requests
        .iter()
        .map(|request| request.headers["webhook-id"].clone());
    let ids: BTreeSet<_> = ids.map(|id| id.to_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), requests.len()), (60, 61));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_given_one_name_are_told_apart() {
    let world = World::new("[relays.\"acme/x\"]\nnull = true\n[relays.\"acme/y\"]\nnull = true\n").await;
    let copies = [
        world.start_with(&["--holder", "same", "--only", "acme/x"]),
        world.start_with(&["--holder", "same", "--only", "acme/y"]),
    ];
    let holders = [world.holder("acme/x").await, world.holder("acme/y").await];
    assert!(
        holders.iter().all(|holder| holder.starts_with("relay-same-")),
        "{holders:?}"
    );
    assert_ne!(holders[0], holders[1]);
    drop(copies);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_redacts_as_it_is_configured() {
    let entry = |name: &str, rule: &str| {
        format!(
            "[relays.\"acme/{name}\"]\nstart = \"beginning\"\npattern = \"acme.value.>\"\npayload = \"redact\"\n{rule}\n\
             json_lines = {{ path = \"FOLDER/{name}.jsonl\" }}\n"
        )
    };
    let config = [
        entry("matched", "redact = [\"/n\"]"),
        entry("omitted", "redact = [\"/m\"]"),
        entry("included", "redact = [\"/m\"]\nredact_unmatched = \"include\""),
    ];
    let world = World::new(&config.concat()).await;
    world.put("a", 1).await;
    let _program = world.start();
    for (name, state, text) in [
        ("matched", "redacted", Some(r#"{"n":"[redacted]"}"#)),
        ("omitted", "omitted", None),
        ("included", "included", Some(r#"{"n":0}"#)),
    ] {
        let event = first_line(&world.path(&format!("{name}.jsonl"))).await;
        let payload = &event["data"]["payloads"][0];
        assert_eq!(
            (payload["state"].as_str(), payload["text"].as_str()),
            (Some(state), text),
            "{name}"
        );
    }
}

/// The event in the first line of a file, once that is written.
async fn first_line(path: &Path) -> Value {
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if let Some((line, _)) = text.split_once('\n') {
            return serde_json::from_str(line).unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// A line of the text format of Prometheus: the metric, the value of its label `relay`, and the number.
fn sample(line: &str) -> Option<(&str, String, u64)> {
    let (metric, rest) = line.split_once("{relay=\"")?;
    let mut label = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => label.push(match characters.next()? {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            other => label.push(other),
        }
    }
    let number = characters.as_str().strip_prefix("} ")?;
    Some((metric, label, number.parse().ok()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_characters_are_labels_of_metrics() {
    let name = r#"ac"me\/x"y\n{},="#;
    let config = format!("[relays.'{name}']\nstart = \"beginning\"\nnull = true\n");
    let world = World::new(&config).await;
    world.put_of(r#"ac"me\"#, "a", 3).await;
    let program = world.start();
    let delivered = ("tape_relay_events_delivered", name.to_owned(), 3);
    loop {
        let metrics = program.metrics().await;
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        let samples: Vec<_> = lines
            .map(|line| sample(line).unwrap_or_else(|| panic!("{line} is no sample")))
            .collect();
        assert!(samples.iter().all(|(_, label, _)| label == name), "{metrics}");
        if samples.contains(&delivered) {
            return;
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_said_and_nothing_is_started() {
    for (config, problem) in [
        ("", "no relay to carry"),
        ("[relays.\"acme/x\"]\nnul = true\n", "unknown field `nul`"),
        ("[relays.\"acme/x\"]\n", "exactly one of"),
        (
            "[relays.\"acme/x\"]\nnull = true\njson_lines = { path = \"x\" }\n",
            "exactly one of",
        ),
        ("[relays.\"x\"]\nnull = true\n", "TENANT/NAME"),
        (
            "[relays.\"acme/x\"]\nnull = true\npattern = \"beta.>\"\n",
            "chooses entries of 'beta' alone",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\npredicate = \"1 +\"\n",
            "`predicate`",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\nlease_ms = 1\n",
            "`lease_ms` is 1",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\nrefuse_after_ms = 1\n",
            "`refuse_after_ms` is 1",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\nwindow_events = 0\n",
            "`window_events` is 0",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\nredact = [\"/a\"]\n",
            "`redact` is for",
        ),
        (
            "[relays.\"acme/x\"]\nnull = true\nredact_unmatched = \"include\"\n",
            "`redact_unmatched` is for",
        ),
        (
            "[relays.\"acme/x\\ny\"]\nnull = true\n",
            "control character U+000A",
        ),
        (
            "[relays.\"acme/x\"]\nwebhook = { url = \"https://x.example\", secrets_env = [\"whsec_secret\"] }\n",
            "not set, or empty",
        ),
    ] {
        let world = World::new(config).await;
        let output = world.command().stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{config} {said}");
        assert!(said.contains(problem), "{config} {said}");
        assert!(!said.contains("whsec_secret"), "{said}");
    }
}
