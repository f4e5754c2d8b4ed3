//! Lists and counts of runs by every filter, and lists of gates, sessions, values, due work and owners of business keys.

use crate::seeded::{Seeded, id};
use expect_test::expect;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tape_client::core::id::{SessionId, Tenant, ValueName};
use tape_client::core::state::Delta;
use tape_client::{Answer, CallError, Payload, RunId, Tape};

/// A tenant whose name begins with that of another, and has what names must escape.
const OTHER: &str = "acme/2";
/// The same as the command takes it.
const OTHER_TYPED: &str = "acme%2F2";

fn of_other(session: &str, invocation: &str) -> RunId {
    RunId::new(OTHER, "treasury", "ann", session, invocation).unwrap()
}

async fn later(seeded: &Seeded) -> Tape {
    let connect = seeded.later().await.suspend_after(Duration::ZERO);
    connect.connect().await.unwrap()
}

/// The runs of acme that the command lists.
fn listed(seeded: &Seeded, args: &[&str]) -> Vec<String> {
    let output = seeded.tape(&[&["runs", "--tenant", "acme", "--json"], args].concat());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let names = lines.filter_map(|line| Some(line["run"].as_str()?.to_owned()));
    let short = |name: String| name.strip_prefix("acme/treasury/ann/s1/").map(str::to_owned);
    names.map(|name| short(name).unwrap()).collect()
}

#[tokio::test]
async fn runs_are_listed_by_every_filter() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    tape.run(of_other("s1", "waiting")).begin().await.unwrap();
    let is = |args: &[&str], fit: &[&str]| assert_eq!(listed(&seeded, args), fit, "{args:?}");
    is(&[], &["unknown", "waiting", "done"]);
    let statuses = ["--status", "completed", "--status", "running"];
    is(&statuses, &["unknown", "done"]);
    is(&["--name", "treasury/ann/s1/w"], &["waiting"]);
    is(&["--name", "treasury/an/"], &[]);
    is(&["--since", "2026-11-22 12:00:02"], &["unknown", "waiting"]);
    let between = ["--since", "2026-11-22", "--until", "2026-11-22T12:00:03.750Z"];
    is(&between, &["waiting", "done"]);
    is(&["--until", "36500d"], &[]);
    is(&["--driver", "agent-1"], &[]);
    let now = Tape::at(&seeded.url()).holder("agent-1".parse().unwrap());
    let now = now.connect().await.unwrap();
    let driven = now.run(id("driven")).begin().await.unwrap().driving().unwrap();
    is(&["--driver", "agent-1"], &["driven"]);
    is(&["--driver", "agent"], &[]);
    driven.complete(&()).await.unwrap();
    is(&["--driver", "agent-1"], &[]);
}

#[tokio::test]
async fn runs_are_counted_by_status() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    tape.run(of_other("s1", "waiting")).begin().await.unwrap();
    seeded.says(
        &["runs", "--tenant", "acme", "--count"],
        &expect![[r#"
        completed     1
        running       1
        suspended     1
        all           3
    "#]],
    );
    seeded.says(
        &[
            "runs",
            "--tenant",
            "acme",
            "--status",
            "completed",
            "--status",
            "stuck",
            "--count",
            "--json",
        ],
        &expect![[r#"
            {"counts":{"completed":1},"runs":1}
        "#]],
    );
    seeded.says(
        &["runs", "--tenant", "acme", "--name", "other/", "--count"],
        &expect![[r#"
            all           0
        "#]],
    );
    seeded.says(
        &[
            "runs",
            "--tenant",
            "acme",
            "--label",
            "desk=fx",
            "--since",
            "2026-11-22",
            "--count",
            "--json",
        ],
        &expect![[r#"
            {"counts":{"completed":1},"runs":1}
        "#]],
    );
}

#[tokio::test]
async fn arguments_that_fit_no_list_are_refused() {
    let seeded = Seeded::new().await;
    let runs = |args: &[&'static str]| [&["runs", "--tenant", "acme"], args].concat();
    let both = ["--count", "--label", "a=b", "--agent-version", "2"];
    for args in [
        runs(&["--name", "a/u/s/i/j"]),
        runs(&["--since", "noon"]),
        runs(&["--count", "--driverless"]),
        runs(&["--count", "--limit", "7"]),
        runs(&["--driver", "x", "--driverless"]),
        runs(&both),
        vec!["queues"],
        vec!["queues", "--tenant", "acme", "--all"],
        vec!["gates"],
        vec!["sessions", "--tenant", "acme", "--limit", "0"],
        vec!["values", "--tenant", "acme", "--name", ""],
        vec!["key", "bank", "--tenant", "acme"],
    ] {
        let output = seeded.tape(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

/// The name of a gate that would be an option, run a command in a shell, and hide what stands after it.
const HOSTILE: &str = "--deny $(touch pasted) \u{202e}until 2099";

#[tokio::test]
async fn gates_are_listed_with_what_answers_them() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    for invocation in ["first", "second"] {
        let begun = tape.run(of_other("s 1", invocation)).begin().await.unwrap();
        let gate = begun.driving().unwrap().gate(HOSTILE);
        gate.deadline(Duration::from_secs(60)).wait().await.unwrap_err();
    }
    seeded.says(
        &["gates", "--tenant", "acme"],
        &expect![[r#"
        2026-11-22 12:00:02.750  acme/treasury/ann/s1/waiting  suspended  gate approval
          tape approve acme/treasury/ann/s1/waiting approval --seen 3 --reason WHY
          tape approve acme/treasury/ann/s1/waiting approval --seen 3 --deny --reason WHY
    "#]],
    );
    seeded.says(&["gates", "--tenant", "acme", "--json"], &expect![[r#"
        {"deadline":null,"gate":"approval","opened":"2026-11-22 12:00:02.750","remedies":["approve acme/treasury/ann/s1/waiting approval --seen 3 --reason WHY","approve acme/treasury/ann/s1/waiting approval --seen 3 --deny --reason WHY"],"run":"acme/treasury/ann/s1/waiting","seq":3,"suspended":true}
        {"cut":false,"listed":1}
    "#]]);
    seeded.says(
        &["gates", "--tenant", "acme", "--app", "other"],
        &expect![[r#"
            none
        "#]],
    );
    let cut = ["gates", "--tenant", OTHER_TYPED, "--limit", "1"];
    seeded.says(&cut, &expect![[r#"
        2026-11-22 13:00:00.000  acme%2F2/treasury/ann/s%201/second  until 2026-11-22 13:01:00.000  suspended  gate --deny $(touch pasted) \u{202e}until 2099
          tape approve --seen 3 --reason WHY -- 'acme%2F2/treasury/ann/s%201/second' "$(printf '\055\055\144\145\156\171\040\044\050\164\157\165\143\150\040\160\141\163\164\145\144\051\040\342\200\256\165\156\164\151\154\040\062\060\071\071')"
          tape approve --seen 3 --deny --reason WHY -- 'acme%2F2/treasury/ann/s%201/second' "$(printf '\055\055\144\145\156\171\040\044\050\164\157\165\143\150\040\160\141\163\164\145\144\051\040\342\200\256\165\156\164\151\154\040\062\060\071\071')"
        cut: 1 are listed, and there may be more; --limit N lists more
    "#]]);
    let cut = seeded.tape(&[&cut[..], &["--json"]].concat()).stdout;
    let cut = String::from_utf8(cut).unwrap();
    assert!(cut.ends_with("{\"cut\":true,\"listed\":1}\n"), "{cut}");
    // Typed as it is told, the answer arrives at this gate, and nothing else happens.
    let said = String::from_utf8(seeded.tape(&["gates", "--tenant", OTHER_TYPED]).stdout).unwrap();
    let typed = said.lines().nth(1).unwrap().trim();
    let script = format!("tape() {{ '{}' \"$@\"; }}; {typed}", env!("CARGO_BIN_EXE_tape"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(seeded.dir.path());
    shell.env("TAPE_URL", seeded.url()).env("TAPE_PRINCIPAL", "olga");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!seeded.dir.path().join("pasted").exists());
    let left = String::from_utf8(seeded.tape(&["gates", "--tenant", OTHER_TYPED]).stdout).unwrap();
    assert_eq!(left.lines().count(), 3, "{left}");
    assert!(!left.contains("second"), "{left}");
}

#[tokio::test]
async fn a_damaged_run_hides_no_gate() {
    let seeded = Seeded::new().await;
    let damage = "UPDATE entry SET digest = x'00' WHERE seq = 4 AND stream = (SELECT id FROM stream WHERE name LIKE '%/unknown')";
    seeded.execute(damage).await;
    let said = String::from_utf8(seeded.tape(&["gates", "--tenant", "acme"]).stdout).unwrap();
    assert!(said.contains("s1/waiting  suspended  gate approval"), "{said}");
    assert!(
        said.contains("s1/unknown  DAMAGED: the store is damaged at row 4"),
        "{said}"
    );
}

#[tokio::test]
async fn sessions_are_listed_by_their_names() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    let session = |tenant: &str, app: &str, user: &str| -> SessionId {
        RunId::new(tenant, app, user, "s 1", "i").unwrap().session()
    };
    for (app, user) in [("treasury", "bob"), ("treasury", "ann"), ("a.b", "ann")] {
        let made = tape.session(session("acme", app, user));
        made.create(Delta::default()).await.unwrap();
    }
    let other = tape.session(session(OTHER, "treasury", "ann"));
    other.create(Delta::default()).await.unwrap();
    let gone = tape.session(session("acme", "treasury", "bob"));
    gone.delete().await.unwrap();
    seeded.says(
        &["sessions", "--tenant", "acme"],
        &expect![[r#"
        2026-11-22 13:00:00.000  entry 1  acme/session/a%2Eb/ann/s%201
        2026-11-22 13:00:00.000  entry 1  acme/session/treasury/ann/s%201
    "#]],
    );
    seeded.says(
        &[
            "sessions",
            "--tenant",
            "acme",
            "--app",
            "treasury",
            "--deleted",
            "--json",
        ],
        &expect![[r#"
            {"app":"treasury","changed":"2026-11-22 13:00:00.000","deleted":false,"seq":1,"session":"s 1","stream":"acme/session/treasury/ann/s%201","user":"ann"}
            {"app":"treasury","changed":"2026-11-22 13:00:00.000","deleted":true,"seq":2,"session":"s 1","stream":"acme/session/treasury/bob/s%201","user":"bob"}
            {"cut":false,"listed":2}
        "#]],
    );
    seeded.says(
        &["sessions", "--tenant", "acme", "--user", "bob", "--deleted"],
        &expect![[r#"
            2026-11-22 13:00:00.000  entry 2  acme/session/treasury/bob/s%201  deleted
        "#]],
    );
    seeded.says(
        &["sessions", "--tenant", "acme", "--limit", "1"],
        &expect![[r#"
            2026-11-22 13:00:00.000  entry 1  acme/session/a%2Eb/ann/s%201
            cut: 1 are listed, and there may be more; --limit N lists more
        "#]],
    );
    seeded.says(
        &["sessions", "--tenant", "acm"],
        &expect![[r#"
        none
    "#]],
    );
}

#[tokio::test]
async fn values_are_listed_by_their_names() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    let value =
        |tenant: &str, name: &str| tape.value(Tenant::new(tenant).unwrap(), ValueName::new(name).unwrap());
    for name in ["rate/eur", "rate usd\u{202e}", "limit"] {
        value("acme", name).put(Payload::json(&json!(1))).await.unwrap();
    }
    value(OTHER, "rate").put(Payload::json(&json!(1))).await.unwrap();
    value("acme", "limit").delete(None).await.unwrap();
    seeded.says(
        &["values", "--tenant", "acme"],
        &expect![[r#"
        2026-11-22 13:00:00.000  version 2  acme/value/limit  deleted
        2026-11-22 13:00:00.000  version 1  acme/value/rate%20usd\u{202e}
        2026-11-22 13:00:00.000  version 1  acme/value/rate%2Feur
    "#]],
    );
    seeded.says(
        &["values", "--tenant", "acme", "--name", "rate/", "--json"],
        &expect![[r#"
            {"changed":"2026-11-22 13:00:00.000","deleted":false,"stream":"acme/value/rate%2Feur","value":"rate/eur","version":1}
            {"cut":false,"listed":1}
        "#]],
    );
    seeded.says(
        &["values", "--tenant", OTHER_TYPED, "--limit", "1"],
        &expect![[r#"
            2026-11-22 13:00:00.000  version 1  acme%2F2/value/rate
            cut: 1 are listed, and there may be more; --limit N lists more
        "#]],
    );
}

#[tokio::test]
async fn due_work_is_summed_up_by_queue() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    tape.run(of_other("s1", "alone")).begin().await.unwrap();
    seeded.says(
        &["queues", "--tenant", "acme"],
        &expect![[r#"
        recovery      1 due, the oldest since 2026-11-22 12:00:33.750
        outbox        0 due
        reconcile     1 due, the oldest since 2026-11-22 12:00:04.250
        timers        0 due
        compensation  0 due
    "#]],
    );
    seeded.says(
        &["queues", "--all", "--json"],
        &expect![[r#"
        {"due":2,"more":false,"oldest":"2026-11-22 12:00:33.750","queue":"recovery"}
        {"due":0,"more":false,"oldest":null,"queue":"outbox"}
        {"due":1,"more":false,"oldest":"2026-11-22 12:00:04.250","queue":"reconcile"}
        {"due":0,"more":false,"oldest":null,"queue":"timers"}
        {"due":0,"more":false,"oldest":null,"queue":"compensation"}
        {"cut":false,"listed":5}
    "#]],
    );
    let mut all = seeded.command(&["queues", "--all"]);
    let all = all.env("TAPE_TENANT", "acme").output().unwrap();
    expect![[r#"
        recovery      2 due, the oldest since 2026-11-22 12:00:33.750
        outbox        0 due
        reconcile     1 due, the oldest since 2026-11-22 12:00:04.250
        timers        0 due
        compensation  0 due
    "#]]
    .assert_eq(&String::from_utf8(all.stdout).unwrap());
}

#[tokio::test]
async fn a_business_key_names_its_owner() {
    let seeded = Seeded::new().await;
    let tape = later(&seeded).await;
    let begun = tape.run(of_other("s 1", "pays")).begin().await.unwrap();
    let run = begun.driving().unwrap();
    let answer = || async { Answer::json(&"pay") };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    let effect = run
        .effect(&decision, "bank", "pay")
        .business_key("invoice 7/2026");
    let act = |_| std::future::ready(Ok::<_, CallError>(json!({"receipt": 7})));
    let _: Value = effect.run(act).await.unwrap();
    let asked = ["key", "bank", "invoice 7/2026", "--tenant"];
    let of = |tenant| [&asked[..], &[tenant]].concat();
    seeded.says(
        &of(OTHER_TYPED),
        &expect![[r#"
        2026-11-22 13:00:00.000  acme%2F2/treasury/ann/s%201/pays  effect #0.0
          tape show 'acme%2F2/treasury/ann/s%201/pays'
    "#]],
    );
    seeded.says(&[&of(OTHER_TYPED)[..], &["--json"]].concat(), &expect![[r##"
        {"effect":"#0.0","remedies":["show 'acme%2F2/treasury/ann/s%201/pays'"],"run":"acme%2F2/treasury/ann/s%201/pays","taken":"2026-11-22 13:00:00.000"}
    "##]]);
    seeded.refuses(
        &of("acme"),
        &expect![[r#"
        tape: there is no such owner of the business key
    "#]],
    );
}
