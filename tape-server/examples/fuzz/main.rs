//! Fuzzing on a stable compiler: `fuzz requests|stored --seconds N --seed S`.
//!
//! `requests` sends messages to every call of the contract, made from the contract's own descriptor and then damaged, to a server in this
//! process on a memory store. `stored` damages stored entries and snapshots and reads them back. Both stop, and report the seed and the
//! round, at a panic, an error without a type, or a write by a refused call.
#![allow(clippy::print_stdout, reason = "what was found is printed")]

mod damage;
mod message;
#[path = "../../tests/harness/raw.rs"]
mod raw;
mod requests;
mod stored;

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What is fuzzed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Every call of the contract.
    Requests,
    /// Stored entries and snapshots.
    Stored,
}

#[derive(Parser)]
struct Arguments {
    target: Target,
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The same seed makes the same rounds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The findings of a target so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    taken: u64,
    refused: u64,
}

/// When a target stops.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn start(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

fn main() -> ExitCode {
    let Arguments {
        target,
        seconds,
        seed,
    } = Arguments::parse();
    // A panic in a task of the server would only close a connection: here it ends everything.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!("fuzz: FAILED with --seed {seed}");
        std::process::exit(1);
    }));
    let span = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let Tally {
        rounds,
        taken,
        refused,
    } = match target {
        Target::Requests => runtime.block_on(requests::fuzz(seed, span)),
        Target::Stored => runtime.block_on(stored::fuzz(seed, span)),
    };
    println!(
        "fuzz: {target:?} seed={seed} seconds={seconds} rounds={rounds} taken={taken} refused={refused}"
    );
    ExitCode::SUCCESS
}
