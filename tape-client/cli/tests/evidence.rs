//! `tape verify` and `tape agenda` over streams of every kind, through a server and directly on the file.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(feature = "sqlite")]

#[path = "../../tests/remote/server.rs"]
mod server;

use serde_json::{Value, json};
use server::Server;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::Path;
use std::process::{Command, Output};
use tape_client::core::chain::link_v1;
use tape_client::core::id::{EventId, Key, Tenant, ValueName};
use tape_client::core::payload::Digest;
use tape_client::core::state::{Delta, Json};
use tape_client::{Answer, CallError, Event, Payload, RunId, Tape};

fn tape(url: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tape"));
    command
        .env_clear()
        .args(["--store", url])
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The output lines about streams, and the last line.
fn lines(output: &Output) -> (Vec<Value>, Value) {
    let text = said(output);
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.pop().unwrap();
    (lines, last)
}

fn name(line: &Value) -> &str {
    line["stream"].as_str().or_else(|| line["run"].as_str()).unwrap()
}

/// Runs statements on the file itself.
async fn execute(dir: &Path, statements: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("tape.db"));
    let mut connection = options.connect().await.unwrap();
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    connection.execute(statements).await.unwrap();
    connection.close().await.unwrap();
}

/// A stream of every kind for a tenant; the value has a snapshot.
async fn seed(tape: &Tape, tenant: &str) {
    let id = RunId::new(tenant, "treasury", "ann", "s1", "i1").unwrap();
    let theme = Json::try_from("\"dark\"".to_owned()).unwrap();
    let delta = Delta([(Key::new("app:theme").unwrap(), Some(theme))].into());
    let session = tape.session(id.session());
    session.create(Delta::default()).await.unwrap();
    session
        .append(Event::new(EventId::new("e1").unwrap(), "user", Payload::empty()).delta(delta))
        .await
        .unwrap();
    let run = tape.run(id).begin().await.unwrap().driving().unwrap();
    let answer = || async { Answer::json(&"pay") };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    let effect = run.effect(&decision, "bank", "pay").business_key("invoice-7");
    let act = |_| std::future::ready(Ok::<_, CallError>(json!({"receipt": 7})));
    let _: Value = effect.run(act).await.unwrap();
    let value = tape.value(Tenant::new(tenant).unwrap(), ValueName::new("rate").unwrap());
    for n in 0..260 {
        let rate = format!("{tenant} {n}");
        value
            .put(Payload::new("text/plain", rate).unwrap())
            .await
            .unwrap();
    }
}

struct Seeded {
    dir: tempfile::TempDir,
    server: Server,
}

impl Seeded {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        let tape = Tape::connect(&server.url()).await.unwrap();
        for tenant in ["acme", "other"] {
            seed(&tape, tenant).await;
        }
        Self { dir, server }
    }

    fn file(&self) -> String {
        format!("sqlite:{}", self.dir.path().join("tape.db").display())
    }

    /// Runs a command over the server and over the file: both must give the same output.
    fn both(&self, args: &[&str]) -> Output {
        let served = tape(&self.server.url(), args);
        let embedded = tape(&self.file(), args);
        assert_eq!(said(&served), said(&embedded), "{args:?}");
        assert_eq!(served.status.code(), embedded.status.code(), "{args:?}");
        served
    }
}

const KINDS: [&str; 5] = [
    "acme/claim/bank/invoice-7",
    "acme/treasury/ann/s1/i1",
    "acme/session/treasury/ann/s1",
    "acme/shared/treasury",
    "acme/value/rate",
];

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_every_kind_are_verified_and_their_heads_hold() {
    let seeded = Seeded::new().await;
    let verified = seeded.both(&["verify", "--all", "--json"]);
    let (streams, last) = lines(&verified);
    let names: Vec<&str> = streams.iter().map(name).collect();
    let acme: Vec<&str> = names
        .iter()
        .filter(|name| name.starts_with("acme"))
        .copied()
        .collect();
    let mut kinds = KINDS.to_vec();
    kinds.sort_unstable();
    let mut found = acme.clone();
    found.sort_unstable();
    assert_eq!(found, kinds);
    assert_eq!(
        (streams.len(), last["broken"].as_u64(), last["snapshots"].as_u64()),
        (10, Some(0), Some(2))
    );
    let one = seeded.both(&["verify", "--stream", "acme/value/rate"]);
    assert!(
        said(&one).ends_with(
            "0 runs, 1 other stream, 260 entries verified, 1 snapshot verified, 0 payloads erased, 0 broken\n"
        ),
        "{}",
        said(&one)
    );
    let tenant = seeded.both(&["verify", "--tenant", "other", "--json"]);
    assert_eq!(lines(&tenant).0.len(), 5);
    assert!(!said(&tenant).contains("acme"), "a tenant's streams are its own");
    // The printed heads are published, and verify.
    let heads = seeded.dir.path().join("heads.json");
    std::fs::write(&heads, said(&verified)).unwrap();
    let heads = heads.to_str().unwrap();
    assert_eq!(
        seeded.both(&["verify", "--all", "--heads", heads]).status.code(),
        Some(0)
    );
    // A stream that is truncated together with its head, and in the feed, is detected only with them.
    execute(
        seeded.dir.path(),
        "DELETE FROM entry WHERE stream = (SELECT id FROM stream WHERE name = 'acme/session/treasury/ann/s1'); \
         DELETE FROM agenda WHERE stream = (SELECT id FROM stream WHERE name = 'acme/session/treasury/ann/s1'); \
         DELETE FROM stream WHERE name = 'acme/session/treasury/ann/s1'",
    )
    .await;
    assert_eq!(seeded.both(&["verify", "--all"]).status.code(), Some(0));
    let found = seeded.both(&["verify", "--all", "--heads", heads]);
    assert_eq!(found.status.code(), Some(1));
    assert!(
        said(&found).contains("BROKEN  acme/session/treasury/ann/s1  the journal ends at entry 0"),
        "{}",
        said(&found)
    );
}

/// Each change behind the journal's back is found in the changed streams, and in no other.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_in_the_file_is_found_where_it_was_changed() {
    let swapped = |kind: &str| {
        format!(
            "UPDATE stream SET name = 'swap' WHERE name = 'acme/{kind}'; \
             UPDATE stream SET name = 'acme/{kind}' WHERE name = 'other/{kind}'; \
             UPDATE stream SET name = 'other/{kind}' WHERE name = 'swap'"
        )
    };
    let both = |kind: &str| [format!("acme/{kind}"), format!("other/{kind}")];
    let mut changes: Vec<(String, Vec<String>)> = [
        "value/rate",
        "claim/bank/invoice-7",
        "shared/treasury",
        "session/treasury/ann/s1",
    ]
    .iter()
    .map(|kind| (swapped(kind), both(kind).to_vec()))
    .collect();
    let snapshot = "UPDATE snapshot SET bytes = CAST(replace(CAST(bytes AS TEXT), '\"version\":', '\"version\":1') AS BLOB) \
                    WHERE stream = (SELECT id FROM stream WHERE name = 'acme/value/rate')";
    changes.push((snapshot.to_owned(), vec!["acme/value/rate".to_owned()]));
    let payload = "UPDATE entry SET payload = CAST('acme 777' AS BLOB) WHERE seq = 200 \
                   AND stream = (SELECT id FROM stream WHERE name = 'acme/value/rate')";
    changes.push((payload.to_owned(), vec!["acme/value/rate".to_owned()]));
    for (change, expected) in changes {
        let mut seeded = Seeded::new().await;
        seeded.server.kill();
        execute(seeded.dir.path(), &change).await;
        seeded.server.come_back();
        let found = seeded.both(&["verify", "--all", "--json"]);
        assert_eq!(found.status.code(), Some(1), "{change}");
        let (streams, _) = lines(&found);
        let broken: Vec<&str> = streams
            .iter()
            .filter(|line| line["ok"] == json!(false))
            .map(name)
            .collect();
        assert_eq!(broken, expected, "{change}: {}", said(&found));
    }
}

/// Whether its head or its entries are missing, and over a server or the file: a damaged run is not reported as one that never existed.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_run_is_told_as_damaged() {
    let run = "acme/treasury/ann/s1/i1";
    let of_run = "stream = (SELECT id FROM stream WHERE name = 'acme/run/treasury/ann/s1/i1')";
    for table in ["entry", "head"] {
        let mut seeded = Seeded::new().await;
        seeded.server.kill();
        execute(seeded.dir.path(), &format!("DELETE FROM {table} WHERE {of_run}")).await;
        seeded.server.come_back();
        for command in [
            &["show", run][..],
            &["--as", "mia", "approve", run, "desk", "--reason", "no"],
            &["--as", "mia", "--yes", "cancel", run, "--reason", "no"],
        ] {
            let refused = seeded.both(command);
            let told = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(4), "{table} {command:?}: {told}");
            assert!(
                told.starts_with("tape: the journal cannot be used as it is\n  because: "),
                "{told}"
            );
            assert!(told.contains("acme/run/treasury/ann/s1/i1"), "{told}");
            assert!(
                told.contains("`tape verify` says which streams are damaged"),
                "{told}"
            );
        }
        let listed = said(&seeded.both(&["runs", "--tenant", "acme"]));
        assert!(listed.contains("DAMAGED: "), "{table}: {listed}");
        // The drivers of the other runs are reported as before.
        let others = said(&seeded.both(&["runs", "--tenant", "other"]));
        assert!(
            others.contains("  driven by ") || others.contains("  ALONE since "),
            "{others}"
        );
        // A run that never existed is reported differently.
        let missing = seeded.both(&["show", "acme/treasury/ann/s1/missing"]);
        assert_eq!(missing.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(missing.stderr).unwrap(),
            "tape: there is no such run\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_spoilt_is_told_and_rebuilt() {
    let seeded = Seeded::new().await;
    let whole = seeded.both(&["agenda", "check"]);
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
    execute(
        seeded.dir.path(),
        "DELETE FROM agenda WHERE queue > 0; DELETE FROM run WHERE tenant = 'other'",
    )
    .await;
    let found = seeded.both(&["agenda", "check"]);
    assert_eq!(found.status.code(), Some(1));
    let text = said(&found);
    for told in [
        "OTHERWISE  acme/run/treasury/ann/s1/i1  run of the queue recovery, due at ",
        "OTHERWISE  other/run/treasury/ann/s1/i1  the lists show it otherwise\n",
        " looked at, 3 otherwise, 0 put right, 0 busy\n",
    ] {
        assert!(text.contains(told), "{text}");
    }
    let rebuilt = tape(
        &seeded.server.url(),
        &["--as", "mia", "--yes", "agenda", "rebuild"],
    );
    assert_eq!(rebuilt.status.code(), Some(0));
    assert!(
        said(&rebuilt).ends_with("3 otherwise, 3 put right, 0 busy\n"),
        "{}",
        said(&rebuilt)
    );
    assert_eq!(seeded.both(&["agenda", "check"]).status.code(), Some(0));
    assert_eq!(seeded.both(&["verify", "--all"]).status.code(), Some(0));
}

/// The statement by which an attacker destroys the payload of an entry and marks it in the file as erased.
fn destroyed(stream: &str, seq: u64) -> String {
    format!(
        "INSERT INTO erased SELECT pos FROM entry WHERE seq = {seq} \
         AND stream = (SELECT id FROM stream WHERE name = '{stream}')"
    )
}

/// Only an entry of the stream says that bytes were erased; a mark in the database does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_destroyed_and_marked_as_erased_is_found() {
    let mut seeded = Seeded::new().await;
    for (kind, place) in [("run", "acme/treasury/ann/s1/i1"), ("value", "acme/value/rate")] {
        let name = place.strip_prefix("acme/value/").map_or(place, |_| "acme/rate");
        let erase = [
            "--as",
            "olga",
            "erase",
            "--kind",
            kind,
            name,
            "1",
            "--reason",
            "asked for",
            "--yes",
        ];
        let erased = tape(&seeded.server.url(), &erase);
        assert!(erased.status.success(), "{erased:?}");
    }
    assert_eq!(seeded.both(&["verify", "--all"]).status.code(), Some(0));
    seeded.server.kill();
    let places = [
        ("acme/run/treasury/ann/s1/i1", "acme/treasury/ann/s1/i1", 3),
        ("acme/session/treasury/ann/s1", "acme/session/treasury/ann/s1", 2),
        ("acme/shared/treasury", "acme/shared/treasury", 1),
        ("acme/value/rate", "acme/value/rate", 200),
    ];
    for (stream, _, seq) in places {
        execute(seeded.dir.path(), &destroyed(stream, seq)).await;
    }
    seeded.server.come_back();
    let found = seeded.both(&["verify", "--all"]);
    assert_eq!(found.status.code(), Some(1));
    let text = said(&found);
    for (_, name, seq) in places {
        let told = format!(
            "BROKEN  {name}  the payload of entry {seq} was destroyed: it is gone, and no entry says that it was erased"
        );
        assert!(text.contains(&told), "{told}: {text}");
    }
    assert!(text.ends_with(" 4 broken\n"), "{text}");
}

/// Rewrites a stream of the file as a build of version 1 would have written it. Words are left out, so only a stream without payloads may
/// have any.
async fn made_old(dir: &Path, stream: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("tape.db"));
    let mut connection = options.connect().await.unwrap();
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT pos, envelope FROM entry WHERE stream = (SELECT id FROM stream WHERE name = ?) ORDER BY seq",
    )
    .bind(stream)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut last = Digest::default();
    for (pos, envelope) in rows {
        let text = String::from_utf8(envelope).unwrap();
        let text = text.replacen("{\"v\":2", "{\"v\":1", 1);
        let without = text
            .split_once(",\"words\"")
            .map(|(before, _)| format!("{before}}}"));
        let envelope = without.as_ref().unwrap_or(&text).clone().into_bytes();
        last = link_v1(&last, &envelope);
        sqlx::query(
            "UPDATE entry SET envelope = ?, digest = ?, payload = iif(?, x'', payload) WHERE pos = ?",
        )
        .bind(envelope)
        .bind(last.0.to_vec())
        .bind(without.is_some())
        .bind(pos)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    connection.close().await.unwrap();
}

/// Builds of version 1 erased without an entry: their missing payloads count neither as erased nor as destroyed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_of_an_earlier_build_is_not_proved() {
    let mut seeded = Seeded::new().await;
    seeded.server.kill();
    let stream = "acme/session/treasury/ann/s1";
    made_old(seeded.dir.path(), stream).await;
    execute(seeded.dir.path(), &destroyed(stream, 2)).await;
    seeded.server.come_back();
    let found = seeded.both(&["verify", "--all"]);
    let text = said(&found);
    assert_eq!(found.status.code(), Some(3), "{text}");
    let told = format!(
        "PARTLY  {stream}  1 payload erased  not proved: nothing says who erased 1 entry of an earlier build, from entry 2 on  head "
    );
    assert!(text.contains(&told), "{text}");
    assert!(
        text.ends_with("1 payload erased, not proved of 1 entry, 0 broken\n"),
        "{text}"
    );
    let (streams, last) = lines(&seeded.both(&["verify", "--all", "--json"]));
    let line = streams.iter().find(|line| name(line) == stream).unwrap();
    assert_eq!((&line["unproved"], &last["unproved"]), (&json!([2]), &json!(1)));
}
