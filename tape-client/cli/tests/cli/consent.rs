//! Irreversible commands say what they will do, and run only after a yes.

use crate::seeded::{DONE, Seeded};
use expect_test::{Expect, expect};

const WAITING: &str = "acme/treasury/ann/s1/waiting";
const UNKNOWN: &str = "acme/treasury/ann/s1/unknown";

/// Every irreversible command.
fn finals() -> Vec<(Vec<&'static str>, Expect)> {
    let settle = |verdict: &'static str| vec!["settle", UNKNOWN, "#0.0", verdict, "--reason", "r"];
    vec![
        (
            settle("--confirmed"),
            expect![[r#"
            tape: nothing was done: this takes effect #0.0 of acme/treasury/ann/s1/unknown for done, on your word. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            settle("--failed"),
            expect![[r#"
            tape: nothing was done: this takes effect #0.0 of acme/treasury/ann/s1/unknown for not done, for good, on your word. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            settle("--resend"),
            expect![[r#"
            tape: nothing was done: this has effect #0.0 of acme/treasury/ann/s1/unknown sent again, on your word that it was not done. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            vec!["cancel", WAITING, "--reason", "r"],
            expect![[r#"
            tape: nothing was done: this ends acme/treasury/ann/s1/waiting (suspended) for good, and has undone what it did: 0 effects happened, 0 to be undone. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            vec!["cancel", UNKNOWN, "--reason", "r"],
            expect![[r#"
            tape: nothing was done: this ends acme/treasury/ann/s1/unknown (running) for good, and has undone what it did: 0 effects happened, 0 to be undone; 1 more may have happened. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            vec!["release", UNKNOWN, "--until", "1795348833750000", "--reason", "r"],
            expect![[r#"
                tape: nothing was done: this ends the lease of acme/treasury/ann/s1/unknown, which agent-1 has until 2026-11-22 12:00:33.750: others may go on with it at once. Without a terminal to ask on, add --yes
            "#]],
        ),
        (
            vec!["erase", DONE, "1", "5", "--reason", "r"],
            expect![[r#"
            tape: nothing was done: this erases for good the payloads of 2 entries of acme/run/treasury/ann/s1/done (1, 5), with every copy that the journal keeps. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            vec![
                "retention",
                "--tenant",
                "acme",
                "--older-than",
                "1s",
                "--reason",
                "r",
            ],
            expect![[r#"
                tape: nothing was done: this drops for good all entries but the last of the runs of acme that ended more than 1s ago; --dry-run counts them. Without a terminal to ask on, add --yes
            "#]],
        ),
        (
            vec!["agenda", "rebuild"],
            expect![[r#"
            tape: nothing was done: this writes the indexes of due work and of runs anew where they are not what the streams imply, of all tenants. Without a terminal to ask on, add --yes
        "#]],
        ),
    ]
}

/// Everything that the journal has.
fn all(seeded: &Seeded) -> (Vec<u8>, Vec<u8>) {
    let entries = seeded.tape(&["tail", "--from-start", "--once", "--json"]).stdout;
    (entries, seeded.tape(&["verify", "--all", "--json"]).stdout)
}

#[tokio::test]
async fn what_is_final_is_said_and_needs_a_yes() {
    let seeded = Seeded::new().await;
    let before = all(&seeded);
    for (command, says) in finals() {
        seeded.refuses(&[&["--as", "mia"], &command[..]].concat(), &says);
        assert_eq!(all(&seeded), before, "{command:?}");
    }
}

#[tokio::test]
async fn what_is_final_needs_a_name() {
    let seeded = Seeded::new().await;
    let before = all(&seeded);
    for (command, _) in finals() {
        seeded.refuses(
            &[&["--yes"], &command[..]].concat(),
            &expect![[r#"
                tape: the journal has to say who decides this: say --as NAME, or set TAPE_PRINCIPAL
            "#]],
        );
        assert_eq!(all(&seeded), before, "{command:?}");
    }
}

#[tokio::test]
async fn what_is_erased_or_dropped_needs_a_reason() {
    let seeded = Seeded::new().await;
    let before = all(&seeded);
    for command in [
        &["erase", DONE, "1"][..],
        &["retention", "--tenant", "acme", "--older-than", "1s"],
        &["cancel", WAITING],
        &["release", UNKNOWN, "--until", "1795348833750000"],
    ] {
        let refused = seeded.tape(&[&["--as", "mia", "--yes"], command].concat());
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        assert!(String::from_utf8(refused.stderr).unwrap().contains("--reason"));
        assert_eq!(all(&seeded), before, "{command:?}");
    }
}

/// Commands that only read need neither a name nor a yes.
#[tokio::test]
async fn what_only_looks_is_for_everybody() {
    let seeded = Seeded::new().await;
    seeded.says(
        &["retention", "--tenant", "acme", "--older-than", "1s", "--dry-run"],
        &expect![[r#"
            1 run would be retired, 7 entries dropped
        "#]],
    );
    let held = seeded.tape(&["release", UNKNOWN]);
    expect![[r#"
        agent-1 had it until 2026-11-22 12:00:33.750: it has run out, and others may take it; to end it for certain:
          tape release acme/treasury/ann/s1/unknown --until 1795348833750000 --reason WHY
    "#]]
    .assert_eq(&String::from_utf8(held.stdout).unwrap());
    assert!(seeded.tape(&["agenda", "check"]).status.success());
}

/// The reader of the output may be gone before the command does anything: that is not reported as done.
#[tokio::test]
async fn a_verdict_that_could_not_be_told_is_not_told_as_done() {
    let seeded = Seeded::new().await;
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut settle = seeded.command(&["--as", "mia", "--yes", "settle", UNKNOWN, "#0.0", "--failed"]);
    let status = settle.args(["--reason", "r"]).stdout(closed).status().unwrap();
    assert!(!status.success());
}

#[tokio::test]
async fn a_yes_does_it_and_says_what() {
    let seeded = Seeded::new().await;
    let erased = seeded.tape(&["--as", "mia", "--yes", "erase", DONE, "1", "--reason", "asked to"]);
    expect![[r#"
        entry 8: records what was erased
    "#]]
    .assert_eq(&String::from_utf8(erased.stdout).unwrap());
    expect![[r#"
        This erases for good the payloads of 1 entry of acme/run/treasury/ann/s1/done (1), with every copy that the journal keeps.
    "#]].assert_eq(&String::from_utf8(erased.stderr).unwrap());
    let shown = String::from_utf8(seeded.tape(&["show", DONE]).stdout).unwrap();
    assert!(
        shown.contains("payload.erased          of 1: asked to  (by mia)\n"),
        "{shown}"
    );
}

/// A command that will be refused must not ask for a yes.
#[tokio::test]
async fn what_is_refused_is_not_asked_about() {
    let seeded = Seeded::new().await;
    let before = all(&seeded);
    for (command, says) in [
        (
            &["cancel", DONE, "--reason", "r"][..],
            expect![[r#"
            tape: the run has ended: it completed
        "#]],
        ),
        (
            &["settle", DONE, "#0.0", "--failed", "--reason", "r"],
            expect![[r#"
                tape: the run has ended: it completed
            "#]],
        ),
        (
            &["settle", UNKNOWN, "#9.0", "--failed", "--reason", "r"],
            expect![[r#"
                tape: there is no such effect
            "#]],
        ),
        (
            &["settle", UNKNOWN, "#0.0", "--undone", "--reason", "r"],
            expect![[r#"
                tape: there is no such obligation
            "#]],
        ),
        (
            &[
                "settle", UNKNOWN, "#0.0", "--resend", "--seen", "1", "--reason", "r",
            ],
            expect![[r#"
                tape: effect #0.0 changed in entry 5, after entry 1 that the verdict is about: it is unknown in attempt 1 now. Look again
            "#]],
        ),
        (
            &["release", UNKNOWN, "--until", "7", "--reason", "r"],
            expect![[r#"
                tape: until: the lease is held by agent-1 until 1795348833750000 now: look again
            "#]],
        ),
    ] {
        for yes in [&["--as", "mia"][..], &["--as", "mia", "--yes"]] {
            seeded.refuses(&[yes, command].concat(), &says);
        }
        assert_eq!(all(&seeded), before, "{command:?}");
    }
}

/// The cancellation was requested before, and the answer was lost.
#[tokio::test]
async fn a_cancellation_that_is_repeated_is_told_as_done() {
    let seeded = Seeded::new().await;
    let cancel = ["--as", "mia", "--yes", "cancel", WAITING, "--reason", "r"];
    let first = seeded.tape(&cancel);
    assert!(first.status.success());
    let again = seeded.tape(&cancel);
    assert!(again.status.success() && again.stderr.is_empty(), "{again:?}");
    assert_eq!(again.stdout, first.stdout);
}
