//! A whole system from a seed: two engines over a store that loses answers, each with the five reactors, an upstream that is as
//! unreliable, and ten agents that crash. It runs in one thread, by a clock that is paused.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod agents;
mod store;
mod system;
mod transcript;
mod upstream;

use std::ops::Range;
use std::process::Command;
use system::System;
use tape_core::status::RunStatus;
use transcript::Transcript;

/// How many seeds are run, unless `TAPE_SEEDS` says it.
const SEEDS: u64 = 4;

/// Tells a process that it is the other one.
const TELLS: &str = "TAPE_TELLS_DIGESTS";

/// The seeds that are run, from `TAPE_SEEDS_FROM` on.
fn seeds() -> Range<u64> {
    let number = |name, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let from = number("TAPE_SEEDS_FROM", 0);
    from..from + number("TAPE_SEEDS", SEEDS)
}

/// What a system of a seed has written by the end of its time.
fn transcript(seed: u64) -> Transcript {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let system = System::start(seed).await;
        Transcript::of(system.work().await).await
    })
}

#[test]
fn a_seed_decides_every_byte_and_the_order_of_the_feed() {
    for seed in seeds() {
        let first = transcript(seed);
        first.assert_is_the_same_as(&transcript(seed), seed);
    }
}

#[test]
fn a_seed_decides_it_in_another_process_too() {
    let program = std::env::current_exe().unwrap();
    let mut other = Command::new(program);
    other.args(["--exact", "tells_the_digests", "--ignored", "--nocapture"]);
    let other = other.env(TELLS, "1").output().unwrap();
    let told = String::from_utf8(other.stdout).unwrap();
    let own = transcript(1).digests();
    assert!(told.contains(&own), "{own}\n{told}");
}

/// The other process.
#[test]
#[ignore = "the test above runs it"]
fn tells_the_digests() {
    // Run by hand or by `--run-ignored`, it is no test.
    if std::env::var_os(TELLS).is_some() {
        println!("{}", transcript(1).digests());
    }
}

#[test]
fn another_seed_writes_something_else() {
    assert_ne!(transcript(1), transcript(2));
}

#[test]
fn all_that_can_happen_to_a_run_happens() {
    let all: Vec<Transcript> = (0..SEEDS).map(transcript).collect();
    let kinds = |kind| {
        all.iter()
            .map(|transcript| transcript.entries_of(kind))
            .sum::<usize>()
    };
    for kind in [
        "decision.recorded",
        "effect.unknown",
        "effect.confirmed",
        "effect.observed",
        "gate.answered",
        "lease.acquired",
        "obligation.deferred",
        "obligation.done",
        "run.suspended",
        "sample.recorded",
        "timer.fired",
        "value.put",
    ] {
        assert!(kinds(kind) > 0, "no entry of the kind {kind}");
    }
    for status in [RunStatus::Completed, RunStatus::Failed] {
        assert!(
            all.iter().any(|transcript| transcript.ended(status) > 0),
            "{status:?}"
        );
    }
    assert!(all.iter().all(|transcript| transcript.runs() == agents::AGENTS));
}
