//! All short command sequences of values and claims: exactly one winner a version, exactly one owner a key.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::Journal;
use support::names::{effect, payload, run_id};
use tape_core::command::{KeyCommand, ValueCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{EffectId, RunId};
use tape_core::key_owner::KeyOwner;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::value::Value;

#[test]
fn values_have_one_winner_a_version() {
    walk_values(&Journal::new(), None, 0, 4);
}

fn walk_values(journal: &Journal<Value>, current: Option<&str>, version: u64, depth: usize) {
    journal.check();
    let there = journal.state.current();
    let reference = |text| payload(text).erased();
    assert_eq!(there, current.map(reference), "the bytes are in the entry alone");
    assert_eq!(journal.state.version(), version);
    if depth == 0 {
        return;
    }
    // A tombstone has its version too: what a reader is told is what it may expect.
    for expected in [None, Some(0), Some(version), Some(version + 1)] {
        let fits = expected.is_none_or(|expected| expected == version);
        for text in [Some("a"), Some("b"), None] {
            let mut next = journal.clone();
            let asked = match text {
                Some(text) => ValueCommand::Put {
                    value: payload(text),
                    expected,
                },
                None => ValueCommand::Delete { expected },
            };
            match next.ask(asked) {
                Ok(decided) => {
                    assert!(fits && (text.is_some() || current.is_some()));
                    assert_eq!(
                        decided.reply.result,
                        ReplyResult::Version { version: version + 1 }
                    );
                    let previous = match &decided.entries[..] {
                        [EntryBody::ValuePut(put)] => put.previous.clone(),
                        [EntryBody::ValueDeleted(deleted)] => deleted.previous.clone(),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(previous, None, "no change repeats the value before");
                    // One expectation of each kind is explored further: the others lead to the same states.
                    if expected == Some(version) {
                        walk_values(&next, text, version + 1, depth - 1);
                    }
                }
                Err(Rejection::VersionConflict { current: found, .. }) => assert!(!fits && found == version),
                Err(Rejection::NotFound { .. }) => assert!(fits && text.is_none() && current.is_none()),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn keys_have_one_owner() {
    let other = RunId::new("acme", "treasury", "ann", "s1", "i2").unwrap();
    let owners = [
        (run_id(), effect("#0.0")),
        (run_id(), effect("#0.1")),
        (other, effect("#0.0")),
    ];
    walk_claims(&Journal::new(), &owners, None, 3);
}

fn walk_claims(
    journal: &Journal<KeyOwner>,
    owners: &[(RunId, EffectId)],
    owner: Option<&(RunId, EffectId)>,
    depth: usize,
) {
    journal.check();
    assert_eq!(journal.state.owner(), owner);
    if depth == 0 {
        return;
    }
    for taker in owners {
        for from in owners.iter().map(Some).chain([None]) {
            let mut next = journal.clone();
            let (run, effect) = taker.clone();
            let found = next.ask(KeyCommand::Take {
                connector: "bank".parse().unwrap(),
                key: "invoice-7".parse().unwrap(),
                run,
                effect,
                from: from.cloned(),
            });
            match found {
                Ok(decided) => {
                    let new = owner != Some(taker);
                    assert_eq!(
                        decided.entries.len(),
                        usize::from(new),
                        "the owner takes it again for nothing"
                    );
                    assert!(
                        !new || owner.is_none() || from == owner,
                        "it is taken over from its owner only"
                    );
                    if new {
                        walk_claims(&next, owners, Some(taker), depth - 1);
                    }
                }
                Err(Rejection::BusinessKeyTaken { run, effect, .. }) => {
                    assert_eq!(Some(&(run, effect)), owner);
                    assert!(owner != Some(taker) && from != owner);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
