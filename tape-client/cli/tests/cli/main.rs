//! The command `tape` on a seeded store: what a tired operator sees.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(feature = "sqlite")]

mod checkpoint;
mod consent;
mod export;
mod lists;
mod outsider;
mod reactions;
mod relays;
mod retention;
mod seeded;
mod verify;

use expect_test::expect;
use seeded::{DONE, Seeded, id};
use serde_json::json;
use tape_client::core::id::Principal;
use tape_client::{Answer, CallError, Tape};

#[tokio::test]
async fn runs_are_listed_newest_first() {
    let seeded = Seeded::new().await;
    seeded.says(
        &["runs", "--tenant", "acme"],
        &expect![[r#"
            2026-11-22 12:00:03.750  running       acme/treasury/ann/s1/unknown  ALONE since 2026-11-22 12:00:33.750, last driven by agent-1
            2026-11-22 12:00:02.750  suspended     acme/treasury/ann/s1/waiting
            2026-11-22 12:00:00.000  completed     acme/treasury/ann/s1/done  desk=fx
        "#]],
    );
    seeded.says(&["runs", "--tenant", "acme", "--status", "completed", "--label", "desk=fx", "--json"], &expect![[r#"
        {"agent_version":null,"begun":"2026-11-22 12:00:00.000","changed":"2026-11-22 12:00:01.750","damaged":null,"driver":null,"labels":{"desk":"fx"},"run":"acme/treasury/ann/s1/done","status":"completed"}
        {"cut":false,"listed":1}
    "#]]);
    seeded.says(
        &["runs", "--tenant", "other"],
        &expect![[r#"
        none
    "#]],
    );
    seeded.says(&["runs", "--tenant", "acme", "--driverless"], &expect![[r#"
        2026-11-22 12:00:03.750  running       acme/treasury/ann/s1/unknown  ALONE since 2026-11-22 12:00:33.750, last driven by agent-1
    "#]]);
    seeded.says(
        &["runs", "--tenant", "acme", "--driverless", "--json"],
        &expect![[r#"
            {"agent_version":null,"begun":"2026-11-22 12:00:03.750","changed":"2026-11-22 12:00:03.750","damaged":null,"driver":{"alone_since":"2026-11-22 12:00:33.750","cancel":null,"last":"agent-1","redrive":"2026-11-22 12:00:33.750"},"labels":{},"run":"acme/treasury/ann/s1/unknown","status":"running"}
            {"cut":false,"listed":1}
        "#]],
    );
}

#[tokio::test]
async fn runs_are_listed_with_the_version_that_began_them_where_any_has_one() {
    let seeded = Seeded::new().await;
    for (invocation, version) in [("november", "2026-11-29"), ("next", "2")] {
        seeded.of_version(invocation, version).await;
    }
    seeded.says(&["runs", "--tenant", "acme"], &expect![[r#"
        2026-11-22 13:00:00.000  completed     2           acme/treasury/ann/s1/next  desk=fx
        2026-11-22 13:00:00.000  completed     2026-11-29  acme/treasury/ann/s1/november  desk=fx
        2026-11-22 12:00:03.750  running       -           acme/treasury/ann/s1/unknown  ALONE since 2026-11-22 12:00:33.750, last driven by agent-1
        2026-11-22 12:00:02.750  suspended     -           acme/treasury/ann/s1/waiting
        2026-11-22 12:00:00.000  completed     -           acme/treasury/ann/s1/done  desk=fx
    "#]]);
    seeded.says(
        &["runs", "--tenant", "acme", "--agent-version", "2026-11-29"],
        &expect![[r#"
            2026-11-22 13:00:00.000  completed     2026-11-29  acme/treasury/ann/s1/november  desk=fx
        "#]],
    );
    seeded.says(
        &[
            "runs",
            "--tenant",
            "acme",
            "--agent-version",
            "2",
            "--label",
            "desk=fx",
        ],
        &expect![[r#"
            2026-11-22 13:00:00.000  completed     2  acme/treasury/ann/s1/next  desk=fx
        "#]],
    );
    seeded.says(
        &["runs", "--tenant", "acme", "--agent-version", "2", "--json"],
        &expect![[r#"
            {"agent_version":"2","begun":"2026-11-22 13:00:00.000","changed":"2026-11-22 13:00:00.000","damaged":null,"driver":null,"labels":{"desk":"fx","tape.agent_version":"2"},"run":"acme/treasury/ann/s1/next","status":"completed"}
            {"cut":false,"listed":1}
        "#]],
    );
}

#[tokio::test]
async fn a_run_whose_version_was_erased_is_listed_as_such() {
    let seeded = Seeded::new().await;
    seeded.of_version("next", "2").await;
    for run in ["acme/treasury/ann/s1/next", "acme/treasury/ann/s1/unknown"] {
        let erased = seeded.tape(&[
            "--as",
            "olga",
            "--yes",
            "erase",
            run,
            "1",
            "--reason",
            "asked for",
        ]);
        assert!(erased.status.success(), "{erased:?}");
    }
    seeded.says(&["runs", "--tenant", "acme"], &expect![[r#"
        2026-11-22 13:00:00.000  completed     (erased)  acme/treasury/ann/s1/next
        2026-11-22 12:00:03.750  running       (erased)  acme/treasury/ann/s1/unknown  ALONE since 2026-11-22 12:00:33.750, last driven by agent-1
        2026-11-22 12:00:02.750  suspended     -         acme/treasury/ann/s1/waiting
        2026-11-22 12:00:00.000  completed     -         acme/treasury/ann/s1/done  desk=fx
    "#]]);
    seeded.says(
        &[
            "runs",
            "--tenant",
            "acme",
            "--label",
            "tape.erased=labels",
            "--json",
        ],
        &expect![[r#"
            {"agent_version":null,"begun":"2026-11-22 13:00:00.000","changed":"2026-11-22 13:00:00.000","damaged":null,"driver":null,"labels":{"tape.erased":"labels"},"run":"acme/treasury/ann/s1/next","status":"completed"}
            {"agent_version":null,"begun":"2026-11-22 12:00:03.750","changed":"2026-11-22 12:00:03.750","damaged":null,"driver":{"alone_since":"2026-11-22 12:00:33.750","cancel":null,"last":"agent-1","redrive":"2026-11-22 12:00:33.750"},"labels":{"tape.erased":"labels"},"run":"acme/treasury/ann/s1/unknown","status":"running"}
            {"cut":false,"listed":2}
        "#]],
    );
    seeded.says(&["stuck", "--tenant", "acme"], &expect![[r#"
        acme/treasury/ann/s1/waiting  since 2026-11-22 12:00:02.750
          gate approval: it waits for an answer
            tape approve acme/treasury/ann/s1/waiting approval --seen 3 --reason WHY
            tape approve acme/treasury/ann/s1/waiting approval --seen 3 --deny --reason WHY
        acme/treasury/ann/s1/unknown  since 2026-11-22 12:00:03.750
          the run: it is to be driven again since 2026-11-22 12:00:33.750, and no worker has taken it: its labels were erased, and with them the version that began it, so that what chooses agents of app 'treasury' by version leaves it. It needs a `tape-reactor` with one agent for all versions, or its own program to begin it
            tape cancel acme/treasury/ann/s1/unknown --reason WHY
          effect #0.0 bank pay: it is to be asked about since 2026-11-22 12:00:04.250, and no worker has claimed it: it needs a `tape-reactor` with connector 'bank'
            tape settle acme/treasury/ann/s1/unknown '#0.0' --confirmed RESULT --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/unknown '#0.0' --failed --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/unknown '#0.0' --resend --attempt 1 --reason WHY
    "#]]);
}

#[tokio::test]
async fn a_run_is_shown_as_a_timeline() {
    let seeded = Seeded::new().await;
    seeded.says(&["show", DONE], &expect![[r#"
        run      acme/treasury/ann/s1/done
        status   completed
        begun    2026-11-22 12:00:00.000 UTC, last entry 1 s later
        labels   desk=fx
        budget   usd: 100 spent, 0 reserved of 1000 micro_usd

            1  12:00:00.000  run.begun               {"day":1}
            2  12:00:00.000  lease.acquired          agent-1 until 2026-11-22 12:00:30.000 (epoch 1)
            3  12:00:00.000  budget usd              1000 micro_usd
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
        "--as",
        by.as_str(),
        "--yes",
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
            effect #0.0 bank pay is unknown in attempt 1
            entry 6: recorded
        "#]],
    );
    seeded.refuses(
        &settle,
        &expect![[r#"
            tape: effect #0.0 is confirmed in attempt 1
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
        told.ends_with(
            r#"confirmed by a person (statement) "paid", undone by refund {"receipt":7}  (by olga)"#
        ),
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
            .tape(&["--as", "olga", "--yes", "cancel", forged, "--reason", FORGED])
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
    let around_entries = "run status driver begun labels - - effects #0.0"
        .split(' ')
        .count();
    assert_eq!(lines_of(&["show", forged]), (entries.0 + around_entries, 4));
    assert_eq!(lines_of(&["runs", "--tenant", "acme"]), (4, 1));
    let shown = String::from_utf8(seeded.tape(&["show", forged, "--json"]).stdout).unwrap();
    assert!(
        shown.contains(&format!("\"reason\":{}", json!(FORGED))),
        "{shown}"
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
            tape: store: there is no file /nowhere/book.db: tape-server makes it, or the agent that has its journal there
        "#]],
    );
    let at = |name: &str| seeded.dir.path().join(name);
    std::fs::write(at("empty.db"), "").unwrap();
    std::fs::write(
        at("broken.db"),
        [b"SQLite format 3\0", &[0xff; 4096][..]].concat(),
    )
    .unwrap();
    let told = |name: &str, code| {
        let output = seeded.tape(&["--store", &format!("sqlite:{}", at(name).display()), "show", DONE]);
        assert_eq!(output.status.code(), Some(code), "{name}");
        let dir = seeded.dir.path().display().to_string();
        String::from_utf8(output.stderr).unwrap().replace(&dir, "DIR")
    };
    expect![[r#"
        tape: store: DIR/empty.db is empty: there is no journal in it
    "#]]
    .assert_eq(&told("empty.db", 2));
    assert_eq!(std::fs::metadata(at("empty.db")).unwrap().len(), 0);
    expect![[r#"
        tape: the journal cannot be used as it is
          because: store is not valid here: DIR/broken.db is no SQLite database
    "#]]
    .assert_eq(&told("broken.db", 4));
    // A directory.
    expect![[r#"
        tape: the journal is out of reach
          because: the store is unavailable while it opens the database
          because: DIR/: unable to open database file (SQLite code 14)
    "#]]
    .assert_eq(&told("", 1));
    seeded
        .execute("PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = 'no' WHERE name = 'head'")
        .await;
    expect![[r#"
        tape: the journal cannot be used as it is
          because: the store is damaged at the database file
          because: DIR/book.db: malformed database schema (head) (SQLite code 11)
    "#]]
    .assert_eq(&told("book.db", 4));
    let told = seeded.tape(&["--store", "http://x", "show", DONE]).stderr;
    let known = "tape: store URL: 'http://x' is none of tape://HOST:PORT, sqlite:PATH, memory:";
    // Databases follow, if this build supports them.
    assert!(
        told.starts_with(known.as_bytes()),
        "{}",
        String::from_utf8_lossy(&told)
    );
}

/// An argument that cannot be read has an exit code of its own, so that it raises no alarm of a damaged journal.
#[tokio::test]
async fn arguments_that_cannot_be_read_have_a_code_of_their_own() {
    let seeded = Seeded::new().await;
    let runs = ["runs", "--tenant", "acme"];
    for store in [
        "tape://127.0.0.1",
        "http://127.0.0.1:1",
        "sqlit:book.db",
        "book.db",
        "memory:",
        #[cfg(feature = "postgres")]
        "postgres://ann@127.0.0.1:1/tape?foo=1",
        #[cfg(feature = "bigtable")]
        "bigtable://p/i/t?foo=1",
        #[cfg(feature = "spanner")]
        "spanner://p/i/d?foo=1",
    ] {
        let output = seeded.tape(&[&["--store", store], &runs[..]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{store}: {told}");
        assert!(
            output.stdout.is_empty() && told.starts_with("tape: store"),
            "{told}"
        );
    }
    let without = seeded.command(&runs).env_remove("TAPE_URL").output().unwrap();
    assert_eq!(without.status.code(), Some(2));
    // The variable of the other programs is used too; the command's own has precedence.
    let mut others = seeded.command(&runs);
    others.env_remove("TAPE_URL").env("TAPE_STORE", seeded.url());
    assert!(others.output().unwrap().status.success());
    let mut both = seeded.command(&runs);
    assert!(
        both.env("TAPE_STORE", "nowhere")
            .output()
            .unwrap()
            .status
            .success()
    );
    for args in [
        &["verify", "--all", "--heads", "/nope"][..],
        &["verify", "--tenant", "acme", "--head", "1:0"],
        &["erase", "acme", "1", "--reason", "r", "--as", "ann", "--yes"],
        &["runs", "--tenant", "bad/ten"],
        &["stuck", "--tenant", "bad/ten"],
    ] {
        let output = seeded.tape(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
    }
    let away = seeded.tape(&[&["--store", "tape://127.0.0.1:1"], &runs[..]].concat());
    assert_eq!(away.status.code(), Some(1));
}
