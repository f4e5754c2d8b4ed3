//! The airline scenario from outside, over a few recorded runs made here.

mod trajectories;
mod workers;

use std::process::{Command, Output};
use workers::Over;

fn scenario(runs: usize, args: &[&str]) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a directory is made");
    let file = dir.path().join("trajectories.json");
    trajectories::write(&file, runs);
    let output = Command::new(env!("CARGO_BIN_EXE_airline"))
        .arg("--trajectories")
        .arg(&file)
        .args(args)
        .output()
        .expect("the scenario starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

fn last(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

#[test]
fn over_a_server_that_is_killed_too_everything_is_done_once() {
    let (output, text) = scenario(
        4,
        &[
            "--agents",
            "3",
            "--agent-kills",
            "10",
            "--server-kills",
            "3",
            "--seed",
            "7",
        ],
    );
    assert!(output.status.success(), "{text}");
    let expected =
        "airline: runs=4 decisions=20 asked_twice=0 acts=12 done_twice=0 lost=0 chains=ok kills=13";
    assert_eq!(last(&text), expected, "{text}");
}

#[test]
fn over_an_embedded_store_everything_is_done_once() {
    let args = [
        "--servers",
        "0",
        "--agents",
        "3",
        "--agent-kills",
        "10",
        "--server-kills",
        "0",
        "--seed",
        "7",
    ];
    let (output, text) = scenario(4, &args);
    assert!(output.status.success(), "{text}");
    let expected =
        "airline: runs=4 decisions=20 asked_twice=0 acts=12 done_twice=0 lost=0 chains=ok kills=10";
    assert_eq!(last(&text), expected, "{text}");
}

#[test]
fn without_tape_acts_are_done_twice() {
    let args = [
        "--unprotected",
        "--agents",
        "3",
        "--agent-kills",
        "10",
        "--server-kills",
        "3",
        "--seed",
        "7",
    ];
    let (output, text) = scenario(4, &args);
    assert!(output.status.success(), "{text}");
    assert!(
        last(&text).starts_with("airline: runs=4 decisions=20 asked_twice=0 acts=12 done_twice="),
        "{text}"
    );
    assert!(!last(&text).contains("done_twice=0"), "{text}");
}

#[test]
fn with_workers_that_are_killed_too_everything_is_done_once() {
    workers::everything_is_done_once(Over {
        servers: 1,
        ..Over::default()
    });
}

#[test]
fn with_workers_over_an_embedded_store_everything_is_done_once() {
    workers::everything_is_done_once(Over {
        servers: 0,
        ..Over::default()
    });
}

#[test]
fn whatever_is_restarted_the_ledger_and_the_journals_agree() {
    workers::ledger_and_journals_agree(Over {
        servers: 1,
        ..Over::default()
    });
}

#[test]
fn without_tape_an_airline_that_heeds_no_keys_acts_twice() {
    let args = [
        "--unprotected",
        "--semantics",
        "non-idempotent",
        "--agents",
        "3",
        "--agent-kills",
        "10",
        "--server-kills",
        "3",
        "--reactor-kills",
        "6",
        "--seed",
        "7",
    ];
    let (output, text) = scenario(4, &args);
    assert!(output.status.success(), "{text}");
    assert!(last(&text).starts_with("airline: runs=4 decisions=20 "), "{text}");
    assert!(!last(&text).contains("done_twice=0"), "{text}");
}

#[test]
fn workers_without_anything_to_do_are_refused() {
    let (output, text) = scenario(1, &["--reactor-kills", "3"]);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("--semantics non-idempotent"), "{text}");
}

#[test]
fn the_schedule_is_a_function_of_the_seed() {
    let digest = |seed: &str| {
        let (_, text) = scenario(
            4,
            &[
                "--unprotected",
                "--agent-kills",
                "5",
                "--server-kills",
                "2",
                "--seed",
                seed,
            ],
        );
        text.lines()
            .find(|line| line.contains("digest"))
            .map(str::to_owned)
            .unwrap()
    };
    let (one, again, other) = (digest("1"), digest("1"), digest("2"));
    assert_eq!(one, again);
    assert_ne!(one.replace("seed 1", ""), other.replace("seed 2", ""));
}

#[test]
fn more_kills_than_there_is_room_for_are_refused_and_not_skipped() {
    let (output, text) = scenario(
        1,
        &["--unprotected", "--agent-kills", "40", "--server-kills", "0"],
    );
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("no place left for a kill"), "{text}");
}

#[test]
fn a_store_that_the_processes_cannot_share_is_refused() {
    for servers in ["0", "1"] {
        let (output, text) = scenario(1, &["--store", "memory:", "--servers", servers]);
        assert!(!output.status.success(), "{text}");
        assert!(
            text.contains("is not shared") && text.contains("sqlite:PATH"),
            "{text}"
        );
    }
}

#[test]
fn after_its_deadline_the_play_says_what_is_still_open() {
    // More kills than fit into a second.
    let args = [
        "--agents",
        "1",
        "--agent-kills",
        "200",
        "--server-kills",
        "0",
        "--deadline-seconds",
        "1",
    ];
    let (output, text) = scenario(20, &args);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("after 1 s ") && text.contains(" runs are still open: "),
        "{text}"
    );
}

#[test]
fn a_file_of_another_form_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trajectories.json");
    std::fs::write(&file, "{}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_airline"))
        .arg("--trajectories")
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not an array of recorded runs"));
}
