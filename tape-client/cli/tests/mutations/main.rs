//! Changes of exports: `tape verify --file` and docs/verify/tape_verify.py, which share no code, refuse every one that counts, accept every
//! one that does not, and give one verdict on each. Of entries in other forms under heads of their own they give one verdict.
//!
//! `TAPE_MUTATIONS=100000` makes more than the usual 10,000. A change that fails is made again by the `TAPE_SEED` and `TAPE_MUTATION` that
//! the failure says.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(feature = "sqlite")]

mod changes;
mod forgeries;
mod journals;
mod meaning;
mod neutral;
mod outsider;
mod random;
mod rewritten;

use changes::Change;
use journals::Base;
use outsider::Outsider;
use random::Random;
use serde_json::{Value, json};
use std::io::BufReader;
use tape_cli::exported::{self, Verdict};
use tape_client::core::payload::Digest;

const MUTATIONS: usize = 10_000;
const SEED: u64 = 20_261_129;
/// Each with a process of the other verifier.
const THREADS: usize = 2;

fn setting(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// What Tape says of a file, and why.
fn tape(base: &Base, data: &[u8]) -> (Verdict, String) {
    // A buffer that is smaller than a line.
    let found = exported::verify(&mut BufReader::with_capacity(61, data), &base.heads).unwrap();
    let streams = found.streams.iter().map(|(name, found)| match found {
        Err(broken) => format!("{name}: {broken}"),
        Ok(sound) if sound.is_proved() => String::new(),
        Ok(sound) => format!("{name}: {:?}", sound.doubts),
    });
    let said = streams.chain(found.broken.clone()).chain(found.unread.clone());
    let said: Vec<String> = said.filter(|said| !said.is_empty()).take(3).collect();
    (found.verdict(), said.join(" | "))
}

/// Both verdicts on a file, and what is told of them where they are wrong.
struct Verdicts {
    mine: Verdict,
    theirs: Verdict,
    told: String,
}

fn verdicts(base: &Base, change: &Change, outsider: &mut Outsider, (seed, n): (u64, usize)) -> Verdicts {
    outsider.ask(base, &change.data);
    let (mine, why) = tape(base, &change.data);
    let (theirs, their_why) = outsider.answer();
    let told = format!(
        "{} of {}: tape says {mine:?} ({why}), the other {theirs:?} ({their_why}); again with TAPE_SEED={seed} TAPE_MUTATION={n}",
        change.what, base.name
    );
    Verdicts { mine, theirs, told }
}

/// Makes the n-th change, and compares the verdicts with each other and with what must be.
fn check(bases: &[Base], outsider: &mut Outsider, seed: u64, n: usize) -> Result<(), String> {
    let mut random = Random::of(seed.wrapping_add(n as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let base = random.of_all(bases);
    let (change, heads) = if random.below(10) == 0 {
        let (change, base) = rewritten::any(base, &mut random);
        (change, Some(base))
    } else {
        (changes::any(base, &mut random), None)
    };
    let Verdicts { mine, theirs, told } =
        verdicts(heads.as_ref().unwrap_or(base), &change, outsider, (seed, n));
    if mine != theirs {
        return Err(format!("two verdicts: {told}"));
    }
    if heads.is_some() {
        return Ok(());
    }
    let counts = || !base.meaning.is_that_of(&change.data);
    match (change.counts.unwrap_or_else(counts), mine) {
        (true, Verdict::Proved) => Err(format!("taken as whole: {told}")),
        (false, Verdict::Broken | Verdict::NotProved) => {
            Err(format!("refused, though nothing changed: {told}"))
        }
        _ => Ok(()),
    }
}

/// A finished erasure leaves no bytes, and no snapshot of before it.
#[test]
fn what_was_erased_and_comes_back_is_broken_for_both_verifiers() {
    let mut outsider = Outsider::start();
    let snapshot = |seq: u64| {
        let sha256 = Digest::of(b"[]").to_string();
        json!({"seq": seq, "sha256": sha256, "bytes": "W10="})
    };
    for (finished, without_bytes, snapshot, expected) in [
        (&[][..], false, Value::Null, Verdict::Proved),
        (&[3][..], false, Value::Null, Verdict::Proved),
        (&[4][..], false, Value::Null, Verdict::Broken),
        (&[3, 9][..], false, Value::Null, Verdict::Broken),
        (&[4][..], true, Value::Null, Verdict::Proved),
        (&[3][..], true, snapshot(2), Verdict::NotProved),
        (&[4][..], true, snapshot(2), Verdict::Broken),
        (&[4][..], true, snapshot(4), Verdict::NotProved),
    ] {
        let mut lines = journals::erasure(finished);
        if without_bytes {
            lines[2].as_object_mut().unwrap().remove("payload");
        }
        lines[0]["snapshot"] = snapshot;
        lines.push(json!({"streams": 1, "broken": 0}));
        let base = Base::of("an erasure", lines);
        outsider.ask(&base, &base.data);
        let (mine, theirs) = (tape(&base, &base.data), outsider.answer());
        assert_eq!(
            (mine.0, theirs.0),
            (expected, expected),
            "{finished:?}: {mine:?} {theirs:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_that_counts_is_refused_by_both_verifiers_and_no_other() {
    let bases = journals::all().await;
    for base in &bases {
        let mut outsider = Outsider::start();
        outsider.ask(base, &base.data);
        let (mine, why) = tape(base, &base.data);
        let theirs = outsider.answer();
        assert_eq!(mine, Verdict::Proved, "{}: {why}", base.name);
        assert_eq!(theirs.0, Verdict::Proved, "{}: {}", base.name, theirs.1);
        assert!(base.meaning.is_that_of(&base.data));
    }
    let seed = setting("TAPE_SEED").map_or(SEED, |seed| seed as u64);
    let only = setting("TAPE_MUTATION");
    let count = setting("TAPE_MUTATIONS").unwrap_or(MUTATIONS);
    let all = only.map_or(0..count, |only| only..only + 1);
    let failed = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| {
            let (bases, all) = (&bases, all.clone());
            scope.spawn(move || {
                let mut outsider = Outsider::start();
                let all = all.skip(thread).step_by(THREADS);
                all.filter_map(|n| check(bases, &mut outsider, seed, n).err())
                    .take(10)
                    .collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        let failed = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        failed.collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
