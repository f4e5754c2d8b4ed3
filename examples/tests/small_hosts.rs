//! The examples of one process.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_embedded_agent_survives_its_death_in_mid_payment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.db");
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_embedded"))
            .arg(&file)
            .args(args)
            .output()
            .unwrap()
    };
    let (first, second, third) = (run(&["--die"]), run(&[]), run(&[]));
    let aborted = 6;
    assert_eq!(first.status.signal(), Some(aborted), "{}", text(&first));
    assert!(text(&first).contains("the model is asked"), "{}", text(&first));
    assert!(second.status.success(), "{}", text(&second));
    assert!(!text(&second).contains("the model is asked"), "{}", text(&second));
    let key = |output: &Output| {
        text(output)
            .lines()
            .find(|line| line.starts_with("the bank pays under"))
            .map(str::to_owned)
    };
    assert!(key(&first).is_some());
    assert_eq!(key(&first), key(&second));
    assert_eq!(text(&third), "the run has ended\n");
}

#[test]
fn asked_for_help_the_host_with_its_own_storage_explains_itself() {
    let run = |arg: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_core-only"));
        program.arg(arg).output().unwrap()
    };
    let helped = run("--help");
    assert!(
        helped.status.success() && text(&helped).contains("Usage:"),
        "{}",
        text(&helped)
    );
    let refused = run("--dye");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
}

#[test]
fn the_host_with_its_own_storage_does_nothing_twice() {
    let output = Command::new(env!("CARGO_BIN_EXE_core-only")).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.ends_with("the model was asked 1 time(s), the bank paid 1 time(s)\n"),
        "{text}"
    );
}
