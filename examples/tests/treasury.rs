//! The treasury scenario from outside, as a person runs it.

use std::process::{Command, Output};

fn scenario(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_treasury"))
        .args(args)
        .output()
        .expect("the scenario starts")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every entry of the journal is shown or counted.
fn shows_everything(text: &str) {
    let of = |what: &str| {
        let line = text.lines().find(|line| line.contains(what)).expect(what);
        let numbers = line
            .split_whitespace()
            .find_map(|word| word.parse::<usize>().ok());
        numbers.expect("it says how many")
    };
    let numbered = |line: &&str| line.get(..5).is_some_and(|n| n.trim().parse::<usize>().is_ok());
    let counted = |line: &&str| !line.contains(" more entries are not shown: ");
    let shown = text.lines().filter(counted).filter(numbered).count();
    assert_eq!(
        shown + of(" more entries are not shown: "),
        of("The chain over "),
        "{text}"
    );
}

#[test]
fn with_tape_every_act_is_done_once() {
    let output = scenario(&[]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    shows_everything(&text);
    let last = text.trim_end().lines().last().unwrap();
    assert_eq!(
        last,
        "treasury: kills=7 acts=6 done_twice=0 asked_twice=0 lost=0 chain=ok"
    );
}

#[test]
fn without_tape_acts_are_done_twice() {
    let output = scenario(&["--unprotected"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let last = text.trim_end().lines().last().unwrap();
    assert_eq!(last, "treasury: kills=6 acts=6 done_twice=3 chain=none");
}
