//! What must be so in the end.

use crate::agent::business_key;
use crate::definitions::{CONCURRENCY, QUIET, RATE, RATE_TIME, prefix};
use crate::story::Size;
use crate::told::{Journaled, Told};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tape_client::core::limits::CLOCK_ERROR_MS_MAX;

/// Reactions that may cause each other, in a row.
const DEPTH_MAX: usize = 8;

pub(crate) fn on(journal: &Journaled, world: &World, size: &Size) {
    let verdicts = [
        each_event_began_one_run(journal, "audit", size.events),
        each_event_began_one_run(journal, "rested", 3 * size.rested),
        each_event_began_one_run(journal, "bounded", size.bounded),
        each_is_booked_once(journal, world),
        bounds_held(journal),
        only_the_last_of_a_series_counted(journal),
        cycles_were_stopped_and_named(journal, size),
        all_are_completed(journal),
    ];
    let problems: Vec<String> = verdicts.into_iter().filter_map(Result::err).collect();
    assert!(problems.is_empty(), "{problems:#?}\n{}", world.said_last());
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// The events that are written for a reaction.
fn events(journal: &Journaled, reaction: &str) -> BTreeSet<String> {
    let begins = format!("acme/value/{}", prefix(reaction));
    let streams = journal
        .values
        .iter()
        .filter(|(stream, _)| stream.to_string().starts_with(&begins));
    streams
        .flat_map(|(stream, entries)| entries.iter().map(move |(seq, _)| format!("{stream}/{seq}")))
        .collect()
}

fn each_event_began_one_run(journal: &Journaled, reaction: &str, expected: usize) -> Result<(), String> {
    let events = events(journal, reaction);
    check(events.len() == expected, || {
        format!("{reaction}: {} events were written, not {expected}", events.len())
    })?;
    let mut causes = BTreeMap::new();
    for told in journal.runs_of(reaction) {
        *causes.entry(told.origin.cause.clone()).or_insert(0) += 1;
        check(told.event["id"] == told.origin.cause.as_str(), || {
            format!(
                "{reaction}: the input is {}, and the cause {}",
                told.event["id"], told.origin.cause
            )
        })?;
        let whole = told.origin.depth == 1
            && told.team.as_deref() == Some("risk")
            && told.event["kind"] == "value.put"
            && told.event["data"]["payloads"][0]["text"]
                .as_str()
                .is_some_and(|text| text.contains("\"n\""));
        check(whole, || {
            format!(
                "{reaction}: a run begins as {:?} with {}",
                told.origin, told.event
            )
        })?;
    }
    let twice = causes.iter().filter(|(_, count)| **count > 1).count();
    let lost = events.iter().filter(|event| !causes.contains_key(*event)).count();
    check(twice == 0 && lost == 0 && causes.len() == expected, || {
        format!("{reaction}: of {expected} events {twice} began more than one run and {lost} none")
    })
}

fn each_is_booked_once(journal: &Journaled, world: &World) -> Result<(), String> {
    let keys: BTreeSet<String> = journal
        .runs_of("audit")
        .map(|told| business_key(&told.origin.cause))
        .collect();
    let acts = world.ledger.acts();
    let twice = acts.values().filter(|count| **count > 1).count();
    check(twice == 0 && acts.keys().eq(&keys), || {
        format!(
            "the ledger has {} acts, {twice} of them more than once, for {} runs",
            acts.len(),
            keys.len()
        )
    })
}

/// The bounds held over both copies, as far as times of servers say: they may be a second apart.
fn bounds_held(journal: &Journaled) -> Result<(), String> {
    let mut changes = Vec::new();
    let mut begun = Vec::new();
    for told in journal.runs_of("bounded") {
        let end = told.completed.ok_or("a bounded run has not ended")?;
        changes.extend([(told.begun, 1), (end.minus_millis(CLOCK_ERROR_MS_MAX), -1)]);
        begun.push(told.begun);
    }
    changes.sort_unstable();
    let (mut unfinished, mut most) = (0_i64, 0);
    for (_, change) in changes {
        unfinished += change;
        most = most.max(unfinished);
    }
    check(most <= i64::try_from(CONCURRENCY).unwrap_or(i64::MAX), || {
        format!("{most} runs were unfinished at a time, and {CONCURRENCY} may be")
    })?;
    begun.sort_unstable();
    let least = RATE_TIME.as_millis() - u128::from(CLOCK_ERROR_MS_MAX);
    let quick = begun
        .windows(RATE + 1)
        .map(|few| few[RATE].millis_since(few[0]))
        .min();
    check(quick.is_none_or(|millis| u128::from(millis) >= least), || {
        format!("{} runs began within {quick:?} ms", RATE + 1)
    })
}

/// The rule of the debounce, applied to the times that the entries have.
fn only_the_last_of_a_series_counted(journal: &Journaled) -> Result<(), String> {
    let begins = format!("acme/value/{}", prefix("last"));
    let quiet = u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX);
    let mut expected = BTreeSet::new();
    for (stream, entries) in &journal.values {
        if !stream.to_string().starts_with(&begins) {
            continue;
        }
        for (n, (seq, at)) in entries.iter().enumerate() {
            let next = entries.get(n + 1);
            if next.is_none_or(|(_, next)| *next > at.plus_millis(quiet)) {
                expected.insert(format!("{stream}/{seq}"));
            }
        }
    }
    let causes = || journal.runs_of("last").map(|told| told.origin.cause.clone());
    let found: BTreeSet<String> = causes().collect();
    check(
        !expected.is_empty() && found == expected && causes().count() == found.len(),
        || format!("of series, {found:?} counted instead of {expected:?}"),
    )
}

fn cycles_were_stopped_and_named(journal: &Journaled, size: &Size) -> Result<(), String> {
    let depths = |reaction: &str| {
        let mut depths: Vec<u32> = journal.runs_of(reaction).map(|told| told.origin.depth).collect();
        depths.sort_unstable();
        depths
    };
    // Each chain begins with `pong`, so its last is a `ping`, to which `pong` does not react any more.
    for (reaction, first) in [("pong", 1), ("ping", 2)] {
        let chain = (first..=DEPTH_MAX)
            .step_by(2)
            .map(|depth| u32::try_from(depth).unwrap_or(0));
        let expected: Vec<u32> = chain
            .flat_map(|depth| std::iter::repeat_n(depth, size.chains))
            .collect();
        let found = depths(reaction);
        check(found == expected, || {
            format!("{reaction} began runs in depths {found:?}")
        })?;
    }
    let named = ["pong", "ping"].repeat(DEPTH_MAX / 2).join(" > ");
    let pong = "acme/relay/own/reaction%3Apong";
    let refused: Vec<&String> = journal.refused.values().flatten().collect();
    let streams: Vec<&String> = journal.refused.keys().collect();
    let good = refused.len() == size.chains
        && refused.iter().all(|reason| reason.contains(&named))
        && streams
            .iter()
            .all(|stream| *stream == pong || stream.ends_with("reaction:pong"));
    check(good, || format!("refused: {:?}", journal.refused))
}

fn all_are_completed(journal: &Journaled) -> Result<(), String> {
    let open: Vec<&Told> = journal
        .runs
        .values()
        .filter(|told| told.completed.is_none())
        .collect();
    check(open.is_empty(), || {
        format!("{} runs are not completed", open.len())
    })
}
