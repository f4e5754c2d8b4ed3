//! The command `tape` on a seeded store: what a tired operator sees.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(all(feature = "cli", feature = "embedded"))]

use expect_test::{Expect, expect};
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::id::{Holder, Principal};
use tape_client::core::time::Timestamp;
use tape_client::{Answer, CallError, Currency, EffectPolicy, RunId, Tape};
use tape_store::clock::ManualClock;
use tape_store::engine::Engine;

/// A store with a run that completed, one that waits at a gate, and one with an effect that nobody knows about.
struct Seeded {
    dir: tempfile::TempDir,
}

const DONE: &str = "acme/treasury/ann/s1/done";

fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap()
}

impl Seeded {
    async fn new() -> Self {
        let seeded = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let store = tape_store::open::open(&seeded.url()).await.unwrap();
        // 2026-11-22, at noon.
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_348_800_000_000)));
        let connect = Tape::over(Engine::new(store, clock.clone())).holder(Holder::new("agent-1").unwrap());
        let tape = connect.patience(Duration::ZERO).connect().await.unwrap();
        done(&tape, &clock).await;
        clock.advance_ms(1000);
        waiting(&tape).await;
        clock.advance_ms(1000);
        unknown(&tape).await;
        seeded
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("book.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    fn tape(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tape"));
        command
            .env_clear()
            .env("TAPE_URL", self.url())
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs a statement on the file itself.
    async fn execute(&self, statement: &str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        let mut connection = options.connect().await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    fn says(&self, args: &[&str], expected: &Expect) {
        let output = self.tape(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    }

    fn refuses(&self, args: &[&str], expected: &Expect) {
        let output = self.tape(args);
        assert!(!output.status.success(), "{args:?}");
        expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
    }
}

async fn done(tape: &Tape, clock: &ManualClock) {
    let begin = tape
        .run(id("done"))
        .label("desk", "fx")
        .input_json(&json!({"day": 1}));
    let run = begin.begin().await.unwrap().driving().unwrap();
    run.open_budget("usd", Currency::MicroUsd, 1_000).await.unwrap();
    let answer = || async { Ok::<_, tape_client::Error>(Answer::json(&"sweep")?.model("scripted")) };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    clock.advance_ms(250);
    let args = json!({"from": "a", "to": "b"});
    let effect = run
        .effect(&decision, "bank", "transfer")
        .args(&args)
        .undo("reverse", &args)
        .reserve("usd", 100);
    let act = |_| std::future::ready(Ok::<_, CallError>(json!({"receipt": 7})));
    let _: serde_json::Value = effect.run(act).await.unwrap();
    clock.advance_ms(1500);
    run.complete(&json!({"booked": true})).await.unwrap();
}

async fn waiting(tape: &Tape) {
    let run = tape.run(id("waiting")).begin().await.unwrap().driving().unwrap();
    run.gate("approval").wait().await.unwrap_err();
}

async fn unknown(tape: &Tape) {
    let run = tape.run(id("unknown")).begin().await.unwrap().driving().unwrap();
    let answer = || async { Answer::json(&"pay") };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    let policy = EffectPolicy {
        attempts_max: 1,
        ..EffectPolicy::default()
    };
    let effect = run.effect(&decision, "bank", "pay").policy(policy);
    effect
        .run(|_| std::future::ready(Err::<(), _>(CallError::unknown("timeout"))))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn runs_are_listed_newest_first() {
    let seeded = Seeded::new().await;
    seeded.says(
        &["runs", "--tenant", "acme"],
        &expect![[r#"
        2026-11-22 12:00:03.750  running       acme/treasury/ann/s1/unknown
        2026-11-22 12:00:02.750  suspended     acme/treasury/ann/s1/waiting
        2026-11-22 12:00:00.000  completed     acme/treasury/ann/s1/done  desk=fx
    "#]],
    );
    seeded.says(&["runs", "--tenant", "acme", "--status", "completed", "--label", "desk=fx", "--json"], &expect![[r#"
        {"begun":"2026-11-22 12:00:00.000","changed":"2026-11-22 12:00:01.750","labels":{"desk":"fx"},"run":"acme/treasury/ann/s1/done","status":"completed"}
    "#]]);
    seeded.says(&["runs", "--tenant", "other"], &expect![""]);
}

#[tokio::test]
async fn a_run_is_shown_as_a_timeline() {
    let seeded = Seeded::new().await;
    seeded.says(&["show", DONE], &expect![[r#"
        run      acme/treasury/ann/s1/done
        status   completed
        begun    2026-11-22 12:00:00.000 UTC, last entry 1 s later
        labels   desk=fx
        budget   usd: 100 spent, 0 reserved of 1000 MicroUsd

            1  12:00:00.000  run.begun               {"day":1}
            2  12:00:00.000  lease.acquired          agent-1 until 2026-11-22 12:00:30.000 (epoch 1)
            3  12:00:00.000  budget usd              1000 MicroUsd
            4  12:00:00.000  decision #0             scripted: "sweep"
            5  12:00:00.250  effect #0.0             bank transfer {"from":"a","to":"b"}  inline  key tape-0bfe44099a8cd341a6f657ef88d7809b03c
            6  12:00:00.250  effect #0.0             confirmed by the driver {"receipt":7}
            7  12:00:01.750  run.completed           {"booked":true}

        effects
          #0.0         bank transfer            confirmed  attempts 1  key tape-0bfe44099a8cd341a6f657ef88d7809b03c
    "#]]);
}

#[tokio::test]
async fn people_answer_gates_and_settle_effects() {
    let seeded = Seeded::new().await;
    let by = Principal::new("olga").unwrap();
    let signal = [
        "--as",
        by.as_str(),
        "signal",
        "acme/treasury/ann/s1/waiting",
        "approval",
        "{\"ok\":true}",
        "--id",
        "x",
    ];
    seeded.says(
        &signal,
        &expect![[r#"
        entry 5: the gate is answered
    "#]],
    );
    seeded.says(
        &signal,
        &expect![[r#"
        entry 5: the gate is answered
    "#]],
    );
    seeded.says(
        &["tail", "acme.run.*.*.*.*.effect.*", "--from-start", "--once"],
        &expect![[r#"
            2026-11-22 12:00:00.250  acme/run/treasury/ann/s1/done  5  effect #0.0             bank transfer {"from":"a","to":"b"}  inline  key tape-0bfe44099a8cd341a6f657ef88d7809b03c
            2026-11-22 12:00:00.250  acme/run/treasury/ann/s1/done  6  effect #0.0             confirmed by the driver {"receipt":7}
            2026-11-22 12:00:03.750  acme/run/treasury/ann/s1/unknown  4  effect #0.0             bank pay   inline  key tape-64219ad7eb90a93038b2e41ce49ee01a8a2
            2026-11-22 12:00:03.750  acme/run/treasury/ann/s1/unknown  5  effect #0.0             UNKNOWN: timeout
        "#]],
    );
    let settle = [
        "settle",
        "acme/treasury/ann/s1/unknown",
        "#0.0",
        "--confirmed",
        "\"paid\"",
        "--undo",
        "refund",
        "--undo-args",
        "{\"receipt\":7}",
        "--reason",
        "statement",
    ];
    seeded.says(
        &settle,
        &expect![[r#"
        entry 6: recorded
    "#]],
    );
    seeded.refuses(
        &settle,
        &expect![[r#"
        tape: effect #0.0 is Confirmed in attempt 1
    "#]],
    );
    let confirmed = [
        "tail",
        "acme.run.*.*.*.*.effect.confirmed",
        "--from-start",
        "--once",
    ];
    let told = String::from_utf8(seeded.tape(&confirmed).stdout).unwrap();
    let told = told.trim_end();
    assert!(
        told.ends_with(r#"confirmed by a person (statement) "paid", undone by refund {"receipt":7}"#),
        "{told}"
    );
}

/// A reason, a label or a model's name that looks like a line of the timeline, and would colour the terminal.
const FORGED: &str = "x\n    8  12:00:00.000  run.completed\u{1b}[31mRED";

#[tokio::test]
async fn free_text_forges_no_line_and_steers_no_terminal() {
    let seeded = Seeded::new().await;
    let tape = Tape::at(&seeded.url()).connect().await.unwrap();
    let begin = tape.run(id("forged")).label("desk", FORGED);
    let run = begin.begin().await.unwrap().driving().unwrap();
    let answer = || async { Ok::<_, tape_client::Error>(Answer::json(&"pay")?.model(FORGED)) };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    let refuse = |_| std::future::ready(Err::<(), _>(CallError::failed(FORGED)));
    run.effect(&decision, "bank", "pay")
        .run(refuse)
        .await
        .unwrap_err();
    let forged = "acme/treasury/ann/s1/forged";
    assert!(
        seeded
            .tape(&["cancel", forged, "--reason", FORGED])
            .status
            .success()
    );
    let lines_of = |args: &[&str]| {
        let said = String::from_utf8(seeded.tape(args).stdout).unwrap();
        assert!(
            !said.contains(|char: char| char.is_control() && char != '\n'),
            "{said:?}"
        );
        assert!(
            !said.lines().any(|line| line.starts_with("    8  12:00:00.000")),
            "{said}"
        );
        let escaped = said.matches(r"x\n    8  12:00:00.000  run.completed\u{1b}[31mRED");
        (said.lines().count(), escaped.count())
    };
    let entries = lines_of(&["tail", "acme.run.*.*.*.forged.>", "--from-start", "--once"]);
    // The model, the effect's error and the reason; the timeline has the label too.
    assert_eq!(entries.1, 3);
    let around_entries = "run status begun labels - - effects #0.0".split(' ').count();
    assert_eq!(lines_of(&["show", forged]), (entries.0 + around_entries, 4));
    assert_eq!(lines_of(&["runs", "--tenant", "acme"]), (4, 1));
    let shown = String::from_utf8(seeded.tape(&["show", forged, "--json"]).stdout).unwrap();
    assert!(
        shown.contains(&format!("\"reason\":{}", json!(FORGED))),
        "{shown}"
    );
}

#[tokio::test]
async fn an_erased_payload_leaves_the_chain_whole_and_a_truncated_journal_is_found() {
    let seeded = Seeded::new().await;
    let said = || String::from_utf8(seeded.tape(&["verify", DONE]).stdout).unwrap();
    let head_of = |said: &str| {
        said.lines()
            .next()
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let published = said();
    let head = head_of(&published);
    assert_eq!(
        published,
        format!("ok      {DONE}  head {head}\n1 run, 7 entries verified, 0 payloads erased, 0 broken\n")
    );
    seeded.says(
        &["erase", DONE, "1"],
        &expect![[r#"
        entry 1: erased
    "#]],
    );
    assert_eq!(
        said(),
        format!(
            "ok      {DONE}  1 payload erased  head {head}\n1 run, 7 entries verified, 1 payload erased, 0 broken\n"
        )
    );
    let verify = |head: &str| seeded.tape(&["verify", DONE, "--head", head]);
    assert!(verify(&head_of(&published)).status.success());
    let (seq, digest) = head_of(&published)
        .split_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let beyond = verify(&format!("{}:{digest}", seq.parse::<u64>().unwrap() + 1));
    assert_eq!(beyond.status.code(), Some(1));
    let broken = String::from_utf8(beyond.stdout).unwrap();
    assert!(broken.contains("before the published head"), "{broken}");
    let all = seeded.tape(&["verify", "--tenant", "acme"]);
    assert!(all.status.success());
    let all = String::from_utf8(all.stdout).unwrap();
    assert_eq!(all.lines().count(), 4, "{all}");
    assert!(
        all.ends_with("3 runs, 16 entries verified, 1 payload erased, 0 broken\n"),
        "{all}"
    );
    let json = String::from_utf8(seeded.tape(&["verify", DONE, "--json"]).stdout).unwrap();
    assert!(
        json.ends_with("{\"broken\":0,\"dropped\":0,\"entries\":7,\"erased\":1,\"runs\":1}\n"),
        "{json}"
    );
}

#[tokio::test]
async fn runs_that_ended_long_ago_make_room_and_say_how_they_ended() {
    let seeded = Seeded::new().await;
    let retention = ["retention", "--tenant", "acme", "--as", "mia", "--older-than"];
    let with = |more: &[&'static str]| [&retention[..], more].concat();
    seeded.says(
        &with(&["36500d"]),
        &expect![[r#"
        0 runs retired, 0 entries dropped
    "#]],
    );
    let head = String::from_utf8(seeded.tape(&["verify", DONE]).stdout).unwrap();
    let head = head
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let before = seeded.tape(&["show", DONE]).stdout;
    seeded.says(
        &with(&["1s", "--dry-run"]),
        &expect![[r#"
        1 run would be retired, 7 entries dropped
    "#]],
    );
    assert_eq!(
        seeded.tape(&["show", DONE]).stdout,
        before,
        "a dry run changes nothing"
    );
    seeded.says(
        &with(&["1s", "--reason", "quarter closed"]),
        &expect![[r#"
        1 run retired, 7 entries dropped
    "#]],
    );
    seeded.says(
        &with(&["1s", "--json"]),
        &expect![[r#"
        {"dry_run":false,"entries":0,"left":0,"runs":0}
    "#]],
    );
    let shown = String::from_utf8(seeded.tape(&["show", DONE]).stdout).unwrap();
    for told in [
        "status   completed",
        "begun    2026-11-22 12:00:00.000 UTC",
        "retired  7 entries dropped",
        "7 entries dropped: quarter closed; the run ended 2026-11-22 12:00:01.750, completed",
        "(by mia)",
    ] {
        assert!(shown.contains(told), "'{told}' is not in:\n{shown}");
    }
    let listed = String::from_utf8(seeded.tape(&["runs", "--tenant", "acme"]).stdout).unwrap();
    assert!(!listed.contains(DONE), "{listed}");
    // Its chain verifies from what is left, against the head of what was dropped too.
    let verified = seeded.tape(&["verify", DONE, "--head", &head]);
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success(), "{said}");
    assert!(
        said.starts_with(&format!("ok      {DONE}  retired, 7 entries dropped  head 8:")),
        "{said}"
    );
    let all = String::from_utf8(seeded.tape(&["verify", "--tenant", "acme"]).stdout).unwrap();
    assert!(
        all.ends_with("3 runs, 10 entries verified, 7 entries dropped, 0 payloads erased, 0 broken\n"),
        "{all}"
    );
    let other = format!("7:{}", "0".repeat(64));
    assert!(!seeded.tape(&["verify", DONE, "--head", &other]).status.success());
    // The end is the end: who begins the run again is told how it ended.
    let tape = Tape::connect(&seeded.url()).await.unwrap();
    let begun = tape.run(id("done")).begin().await.unwrap();
    let ended = format!("{begun:?}");
    assert!(ended.contains("Completed"), "{ended}");
}

#[tokio::test]
async fn retention_wants_an_age_and_a_reason_that_is_one() {
    let seeded = Seeded::new().await;
    let refused = |args: &[&str]| {
        let output = seeded.tape(&[&["retention", "--tenant", "acme"], args].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["--older-than", "90"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("an age is a number with d, h, m or s, such as 90d"),
        "{said}"
    );
    let (code, said) = refused(&["--older-than", "0s", "--reason", ""]);
    assert_eq!(code, Some(1));
    assert!(said.contains("reason"), "{said}");
}

/// Each damage is told with the run, the entry and the cause, and the other runs are verified all the same.
#[tokio::test]
async fn damage_of_one_run_is_told_and_the_others_are_verified() {
    const STREAM: &str = "(SELECT id FROM stream WHERE name = 'acme/run/treasury/ann/s1/done')";
    let row = "row 4 of acme/run/treasury/ann/s1/done of table entry: ";
    for (damage, tells) in [
        (
            "UPDATE entry SET payload = NULL WHERE seq = 4 AND stream = ID",
            row.to_owned() + "its payload is gone, and nobody erased it",
        ),
        (
            "UPDATE entry SET payload = x'00' WHERE seq = 4 AND stream = ID",
            "the payload of entry 4 was changed".to_owned(),
        ),
        (
            "UPDATE entry SET envelope = x'7b7d' WHERE seq = 4 AND stream = ID",
            "entry 4 was changed".to_owned(),
        ),
        (
            "UPDATE entry SET digest = x'00' WHERE seq = 4 AND stream = ID",
            row.to_owned() + "its digest has 1 bytes",
        ),
        (
            "DELETE FROM entry WHERE seq = 4 AND stream = ID",
            row.to_owned() + "the entry is not where it should be",
        ),
        (
            "DELETE FROM entry WHERE seq = 7 AND stream = ID",
            "row 7 of acme/run/treasury/ann/s1/done".to_owned(),
        ),
        (
            "UPDATE head SET seq = 5 WHERE stream = ID",
            "its last entry, 5, is not there".to_owned(),
        ),
        (
            "UPDATE head SET seq = 9 WHERE stream = ID",
            "row 9 of acme/run/treasury/ann/s1/done".to_owned(),
        ),
        (
            "UPDATE head SET seq = 5, pos = (SELECT pos FROM entry WHERE seq = 5 AND stream = ID) WHERE stream = ID",
            "its entries end at 5, the feed is at entry 7".to_owned(),
        ),
        (
            "DELETE FROM run WHERE stream = ID",
            "it is not in the list of runs".to_owned(),
        ),
        (
            "DELETE FROM head WHERE stream = ID",
            "its entries end at 0, the feed is at entry 7".to_owned(),
        ),
    ] {
        let seeded = Seeded::new().await;
        seeded.execute(&damage.replace("ID", STREAM)).await;
        let output = seeded.tape(&["verify", "--tenant", "acme"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{damage}: {said}");
        let broken = said
            .lines()
            .find(|line| line.starts_with(&format!("BROKEN  {DONE}  ")));
        assert!(
            broken.is_some_and(|line| line.contains(&tells)),
            "{damage}: {said}"
        );
        for other in ["waiting", "unknown"] {
            assert!(
                said.contains(&format!("ok      acme/treasury/ann/s1/{other}  head ")),
                "{damage}: {said}"
            );
        }
        assert!(
            said.lines()
                .last()
                .unwrap()
                .starts_with("3 runs, 9 entries verified, 0 payloads erased, "),
            "{damage}: {said}"
        );
        let one = seeded.tape(&["verify", DONE]);
        // A run that is asked for by its name need not be listed.
        let found = damage.starts_with("DELETE FROM run");
        assert_eq!(one.status.code(), Some(i32::from(!found)), "{damage}");
    }
}

/// A run that is missing from the list is found by the feed, unless the feed is done without.
#[tokio::test]
async fn quick_verification_does_without_the_feed() {
    let seeded = Seeded::new().await;
    seeded
        .execute("DELETE FROM run WHERE stream = (SELECT id FROM stream WHERE name = 'acme/run/treasury/ann/s1/done')")
        .await;
    let thorough = seeded.tape(&["verify", "--tenant", "acme"]);
    assert_eq!(thorough.status.code(), Some(1));
    let quick = seeded.tape(&["verify", "--tenant", "acme", "--quick"]);
    let said = String::from_utf8(quick.stdout).unwrap();
    assert!(quick.status.success(), "{said}");
    assert!(
        said.ends_with("2 runs, 9 entries verified, 0 payloads erased, 0 broken\n"),
        "{said}"
    );
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_told_and_the_feed_has_the_runs() {
    let seeded = Seeded::new().await;
    seeded
        .execute("UPDATE run SET status = 'dancing' WHERE rowid = 1")
        .await;
    let output = seeded.tape(&["verify", "--tenant", "acme"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("BROKEN  the list of acme  "), "{said}");
    assert!(said.lines().last().unwrap().starts_with("3 runs, "), "{said}");
}

#[tokio::test]
async fn nothing_to_verify_is_an_error() {
    let seeded = Seeded::new().await;
    seeded.refuses(
        &["verify", "--tenant", "other"],
        &expect![[r#"
        tape: tenant: 'other' has no runs
    "#]],
    );
    seeded.refuses(
        &["verify", "acme/treasury/ann/s1/missing"],
        &expect![[r#"
        tape: there is no such run
    "#]],
    );
    seeded.refuses(
        &["verify"],
        &expect![[r#"
        error: the following required arguments were not provided:
          <RUN>

        Usage: tape verify [OPTIONS] <RUN>
               tape verify [OPTIONS] --tenant <TENANT>

        For more information, try '--help'.
    "#]],
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let seeded = Seeded::new().await;
    seeded.refuses(
        &["show", "acme/treasury/ann/s1/missing"],
        &expect![[r#"
        tape: there is no such run
    "#]],
    );
    seeded.refuses(&["show", "acme"], &expect![[r#"
        error: invalid value 'acme' for '<RUN>': a run is named tenant/app/user/session/invocation, such as acme/treasury/ann/s1/i1; in a part, write '/' as %2F, '.' as %2E, ' ' as %20

        For more information, try '--help'.
    "#]]);
    seeded.refuses(
        &["runs", "--tenant", "acme", "--limit", "0"],
        &expect![[r#"
        error: invalid value '0' for '--limit <LIMIT>': 0 is not in 1..=4294967295

        For more information, try '--help'.
    "#]],
    );
    let long = "x".repeat(100_000);
    for args in [&["show", &long][..], &["--store", &long, "show", DONE]] {
        let told = seeded.tape(args).stderr;
        assert!(told.len() < 1_000, "{}", String::from_utf8_lossy(&told));
    }
    seeded.refuses(
        &["--store", "sqlite:/nowhere/book.db", "show", DONE],
        &expect![[r#"
            tape: store: there is no file /nowhere/book.db
        "#]],
    );
    let at = |name: &str| seeded.dir.path().join(name);
    std::fs::write(at("empty.db"), "").unwrap();
    std::fs::write(
        at("broken.db"),
        [b"SQLite format 3\0", &[0xff; 4096][..]].concat(),
    )
    .unwrap();
    let told = |name: &str| {
        let output = seeded.tape(&["--store", &format!("sqlite:{}", at(name).display()), "show", DONE]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let dir = seeded.dir.path().display().to_string();
        String::from_utf8(output.stderr).unwrap().replace(&dir, "DIR")
    };
    expect![[r#"
        tape: store: DIR/empty.db is empty: there is no journal in it
    "#]]
    .assert_eq(&told("empty.db"));
    assert_eq!(std::fs::metadata(at("empty.db")).unwrap().len(), 0);
    expect![[r#"
        tape: the journal cannot be used as it is
          because: store is not valid here: DIR/broken.db is no SQLite database
    "#]]
    .assert_eq(&told("broken.db"));
    // A directory.
    expect![[r#"
        tape: the journal is out of reach
          because: the store is unavailable while it opens the database
          because: error returned from database: (code: 14) unable to open database file
    "#]]
    .assert_eq(&told(""));
    seeded
        .execute("PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'no' WHERE name = 'head'")
        .await;
    expect![[r#"
        tape: the journal cannot be used as it is
          because: the store is damaged at the database file
          because: error returned from database: (code: 11) malformed database schema (head)
    "#]]
    .assert_eq(&told("book.db"));
    let told = seeded.tape(&["--store", "http://x", "show", DONE]).stderr;
    let known = "tape: store URL: 'http://x' is none of tape://HOST:PORT, sqlite:PATH, memory:";
    // Databases follow, where this build knows them.
    assert!(
        told.starts_with(known.as_bytes()),
        "{}",
        String::from_utf8_lossy(&told)
    );
}
