//! Changes of an agent's code under runs that were begun before.

use super::*;
use crate::id::SampleName;

fn change() -> SampleName {
    patch_name("new-path").unwrap()
}

fn recorded_patch(n: u32) -> sample::Recorded {
    sample::Recorded {
        scope: Scope::root(),
        n,
        name: change(),
        value: Payload::json(&json!(true)),
    }
}

fn now(n: u32) -> sample::Recorded {
    sample::Recorded {
        scope: Scope::root(),
        n,
        name: "now".parse().unwrap(),
        value: Payload::json(&json!(7)),
    }
}

#[test]
fn a_run_that_came_further_keeps_the_old_path() {
    let mut journal = Journal::new();
    journal.add(recorded("#0", "x"));
    let root = Scope::root();
    let unasked = journal.replay.patched(&root, &change()).unwrap_err();
    assert!(unasked.skipped, "{unasked}");
    journal.replay.keep_old_path(&root, change());
    assert_eq!(journal.replay.patched(&root, &change()), Ok(Patch::Known(false)));
    let asked = fingerprint("x");
    journal.replay.decide(&root, &asked).unwrap();
    // Also where everything is asked for by now: the answer holds.
    assert_eq!(journal.replay.patched(&root, &change()), Ok(Patch::Known(false)));
    let other = patch_name("other").unwrap();
    assert_eq!(journal.replay.patched(&root, &other), Ok(Patch::New { n: 0 }));
}

#[test]
fn what_a_parallel_branch_asks_for_later_does_not_decide_the_path() {
    let mut journal = Journal::new();
    journal.add(recorded("#0", "x"));
    let root = Scope::root();
    assert!(journal.replay.patched(&root, &change()).is_err());
    journal.replay.decide(&root, &fingerprint("x")).unwrap();
    assert_eq!(journal.replay.patched(&root, &change()), Ok(Patch::New { n: 0 }));
}

#[test]
fn a_new_run_takes_the_new_path_in_every_drive() {
    let root = Scope::root();
    let mut driver = Journal::new();
    assert_eq!(driver.replay.patched(&root, &change()), Ok(Patch::New { n: 0 }));
    driver.replay.patch_recorded(&root, change(), 0);
    assert_eq!(driver.replay.patched(&root, &change()), Ok(Patch::Known(true)));
    driver.add(recorded_patch(0));
    assert_eq!(driver.replay.sample(&root, &"now".parse().unwrap()).unwrap().n, 1);
    let mut again = Journal::new();
    again.add(recorded_patch(0));
    again.add(now(1));
    assert_eq!(again.replay.patched(&root, &change()), Ok(Patch::Known(true)));
    let next = again.replay.sample(&root, &"now".parse().unwrap()).unwrap();
    assert_eq!((next.n, next.recorded), (1, Some(Payload::json(&json!(7)))));
}

#[test]
fn a_question_that_is_not_asked_any_more_is_no_drift() {
    let root = Scope::root();
    let mut journal = Journal::new();
    journal.add(now(0));
    journal.add(recorded_patch(1));
    journal.add(now(2));
    journal.add(recorded_patch(3));
    for n in [0, 2] {
        let next = journal.replay.sample(&root, &"now".parse().unwrap()).unwrap();
        assert_eq!((next.n, next.recorded.is_some()), (n, true));
    }
    let asked = Fingerprint::of_bytes(b"new");
    assert_eq!(journal.replay.decide(&root, &asked).unwrap().recorded, None);
    assert_eq!(
        journal.replay.sample(&root, &"now".parse().unwrap()).unwrap().n,
        4
    );
}
