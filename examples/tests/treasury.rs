//! The treasury play from outside, as a person runs it.

use std::process::{Command, Output};

fn play(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_treasury"))
        .args(args)
        .output()
        .expect("the play starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn with_tape_every_act_is_done_once() {
    let output = play(&[]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let last = text.trim_end().lines().last().unwrap();
    assert_eq!(
        last,
        "treasury: kills=7 acts=6 done_twice=0 asked_twice=0 lost=0 chain=ok"
    );
}

#[test]
fn without_tape_acts_are_done_twice() {
    let output = play(&["--unprotected"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let last = text.trim_end().lines().last().unwrap();
    assert_eq!(last, "treasury: kills=6 acts=6 done_twice=3 chain=none");
}
