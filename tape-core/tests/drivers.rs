//! The driver of a run and the end of its lease, or since when the run has none.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use expect_test::expect;
use support::Journal;
use support::run_line::command;
use tape_core::run::{Driver, Run};
use tape_core::time::{Now, Timestamp};

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(0).plus_millis(millis)
}

/// The driver of a run at a time, after some commands. A number lets so many milliseconds pass.
fn driver(lines: &[&str], at: impl Into<Now>) -> String {
    let mut journal = Journal::<Run>::new();
    for line in lines {
        match line.parse() {
            Ok(millis) => journal.wait(millis),
            Err(_) => {
                let body = command(line, &journal.state);
                journal.ask(body).unwrap();
            }
        }
    }
    let second = |at: Timestamp| at.as_micros() / 1_000_000;
    match journal.state.driver(at) {
        Driver::Driven { holder, until } => format!("{holder} until {}", second(until)),
        Driver::Alone {
            last,
            since,
            redrive_at,
            cancel,
        } => {
            let last = last.map_or_else(|| "nobody".to_owned(), |last| last.to_string());
            let cancel = cancel.map(|why| format!(", to be cancelled: {why}"));
            format!(
                "alone since {} after {last}, due {}{}",
                second(since),
                second(redrive_at),
                cancel.unwrap_or_default()
            )
        }
        Driver::Unneeded => "nobody is to".to_owned(),
    }
}

#[test]
fn a_run_is_driven_until_its_lease_is_over_and_alone_since() {
    let begun = ["begin a1 lease=30000"];
    expect!["a1 until 30"].assert_eq(&driver(&begun, ms(29_999)));
    expect!["alone since 30 after a1, due 30"].assert_eq(&driver(&begun, ms(90_000)));
    // A lease that is not certainly over counts as held.
    expect!["a1 until 30"].assert_eq(&driver(&begun, Now::within(ms(29_000), ms(31_000))));
    expect!["a1 until 30"].assert_eq(&driver(&begun, Now::from(ms(90_000)).unsure()));
    let renewed = ["begin a1 lease=30000", "20000", "renew lease=30000"];
    expect!["a1 until 50"].assert_eq(&driver(&renewed, ms(40_000)));
}

#[test]
fn a_run_that_was_let_go_is_alone_from_then_on() {
    let released = ["begin a1 lease=30000", "5000", "release"];
    expect!["alone since 5 after a1, due 5"].assert_eq(&driver(&released, ms(60_000)));
    let later = ["begin a1 lease=30000", "5000", "release in=60000"];
    expect!["alone since 5 after a1, due 65"].assert_eq(&driver(&later, ms(6_000)));
}

#[test]
fn a_run_that_waits_or_has_ended_needs_no_driver() {
    let waits = ["begin a1 lease=30000", "gate desk", "suspend"];
    expect!["nobody is to"].assert_eq(&driver(&waits, ms(90_000)));
    let woken = [&waits[..], &["7000", "signal desk s1"]].concat();
    expect!["alone since 7 after nobody, due 7"].assert_eq(&driver(&woken, ms(90_000)));
    expect!["nobody is to"].assert_eq(&driver(&["begin a1 lease=30000", "complete"], ms(90_000)));
}

#[test]
fn a_cancelled_run_whose_driver_is_gone_is_to_be_ended_and_not_put_off() {
    let asked = ["begin a1 lease=30000", "cancel it is late"];
    expect!["a1 until 30"].assert_eq(&driver(&asked, ms(29_999)));
    expect!["alone since 30 after a1, due 30, to be cancelled: it is late"]
        .assert_eq(&driver(&asked, ms(90_000)));
    let released = [&asked[..], &["5000", "release in=60000"]].concat();
    expect!["alone since 5 after a1, due 5, to be cancelled: it is late"]
        .assert_eq(&driver(&released, ms(6_000)));
}
